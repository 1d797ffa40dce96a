import Foundation
import NASSync

/// What happens, as lines of a log.
enum EventText {
  /// Whether a line is wanted even where nobody wants to hear of progress.
  enum Weight: Hashable, Sendable { case progress, change, trouble }

  static func weight(of event: SyncEvent) -> Weight {
    switch event {
    case .progress, .verifying: .progress
    case .enqueued, .stateChanged, .recovered: .change
    case .audited(_, _, .whole): .change
    case .blocked, .failed, .outage, .warning, .audited: .trouble
    }
  }

  /// One line without control characters.
  static func line(_ event: SyncEvent, _ names: RunNames) -> String {
    switch event {
    case .enqueued(let handle): "\(names.shown(handle.runPath)): queued"
    case .blocked(let run, let findings): "\(names.shown(run)): blocked by the gate, \(FindingText.summary(findings))"
    case .stateChanged(_, let run, let from, let to): "\(names.shown(run)): \(words(from, to))"
    case .progress(let progress):
      "\(names.shown(progress.runPath)): \(Quantities.bytes(progress.bytesSent)) of \(Quantities.bytes(progress.bytesTotal)), "
        + "\(Quantities.grouped(progress.filesDone)) of \(Quantities.count(progress.filesTotal, "file")) on the NAS"
    case .verifying(_, let run, let proven, let total):
      "\(names.shown(run)): \(Quantities.grouped(proven)) of \(Quantities.count(total, "file")) proven"
    case .failed(_, let run, let failure, let next):
      "\(names.shown(run)): \(sentences(failure))"
        + (next.map { " Tried again after \(Moment.local(Date(timeIntervalSince1970: $0)))." } ?? "")
    case .outage(let destination, let failure): "\(displayText(destination)) does not answer: \(sentences(failure))"
    case .recovered(let destination): "\(displayText(destination)) answers again"
    case .audited(_, let run, let outcome): "\(names.shown(run)): \(words(outcome))"
    case .warning(let run, let message): (run.map { names.shown($0) + ": " } ?? "") + displayText(message)
    }
  }

  private static func sentences(_ failure: SyncFailure) -> String {
    "\(displayText(failure.message)) (\(failure.kind.rawValue)). \(displayText(failure.hint))"
  }

  private static func words(_ outcome: AuditOutcome) -> String {
    switch outcome {
    case .whole(let files, let evidence, let passes, let counted):
      "audited, \(Quantities.count(files, "file")) whole on the NAS\(evidence.map { " (\($0.rawValue))" } ?? ""), "
        + (counted ? "verification \(passes)" : "too soon after the last to count as another verification")
    case .corrupted(let failure): "audited, THE NAS COPY IS WRONG: \(sentences(failure))"
    case .notMade(let reason): "could not be audited and is tried again: \(displayText(reason))"
    }
  }

  private static func words(_ from: JobState, _ to: JobState) -> String {
    switch to {
    case .queued: from == .failed ? "queued again" : "back in the queue"
    case .running: "being sent"
    case .awaitingVerify: "sent, being proven"
    case .verified: "verified and published"
    case .cleanupEligible: "the local copy may go"
    case .cleaned: "the local copy is removed"
    case .failed: "failed"
    }
  }
}
