import SyncModel

/// A moment on the monotonic clock by which something must be done.
struct Deadline: Sendable {
  /// Monotonic nanoseconds.
  let moment: UInt64

  init(after duration: Duration) { moment = Deadline.now &+ Deadline.span(duration) }

  /// Whole nanoseconds; 0 for a negative duration, some centuries for anything longer.
  static func span(_ duration: Duration) -> UInt64 {
    let (seconds, attoseconds) = duration.components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? .max / 2 : min(whole, .max / 2) &+ UInt64(attoseconds / 1_000_000_000)
  }

  private init(moment: UInt64) { self.moment = moment }

  static var now: UInt64 { SystemClock().monotonicNanoseconds }

  var hasPassed: Bool { Deadline.now >= moment }

  /// Milliseconds left, rounded up, for `poll(2)`; 0 once it has passed.
  var millisecondsLeft: Int32 {
    let now = Deadline.now
    return now >= moment ? 0 : Int32(clamping: (moment &- now) / 1_000_000 &+ 1)
  }

  /// The moment when a fair share of the time left is used up by the first of `count` attempts.
  func share(of count: Int) -> Deadline {
    let now = Deadline.now
    guard now < moment, count > 1 else { return self }
    return Deadline(moment: now &+ (moment &- now) / UInt64(count))
  }
}
