import Glibc
import SyncModel

/// What the locator needs to know of an equipment profile.
package struct EquipmentRoot: Hashable, Sendable {
  /// The instrument's id, which is also the name of its folder.
  package let id: String
  /// `local_root` as configured, absolute.
  package let localRoot: String

  package init(id: String, localRoot: String) {
    self.id = id
    self.localRoot = localRoot
  }
}

/// Why a path is no run of a known instrument.
package enum RunLocationError: Error, Hashable, Sendable {
  case noSuchRun(String)
  case notAFolder(String)
  case unreachable(String, reason: String)
  /// The path's own name cannot be held as text.
  case notUTF8(String)
  case outsideEveryEquipment(String, roots: [String])
  case outsideEquipment(String, equipment: String, localRoot: String)
  case unknownEquipment(String, known: [String])
  case ambiguous(String, equipments: [String])
  /// The path lies in another instrument's folder than `--equipment` says.
  case contradiction(String, inPath: String, given: String)
  case equipmentFolder(String)
  /// The folder holds `Runs` or `TestRuns`, or is one of them.
  case folderOfRuns(String)
  /// The path lies inside a run: sent on its own it would make half of that run visible.
  case insideRun(String, run: String)

  /// The same as the program reports it: `misconfigured`, with the next step.
  package var failure: SyncFailure {
    let (message, hint) = text
    return SyncFailure(.misconfigured, message, hint: hint)
  }

  private var text: (String, String) {
    switch self {
    case .noSuchRun(let path):
      ("there is no run \(displayText(path))", "Check the spelling of the path; a run is a folder on this workstation.")
    case .notAFolder(let path): ("\(displayText(path)) is not a folder", "A run is a folder: give the folder that holds the files.")
    case .unreachable(let path, let reason):
      ("\(displayText(path)) cannot be reached: \(reason)", "Look at the permissions of the folders above it.")
    case .notUTF8(let path): ("the path \(path) is not UTF-8", "Rename the folder: other systems could not show such a name.")
    case .outsideEveryEquipment(let path, let roots):
      (
        "\(displayText(path)) belongs to no configured equipment",
        roots.isEmpty
          ? "No equipment is configured: add a profile to the equipment folder."
          : "A run lies below <local_root>/<EQUIPMENT>/; configured: \(roots.map(displayText(_:)).joined(separator: ", ")). "
            + "Or name the equipment with --equipment."
      )
    case .outsideEquipment(let path, let equipment, let localRoot):
      (
        "\(displayText(path)) does not lie below the local_root of \(equipment)",
        "Its local_root is \(displayText(localRoot)). Give a run below it, or another --equipment."
      )
    case .unknownEquipment(let id, let known):
      ("there is no equipment \(displayText(id))", "Configured: \(known.isEmpty ? "none" : known.joined(separator: ", ")).")
    case .ambiguous(let path, let equipments):
      ("\(displayText(path)) could belong to \(equipments.joined(separator: " or "))", "Say which with --equipment.")
    case .contradiction(let path, let inPath, let given):
      (
        "\(displayText(path)) lies in the folder of \(inPath), not of \(given)",
        "Give the equipment that wrote the run, or leave --equipment out."
      )
    case .equipmentFolder(let path):
      ("\(displayText(path)) is an equipment's folder, not a run", "Give one run below it.")
    case .folderOfRuns(let path):
      ("\(displayText(path)) holds runs and is not one itself", "Give one of the runs below it.")
    case .insideRun(let path, let run):
      ("\(displayText(path)) lies inside the run \(displayText(run))", "Give the run's own folder: a run is sent as a whole.")
    }
  }
}

