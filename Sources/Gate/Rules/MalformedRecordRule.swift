import SyncModel

/// `malformed_record`: a record that exists and cannot be read in full. No override: the overrides stand in the record.
struct MalformedRecordRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    switch subject.record {
    case .none: return
    case .unreadable(let reason): report.add(Self.finding(reason))
    case .readable(let record):
      for problem in record.overrideProblems { report.add(Self.finding(problem)) }
    }
  }

  static func finding(_ reason: String) -> Finding {
    Finding(
      .malformedRecord, .hard, path: nil, detail: "the run's record: \(displayText(reason))",
      hint: "Mend creation.json in the run's metadata folder or restore it from a copy; no override can let this pass.")
  }
}
