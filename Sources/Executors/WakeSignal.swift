import CLinux
import Glibc

/// A descriptor that becomes readable when something has happened, until it is cleared: for a thread that waits in `poll(2)` for other things, too.
public final class WakeSignal: Sendable {
  /// Readable from `raise()` to `clear()`.
  public let descriptor: Int32

  /// Not raised yet.
  public init() { descriptor = clinux_eventfd() }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Wakes who waits, now or next. Safe from any thread.
  public func raise() {
    var one: UInt64 = 1
    // It can only fail where it is raised a great many times already.
    _ = write(descriptor, &one, 8)
  }

  /// Takes it back. What is looked at afterwards is as new as what it was raised for.
  public func clear() {
    var count: UInt64 = 0
    _ = read(descriptor, &count, 8)
  }
}