/// Finds the instrument and the relative place of a run from the path that a user gave. Never guesses.
///
/// Blocking, briefly: it resolves paths on the local disk.
package struct RunLocator: Sendable {
  private let equipments: [EquipmentRoot]

  package init(equipments: [EquipmentRoot]) { self.equipments = equipments }

  /// - Parameters:
  ///   - path: Absolute or relative to the working directory; may contain symbolic links, which are resolved.
  ///   - equipment: What `--equipment` said; else the folder below an instrument's `local_root` decides.
  ///   - mayBeGone: Accept a run that is no longer on the disk (a cleaned one); the folders that remain are resolved.
  /// - Throws: `RunLocationError`.
  package func locate(_ path: String, equipment: String? = nil, mayBeGone: Bool = false) throws(RunLocationError) -> RunLocation {
    let resolved = try Self.resolve(path, mayBeGone: mayBeGone)
    let location = try place(resolved, shown: path, explicit: equipment)
    try refuseFolderOfRuns(location)
    try refuseInsideOfRun(location)
    return location
  }

  private func place(_ resolved: String, shown: String, explicit: String?) throws(RunLocationError) -> RunLocation {
    let below = equipments.compactMap { equipment -> (id: String, relative: [ArraySlice<UInt8>])? in
      guard let root = Self.realPath(equipment.localRoot) else { return nil }
      return Self.segments(of: Array(resolved.utf8), below: root).map { (equipment.id, $0) }
    }
    // The instruments whose own folder the path is in: the segment below local_root is the id, byte for byte.
    let inFolder = below.filter { $0.relative.first?.elementsEqual($0.id.utf8) ?? false }
    if inFolder.contains(where: { $0.relative.count == 1 }) { throw .equipmentFolder(shown) }
    if let explicit {
      guard let profile = equipments.first(where: { $0.id.utf8.elementsEqual(explicit.utf8) }) else {
        throw .unknownEquipment(explicit, known: equipments.map(\.id))
      }
      guard let chosen = below.first(where: { $0.id == profile.id }), !chosen.relative.isEmpty else {
        throw .outsideEquipment(shown, equipment: explicit, localRoot: profile.localRoot)
      }
      if let other = inFolder.first, !inFolder.contains(where: { $0.id == explicit }) {
        throw .contradiction(shown, inPath: other.id, given: explicit)
      }
      return try Self.location(resolved, explicit, chosen.relative)
    }
    guard let only = inFolder.first else {
      throw .outsideEveryEquipment(shown, roots: equipments.map { "\($0.localRoot)/\($0.id)" })
    }
    if inFolder.count > 1 { throw .ambiguous(shown, equipments: inFolder.map(\.id)) }
    return try Self.location(resolved, only.id, only.relative)
  }

  private static func location(_ root: String, _ equipment: String, _ segments: [ArraySlice<UInt8>]) throws(RunLocationError) -> RunLocation
  {
    do {
      return RunLocation(
        root: root, equipment: equipment, relative: try RelativePath(bytes: Array(segments.joined(separator: [UInt8(ascii: "/")]))))
    } catch {
      throw .unreachable(root, reason: "the path is not in its normal form")
    }
  }

  /// `<project>/Runs` and a project that contains it are no runs; a run may have any other name and depth.
  private func refuseFolderOfRuns(_ location: RunLocation) throws(RunLocationError) {
    for name in ["Runs", "TestRuns"] {
      if location.relative.lastSegment.elementsEqual(name.utf8) { throw .folderOfRuns(location.root) }
      var status = stat()
      if location.relative.segments.count == 2, lstat(location.root + "/" + name, &status) == 0, fileType(status) == S_IFDIR {
        throw .folderOfRuns(location.root)
      }
    }
  }

  /// `<project>/Runs/Run_<DATE>/sub` is part of a run.
  private func refuseInsideOfRun(_ location: RunLocation) throws(RunLocationError) {
    let segments = location.relative.segments
    for (index, segment) in segments.enumerated() where index + 2 < segments.count {
      let leaf = segments[index + 1]
      let isRun =
        segment.elementsEqual("Runs".utf8) && leaf.starts(with: "Run_".utf8)
        || segment.elementsEqual("TestRuns".utf8) && leaf.starts(with: "TestRun_".utf8)
      guard isRun else { continue }
      let below = segments[(index + 2)...].reduce(0) { $0 + $1.count + 1 }
      throw .insideRun(location.root, run: String(decoding: location.root.utf8.dropLast(below), as: UTF8.self))
    }
  }

  /// The segments of a path strictly below a folder; empty for the folder itself, nil outside it.
  private static func segments(of path: [UInt8], below folder: [UInt8]) -> [ArraySlice<UInt8>]? {
    let own = path.split(separator: UInt8(ascii: "/"))
    let above = folder.split(separator: UInt8(ascii: "/"))
    guard own.count >= above.count, zip(own, above).allSatisfy({ $0 == $1 }) else { return nil }
    return Array(own.dropFirst(above.count))
  }

  private static func realPath(_ path: String) -> [UInt8]? {
    guard !path.isEmpty, let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return Array(UnsafeRawBufferPointer(start: resolved, count: strlen(resolved)))
  }

  private static func resolve(_ path: String, mayBeGone: Bool) throws(RunLocationError) -> String {
    guard !path.isEmpty, !path.utf8.contains(0) else { throw .noSuchRun(path) }
    if let bytes = realPath(path) {
      guard let text = String(validating: bytes, as: UTF8.self) else { throw .notUTF8(displayText(of: bytes)) }
      var status = stat()
      guard lstat(text, &status) == 0 else { throw .noSuchRun(path) }
      guard fileType(status) == S_IFDIR else { throw .notAFolder(path) }
      return text
    }
    let code = errno
    guard code == ENOENT || code == ENOTDIR else { throw .unreachable(path, reason: errorText(code)) }
    guard mayBeGone, code == ENOENT else { throw code == ENOTDIR ? .notAFolder(path) : .noSuchRun(path) }
    return try resolveRemains(path)
  }

  /// Resolves the part of the path that exists and keeps the rest as it was written.
  private static func resolveRemains(_ path: String) throws(RunLocationError) -> String {
    var segments = path.utf8.split(separator: UInt8(ascii: "/")).map { Array($0) }
    let prefix: [UInt8] = path.utf8.first == UInt8(ascii: "/") ? [UInt8(ascii: "/")] : [UInt8(ascii: "."), UInt8(ascii: "/")]
    var rest: [[UInt8]] = []
    while let last = segments.popLast() {
      // `..` and `.` mean nothing below a folder that is not there.
      if last == [0x2e] || last == [0x2e, 0x2e] { throw .noSuchRun(path) }
      rest.insert(last, at: 0)
      let head = prefix + Array(segments.joined(separator: [UInt8(ascii: "/")]))
      guard let text = String(validating: head, as: UTF8.self), let found = realPath(text) else { continue }
      let tail = Array(rest.joined(separator: [UInt8(ascii: "/")]))
      let joined = (found == [UInt8(ascii: "/")] ? found : found + [UInt8(ascii: "/")]) + tail
      guard let whole = String(validating: joined, as: UTF8.self) else { throw .notUTF8(displayText(of: joined)) }
      return whole
    }
    throw .noSuchRun(path)
  }
}
