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
      if let overdue = try await overdueAudits(outage, queue) { problems.append(overdue) }
    }
    problems += await problemsOfBlockedRuns(try await queue.blockedRuns())
    let checks = try await queue.differences()
    let faults = try await queue.faults()
    let notMade = try await queue.auditsNotMade()
    for job in try await queue.jobsInTrouble(and: Set(checks.keys).union(faults.keys).union(notMade.keys)) {
      let isPublished = job.state == .verified || job.state == .cleanupEligible || job.state == .cleaned
      if job.state == .cleaned, let fault = faults[job.number] {
        problems.append(Self.problem(job, fault))
      } else if isPublished, let check = checks[job.number], let problem = Self.problem(job, check) {
        problems.append(problem)
      }
      if isPublished, let missed = notMade[job.number] { problems.append(Self.problem(job, notMade: missed)) }
      if let problem = Self.cleanupProblem(job) { problems.append(problem) }
      guard let error = job.lastError else { continue }
      let failed = job.state == .failed
      guard failed || job.state.isActive && job.attempts > 0 else { continue }
      problems.append(
        Problem(
          problemClass: failed ? error.kind.rawValue : "waiting", severity: failed ? .critical : .warning, runPath: job.runPath,
          equipmentID: job.equipmentID, destination: job.destination,
          since: Date(timeIntervalSince1970: failed ? faults[job.number]?.since ?? job.updatedAt : job.updatedAt),
          message: error.message,
          blocks: failed
            ? Self.blocks(error)
            : "the run; it was tried \(job.attempts == 1 ? "once" : "\(job.attempts) times") in vain and is tried again by itself",
          nextStep: failed ? NextStep.hint(error.hint, run: job.runPath, then: "retry") : NextStep.hint(error.hint, run: job.runPath)))
    }
    var jobs: [JobRow] = []
    for state in [JobState.queued, .running, .awaitingVerify] { jobs += try await queue.jobs(in: state) }
    problems += problemsOfIdleQueue(jobs)
    if configuration.cleanup.enabled {
      for state in [JobState.verified, .cleanupEligible] { jobs += try await queue.jobs(in: state) }
    }
    problems += await problemsOfOverrides(jobs)
    problems += problemsOfAssets(try await queue.assetUploads(openOnly: true))
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
      if let example = findings.first, !findings.contains(where: \.overrideIsVain) {
        // For the one place where the class was found only there, as `gate` says it.
        let places = findings.filter { $0.problemClass == example.problemClass }.map(\.path)
        step +=
          " Or, if it may pass: "
          + Self.overrideCommand(path, example.problemClass, place: places.count == 1 ? places.first ?? nil : nil) + "."
      }
      return Problem(
        problemClass: "blocked_by_gate", severity: .warning, runPath: run.runPath, equipmentID: run.equipmentID, destination: nil,
        since: Date(timeIntervalSince1970: run.since),
        message: first + (findings.count > 1 ? " (and \(findings.count - 1) more)" : ""), blocks: "the run stays on this workstation",
        nextStep: step + " Then `nassync enqueue \(path)`.")
    }
  }

  /// The command that lets a class pass, as it can be typed.
  /// - Parameters:
  ///   - run: Quoted for a shell.
  ///   - place: The one path that it is for; nil for the whole run.
  static func overrideCommand(_ run: String, _ problemClass: FindingClass, place: String?) -> String {
    "`nassync override add \(run) --class \(shellWord(problemClass.rawValue))\(place.map { " --path \(shellWord($0))" } ?? "") --reason 'WHY'`"
  }

  /// What a check on demand found and nobody has mended yet.
  private static func problem(_ job: JobRow, _ check: (event: String, at: Double, detail: String)) -> Problem? {
    let onNAS = check.event == "nas_mismatch_on_demand"
    if onNAS, job.state == .cleaned {
      return Problem(
        problemClass: "nas_copy_differs", severity: .critical, runPath: job.runPath, equipmentID: job.equipmentID,
        destination: job.destination, since: Date(timeIntervalSince1970: check.at), message: check.detail, blocks: onlyCopy,
        nextStep: restoration(job))
    }
    guard onNAS || check.event == "local_mismatch_on_demand" else { return nil }
    let path = shellWord(job.runPath)
    return Problem(
      problemClass: onNAS ? "nas_copy_differs" : "local_copy_differs", severity: onNAS ? .critical : .warning, runPath: job.runPath,
      equipmentID: job.equipmentID, destination: job.destination, since: Date(timeIntervalSince1970: check.at), message: check.detail,
      blocks: onNAS ? "the NAS copy cannot be relied on" : "nothing; the NAS copy is whole",
      nextStep: onNAS
        ? "`nassync verify \(path)` names the files. `nassync enqueue \(path)`: what is missing or wrong there is sent again from here, where "
          + "the file here still is the published one, and the wrong one is moved aside on the NAS. What is additional there is left alone."
        : "`nassync verify \(path)` names the files. New ones are sent by `nassync enqueue \(path)`; a changed one wants a look before "
          + "anything else.")
  }

  private static let onlyCopy = "the NAS held the only copy: the local one was removed"

  private static func restoration(_ job: JobRow) -> String {
    "Restore the files from the NAS's own snapshots or a backup, then `nassync verify \(shellWord(job.runPath))`. Check the NAS's disks."
  }

  /// What an audit found wrong with the only copy there was.
  private static func problem(_ job: JobRow, _ fault: NASFault) -> Problem {
    Problem(
      problemClass: SyncFailure.Kind.remoteCorrupted.rawValue, severity: .critical, runPath: job.runPath, equipmentID: job.equipmentID,
      destination: job.destination, since: Date(timeIntervalSince1970: fault.since), message: fault.detail, blocks: onlyCopy,
      nextStep: restoration(job))
  }

  private static func problem(_ job: JobRow, notMade missed: (at: Double, detail: String)) -> Problem {
    Problem(
      problemClass: "audit_not_made", severity: .warning, runPath: job.runPath, equipmentID: job.equipmentID, destination: job.destination,
      since: Date(timeIntervalSince1970: missed.at), message: "the NAS copy could not be verified again: \(missed.detail)",
      blocks: "the verifications that a clean-up needs; the audit is tried again by itself",
      nextStep: "`nassync check --equipment \(job.equipmentID)` asks the NAS; "
        + "`nassync verify \(shellWord(job.runPath))` looks at this run.")
  }

  private static func blocks(_ error: SyncFailure) -> String {
    error.kind == .remoteCorrupted ? "the NAS copy cannot be relied on; what is left of the local copy stays" : "the run is not on the NAS"
  }

  /// Published runs that nobody could look at because their destination is out, once two intervals have gone by.
  private func overdueAudits(_ outage: Outage, _ queue: SyncQueue) async throws(SyncFailure) -> Problem? {
    let interval = configuration.verify.auditInterval
    var count = 0
    var oldest: Double?
    for profile in configuration.equipment where route(for: profile).pool.driver.address == outage.destination {
      let backlog = try await queue.auditBacklog(
        equipment: profile.id, destination: outage.destination, auditedBefore: clock.wallSeconds - 2 * interval)
      count += backlog.count
      if let first = backlog.oldest { oldest = min(oldest ?? first, first) }
    }
    guard let oldest else { return nil }
    return Problem(
      problemClass: "audits_overdue", severity: .warning, runPath: nil, equipmentID: nil, destination: outage.destination,
      since: Date(timeIntervalSince1970: oldest + interval),
      message: "\(count) published runs there were due to be verified again at least one audit interval ago",
      blocks: "noticing a NAS copy that goes bad, and the verifications that a clean-up needs", nextStep: outage.failure.hint)
  }
}
