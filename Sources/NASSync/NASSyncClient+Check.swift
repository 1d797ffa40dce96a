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

  private func grade(_ probe: DestinationProbe) -> [DestinationProbe.Line] {
    guard configuration.verify.method == .server, probe.evidence == .readback else { return [] }
    return [
      DestinationProbe.Line(
        name: "verify_method", grade: .bad,
        detail: "verify.method is server, but this NAS can only be read back; set it to auto, or allow the account a shell")
    ]
  }
}
