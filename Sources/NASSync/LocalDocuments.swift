import CLinux
import Digests
import Foundation
import Gate
import Glibc
import Intake
import SyncModel

/// SHA-256 of a local file, read by descriptor beneath the run's folder. Blocking.
enum LocalDigest {
  static func compute(_ path: RelativePath, in folder: RunFolder, stop: StopFlag? = nil) throws(SyncFailure) -> ContentDigest {
    let reader = try LocalFileReader(in: folder, path: path)
    var hasher = SHA256Hasher()
    var offset: UInt64 = 0
    while true {
      let chunk = try reader.read(at: offset, upTo: 1 << 20)
      if chunk.isEmpty { break }
      if stop?.isSet == true {
        throw SyncFailure(.interrupted, "reading \(path) was told to stop", hint: "It is read again after the next start.")
      }
      hasher.update(chunk)
      offset += UInt64(chunk.count)
    }
    guard let digest = hasher.finalize() else { throw JobRunner.noSHA256 }
    return digest
  }
}

/// Writes this program's own files into a run's metadata folder: whole or not at all, never through a link. Blocking.
struct LocalDocuments {
  private static let prefix = ".nassync-document-"

  private let folder: Descriptor
  private let place: String

  /// Makes the metadata folder where the run has none.
  init(runPath: String, metadataFolder: String) throws(SyncFailure) {
    let run = try RunFolder(root: runPath)
    place = "\(displayText(runPath))/\(displayText(metadataFolder))"
    if mkdirat(run.descriptor.raw, metadataFolder, 0o755) != 0, errno != EEXIST {
      throw Self.failure("cannot make \(place)", errno)
    }
    let raw = clinux_openat(run.descriptor.raw, metadataFolder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
    guard raw >= 0 else { throw Self.failure("cannot open \(place)", errno) }
    folder = Descriptor(owning: raw)
  }

  /// Whether there is a run at all.
  static func hasRun(at path: String) -> Bool {
    do throws(SyncFailure) { _ = try RunFolder(root: path) } catch { return false }
    return true
  }

  /// Whether a file is there with exactly this content. One that cannot be read is not.
  func holds(_ content: [UInt8], as name: String) -> Bool {
    let raw = clinux_openat(folder.raw, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0)
    guard raw >= 0 else { return false }
    let file = Descriptor(owning: raw)
    var status = stat()
    guard fstat(file.raw, &status) == 0, status.st_mode & S_IFMT == S_IFREG, status.st_size == content.count else { return false }
    var found = [UInt8](repeating: 0, count: content.count)
    var offset = 0
    while offset < found.count {
      let count = found.withUnsafeMutableBytes { bytes in
        Glibc.read(file.raw, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { return false }
      offset += count
    }
    return found == content
  }

  /// Replaces a file by new content: temporary name, fsync, rename, fsync of the folder. What a writer that died left is removed; the lock of
  /// the record tells it from what a living one writes.
  func write(_ content: [UInt8], as name: String) throws(SyncFailure) {
    let lock: RecordLock
    do throws(RecordError) { lock = try RecordLock(folder: folder, patience: 10) } catch {
      throw SyncFailure(
        .local, "cannot write \(place)/\(name): \(error)", hint: "Another program holds the run's metadata folder; it is tried again.")
    }
    defer { lock.release() }
    RecordLock.removeLeftovers(in: folder, prefix: Self.prefix)
    let temporary = Self.prefix + UUID().uuidString.lowercased()
    let raw = clinux_openat(folder.raw, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644)
    guard raw >= 0 else { throw Self.failure("cannot write in \(place)", errno) }
    let file = Descriptor(owning: raw)
    do throws(SyncFailure) {
      var offset = 0
      while offset < content.count {
        let written = content.withUnsafeBytes { bytes in Glibc.write(file.raw, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
        }
        if written < 0, errno == EINTR { continue }
        guard written > 0 else { throw Self.failure("cannot write \(place)/\(name)", errno) }
        offset += written
      }
      guard fsync(file.raw) == 0 else { throw Self.failure("cannot write \(place)/\(name)", errno) }
      guard renameat(folder.raw, temporary, folder.raw, name) == 0 else { throw Self.failure("cannot replace \(place)/\(name)", errno) }
      guard fsync(folder.raw) == 0 else { throw Self.failure("cannot write \(place)", errno) }
    } catch {
      unlinkat(folder.raw, temporary, 0)
      throw error
    }
  }

  private static func failure(_ what: String, _ code: Int32) -> SyncFailure {
    SyncFailure(
      .local, "\(what): \(errorText(code))",
      hint:
        "The run itself is safe on the NAS. Make the run's metadata folder writable for nassync to have the manifest and receipt here too.")
  }
}
