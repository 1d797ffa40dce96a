import SyncModel

/// What follows a failed attempt: a pure decision, so that every case is a plain test.
struct FailurePolicy: Sendable {
  /// Seconds to wait after the first, second … counted failure.
  let backoff: [Double]

  /// The longest that anything is ever made to wait, seconds: a time further ahead was written while the clock was wrong.
  var longestWait: Double { max(backoff.max() ?? 0, 30) + 60 }

  /// What the queue does with the job.
  enum Decision: Hashable, Sendable {
    /// Back to the queue, the attempt not counted: the destination as a whole does not answer, or we were told to stop.
    case wait(seconds: Double)
    /// Back to the queue, the attempt counted.
    case retry(attempts: Int, seconds: Double)
    /// FAILED: a person is needed.
    case giveUp(attempts: Int)
  }

  /// - Parameters:
  ///   - attempts: Counted failures before this one.
  ///   - unreachable: The destination answered nothing at all in this attempt.
  ///   - progressed: More of the run is on the NAS than when the attempt began. A link that keeps breaking but moves forward is not given up.
  func decide(_ failure: SyncFailure, attempts: Int, unreachable: Bool, progressed: Bool) -> Decision {
    if failure.kind == .interrupted { return .wait(seconds: 0) }
    guard failure.retry else { return .giveUp(attempts: attempts + 1) }
    if unreachable { return .wait(seconds: backoff.first ?? 30) }
    // A file that keeps changing is sent from its beginning each time: that is no progress.
    let counted = progressed && failure.kind != .localChanged ? 1 : attempts + 1
    if counted <= backoff.count { return .retry(attempts: counted, seconds: backoff[counted - 1]) }
    // A full NAS is full for every run, and empties without anybody thinking of them: they go on by themselves, however long that takes.
    if failure.kind == .remoteFull, let last = backoff.last { return .retry(attempts: backoff.count, seconds: last) }
    return .giveUp(attempts: counted)
  }
}
