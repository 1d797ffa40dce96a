import SyncModel

/// `orphan`: the run has no record. Soft: it may be sent, but nobody wrote down what it is.
struct OrphanRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    guard case .none = subject.record else { return }
    report.add(
      Finding(
        .orphan, .soft, path: nil, detail: "the run has no \(displayText(subject.snapshot.metadataFolder))/creation.json",
        hint: "It is sent all the same. Where your lab makes runs with ExLab-Wizard, this one was made by hand."))
  }
}
