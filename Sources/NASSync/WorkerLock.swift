import CLinux
import Glibc
import SyncModel

/// The lock that makes one process the worker of a state folder. Held as long as this value lives; the kernel releases it whatever the
/// process dies of.
final class WorkerLock: Sendable {
  private let descriptor: Int32

  /// - Parameter name: The lock's file; `cleanup.lock` makes one process at a time the one that removes local copies.
  /// - Returns: Nil where another process works on this folder.
  static func take(stateDirectory: String, name: String = "worker.lock") throws(SyncFailure) -> WorkerLock? {
    let path = stateDirectory + "/" + name
    let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw SyncFailure(
        .local, "cannot open \(path): \(String(cString: strerror(errno)))",
        hint: "The state folder must be writable for the user that runs nassync.")
    }
    guard clinux_lock_exclusive(descriptor, 0) == 0 else {
      let code = errno
      close(descriptor)
      if code == EAGAIN || code == EACCES { return nil }
      throw SyncFailure(
        .local, "cannot lock \(path): \(String(cString: strerror(code)))",
        hint: "The state folder must lie on a local file system that supports locks.")
    }
    // For people who look: the lock itself does not depend on what the file says.
    let text = Array("\(getpid())\n".utf8)
    _ = ftruncate(descriptor, 0)
    _ = pwrite(descriptor, text, text.count, 0)
    return WorkerLock(descriptor: descriptor)
  }

  /// Whether a process works on this folder, without taking anything from it; nil where that cannot be said.
  static func isHeld(stateDirectory: String) -> Bool? {
    let descriptor = open(stateDirectory + "/worker.lock", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return errno == ENOENT ? false : nil }
    defer { close(descriptor) }
    let answer = clinux_is_locked(descriptor)
    return answer < 0 ? nil : answer == 1
  }

  private init(descriptor: Int32) { self.descriptor = descriptor }

  deinit {
    // A program that is being started at this moment holds the descriptor, too, until it has begun: the lock must not last as long.
    _ = clinux_unlock(descriptor)
    close(descriptor)
  }
}
