import SyncModel

/// `override_ledger_broken`: an entry of the record's overrides does not follow from the one before it. It informs only: the chain finds
/// mistakes, and other programs may have reasons of their own to rewrite the list.
struct OverrideLedgerRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    guard case .readable(let record) = subject.record else { return }
    for fault in record.ledger.faults {
      report.add(
        Finding(
          .overrideLedgerBroken, .soft, path: nil,
          detail: "entry \(fault.entry) of validation_overrides\(fault.id.map { " (\(displayText($0)))" } ?? ""): \(fault.reason)",
          hint: "Find out who edited creation.json; `nassync history` shows the ledger, and the receipt names the overrides that counted."))
    }
  }
}
