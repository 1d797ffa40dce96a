import SyncModel

/// `empty_run`: a run without a single file would be verified without anything having been proven.
struct EmptyRunRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    guard !subject.snapshot.entries.contains(where: { $0.kind == .file }) else { return }
    let excluded = subject.snapshot.excluded.count
    let detail = excluded == 0 ? "the run has no file" : "the run has no file but what is excluded (\(excluded))"
    report.add(
      Finding(
        .emptyRun, .hard, path: nil, detail: detail,
        hint: "Check that the instrument has written its data here; a run that is to stay empty can be removed."))
  }
}
