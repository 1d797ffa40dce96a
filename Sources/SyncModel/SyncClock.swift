#if canImport(Glibc)
  import Glibc
#endif

/// The two clocks the program reads, and the only way it sleeps; tests inject their own.
public protocol SyncClock: Sendable {
  /// Wall-clock time, seconds since 1970. May jump.
  var wallSeconds: Double { get }
  /// Nanoseconds on a clock that never goes back.
  var monotonicNanoseconds: UInt64 { get }
  /// Returns once the monotonic clock has reached the deadline.
  /// - Throws: `CancellationError` at once when the task is cancelled.
  func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError)
}

/// The machine's clocks.
public struct SystemClock: SyncClock {
  /// Takes the values as they are.
  public init() {}

  /// From `CLOCK_REALTIME`.
  public var wallSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// From `CLOCK_MONOTONIC`.
  public var monotonicNanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// Sleeps in the task, not on a thread.
  public func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError) {
    let now = monotonicNanoseconds
    guard deadline > now else {
      if Task.isCancelled { throw CancellationError() }
      return
    }
    do { try await Task.sleep(nanoseconds: deadline - now) } catch { throw CancellationError() }
  }
}
