import CLinux
import Digests
import Executors
import Foundation
import Glibc
import Intake
import SyncModel

/// The folder that a run is restored into. Everything in it is made by descriptor beneath its root, through no symbolic link, and nothing
/// that has a name already is replaced. Unfinished files lie in the metadata folder under names that a scan of the run passes over.
///
/// Blocking: use it on a reader thread.
final class RestoreFolder: Sendable {
  /// Names that this program keeps for itself in the metadata folder.
  static let temporaryPrefix = RunScanner.temporaryPrefix
  static let marker = ".nassync-restore.json"
  private static let partPrefix = ".nassync-part-"

  /// Which restore an unfinished folder belongs to.
  struct Identity: Hashable, Sendable, Codable {
    let manifestSHA256: ContentDigest
    let remotePath: String

    private enum CodingKeys: String, CodingKey {
      case manifestSHA256 = "manifest_sha256"
      case remotePath = "remote_path"
    }
  }

  let folder: RunFolder
  private let metadata: Descriptor
  private let shown: String

  /// Opens the folder, and makes it and its metadata folder where they are not there.
  init(root: String, metadataFolder: String) throws(SyncFailure) {
    shown = displayText(root)
    if mkdir(root, 0o755) != 0, errno != EEXIST { throw Self.failure("cannot make \(displayText(root))", errno) }
    folder = try RunFolder(root: root)
    // Held as long as the folder is open. Not every file system has such locks; where it has, two restores never share unfinished files.
    if flock(folder.descriptor.raw, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK {
      throw SyncFailure(
        .local, "another restore is filling \(displayText(root))", hint: "Wait for its end, or restore into another folder.")
    }
    if mkdirat(folder.descriptor.raw, metadataFolder, 0o755) != 0, errno != EEXIST {
      throw Self.failure("cannot make \(displayText(root))/\(displayText(metadataFolder))", errno)
    }
    let raw = clinux_openat(folder.descriptor.raw, metadataFolder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
    guard raw >= 0 else { throw Self.failure("cannot open \(displayText(root))/\(displayText(metadataFolder))", errno) }
    metadata = Descriptor(owning: raw)
  }

  // MARK: - The marker

  /// What is being restored into a folder, nil where nothing is.
  static func identity(of root: String, metadataFolder: String) throws(SyncFailure) -> Identity? {
    let reader: LocalFileReader
    do throws(SyncFailure) {
      let path: RelativePath
      do { path = try RelativePath(metadataFolder + "/" + marker) } catch { return nil }
      reader = try LocalFileReader(in: RunFolder(root: root), path: path)
    } catch {
      if error.kind == .localVanished { return nil }
      throw error
    }
    let bytes = try reader.read(at: 0, upTo: 1 << 16)
    do { return try JSONDecoder().decode(Identity.self, from: Data(bytes)) } catch {
      throw SyncFailure(
        .local, "\(displayText(root)) holds an unfinished restore whose note cannot be read",
        hint: "Restore into another folder, and look what is in this one.", retry: false)
    }
  }

  func mark(_ identity: Identity) throws(SyncFailure) {
    let encoded: Data
    do { encoded = try JSONEncoder().encode(identity) } catch {
      throw SyncFailure(.protocol, "the restore could not be noted: \(error)", hint: "Report this.")
    }
    let temporary = ".nassync-restore-new.json"
    try write(Array(encoded), as: temporary, modified: nil, mode: nil)
    guard fsync(metadata.raw) == 0, renameat(metadata.raw, temporary, metadata.raw, Self.marker) == 0, fsync(metadata.raw) == 0 else {
      throw Self.failure("cannot write in \(shown)", errno)
    }
  }

  /// Removes what is left of unfinished files, and the marker last.
  func finish(temporaries: [String]) throws(SyncFailure) {
    for name in temporaries { unlinkat(metadata.raw, name, 0) }
    try syncAll()
    guard unlinkat(metadata.raw, Self.marker, 0) == 0 || errno == ENOENT else { throw Self.failure("cannot finish \(shown)", errno) }
    guard fsync(metadata.raw) == 0 else { throw Self.failure("cannot finish \(shown)", errno) }
  }

  // MARK: - Making things

  /// Makes a folder whose parent is there; one that exists is fine.
  func makeFolder(_ path: RelativePath) throws(SyncFailure) {
    let made = try inParent(of: path) { parent, name in mkdirat(parent, name, 0o755) }
    if made != 0, made != EEXIST { throw failure("make the folder", path, made) }
    guard folder.open(path, O_RDONLY | O_DIRECTORY) != nil else { throw failure("open the folder", path, errno) }
  }

  /// Makes a link; what has its name stays.
  func makeLink(_ path: RelativePath, to target: [UInt8], modified: Int64?) throws(SyncFailure) {
    let made = try inParent(of: path) { parent, name in withCString(target) { symlinkat($0, parent, name) } }
    if made != 0 { throw failure("make the link", path, made) }
    guard let modified else { return }
    let times = [Self.time(modified), Self.time(modified)]
    let set = try inParent(of: path) { parent, name in utimensat(parent, name, times, AT_SYMLINK_NOFOLLOW) }
    // Not every file system keeps the times of links.
    if set != 0, set != ENOTSUP { throw failure("set the time of the link", path, set) }
  }

  /// Writes a whole file under a temporary name.
  func write(_ content: [UInt8], as temporary: String, modified: Int64?, mode: UInt32?) throws(SyncFailure) {
    // A former attempt's, which may be cut: only we use these names.
    unlinkat(metadata.raw, temporary, 0)
    let raw = clinux_openat(metadata.raw, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644)
    guard raw >= 0 else { throw Self.failure("cannot write in \(shown)", errno) }
    let file = Descriptor(owning: raw)
    do throws(SyncFailure) {
      try Self.write(content, to: file, at: 0, shown: shown)
      try Self.set(file, modified: modified, mode: mode, shown: shown)
    } catch {
      unlinkat(metadata.raw, temporary, 0)
      throw error
    }
  }

  /// Opens what an interrupted restore has of a large file.
  func openPart(_ temporary: String) throws(SyncFailure) -> Descriptor {
    let raw = clinux_openat(metadata.raw, temporary, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o644)
    guard raw >= 0 else { throw Self.failure("cannot write in \(shown)", errno) }
    return Descriptor(owning: raw)
  }

  func discard(_ temporary: String) { unlinkat(metadata.raw, temporary, 0) }

  /// Gives a finished file its name.
  /// - Returns: False where something has that name.
  func place(_ temporary: String, as path: RelativePath) throws(SyncFailure) -> Bool {
    let code = try inParent(of: path) { parent, name in clinux_rename_noreplace(metadata.raw, temporary, parent, name) }
    if code == EEXIST { return false }
    if code != 0 { throw failure("name", path, code) }
    return true
  }

  func setFolder(_ path: RelativePath, modified: Int64?, mode: UInt32?) throws(SyncFailure) {
    guard let opened = folder.open(path, O_RDONLY | O_DIRECTORY) else { throw failure("open the folder", path, errno) }
    // Its owner can always work in it.
    try Self.set(opened, modified: modified, mode: mode.map { $0 | 0o700 }, shown: path.description)
  }

  /// Everything that was written is on the disk.
  func syncAll() throws(SyncFailure) {
    guard clinux_sync_file_system(folder.descriptor.raw) == 0 else { throw Self.failure("cannot write \(shown) to its disk", errno) }
  }

  /// Name of the unfinished file that belongs to a path and a content.
  static func temporaryName(_ path: RelativePath, _ digest: ContentDigest) -> String {
    let hash = SHA256Hasher.digest(of: path.bytes + [0] + Array(digest.hex.utf8))?.hex ?? digest.hex
    return partPrefix + hash.prefix(40)
  }

  // MARK: - Calls

  /// - Returns: 0, or the error number.
  private func inParent(of path: RelativePath, _ body: (Int32, UnsafePointer<CChar>) -> Int32) throws(SyncFailure) -> Int32 {
    var parent = folder.descriptor
    if let above = path.parent {
      guard let opened = folder.open(above, O_RDONLY | O_DIRECTORY) else { throw failure("open the folder of", path, errno) }
      parent = opened
    }
    return withCString(path.lastSegment) { body(parent.raw, $0) == 0 ? 0 : errno }
  }

  static func write(_ content: [UInt8], to file: Descriptor, at offset: UInt64, shown: String) throws(SyncFailure) {
    var done = 0
    while done < content.count {
      let written = content.withUnsafeBytes { bytes in
        pwrite(file.raw, bytes.baseAddress.map { $0 + done }, bytes.count - done, off_t(clamping: offset) + off_t(done))
      }
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw failure("cannot write in \(shown)", errno) }
      done += written
    }
  }

  static func set(_ file: Descriptor, modified: Int64?, mode: UInt32?, shown: String) throws(SyncFailure) {
    // No bit that gives a program another user's rights.
    if let mode, fchmod(file.raw, mode & 0o777 | 0o400) != 0 { throw failure("cannot set the permissions in \(shown)", errno) }
    guard let modified else { return }
    let times = [time(modified), time(modified)]
    guard futimens(file.raw, times) == 0 else { throw failure("cannot set the times in \(shown)", errno) }
  }

  private static func time(_ nanoseconds: Int64) -> timespec {
    let (seconds, rest) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
    return timespec(tv_sec: Int(rest < 0 ? seconds - 1 : seconds), tv_nsec: Int(rest < 0 ? rest + 1_000_000_000 : rest))
  }

  private func failure(_ what: String, _ path: RelativePath, _ code: Int32) -> SyncFailure {
    if code == EEXIST {
      return SyncFailure(
        .local, "cannot \(what) \(path) in \(shown): something has that name",
        hint: "A file system that takes large and small letters for one cannot hold this run; restore it to another.", retry: false)
    }
    return Self.failure("cannot \(what) \(path) in \(shown)", code)
  }

  static func failure(_ what: String, _ code: Int32) -> SyncFailure {
    switch code {
    case ENOSPC, EDQUOT:
      SyncFailure(
        .local, "\(what): \(errorText(code))", hint: "The disk is full. Make room there and give the same command again: it goes on.")
    case ENAMETOOLONG, EILSEQ, EINVAL:
      SyncFailure(
        .local, "\(what): \(errorText(code))", hint: "This file system cannot hold such a name; restore to another one.", retry: false)
    default:
      SyncFailure(
        .local, "\(what): \(errorText(code))",
        hint: "Look at the permissions and the disk, then give the same command again: it goes on.")
    }
  }
}

/// One large file on its way to the disk, hashed as it comes; what an interrupted restore has of it is read again first.
actor RestoredPart {
  private let file: Descriptor
  private let shown: String
  private let limit: UInt64
  private var hasher: SHA256Hasher? = SHA256Hasher()
  private(set) var length: UInt64 = 0

  private nonisolated let thread: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }

