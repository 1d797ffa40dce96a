import SyncModel

/// `name_not_utf8`: no override, because the NAS, the record and the receipt could not even spell the name.
struct NameNotUTF8Rule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for name in subject.names {
      guard name.bytes.contains(where: { $0 >= 0x80 }), String(validating: name.bytes, as: UTF8.self) == nil else { continue }
      report.add(
        Finding(
          .nameNotUTF8, .hard, path: name.findingPath, detail: "\(place(of: name)) \(quotation(name.bytes)) is not UTF-8",
          hint: "Rename it; it was probably written by a program with an older character set (convmv shows which)."))
    }
  }
}
