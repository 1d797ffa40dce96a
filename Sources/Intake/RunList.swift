import CLinux
import Glibc
import SyncModel

/// An instrument's list of a run's files, beside what the run holds of them.
///
/// The format is that of `sha256sum`, with the names relative to the run, whatever folder the list itself lies in. Lines may end in CR LF, as
/// programs on Windows write them.
package struct RunList: Hashable, Sendable {
  /// A file and the digest that it must have.
  package struct Item: Hashable, Sendable {
    package let entry: RunEntry
    package let digest: ContentDigest
  }

  /// Those that are there as regular files, in the order of their path's bytes.
  package let items: [Item]
  /// Those that are not, likewise.
  package let missing: [RelativePath]
  /// Of the list and of what `lstat` says of the files: another value means that they want hashing anew. Within this process only.
  package let fingerprint: Int

  /// A list is text; what is larger is none.
  package static let maxBytes = 256 << 20

  /// - Parameter snapshot: Taken without `exclude` patterns. What this program itself writes beside the record is not looked for in it.
  /// - Throws: `RunManifest.Malformed`.
  package init(parsing text: [UInt8], in snapshot: RunSnapshot) throws(RunManifest.Malformed) {
    let manifest = try RunManifest(parsing: Self.withoutCarriageReturns(text))
    var files: [RelativePath: RunEntry] = [:]
    for entry in snapshot.entries where entry.kind == .file { files[entry.path] = entry }
    let own = Set(RunSnapshot.bookkeepingNames.map { Array("\(snapshot.metadataFolder)/\($0)".utf8) })
    var items: [Item] = []
    var missing: [RelativePath] = []
    var hasher = Hasher()
    hasher.combine(text)
    for listed in manifest.entries where !own.contains(listed.path.bytes) {
      guard let entry = files[listed.path] else {
        missing.append(listed.path)
        continue
      }
      items.append(Item(entry: entry, digest: listed.digest))
      hasher.combine(entry)
    }
    self.items = items
    self.missing = missing
    fingerprint = hasher.finalize()
  }

  /// Only where every line ends so: else a carriage return belongs to a name.
  private static func withoutCarriageReturns(_ text: [UInt8]) -> [UInt8] {
    let lines = text.split(separator: 0x0a, omittingEmptySubsequences: false).dropLast()
    guard !lines.isEmpty, lines.allSatisfy({ $0.last == 0x0d }), text.last == 0x0a else { return text }
    return Array(lines.map { $0.dropLast() + [0x0a] }.joined())
  }
}

extension CompletenessSignal {
  /// Looks at a run's whole tree.
  ///
  /// Blocking: call it on a `ThreadExecutor`.
  /// - Throws: as `RunScanner.snapshot`.
  package func look(at root: String, metadataFolder: String) throws(SyncFailure) -> RunLook {
    let snapshot = try RunScanner.snapshot(of: root, metadataFolder: metadataFolder, excluding: [])
    switch self {
    case .quiet: return RunLook(snapshot: snapshot)
    case .sentinel(let path): return RunLook(snapshot: snapshot, signalFile: Self.regularFile(path, in: try RunFolder(root: root)))
    case .manifest(let path):
      let folder = try RunFolder(root: root)
      guard let file = Self.regularFile(path, in: folder) else { return RunLook(snapshot: snapshot) }
      let text: [UInt8]
      do throws(SyncFailure) { text = try Self.text(of: path, in: folder) } catch {
        return RunLook(snapshot: snapshot, signalFile: file, listProblem: error.message)
      }
      do throws(RunManifest.Malformed) {
        let list = try RunList(parsing: text, in: snapshot)
        // An empty list holds always, and says nothing.
        if list.items.isEmpty, list.missing.isEmpty {
          return RunLook(snapshot: snapshot, signalFile: file, listProblem: "it names no file")
        }
        return RunLook(snapshot: snapshot, signalFile: file, list: list)
      } catch { return RunLook(snapshot: snapshot, signalFile: file, listProblem: error.description) }
    }
  }

  /// Whether the run's sentinel or list is there: one `open`, whatever the size of the tree. Always false for `quiet`.
  package func isGiven(at root: String) throws(SyncFailure) -> Bool {
    switch self {
    case .quiet: false
    case .sentinel(let path), .manifest(let path): Self.regularFile(path, in: try RunFolder(root: root)) != nil
    }
  }

  /// Nil where it is not there or anything but a regular file. It need not be readable.
  private static func regularFile(_ path: RelativePath, in folder: RunFolder) -> FileFingerprint? {
    guard let file = folder.open(path, clinux_o_path()) else { return nil }
    var status = stat()
    guard fstat(file.raw, &status) == 0, fileType(status) == S_IFREG else { return nil }
    return FileFingerprint(status)
  }

  private static func text(of path: RelativePath, in folder: RunFolder) throws(SyncFailure) -> [UInt8] {
    let reader = try LocalFileReader(in: folder, path: path)
    var text: [UInt8] = []
    while true {
      let chunk = try reader.read(at: UInt64(text.count), upTo: 1 << 20)
      if chunk.isEmpty { return text }
      text += chunk
      guard text.count <= RunList.maxBytes else {
        throw SyncFailure(.local, "it is larger than \(RunList.maxBytes >> 20) MiB", hint: "Name another file as the list.")
      }
    }
  }
}
