import SyncModel

/// `unresolved_placeholder_token`: `<name>` that a template or a person forgot to fill in, in a name or in eligible text.
struct PlaceholderRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for name in subject.names where name.bytes.contains(UInt8(ascii: "<")) {
      let (matches, _) = MarkerScanner.placeholders(in: name.bytes, limit: 1)
      guard let match = matches.first else { continue }
      report.add(
        Finding(
          .unresolvedPlaceholderToken, .hard, path: name.findingPath,
          detail: "\(place(of: name)) \(quotation(name.bytes)) has the placeholder \(Self.text(name.bytes, match))",
          hint: "Rename it: put the real value where the placeholder stands."))
    }
  }

  func check(_ text: EligibleText, into report: inout FindingReport) {
    let before = text.bytes[..<text.scanned.lowerBound].reduce(0) { $1 == 0x0a ? $0 + 1 : $0 }
    let scanned = text.bytes[text.scanned]
    let (matches, count) = MarkerScanner.placeholders(in: scanned, limit: FindingReport.perFileLimit)
    let findings = matches.map { match in
      Finding(
        .unresolvedPlaceholderToken, .hard, path: text.path.findingText,
        detail: "the text has the placeholder \(Self.text(scanned, match))",
        location: text.location(of: text.scanned.lowerBound + match.range.lowerBound, line: before + match.line),
        hint: "Open the file and put the real value where the placeholder stands.")
    }
    report.add(findings, of: count, inFile: text.path.findingText)
  }

  private static func text(_ bytes: ArraySlice<UInt8>, _ match: MarkerScanner.Match) -> String {
    quotation(bytes.dropFirst(match.range.lowerBound).prefix(match.range.count))
  }
}
