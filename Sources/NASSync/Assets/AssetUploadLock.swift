import CLinux
import Glibc
import SyncModel

/// Makes one upload at a time the one that works on an asset, over all processes that share a state folder. The kernel releases it whatever
/// the process dies of.
final class AssetUploadLock: Sendable {
  private let descriptor: Int32

  private init(descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  /// Waits until nobody else works on the upload.
  /// - Parameter number: Of the upload in the queue file: the byte of the lock's file that is locked.
  /// - Throws: `SyncFailure`: `interrupted` when the task is cancelled, `local` where the file cannot be locked.
  static func take(stateDirectory: String, number: Int64, clock: any SyncClock) async throws(SyncFailure) -> AssetUploadLock {
    while true {
      if let lock = try tryTake(stateDirectory: stateDirectory, number: number) { return lock }
      do throws(CancellationError) { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + 200_000_000) } catch {
        throw AssetUploadRun.stopped
      }
    }
  }

  /// - Returns: Nil where somebody else works on the upload.
  static func tryTake(stateDirectory: String, number: Int64) throws(SyncFailure) -> AssetUploadLock? {
    let path = stateDirectory + "/assets.lock"
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw SyncFailure(
        .local, "cannot open \(displayText(path)): \(String(cString: strerror(errno)))",
        hint: "The state folder must be writable for the user that runs this.")
    }
    guard clinux_lock_byte(descriptor, number) == 0 else {
      let code = errno
      close(descriptor)
      if code == EAGAIN || code == EACCES { return nil }
      throw SyncFailure(
        .local, "cannot lock \(displayText(path)): \(String(cString: strerror(code)))",
        hint: "The state folder must lie on a local file system that supports locks.")
    }
    return AssetUploadLock(descriptor: descriptor)
  }
}
