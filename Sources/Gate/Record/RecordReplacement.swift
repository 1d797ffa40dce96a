import CLinux
import Glibc
import Intake
import SyncModel

/// The exclusive right to rewrite a run's record, among programs that ask for it.
///
/// The lock lies on the metadata folder itself, so that nothing is left behind. Where the file system cannot lock a folder (NFS), it
/// lies on a file `.nassync-lock` in it, which is no component of the run.
package final class RecordLock {
  private let locked: Descriptor

  /// - Parameter patience: Seconds to wait for others.
  /// - Throws: `RecordError`; `busy` where others keep it for longer.
  package init(folder: Descriptor, patience: Double) throws(RecordError) {
    // A description of its own: flock belongs to the open file description, and threads of one process are to exclude each other too.
    let own = clinux_openat(folder.raw, ".", O_RDONLY | O_DIRECTORY, 0)
    guard own >= 0 else { throw RecordStore.system("the metadata folder cannot be opened", errno) }
    let descriptor = Descriptor(owning: own)
    let clock = SystemClock()
    let deadline = clock.monotonicNanoseconds &+ UInt64(max(0, min(patience, 86_400)) * 1e9)
    while flock(descriptor.raw, LOCK_EX | LOCK_NB) != 0 {
      let code = errno
      if code == EBADF || code == EOPNOTSUPP || code == EINVAL || code == ENOLCK {
        locked = try Self.lockFile(in: folder, until: deadline)
        return
      }
      guard code == EWOULDBLOCK || code == EINTR else { throw RecordStore.system("the metadata folder cannot be locked", code) }
      try Self.pause(until: deadline)
    }
    locked = descriptor
  }

  private static func lockFile(in folder: Descriptor, until deadline: UInt64) throws(RecordError) -> Descriptor {
    let raw = clinux_openat(folder.raw, ".nassync-lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0o666)
    guard raw >= 0 else { throw RecordStore.system("the lock of the record cannot be opened", errno) }
    let file = Descriptor(owning: raw)
    while clinux_lock_exclusive(file.raw, 0) != 0 {
      let code = errno
      guard code == EAGAIN || code == EACCES else { throw RecordStore.system("the record cannot be locked", code) }
      try pause(until: deadline)
    }
    return file
  }

  private static func pause(until deadline: UInt64) throws(RecordError) {
    guard SystemClock().monotonicNanoseconds < deadline else {
      throw .busy("another program holds the lock of the run's record; try again when it has finished")
    }
    usleep(UInt32.random(in: 500...3000))
  }

  /// Gives the right back; both kinds of lock end with the description.
  package func release() { withExtendedLifetime(locked) {} }

  /// Removes temporary files of writers that died. To be called while the lock is held: no living writer has one then.
  /// - Parameter prefix: What their names begin with.
  package static func removeLeftovers(in folder: Descriptor, prefix: String) {
    let own = clinux_openat(folder.raw, ".", O_RDONLY | O_DIRECTORY, 0)
    guard own >= 0 else { return }
    guard let stream = fdopendir(own) else {
      close(own)
      return
    }
    defer { closedir(stream) }
    let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 19
    while let item = readdir(stream) {
      let name = UnsafeRawPointer(item).advanced(by: offset).assumingMemoryBound(to: CChar.self)
      if strncmp(name, prefix, prefix.utf8.count) == 0 { unlinkat(folder.raw, name, 0) }
    }
  }
}

/// A new version of a record under a temporary name; removed again unless it is committed.
final class RecordReplacement {
  private static let prefix = ".nassync-record-"
  private static let recordName = "creation.json"

  private let folder: Descriptor
  private let name: String
  private var committed = false

  /// What `lstat` says of the record; nil where there is none.
  static func status(in folder: Descriptor) -> stat? {
    var status = stat()
    return fstatat(folder.raw, recordName, &status, AT_SYMLINK_NOFOLLOW) == 0 ? status : nil
  }

  /// Writes and flushes the temporary file.
  /// - Parameter like: The record whose mode and owner are taken over; nil for 0644 and the own user.
  init(folder: Descriptor, bytes: [UInt8], like: stat?) throws(RecordError) {
    self.folder = folder
    RecordLock.removeLeftovers(in: folder, prefix: Self.prefix)
    let name = Self.prefix + String(UInt64.random(in: .min ... .max), radix: 16)
    self.name = name
    let raw = clinux_openat(folder.raw, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
    guard raw >= 0 else { throw RecordStore.system("no file can be made in the metadata folder", errno) }
    let file = Descriptor(owning: raw)
    do throws(RecordError) {
      try Self.fill(file, with: bytes, like: like)
    } catch {
      // The deinitialiser of a class whose initialiser throws does run only once all is set; be explicit.
      unlinkat(folder.raw, name, 0)
      committed = true
      throw error
    }
  }

  deinit {
    if !committed { unlinkat(folder.raw, name, 0) }
  }

  private static func fill(_ file: Descriptor, with bytes: [UInt8], like: stat?) throws(RecordError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { write(file.raw, $0.baseAddress, $0.count) }
      if written < 0 {
        if errno == EINTR { continue }
        throw RecordStore.system("the record cannot be written", errno)
      }
      rest = rest.dropFirst(written)
    }
    if let like {
      // Only the superuser may give a file away; a member of the group may still give it to the group. Otherwise the rewriter owns it.
      if fchown(file.raw, like.st_uid, like.st_gid) != 0 { _ = fchown(file.raw, uid_t.max, like.st_gid) }
    }
    let mode = like.map { $0.st_mode & 0o7777 } ?? 0o644
    guard fchmod(file.raw, mode) == 0 else { throw RecordStore.system("the mode of the record cannot be set", errno) }
    guard fsync(file.raw) == 0 else { throw RecordStore.system("the record cannot be flushed to the disk", errno) }
  }

  /// Puts the new version in the record's place, unless the record is not the one that was read any more.
  /// - Returns: false where it is not; nothing has happened then.
  func commit(ifStill before: stat?) throws(RecordError) -> Bool {
    let now = Self.status(in: folder)
    guard now.map(FileFingerprint.init) == before.map(FileFingerprint.init) else { return false }
    if before == nil {
      if clinux_rename_noreplace(folder.raw, name, folder.raw, Self.recordName) != 0 {
        let code = errno
        if code == EEXIST { return false }
        // A file system without RENAME_NOREPLACE: the lock has to do.
        guard code == EINVAL || code == ENOSYS else { throw RecordStore.system("the record cannot be put in place", code) }
        guard renameat(folder.raw, name, folder.raw, Self.recordName) == 0 else {
          throw RecordStore.system("the record cannot be put in place", errno)
        }
      }
    } else if renameat(folder.raw, name, folder.raw, Self.recordName) != 0 {
      throw RecordStore.system("the record cannot be put in place", errno)
    }
    committed = true
    // Some file systems cannot flush a folder and say EINVAL; the rename has happened all the same.
    if fsync(folder.raw) != 0, errno != EINVAL, errno != EOPNOTSUPP {
      throw RecordStore.system("the metadata folder cannot be flushed to the disk", errno)
    }
    return true
  }
}
