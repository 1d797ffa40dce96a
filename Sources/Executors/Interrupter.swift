import CLinux
import Glibc
import Synchronization

/// A stop flag with a descriptor that becomes readable, so that a thread blocked in `poll(2)` notices at once.
///
/// Interrupting must not queue behind what it interrupts; hence this is neither an actor nor bound to an executor.
public final class Interrupter: Sendable {
  private let flag = Atomic<Bool>(false)
  /// Readable once `interrupt()` has been called; stays so.
  public let descriptor: Int32

  /// Not interrupted yet.
  public init() { descriptor = clinux_eventfd() }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Sets the flag and wakes every waiter. Safe from any thread and from a signal handler.
  public func interrupt() {
    flag.store(true, ordering: .sequentiallyConsistent)
    var one: UInt64 = 1
    _ = write(descriptor, &one, 8)
  }

  /// Whether `interrupt()` has been called.
  public var isInterrupted: Bool { flag.load(ordering: .sequentiallyConsistent) }
}
