import Foundation
import Gate
import JobQueue
import SyncModel
import Transport

/// Something that wants a person.
public struct Problem: Hashable, Sendable, Codable {
  /// How urgent.
  public enum Severity: String, Hashable, Sendable, Codable { case critical, warning }
  /// Its kind: a failure kind, `blocked_by_gate`, `destination_unreachable` or `waiting`.
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

/// What `check` found of one instrument.
public struct CheckReport: Hashable, Sendable, Codable {
  /// The instrument.
  public let equipmentID: String
  /// For people.
  public let label: String
  /// Where its runs go.
  public let address: String
  /// Whether runs will arrive and be proven.
  public let ok: Bool
  /// Every question and its answer.
  public let lines: [DestinationProbe.Line]
  /// Why the destination could not be asked to the end.
  public let error: SyncFailure?

  private enum CodingKeys: String, CodingKey {
    case equipmentID = "equipment_id"
    case label, address, ok, lines, error
  }
}

extension NASSyncClient {
  /// Everything that wants a person, the longest-standing first.
  public func problems() async throws(SyncFailure) -> [Problem] {
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
    for run in try await queue.blockedRuns() {
      let findings = (try? JSONDecoder().decode([Finding].self, from: Data(run.findings.utf8))) ?? []  // shown without them if damaged
      let first = findings.first.map { "\($0.problemClass)\($0.path.map { " at \($0)" } ?? ""): \($0.detail)" } ?? "findings"
      problems.append(
        Problem(
          problemClass: "blocked_by_gate", severity: .warning, runPath: run.runPath, equipmentID: run.equipmentID, destination: nil,
          since: Date(timeIntervalSince1970: run.since),
          message: first + (findings.count > 1 ? " (and \(findings.count - 1) more)" : ""), blocks: "the run stays on this workstation",
          nextStep: (findings.first?.hint ?? "`nassync gate` shows the findings.") + " Then `nassync enqueue` it again."))
    }
    let checks = try await queue.lastChecks()
    for job in try await queue.latestJobs() {
      if let check = checks[job.number], job.state == .verified || job.state == .cleanupEligible, let problem = Self.problem(job, check) {
        problems.append(problem)
      }
      guard let error = job.lastError else { continue }
      let failed = job.state == .failed
      guard failed || job.state.isActive && job.attempts > 0 else { continue }
      problems.append(
        Problem(
          problemClass: failed ? error.kind.rawValue : "waiting", severity: failed ? .critical : .warning, runPath: job.runPath,
          equipmentID: job.equipmentID, destination: job.destination, since: Date(timeIntervalSince1970: job.updatedAt),
          message: error.message, blocks: failed ? "the run is not on the NAS" : "the run, which is tried again by itself",
          nextStep: error.hint))
    }
    return problems.sorted { $0.since < $1.since }
  }

  /// What a check on demand found and nobody has mended yet.
  private static func problem(_ job: JobRow, _ check: (event: String, at: Double, detail: String)) -> Problem? {
    let onNAS = check.event == "nas_mismatch_on_demand"
    guard onNAS || check.event == "local_mismatch_on_demand" else { return nil }
    return Problem(
      problemClass: onNAS ? "nas_copy_differs" : "local_copy_differs", severity: onNAS ? .critical : .warning, runPath: job.runPath,
      equipmentID: job.equipmentID, destination: job.destination, since: Date(timeIntervalSince1970: check.at), message: check.detail,
      blocks: onNAS ? "the NAS copy cannot be relied on" : "nothing; the NAS copy is whole",
      nextStep: onNAS
        ? "`nassync verify` names the files. Move the wrong ones away on the NAS, then `nassync enqueue` the run: what is missing there is sent again."
        : "`nassync verify` names the files. New ones are sent by `nassync enqueue`; a changed one wants a look before anything else.")
  }

  /// Connects to each instrument's destination and says what will work there.
  /// - Parameter equipment: One instrument; nil checks all.
  /// - Throws: `SyncFailure` of kind `misconfigured` for an instrument that is not configured.
  public func check(equipment: String? = nil) async throws(SyncFailure) -> [CheckReport] {
    var profiles = configuration.equipment
    if let equipment {
      guard let profile = configuration.equipment(id: equipment) else {
        throw SyncFailure(
          .misconfigured, "no instrument is called \(displayText(equipment))",
          hint: "Configured are: \(configuration.equipment.map(\.id).joined(separator: ", ")).")
      }
      profiles = [profile]
    }
    var reports: [CheckReport] = []
    for profile in profiles { reports.append(await check(profile)) }
    return reports
  }

  private func check(_ profile: EquipmentProfile) async -> CheckReport {
    let route = route(for: profile)
    var lines: [DestinationProbe.Line] = []
    var failure: SyncFailure?
    var isFolder: ObjCBool = false
    let there = FileManager.default.fileExists(atPath: profile.localRoot, isDirectory: &isFolder) && isFolder.boolValue
    if !there {
      failure = SyncFailure(
        .misconfigured, "\(displayText(profile.localRoot)) is no folder on this workstation", hint: "Correct local_root of \(profile.id).")
    }
    lines.append(
      DestinationProbe.Line(
        name: "local_root", grade: there ? .good : .bad,
        detail: there ? "\(profile.localRoot) is there" : "\(profile.localRoot) is no folder on this workstation; correct local_root"))
    lines += validatorLines()
    do throws(TransportError) {
      let probe = try await route.pool.driver.probe()
      lines += probe.lines
      if let found = probe.failure { failure = found }
      lines += grade(probe)
    } catch {
      failure = error.failure
      lines.append(DestinationProbe.Line(name: "connection", grade: .bad, detail: error.failure.description))
    }
    return CheckReport(
      equipmentID: profile.id, label: profile.label, address: route.pool.driver.address, ok: !lines.contains { $0.grade == .bad },
      lines: lines, error: failure)
  }

  /// Whether the lab's own programs can be started. They are not: without a run there is nothing to ask them.
  private func validatorLines() -> [DestinationProbe.Line] {
    programs.map { program in
      do throws(ValidatorFailure) {
        return DestinationProbe.Line(name: "validator", grade: .good, detail: "the validator \(try program.locate()) can be started")
      } catch {
        return DestinationProbe.Line(
          name: "validator", grade: .bad,
          detail: "the validator \(program.name) \(error.reason). \(error.hint) Until then it blocks every run")
      }
    }
  }

  private func grade(_ probe: DestinationProbe) -> [DestinationProbe.Line] {
    guard configuration.verify.method == .server, probe.evidence == .readback else { return [] }
    return [
      DestinationProbe.Line(
        name: "verify_method", grade: .bad,
        detail: "verify.method is server, but this NAS can only be read back; set it to auto, or allow the account a shell")
    ]
  }
}
