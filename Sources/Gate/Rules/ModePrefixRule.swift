import SyncModel

/// `mode_prefix_mismatch`: the record's `run_kind`, the folder above the run and the start of the run's name must say the same.
///
/// Only where the record has `run_kind`: other layouts have none and are free.
struct ModePrefixRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    guard case .readable(let record) = subject.record, let kind = record.runKind else { return }
    let segments = subject.location.relative.segments
    let leaf = segments.last ?? []
    let parent = segments.dropLast().last ?? []
    let folder: String
    let prefix: String
    switch kind {
    case "experimental": (folder, prefix) = ("Runs", "Run_")
    case "test": (folder, prefix) = ("TestRuns", "TestRun_")
    default:
      add("the record's run_kind is \(quotation(Array(kind.utf8))), which is neither “experimental” nor “test”", to: &report)
      return
    }
    if !parent.elementsEqual(folder.utf8) {
      add("the record says run_kind “\(kind)”, but the folder above the run is \(quotation(parent)), not “\(folder)”", to: &report)
    }
    if !leaf.starts(with: prefix.utf8) {
      add("the record says run_kind “\(kind)”, but the run's name \(quotation(leaf)) does not start with “\(prefix)”", to: &report)
    }
  }

  private func add(_ detail: String, to report: inout FindingReport) {
    report.add(
      Finding(
        .modePrefixMismatch, .hard, path: nil, detail: detail,
        hint: "Find out whether it is a test run. Then move or rename the run, or correct run_kind in its record."))
  }
}
