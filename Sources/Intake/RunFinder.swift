import Glibc
import SyncModel

/// Lists the folders that may be runs, below `<local_root>/<EQUIPMENT>/<project>/{Runs,TestRuns}`: those whose name begins with `Run_` or
/// `TestRun_`. Which prefix belongs in which folder is the gate's matter.
///
/// Nothing below a run is looked at: a round over thousands of runs costs one listing a folder of runs and one `lstat` a run. Symbolic
/// links are not followed, at no level below `local_root`: what lies behind one belongs to no instrument.
///
/// Blocking: call it on a `ThreadExecutor`.
package enum RunFinder {
  /// What `lstat` says of a folder or file; another value means that something was put in, taken out or replaced.
  package struct Stamp: Hashable, Sendable {
    let device: UInt64
    let inode: UInt64
    let modified: Int64
    /// Change time, nanoseconds since 1970.
    package let changed: Int64

    /// Of whatever has this path now, links not followed; nil where nothing has it.
    package init?(of path: String) {
      var status = stat()
      guard lstat(path, &status) == 0 else { return nil }
      self.init(status)
    }

    fileprivate init(_ status: stat) {
      let fingerprint = FileFingerprint(status)
      device = fingerprint.device
      inode = fingerprint.inode
      modified = fingerprint.modified
      changed = fingerprint.changed
    }
  }

  /// A folder that may be a run.
  package struct Candidate: Hashable, Sendable {
    /// Absolute, without symbolic links, as the queue knows runs.
    package let path: String
    package let equipment: String
    package let stamp: Stamp
  }

  /// A folder that keeps runs from being found.
  package struct Obstacle: Hashable, Sendable {
    /// Absolute; bytes that are no UTF-8 replaced.
    package let path: String
    package let equipment: String
    /// What is wrong, without the path.
    package let reason: String
    /// What to do.
    package let hint: String
    /// Its change time, seconds since 1970; nil where it is not there.
    package let since: Double?
  }

  /// What was found, in no particular order.
  package struct Found: Sendable {
    package var candidates: [Candidate] = []
    package var obstacles: [Obstacle] = []
  }

  /// All that may be runs of these instruments.
  package static func find(_ equipments: [EquipmentRoot]) -> Found {
    var search = Search()
    for equipment in equipments { search.run(equipment) }
    return search.found
  }
}

/// One walk, by descriptors.
private struct Search {
  var found = RunFinder.Found()
  private static let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 19
  private static let prefixes = [Array("Run_".utf8), Array("TestRun_".utf8)]

  mutating func run(_ equipment: EquipmentRoot) {
    guard let resolved = realpath(equipment.localRoot, nil) else {
      obstacle(
        equipment, Array(equipment.localRoot.utf8), errno,
        hint: "Is its disk mounted? Mount it, or correct local_root of \(equipment.id).")
      return
    }
    defer { free(resolved) }
    var path = Array(UnsafeRawBufferPointer(start: resolved, count: strlen(resolved)))
    let raw = openName(AT_FDCWD, path, O_RDONLY | O_DIRECTORY)
    guard raw >= 0 else {
      obstacle(equipment, path, errno)
      return
    }
    if path == [UInt8(ascii: "/")] { path = [] }
    guard let own = enter(Array(equipment.id.utf8), in: Descriptor(owning: raw), path, equipment) else { return }
    path += [UInt8(ascii: "/")] + Array(equipment.id.utf8)
    for project in names(in: own, path, equipment) {
      guard let folder = enter(project, in: own, path, equipment) else { continue }
      let projectPath = path + [UInt8(ascii: "/")] + project
      for name in ["Runs", "TestRuns"] {
        guard let runs = enter(Array(name.utf8), in: folder, projectPath, equipment) else { continue }
        addRuns(in: runs, projectPath + Array("/\(name)".utf8), equipment)
      }
    }
  }

  private mutating func addRuns(in folder: Descriptor, _ path: [UInt8], _ equipment: EquipmentRoot) {
    for name in names(in: folder, path, equipment) where Self.prefixes.contains(where: { name.starts(with: $0) }) {
      var status = stat()
      guard withCString(name, { fstatat(folder.raw, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0, fileType(status) == S_IFDIR else { continue }
      let whole = path + [UInt8(ascii: "/")] + name
      guard let text = String(validating: whole, as: UTF8.self) else {
        found.obstacles.append(
          RunFinder.Obstacle(
            path: displayText(of: whole), equipment: equipment.id, reason: "its name is not UTF-8",
            hint: "Rename the folder: other systems could not show such a name.", since: Double(status.st_ctim.tv_sec)))
        continue
      }
      found.candidates.append(RunFinder.Candidate(path: text, equipment: equipment.id, stamp: RunFinder.Stamp(status)))
    }
  }

  /// A folder that is there; nil without a word where there is none, or a link or a file instead.
  private mutating func enter(_ name: [UInt8], in folder: Descriptor, _ path: [UInt8], _ equipment: EquipmentRoot) -> Descriptor? {
    let raw = openName(folder.raw, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    if raw >= 0 { return Descriptor(owning: raw) }
    let code = errno
    if code != ENOENT, code != ENOTDIR, code != ELOOP { obstacle(equipment, path + [UInt8(ascii: "/")] + name, code) }
    return nil
  }

  private mutating func names(in folder: Descriptor, _ path: [UInt8], _ equipment: EquipmentRoot) -> [[UInt8]] {
    // readdir moves the offset of the descriptor it owns, so it gets its own.
    let own = fcntl(folder.raw, F_DUPFD_CLOEXEC, 0)
    guard own >= 0, let stream = fdopendir(own) else {
      obstacle(equipment, path, errno)
      if own >= 0 { close(own) }
      return []
    }
    defer { closedir(stream) }
    var names: [[UInt8]] = []
    while true {
      errno = 0
      guard let item = readdir(stream) else {
        if errno != 0 { obstacle(equipment, path, errno) }
        return names
      }
      // Some file systems do not say what kind of thing it is; then opening it does.
      guard item.pointee.d_type == DT_DIR || item.pointee.d_type == DT_UNKNOWN else { continue }
      let pointer = UnsafeRawPointer(item).advanced(by: Self.nameOffset)
      let name = Array(UnsafeRawBufferPointer(start: pointer, count: strlen(pointer.assumingMemoryBound(to: CChar.self))))
      if name != [0x2e], name != [0x2e, 0x2e] { names.append(name) }
    }
  }

  private mutating func obstacle(
    _ equipment: EquipmentRoot, _ path: [UInt8], _ code: Int32, hint: String = "Let the user that runs nassync read the folder."
  ) {
    var status = stat()
    let isThere = withCString(path) { lstat($0, &status) } == 0
    found.obstacles.append(
      RunFinder.Obstacle(
        path: displayText(of: path), equipment: equipment.id, reason: errorText(code), hint: hint,
        since: isThere ? Double(status.st_ctim.tv_sec) : nil))
  }
}
