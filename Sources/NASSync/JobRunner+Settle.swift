import Foundation
import Gate
import JobQueue
import SyncModel

extension JobRunner {
  /// Writes down what a failed attempt means for its job. A queue that cannot be written (a full disk) is tried again until it can or the
  /// service stops: a job must not stay held by an attempt that is over.
  func settle(_ attempt: Attempt, _ ended: StepFailure) async {
    let job = await attempt.job
    let failure = environment.stop.isSet ? Self.stopped(ended.failure) : ended.failure
    let decision = environment.policy.decide(
      failure, attempts: job.attempts, unreachable: ended.unreachable || ended.waitsForOthers, progressed: await attempt.progressed)
    var told = false
    while true {
      do throws(SyncFailure) {
        try await apply(decision, to: job, failure: failure, ended: ended)
        break
      } catch {
        if !told {
          environment.events.send(.warning(runPath: job.runPath, message: "\(error)"))
          told = true
        }
        // A job that somebody else moved meanwhile is settled already.
        if !error.retry || environment.stop.isSet { break }
        do { try await environment.clock.sleep(untilMonotonic: environment.clock.monotonicNanoseconds + 2_000_000_000) } catch { break }
      }
    }
    // A run that has vanished has no record to note it in.
    if case .giveUp = decision, failure.kind != .localVanished {
      await noteInRecord(job, failure.kind == .blocked ? .blockedByValidation : .failed)
    }
  }

  /// Once the service stops, whatever the interruption looked like to a driver is no failure of the job.
  private static func stopped(_ failure: SyncFailure) -> SyncFailure {
    switch failure.kind {
    case .network, .timeout, .interrupted, .protocol:
      SyncFailure(.interrupted, "the service was stopped", hint: "The job goes on where it was at the next start.")
    default: failure
    }
  }

  private func apply(
    _ decision: FailurePolicy.Decision, to job: JobRow, failure: SyncFailure, ended: StepFailure
  ) async throws(SyncFailure) {
    let now = environment.clock.wallSeconds
    var failure = failure
    var next: Double?
    var attempts = job.attempts
    var event = JobEvent.interrupted
    switch decision {
    case .wait(let seconds): next = seconds > 0 ? now + seconds : nil
    case .retry(let counted, let seconds):
      attempts = counted
      next = now + seconds
    case .giveUp(let counted):
      attempts = counted
      event = .gaveUp
      failure = Self.final(failure)
    }
    if ended.unreachable, let next {
      try await environment.queue.recordOutage(job.destination, failure: failure, nextAttemptAt: next)
      environment.events.send(.outage(destination: job.destination, failure: failure))
    }
    if job.state == .awaitingVerify, event == .interrupted {
      try await environment.queue.postponeVerification(
        job, worker: environment.worker, failure: failure.kind == .interrupted ? nil : failure, attempts: attempts, nextAttemptAt: next)
    } else {
      var change = JobChange()
      change.releasesClaim = true
      change.attempts = attempts
      change.nextAttemptAt = .some(next)
      if failure.kind != .interrupted { change.lastError = .some(failure) }
      if failure.kind == .localChanged { change.frozen = false }
      let moved = try await environment.queue.transition(
        job, on: event, worker: environment.worker, change: change, detail: failure.description)
      environment.events.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: job.state, to: moved.state))
    }
    guard failure.kind != .interrupted else { return }
    if !ended.findings.isEmpty { environment.events.send(.blocked(runPath: job.runPath, findings: ended.findings)) }
    environment.events.send(
      .failed(jobID: job.id, runPath: job.runPath, failure: failure, nextAttemptAt: event == .gaveUp ? nil : (next ?? now)))
  }

  /// The failure of a job that is not tried again by itself: its hint must say so, and what brings it back.
  static func final(_ failure: SyncFailure) -> SyncFailure {
    var hint = failure.hint
    for promise in ["; it is tried again", ", it is tried again", " It is tried again", "it is tried again"] {
      hint = hint.replacingOccurrences(of: promise, with: "")
    }
    if !hint.contains("nassync retry") { hint += " It is not tried again by itself: `nassync retry` it then." }
    return SyncFailure(failure.kind, failure.message, hint: hint, retry: false)
  }

  /// Sets `sync_status` in the run's own record; what goes wrong there is told and changes nothing else.
  func noteInRecord(_ job: JobRow, _ status: SyncStatus) async {
    if let problem = await environment.gate.setSyncStatus(status, runPath: job.runPath) {
      environment.events.send(.warning(runPath: job.runPath, message: problem))
    }
  }

  /// Keeps the manifest and the receipt beside the run's record and marks the record as synced. The run is published and proven whatever
  /// comes of it: a failure here is told and noted in the history.
  func writeLocally(_ job: JobRow, _ documents: RunDocuments) async {
    var problems: [String] = []
    do {
      try await environment.gate.writeDocuments(documents, runPath: job.runPath)
    } catch { problems.append("\(error)") }
    if let problem = await environment.gate.setSyncStatus(.synced, runPath: job.runPath) { problems.append(problem) }
    for problem in problems {
      environment.events.send(.warning(runPath: job.runPath, message: problem))
      // The warning has been told; that it is not in the history as well must not undo a proven run.
      try? await environment.queue.note(job, event: "warning", detail: problem)  // see the line above
    }
  }
}
