import Configuration
import Foundation
import SyncModel
import Transport

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
    if there { lines += watchedFolderLines(profile) }
    lines += validatorLines()
    do throws(TransportError) {
      let probe = try await route.pool.driver.probe()
      lines += probe.lines
      if let found = probe.failure { failure = found }
      lines += grade(probe)
      lines += await remember(probe, of: route)
    } catch {
      failure = error.failure
      lines.append(DestinationProbe.Line(name: "connection", grade: .bad, detail: error.failure.description))
      lines += await remembered(of: route)
    }
    return CheckReport(
      equipmentID: profile.id, label: profile.label, address: route.pool.driver.address, ok: !lines.contains { $0.grade == .bad },
      lines: lines, error: failure)
  }

  /// Keeps what was found for the gate, and compares the free space with what is on its way there.
  private func remember(_ probe: DestinationProbe, of route: RunnerEnvironment.Route) async -> [DestinationProbe.Line] {
    guard probe.failure == nil else { return await remembered(of: route) }
    let facts = DestinationFacts(names: probe.names, freeSpace: probe.freeSpace)
    let address = route.pool.driver.address
    do throws(SyncFailure) {
      let queue = try await queue()
      try await queue.record(facts, of: address)
      route.survey.learn(DatedFacts(facts: facts, at: clock.wallSeconds))
      let wanted = try await queue.bytesWanted(at: address)
      guard let free = probe.freeSpace, wanted > 0 else { return [] }
      return [
        DestinationProbe.Line(
          name: "queued_bytes", grade: wanted > free ? .limited : .good,
          detail: "the runs in the queue still want \(sizeText(wanted)) of them"
            + (wanted > free ? ", which is more than there is: some will wait" : ""))
      ]
    } catch {
      return [
        DestinationProbe.Line(name: "cache", grade: .limited, detail: "what was found could not be kept for the gate: \(error.message)")
      ]
    }
  }

  /// What an earlier check or a worker found, with its age.
  private func remembered(of route: RunnerEnvironment.Route) async -> [DestinationProbe.Line] {
    do throws(SyncFailure) {
      guard let known = try await queueIfPresent()?.destinationFacts(route.pool.driver.address) else { return [] }
      let age = ageText(clock.wallSeconds - known.at)
      var lines = known.facts.names?.lines ?? []
      if let free = known.facts.freeSpace {
        lines.append(DestinationProbe.Line(name: "free_space", grade: .good, detail: "\(sizeText(free)) were free"))
      }
      return lines.map { DestinationProbe.Line(name: $0.name, grade: $0.grade, detail: "as found \(age): \($0.detail)") }
    } catch {
      return [DestinationProbe.Line(name: "cache", grade: .limited, detail: "what was found earlier cannot be read: \(error.message)")]
    }
  }

  /// Says where runs of a watched instrument would be found and nothing is: a slip in `local_root` or the id finds no run and no fault.
  private func watchedFolderLines(_ profile: EquipmentProfile) -> [DestinationProbe.Line] {
    guard RunWatcher.signal(of: profile) != nil else { return [] }
    let folder = "\(profile.localRoot)/\(profile.id)"
    var isFolder: ObjCBool = false
    guard !FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder) || !isFolder.boolValue else { return [] }
    return [
      DestinationProbe.Line(
        name: "watched_folder", grade: .limited,
        detail: "\(folder) is no folder, so no run of \(profile.id) is found there; make it, or correct local_root or the id")
    ]
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
    guard configuration.verify.method == .server, probe.evidence != .server else { return [] }
    return [
      DestinationProbe.Line(
        name: "verify_method", grade: .bad,
        detail:
          "verify.method is server, but this destination hashes no file where it lies; set it to auto, or, over SFTP, allow the account "
          + "a shell")
    ]
  }
}