  /// - Parameter limit: Bytes that the NAS lists; what goes on beyond them is not the file.
  init(_ file: Descriptor, shown: String, limit: UInt64, on thread: ThreadExecutor) {
    self.file = file
    self.shown = shown
    self.limit = limit
    self.thread = thread
  }

  /// Hashes what is there.
  /// - Returns: Where to go on.
  func takeUp() throws(SyncFailure) -> UInt64 {
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { throw RestoreFolder.failure("cannot read what there is of \(shown)", errno) }
    guard status.st_mode & S_IFMT == S_IFREG, UInt64(clamping: status.st_size) <= limit else {
      try startAnew()
      return 0
    }
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while length < UInt64(clamping: status.st_size) {
      let got = buffer.withUnsafeMutableBytes { pread(file.raw, $0.baseAddress, $0.count, off_t(clamping: length)) }
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { throw RestoreFolder.failure("cannot read what there is of \(shown)", errno) }
      if got == 0 { break }
      buffer.withUnsafeBytes { bytes in hasher?.update(UnsafeRawBufferPointer(rebasing: bytes[..<got])) }
      length += UInt64(got)
      if Task.isCancelled { throw Restorer.interrupted }
    }
    return length
  }

  func startAnew() throws(SyncFailure) {
    guard ftruncate(file.raw, 0) == 0 else { throw RestoreFolder.failure("cannot write \(shown)", errno) }
    hasher = SHA256Hasher()
    length = 0
  }

  func append(_ chunk: [UInt8]) throws(SyncFailure) {
    guard UInt64(chunk.count) <= limit - length else { throw Restorer.tooLong }
    try RestoreFolder.write(chunk, to: file, at: length, shown: shown)
    hasher?.update(chunk)
    length += UInt64(chunk.count)
  }

  func digest() throws(SyncFailure) -> ContentDigest {
    guard let digest = hasher.take()?.finalize() else { throw JobRunner.noSHA256 }
    return digest
  }

  /// Times and permissions, and all of it on the disk.
  func seal(modified: Int64?, mode: UInt32?) throws(SyncFailure) {
    try RestoreFolder.set(file, modified: modified, mode: mode, shown: shown)
    guard fsync(file.raw) == 0 else { throw RestoreFolder.failure("cannot write \(shown)", errno) }
  }
}
