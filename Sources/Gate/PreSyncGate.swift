import Executors
import SyncModel

/// Asks the validator and applies the overrides of the run's record. Decides nothing else: what a verdict leads to is the caller's.
package struct PreSyncGate: Sendable {
  private let validator: any RunValidator

  package init(validator: any RunValidator = BuiltInValidator()) { self.validator = validator }

  /// The verdict on a run as it was when the snapshot was taken. Never throws: what goes wrong closes the gate.
  package func evaluate(snapshot: RunSnapshot, location: RunLocation, context: GateContext) async -> GateVerdict {
    var findings: [Finding]
    do {
      findings = try await validator.findings(for: snapshot, at: location, context: context)
    } catch {
      findings = [Self.unfinished(error)]
    }
    findings += await Self.withheldNames(snapshot, location, context)
    let entries = usableOverrides(snapshot, adding: &findings)
    return Self.verdict(findings, entries: entries, now: context.now)
  }

  /// Names that the destination must not be given. Not one of the validator's rules: a caller's own in their place may leave out what harms this
  /// run, and this harms others.
  private static func withheldNames(_ snapshot: RunSnapshot, _ location: RunLocation, _ context: GateContext) async -> [Finding] {
    guard !context.limits.withheld.isEmpty else { return [] }
    // A million names keep a thread busy for a while: not one of the cooperative pool.
    let executor = ThreadExecutor(name: "gate")
    defer { executor.shutdown() }
    return await executor.run {
      var report = FindingReport()
      WithheldNameRule().check(GateSubject(snapshot: snapshot, location: location, context: context), into: &report)
      return report.findings
    }
  }

  /// What stands for the findings of a validator that gave none.
  static func unfinished(_ error: any Error) -> Finding {
    Finding(
      .validatorFailed, .hard, path: nil, detail: "the check of this run did not finish: \(displayText(String(describing: error)))",
      hint: "Nothing is known about the run, so it waits. Mend the validator and check again.")
  }

  /// The record's entries. A record that cannot be read in full gives none, and closes the gate whatever the validator said.
  private func usableOverrides(_ snapshot: RunSnapshot, adding findings: inout [Finding]) -> [OverrideEntry] {
    let problems: [String]
    switch GateSubject.readRecord(of: snapshot) {
    case .none: return []
    case .unreadable(let reason): problems = [reason]
    case .readable(let record):
      if record.overrideProblems.isEmpty { return record.overrides }
      problems = record.overrideProblems
    }
    if !findings.contains(where: { $0.problemClass == .malformedRecord && $0.tier == .hard }) {
      findings += problems.map(MalformedRecordRule.finding)
    }
    return []
  }

  private static func verdict(_ findings: [Finding], entries: [OverrideEntry], now: Double) -> GateVerdict {
    let active = Overrides.active(entries, now: now)
    // A little more than a validator's own report holds, so that its closing findings are not summed up a second time.
    let limit = FindingReport.totalLimit + 100
    var blocking = FindingReport(limit: limit)
    var informing = FindingReport(limit: limit)
    var overridden: [GateVerdict.Overridden] = []
    var used: Set<[UInt8]> = []
    for finding in findings {
      if finding.tier == .soft {
        informing.add(finding)
      } else if let entry = Overrides.match(finding, in: active) {
        used.insert(Array(entry.id.utf8))
        if overridden.count < limit {
          overridden.append(GateVerdict.Overridden(finding: finding, overrideID: entry.id))
        }
      } else {
        blocking.add(Overrides.lapse(finding, in: entries, now: now).map { finding.adding("; \($0)") } ?? finding)
      }
    }
    let usedOverrides = active.filter { used.contains(Array($0.id.utf8)) }.map {
      GateVerdict.UsedOverride(
        id: $0.id, problemClass: $0.problemClass, operatorName: $0.operatorName, recordedAt: $0.recordedAt, expiresAt: $0.expiresAt,
        reason: $0.reason, path: $0.path)
    }
    return GateVerdict(
      blocking: blocking.findings, informing: informing.findings, overridden: overridden, activeOverrides: usedOverrides)
  }
}

extension Finding {
  /// The same with more to its detail.
  fileprivate func adding(_ text: String) -> Finding {
    Finding(
      problemClass, tier, path: path, detail: detail + text, location: location, hint: hint, validator: validator, isFinal: isFinal)
  }
}
