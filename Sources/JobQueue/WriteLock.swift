import CLinux
import Glibc
import SyncModel

/// The advisory lock that makes write transactions and checkpoints of all processes follow one another.
///
/// SQLite up to 3.51.2 can corrupt a WAL file when two connections write and checkpoint at the same moment (the WAL-reset bug), and a
/// write lock that is queued for outside never shows anybody `database is locked`. The lock belongs to the open file description, so the
/// kernel releases it whatever the process dies of. See Specs/decisions/0002.
final class WriteLock {
  private let descriptor: Int32
  private let path: String
  private let patience: Double

  /// - Parameter patience: Seconds that a lock held by another process is waited for.
  init(path: String, patience: Double) throws(SyncFailure) {
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    self.path = path
    self.patience = patience
    guard descriptor >= 0 else {
      throw SyncFailure(
        .local, "cannot open \(path): \(String(cString: strerror(errno)))",
        hint: "The state folder must be writable for the user that runs nassync.")
    }
  }

  deinit { close(descriptor) }

  /// Waits for the lock.
  /// - Throws: `SyncFailure` of kind `local` once the patience is over: somebody holds it and does not move.
  func lock() throws(SyncFailure) {
    let clock = SystemClock()
    let deadline = clock.monotonicNanoseconds + UInt64(patience * 1e9)
    var pause: UInt32 = 200
    while clinux_lock_exclusive(descriptor, 0) != 0 {
      guard errno == EAGAIN || errno == EACCES else {
        throw SyncFailure(
          .local, "cannot lock \(path): \(String(cString: strerror(errno)))",
          hint: "The state folder must lie on a local file system that supports locks.")
      }
      guard clock.monotonicNanoseconds < deadline else {
        throw SyncFailure(
          .local, "another process has held \(path) for more than \(Int(patience)) s",
          hint:
            "Find it with `fuser \(path)`; a nassync that was stopped with SIGSTOP or a debugger is the usual cause. Nothing is lost; try again."
        )
      }
      usleep(pause)
      pause = min(pause * 2, 5_000)
    }
  }

  func unlock() { _ = clinux_unlock(descriptor) }
}
