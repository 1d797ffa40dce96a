/// Where a run stands. The raw value is what the queue, the records and `--json` hold.
public enum JobState: String, Hashable, Sendable, Codable, CaseIterable {
  case queued
  case running
  case awaitingVerify = "awaiting_verify"
  case verified
  case cleanupEligible = "cleanup_eligible"
  case cleaned
  case failed

  /// Whether a worker still has something to do without being asked.
  public var isActive: Bool { self == .queued || self == .running || self == .awaitingVerify }
}

/// What happened to a job. `JobStateMachine` says what follows.
public enum JobEvent: Hashable, Sendable, CaseIterable {
  /// A worker took the job.
  case claimed
  /// Every component is on the NAS, under the staging folder.
  case sent
  /// Every component's digest matched and the run is published.
  case proven
  /// A transient failure, or the worker that held the job is gone.
  case interrupted
  /// At least one remote digest differs from the local one.
  case digestMismatch
  /// A failure that is not retried, or one retry too many.
  case gaveUp
  /// An audit found that the published copy changed.
  case remoteCorrupted
  /// Passes and age are met.
  case becameEligible
  /// The local copy is removed.
  case removedLocally
  /// An operator's `retry`.
  case retried
}

/// The only transitions that exist: a pure function, tested without a queue.
public enum JobStateMachine {
  /// A transition that the contract does not have.
  public struct Illegal: Error, Hashable, Sendable, CustomStringConvertible {
    /// The state that the job was in.
    public let state: JobState
    /// The event that does not fit it.
    public let event: JobEvent
    /// Safe to show.
    public var description: String { "a job that is \(state.rawValue) cannot take the event \(event)" }
  }

  /// The state that follows.
  /// - Parameter mismatches: How many digest mismatches the job has had before this event: the first is repaired, the second fails.
  /// - Throws: `Illegal` for every pair that the contract does not name.
  public static func next(_ state: JobState, on event: JobEvent, mismatches: Int = 0) throws(Illegal) -> JobState {
    switch (state, event) {
    case (.queued, .claimed): .running
    case (.running, .sent): .awaitingVerify
    case (.running, .interrupted): .queued
    case (.awaitingVerify, .proven): .verified
    case (.awaitingVerify, .digestMismatch): mismatches == 0 ? .queued : .failed
    case (.running, .gaveUp), (.awaitingVerify, .gaveUp): .failed
    case (.verified, .remoteCorrupted), (.cleanupEligible, .remoteCorrupted): .failed
    case (.verified, .becameEligible): .cleanupEligible
    case (.cleanupEligible, .removedLocally): .cleaned
    case (.failed, .retried): .queued
    default: throw Illegal(state: state, event: event)
    }
  }
}
