import CLinux
import Glibc
import SyncModel

/// Reads one component of a run, opened beneath the run's root by descriptor: no symbolic link is ever followed.
///
/// Blocking: use it on a `ThreadExecutor`. Several threads may read at once; the object holds no position.
package final class LocalFileReader: Sendable {
  package let path: RelativePath
  private let root: String
  private let file: Descriptor

  /// Opens the file and makes sure that it is a regular one.
  /// - Throws: `local_vanished` where it is gone, `local_changed` where it is a file no more, `local` where it may not be read.
  package init(in folder: RunFolder, path: RelativePath) throws(SyncFailure) {
    self.path = path
    self.root = folder.root
    // O_NONBLOCK: opening a FIFO that took the file's place must not hang.
    guard let opened = folder.open(path, O_RDONLY | O_NONBLOCK) else {
      throw Self.openFailure(errno, path)
    }
    file = opened
    var status = stat()
    guard fstat(opened.raw, &status) == 0 else { throw Self.readFailure(errno, path) }
    guard fileType(status) == S_IFREG else { throw Self.changed(path, "it is no regular file any more") }
    // A small one is read in one go.
    if status.st_size > Self.goSize { posix_fadvise(opened.raw, 0, 0, POSIX_FADV_SEQUENTIAL) }
  }

  private static let goSize = 256 * 1024

  /// The contents of some small files, each as it was registered: read in one go, then compared with size, times and inode of the open file and
  /// of whatever has its name then. Keeps them all open at once: a few.
  /// - Throws: As `init`, `read` and `requireUnchanged`, for the first that is not as it was.
  package static func readWhole(_ entries: [RunEntry], in folder: RunFolder) throws(SyncFailure) -> [[UInt8]] {
    var readers: [LocalFileReader] = []
    var contents: [[UInt8]] = []
    for entry in entries {
      let reader = try LocalFileReader(in: folder, path: entry.path)
      contents.append(try reader.read(at: 0, upTo: Int(clamping: entry.fingerprint.size)))
      readers.append(reader)
    }
    let now = try RunFolder(root: folder.root)
    for (index, entry) in entries.enumerated() {
      try readers[index].requireUnchanged(since: entry.fingerprint, beneath: now)
      guard contents[index].count == entry.fingerprint.size else {
        throw changed(entry.path, "it had \(entry.fingerprint.size) bytes and ended after \(contents[index].count)")
      }
    }
    return contents
  }

  /// What the open file is like now.
  /// - Throws: `local` where the system does not say.
  package func fingerprint() throws(SyncFailure) -> FileFingerprint {
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { throw Self.readFailure(errno, path) }
    return FileFingerprint(status)
  }

  /// Reads up to `count` bytes; fewer only at the end of the file, none beyond it.
  /// - Parameter offset: Bytes from the start of the file.
  /// - Throws: `local` where the disk fails.
  package func read(at offset: UInt64, upTo count: Int) throws(SyncFailure) -> [UInt8] {
    switch readChunk(file.raw, offset: offset, count: count) {
    case .success(let bytes): return bytes
    case .failure(let error): throw Self.readFailure(error.code, path)
    }
  }

  /// Compares size, times and inode of the open file, and of whatever has its name now, with what they were.
  /// - Throws: `local_changed` naming what differs; `local_vanished` where the name is gone.
  package func requireUnchanged(since expected: FileFingerprint) throws(SyncFailure) {
    try requireUnchanged(since: expected, beneath: try RunFolder(root: root))
  }

  /// - Parameter folder: The run's folder, opened anew: what was opened before may have another name by now.
  private func requireUnchanged(since expected: FileFingerprint, beneath folder: RunFolder) throws(SyncFailure) {
    if let difference = try fingerprint().contentDifference(from: expected) { throw Self.changed(path, difference) }
    guard let named = folder.open(path, O_RDONLY | O_NONBLOCK) else { throw Self.openFailure(errno, path) }
    var status = stat()
    guard fstat(named.raw, &status) == 0 else { throw Self.readFailure(errno, path) }
    if let difference = FileFingerprint(status).contentDifference(from: expected) { throw Self.changed(path, difference) }
  }

  private static func openFailure(_ code: Int32, _ path: RelativePath) -> SyncFailure {
    switch code {
    case ENOENT:
      SyncFailure(
        .localVanished, "\(path) is gone", hint: "Put the file back, or enqueue the run again to send what is there now.")
    case ELOOP, ENOTDIR, EXDEV, ENXIO, EISDIR:
      changed(path, "a folder, a link or something else took its place")
    case EACCES, EPERM:
      SyncFailure(
        .local, "\(path) may not be read: \(errorText(code))",
        hint: "Give the user that runs this program permission to read the file.")
    default: readFailure(code, path)
    }
  }

  private static func readFailure(_ code: Int32, _ path: RelativePath) -> SyncFailure {
    SyncFailure(.local, "\(path) cannot be read: \(errorText(code))", hint: "Look at the disk of this workstation; it is tried again.")
  }

  private static func changed(_ path: RelativePath, _ what: String) -> SyncFailure {
    SyncFailure(
      .localChanged, "\(path) changed while it was in use: \(what)",
      hint: "Wait until the instrument has finished writing; it is tried again.")
  }
}

extension FileFingerprint {
  /// What says that the content may differ: size, times or inode; nil where all are equal. Permissions show in the change time. The
  /// device is not compared: its number may be another after a restart of the workstation.
  package func contentDifference(from earlier: FileFingerprint) -> String? {
    if size != earlier.size { return "\(earlier.size) bytes before, \(size) now" }
    if modified != earlier.modified { return "it was written to" }
    if inode != earlier.inode { return "it was replaced by another file" }
    if changed != earlier.changed { return "its change time moved" }
    return nil
  }

  /// Whether size, modification time and inode are the same: what the removal of another name of the file, or a rename, leaves.
  package func isSameButForChangeTime(as earlier: FileFingerprint) -> Bool {
    size == earlier.size && modified == earlier.modified && inode == earlier.inode
  }
}
