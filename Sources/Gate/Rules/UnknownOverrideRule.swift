import SyncModel

/// `unknown_override`: an entry of the record that has no effect: a revocation of nothing, or an override of what none can let pass.
struct UnknownOverrideRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    guard case .readable(let record) = subject.record else { return }
    for entry in Overrides.unknownRevocations(record.overrides) {
      report.add(
        Self.finding("the revocation \(displayText(entry.id)) revokes \(displayText(entry.revokes)), which is not in the record"))
    }
    for entry in Overrides.overrides(record.overrides) where FindingClass.withoutOverride.contains(entry.problemClass) {
      report.add(Self.finding("the override \(displayText(entry.id)) is of \(entry.problemClass), which no override lets pass"))
    }
  }

  private static func finding(_ detail: String) -> Finding {
    Finding(
      .unknownOverride, .soft, path: nil, detail: detail,
      hint: "It has no effect. Look at the run's overrides: an id may be misspelled.")
  }
}
