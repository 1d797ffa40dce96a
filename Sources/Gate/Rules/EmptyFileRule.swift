import SyncModel

/// `empty_file`: a file of no bytes. Soft: flags and markers are made so, but a data file that is empty is worth a look.
struct EmptyFileRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for entry in subject.snapshot.entries where entry.kind == .file && entry.fingerprint.size == 0 && entry.unreadable == nil {
      report.add(
        Finding(
          .emptyFile, .soft, path: entry.path.findingText, detail: "the file is empty",
          hint: "It is sent all the same. If data belongs in it, look at the instrument."))
    }
  }
}
