import Synchronization
import SyncModel

/// How far a job's sending is.
public struct JobProgress: Hashable, Sendable, Codable {
  /// The job's id.
  public let jobID: String
  /// Absolute path of the run.
  public let runPath: String
  /// Files that are wholly on the NAS.
  public let filesDone: Int
  /// Files of the run.
  public let filesTotal: Int
  /// Bytes that the NAS has.
  public let bytesSent: UInt64
  /// Bytes of the run.
  public let bytesTotal: UInt64
  /// A file on its way, relative to the run and safe to show.
  public let currentFile: String?
}

/// What an audit of a published run found.
public enum AuditOutcome: Hashable, Sendable {
  /// The NAS copy is whole. `passes` is how many verifications count now, `counted` whether this one does: two at nearly the same time are one.
  case whole(files: Int, evidence: Evidence?, passes: Int, counted: Bool)
  /// The NAS copy is no longer what was published. `failure` names the files and what to do.
  case corrupted(SyncFailure)
  /// The copy could not be looked at, for a reason that says nothing about it. It is tried again.
  case notMade(reason: String)
}

/// What a client tells whoever listens to `NASSyncClient.events`.
public enum SyncEvent: Sendable {
  /// A run was let through the gate and registered.
  case enqueued(SyncJobHandle)
  /// The gate stopped a run.
  case blocked(runPath: String, findings: [Finding])
  /// A job moved.
  case stateChanged(jobID: String, runPath: String, from: JobState, to: JobState)
  /// A job is being sent; at most ten times a second a job.
  case progress(JobProgress)
  /// Files of a job are being proven.
  case verifying(jobID: String, runPath: String, filesProven: Int, filesTotal: Int)
  /// An attempt failed. `nextAttemptAt` is wall-clock seconds since 1970; nil where the job is FAILED.
  case failed(jobID: String, runPath: String, failure: SyncFailure, nextAttemptAt: Double?)
  /// A destination does not answer; its jobs wait and burn no attempt.
  case outage(destination: String, failure: SyncFailure)
  /// The destination answers again.
  case recovered(destination: String)
  /// An audit of a published run ended.
  case audited(jobID: String, runPath: String, outcome: AuditOutcome)
  /// Something that does not stop the work and that an operator should know.
  case warning(runPath: String?, message: String)
}

/// Hands each event to every listener.
final class EventHub: Sendable {
  private struct State {
    var next = 0
    var listeners: [Int: AsyncStream<SyncEvent>.Continuation] = [:]
    var finished = false
  }
  private let state = Mutex(State())

  /// A new listener's stream. A listener that falls behind by more than 4,096 events loses the oldest.
  func listen() -> AsyncStream<SyncEvent> {
    AsyncStream(bufferingPolicy: .bufferingNewest(4096)) { continuation in
      let number: Int? = state.withLock { state in
        guard !state.finished else { return nil }
        state.next += 1
        state.listeners[state.next] = continuation
        return state.next
      }
      guard let number else {
        continuation.finish()
        return
      }
      continuation.onTermination = { [weak self] _ in
        _ = self?.state.withLock { $0.listeners.removeValue(forKey: number) }
      }
    }
  }

  func send(_ event: SyncEvent) {
    let listeners = state.withLock { Array($0.listeners.values) }
    for listener in listeners { listener.yield(event) }
  }

  func finish() {
    let listeners = state.withLock { state in
      state.finished = true
      defer { state.listeners = [:] }
      return Array(state.listeners.values)
    }
    for listener in listeners { listener.finish() }
  }
}
