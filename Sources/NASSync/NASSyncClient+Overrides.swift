import Foundation
import Gate
import SyncModel

/// One override of a run's record, as it stands now.
public struct OverrideStatus: Hashable, Sendable, Codable {
  /// Whether it counts.
  public enum State: String, Hashable, Sendable, Codable { case active, expired, revoked }
  /// Its id in the record.
  public let id: String
  /// The class of finding that it lets pass.
  public let problemClass: FindingClass
  /// Who recorded it.
  public let operatorName: String
  /// When, as the record spells it.
  public let recordedAt: String
  /// Until when it counts, as the record spells it; nil is for ever.
  public let expiresAt: String?
  /// Why.
  public let reason: String
  /// The path that it is narrowed to.
  public let path: String?
  /// Whether it counts now.
  public let state: State

  private enum CodingKeys: String, CodingKey {
    case id
    case problemClass = "problem_class"
    case operatorName = "operator"
    case recordedAt = "recorded_at"
    case expiresAt = "expires_at"
    case reason, path, state
  }
}

extension NASSyncClient {
  /// Appends an override to the run's record, in the name of the user of this process. A run without a record gets a minimal one.
  /// - Throws: `SyncFailure` of kind `misconfigured` for a class without override, an empty reason or an expiry in the past; `blocked` where
  ///   the record cannot be read.
  @discardableResult
  public func addOverride(
    _ run: String, equipment: String? = nil, problemClass: FindingClass, reason: String, path: String? = nil, expiresAt: Date? = nil
  ) async throws(SyncFailure) -> OverrideStatus {
    let (location, _) = try await locate(run, equipment: equipment)
    let now = clock.wallSeconds
    guard !reason.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty else {
      throw SyncFailure(
        .misconfigured, "an override needs a reason", hint: "Say why this finding may pass: it is kept in the run's record and receipt.")
    }
    guard !FindingClass.withoutOverride.contains(problemClass) else {
      throw SyncFailure(
        .misconfigured, "no override can let \(problemClass) pass\(problemClass.whyNoOverride.map { ": \($0)" } ?? "")",
        hint: "Repair what the finding names; `nassync gate` shows it.")
    }
    if let expiresAt, expiresAt.timeIntervalSince1970 <= now {
      throw SyncFailure(.misconfigured, "the expiry of the override lies in the past", hint: "Give a later moment, or none.")
    }
    let entry = Override(
      problemClass: problemClass, operatorName: Self.identity.user, recordedAt: now, expiresAt: expiresAt?.timeIntervalSince1970,
      reason: reason, path: path)
    try await editRecord(location) { (store) throws(RecordError) in try store.appendOverride(entry) }
    await noteOverride(entry.id, of: location)
    return try await overrideStatus(entry.id, location)
  }

  /// Appends a revocation: from now on the override does not count.
  @discardableResult
  public func revokeOverride(
    _ run: String, equipment: String? = nil, id: String, reason: String
  ) async throws(SyncFailure) -> OverrideStatus {
    let (location, _) = try await locate(run, equipment: equipment)
    guard !reason.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty else {
      throw SyncFailure(.misconfigured, "a revocation needs a reason", hint: "Say why: it is kept in the run's record.")
    }
    let entry = Revocation(revokes: id, operatorName: Self.identity.user, recordedAt: clock.wallSeconds, reason: reason)
    try await editRecord(location) { (store) throws(RecordError) in try store.appendRevocation(entry) }
    await noteOverride(entry.id, of: location)
    return try await overrideStatus(id, location)
  }

  /// The overrides of a run's record, in the record's order.
  public func overrides(of run: String, equipment: String? = nil) async throws(SyncFailure) -> [OverrideStatus] {
    let (location, _) = try await locate(run, equipment: equipment)
    return try await overrideList(location)
  }

  private func overrideStatus(_ id: String, _ location: RunLocation) async throws(SyncFailure) -> OverrideStatus {
    guard let status = try await overrideList(location).first(where: { $0.id == id }) else {
      throw SyncFailure(
        .blocked, "override \(displayText(id)) is not in the record of \(displayText(location.root))",
        hint: "Another program rewrote the record meanwhile; look at creation.json in the metadata folder and try again.")
    }
    return status
  }

  private func overrideList(_ location: RunLocation) async throws(SyncFailure) -> [OverrideStatus] {
    let store = RecordStore(runRoot: location.root, metadataFolder: configuration.metadataFolder)
    let entries: [OverrideEntry]
    do {
      entries = try await readers.next().run { () throws(RecordError) in try store.read()?.overrides ?? [] }
    } catch { throw Self.failure(error, location) }
    let active = Set(Overrides.active(entries, now: clock.wallSeconds).map(\.id))
    let revoked = Set(entries.compactMap { entry in if case .revocation(let revocation) = entry { revocation.revokes } else { nil } })
    return Overrides.overrides(entries).map { entry in
      OverrideStatus(
        id: entry.id, problemClass: entry.problemClass, operatorName: entry.operatorName, recordedAt: entry.recordedAt,
        expiresAt: entry.expiresAt, reason: entry.reason, path: entry.path,
        state: revoked.contains(entry.id) ? .revoked : active.contains(entry.id) ? .active : .expired)
    }
  }

  private func editRecord(
    _ location: RunLocation, _ body: @Sendable @escaping (RecordStore) throws(RecordError) -> Void
  ) async throws(SyncFailure) {
    let store = RecordStore(runRoot: location.root, metadataFolder: configuration.metadataFolder)
    do { try await readers.next().run { () throws(RecordError) in try body(store) } } catch { throw Self.failure(error, location) }
  }

  private static func failure(_ error: RecordError, _ location: RunLocation) -> SyncFailure {
    if case .absent = error {
      return SyncFailure(.misconfigured, "\(error)", hint: "`nassync override list` shows the overrides there are.")
    }
    return SyncFailure(
      .blocked, "the record of \(displayText(location.root)) cannot be used: \(error)",
      hint: "Repair creation.json in the run's metadata folder; nothing is overridden while it cannot be read.")
  }

  /// Overrides and revocations as lines of history; none where the record cannot be read, which the gate says.
  func overrideHistory(of location: RunLocation) async -> [HistoryEntry] {
    let store = RecordStore(runRoot: location.root, metadataFolder: configuration.metadataFolder)
    let entries: [OverrideEntry]
    do {
      entries = try await readers.next().run { () throws(RecordError) in try store.read()?.overrides ?? [] }
    } catch { return [] }
    return entries.compactMap { entry in
      switch entry {
      case .override(let added):
        HistoryEntry(
          at: Date(timeIntervalSince1970: Timestamp.seconds(parsing: added.recordedAt) ?? 0), jobID: nil, generation: nil,
          event: "override_added", fromState: nil, toState: nil,
          detail: "\(added.problemClass)\(added.path.map { " at \(displayText($0))" } ?? "") by \(displayText(added.operatorName)): "
            + "\(displayText(added.reason)) (\(added.id))")
      case .revocation(let revoked):
        HistoryEntry(
          at: Date(timeIntervalSince1970: Timestamp.seconds(parsing: revoked.recordedAt) ?? 0), jobID: nil, generation: nil,
          event: "override_revoked", fromState: nil, toState: nil,
          detail: "\(revoked.revokes) by \(displayText(revoked.operatorName)): \(displayText(revoked.reason))")
      }
    }
  }
}
