import Foundation
import Gate
import Intake
import JobQueue
import SyncModel
import Transport

/// Something that wants a person.
public struct Problem: Hashable, Sendable, Codable {
  /// How urgent.
  public enum Severity: String, Hashable, Sendable, Codable { case critical, warning }
  /// Its kind: a failure kind, or one of those that `Specs/commands.md` lists.
  public let problemClass: String
  /// How urgent.
  public let severity: Severity
  /// The run, where it concerns one.
  public let runPath: String?
  /// The instrument, where it concerns one.
  public let equipmentID: String?
  /// The destination, where it concerns one.
  public let destination: String?
  /// Since when.
  public let since: Date
  /// What is wrong.
  public let message: String
  /// What cannot go on because of it.
  public let blocks: String
  /// What to do, with the command where there is one.
  public let nextStep: String

  private enum CodingKeys: String, CodingKey {
    case problemClass = "problem_class"
    case severity
    case runPath = "run_path"
    case equipmentID = "equipment_id"
    case destination, since, message, blocks
    case nextStep = "next_step"
  }
}

extension NASSyncClient {
  /// Everything that wants a person, the longest-standing first.
  ///
  /// Reads the queue and looks at the runs on the disk that have no job; nothing connects to a NAS.
  public func problems() async throws(SyncFailure) -> [Problem] {
    var problems = try await problemsOfQueue()
    problems += try await problemsOfUnsentRuns()
    problems += await problemsOfStateDirectory()
    return problems.sorted { $0.since < $1.since }
  }

  private func problemsOfQueue() async throws(SyncFailure) -> [Problem] {
    guard let queue = try await queueIfPresent() else { return [] }
    var problems: [Problem] = []
    let addresses = Set(configuration.equipment.map { route(for: $0).pool.driver.address })
    // Of an address that no profile has any more, nobody wants to know whether it answers.
    for outage in try await queue.outages() where addresses.contains(outage.destination) {
      problems.append(
        Problem(
          problemClass: "destination_unreachable", severity: .critical, runPath: nil, equipmentID: nil, destination: outage.destination,
          since: Date(timeIntervalSince1970: outage.since), message: outage.failure.message,
          blocks: "every run that goes to \(outage.destination); no attempt is burned meanwhile", nextStep: outage.failure.hint))
    }
    problems += await problemsOfBlockedRuns(try await queue.blockedRuns())
    let checks = try await queue.lastChecks()
    let jobs = try await queue.latestJobs()
    for job in jobs {
      if let check = checks[job.number], job.state == .verified || job.state == .cleanupEligible, let problem = Self.problem(job, check) {
        problems.append(problem)
      }
      if let problem = Self.cleanupProblem(job) { problems.append(problem) }
      guard let error = job.lastError else { continue }
      let failed = job.state == .failed
      guard failed || job.state.isActive && job.attempts > 0 else { continue }
      problems.append(
        Problem(
          problemClass: failed ? error.kind.rawValue : "waiting", severity: failed ? .critical : .warning, runPath: job.runPath,
          equipmentID: job.equipmentID, destination: job.destination, since: Date(timeIntervalSince1970: job.updatedAt),
          message: error.message,
          blocks: failed
            ? "the run is not on the NAS"
            : "the run; it was tried \(job.attempts == 1 ? "once" : "\(job.attempts) times") in vain and is tried again by itself",
          nextStep: failed ? NextStep.hint(error.hint, run: job.runPath, then: "retry") : NextStep.hint(error.hint, run: job.runPath)))
    }
    problems += problemsOfIdleQueue(jobs)
    problems += await problemsOfOverrides(jobs)
    return problems
  }

  private func problemsOfBlockedRuns(_ runs: [BlockedRun]) async -> [Problem] {
    // Whether the folder is still there; a run that was taken away wants nobody any more.
    let present = await readers.next().run { runs.filter { RunFinder.Stamp(of: $0.runPath) != nil } }
    return present.map { run in
      let findings = (try? JSONDecoder().decode([Finding].self, from: Data(run.findings.utf8))) ?? []  // shown without them if damaged
      let first = findings.first.map { "\($0.problemClass)\($0.path.map { " at \($0)" } ?? ""): \($0.detail)" } ?? "findings"
      let path = shellWord(run.runPath)
      var step = findings.first?.hint ?? "`nassync gate \(path)` shows the findings."
      let overridable = findings.map(\.problemClass).filter { !FindingClass.withoutOverride.contains($0) }
      if let example = overridable.first, overridable.count == findings.count {
        step += " Or, if it may pass: `nassync override add \(path) --class \(shellWord(example.rawValue)) --reason 'WHY'`."
      }
      return Problem(
        problemClass: "blocked_by_gate", severity: .warning, runPath: run.runPath, equipmentID: run.equipmentID, destination: nil,
        since: Date(timeIntervalSince1970: run.since),
        message: first + (findings.count > 1 ? " (and \(findings.count - 1) more)" : ""), blocks: "the run stays on this workstation",
        nextStep: step + " Then `nassync enqueue \(path)`.")
    }
  }

  /// What a check on demand found and nobody has mended yet.
  private static func problem(_ job: JobRow, _ check: (event: String, at: Double, detail: String)) -> Problem? {
    let onNAS = check.event == "nas_mismatch_on_demand"
    guard onNAS || check.event == "local_mismatch_on_demand" else { return nil }
    let path = shellWord(job.runPath)
    return Problem(
      problemClass: onNAS ? "nas_copy_differs" : "local_copy_differs", severity: onNAS ? .critical : .warning, runPath: job.runPath,
      equipmentID: job.equipmentID, destination: job.destination, since: Date(timeIntervalSince1970: check.at), message: check.detail,
      blocks: onNAS ? "the NAS copy cannot be relied on" : "nothing; the NAS copy is whole",
      nextStep: onNAS
        ? "`nassync verify \(path)` names the files. Move the wrong ones away on the NAS, then `nassync enqueue \(path)`: what is missing "
          + "there is sent again."
        : "`nassync verify \(path)` names the files. New ones are sent by `nassync enqueue \(path)`; a changed one wants a look before "
          + "anything else.")
  }
}
