import SyncModel

/// Which overrides count. Pure: no clock, no disk.
package enum Overrides {
  /// The overrides that are neither revoked nor expired. A revocation counts wherever it stands and whenever it was made.
  /// - Parameter now: Seconds since 1970; an override that expires at this very moment has expired.
  package static func active(_ entries: [OverrideEntry], now: Double) -> [Override] {
    let revoked = Set(revocations(entries).map { Array($0.revokes.utf8) })
    return overrides(entries).filter { entry in
      if revoked.contains(Array(entry.id.utf8)) { return false }
      // An expiry that cannot be read is refused when the record is read; should one come by another way, it counts as past.
      guard entry.expiresAt != nil else { return true }
      guard let expiry = entry.expiry else { return false }
      return expiry > now
    }
  }

  /// The first override that lets a finding pass; nil for those that none may let pass.
  package static func match(_ finding: Finding, in active: [Override]) -> Override? {
    if finding.isFinal { return nil }
    return active.first { entry in
      guard entry.problemClass == finding.problemClass else { return false }
      guard let path = entry.path else { return true }
      // Bytes: String equality would take the NFC and the NFD spelling of a name for one.
      return finding.path.map { $0.utf8.elementsEqual(path.utf8) } ?? false
    }
  }

  /// Why a finding that an override of the record once let pass is not let pass any more, as the rest of a sentence; nil where none was.
  /// - Parameter now: Seconds since 1970.
  package static func lapse(_ finding: Finding, in entries: [OverrideEntry], now: Double) -> String? {
    let revocations = Dictionary(revocations(entries).map { (Array($0.revokes.utf8), $0) }) { first, _ in first }
    guard let entry = overrides(entries).last(where: { match(finding, in: [$0]) != nil }) else { return nil }
    if let revocation = revocations[Array(entry.id.utf8)] {
      return "the override \(displayText(entry.id)) was revoked by \(displayText(revocation.operatorName)) at "
        + "\(displayText(revocation.recordedAt))"
    }
    guard let expiresAt = entry.expiresAt, (entry.expiry ?? 0) <= now else { return nil }
    return "the override \(displayText(entry.id)) expired at \(displayText(expiresAt))"
  }

  /// Revocations whose override is not in the record.
  package static func unknownRevocations(_ entries: [OverrideEntry]) -> [Revocation] {
    let known = Set(overrides(entries).map { Array($0.id.utf8) })
    return revocations(entries).filter { !known.contains(Array($0.revokes.utf8)) }
  }

  /// The overrides, revoked and expired ones too.
  package static func overrides(_ entries: [OverrideEntry]) -> [Override] {
    entries.compactMap { if case .override(let entry) = $0 { entry } else { nil } }
  }

  private static func revocations(_ entries: [OverrideEntry]) -> [Revocation] {
    entries.compactMap { if case .revocation(let entry) = $0 { entry } else { nil } }
  }
}
