import SyncModel

/// `unreadable_file`: what cannot be read cannot be sent, and a run without it would not be whole.
struct UnreadableFileRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for entry in subject.snapshot.entries {
      if let reason = entry.unreadable { report.add(Self.finding(entry.path, reason: reason)) }
    }
  }

  static func finding(_ path: RelativePath?, reason: String) -> Finding {
    Finding(
      .unreadableFile, .hard, path: path?.findingText, detail: "it cannot be read: \(displayText(reason))",
      hint: "Give the user that runs this program permission to read it, wait until the instrument has closed it, or exclude it.")
  }
}
