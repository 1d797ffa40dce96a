import SyncModel

/// `leftover_jinja_marker`: `{{ … }}` or `{% … %}` that a template engine should have replaced, in a name or in eligible text.
struct JinjaMarkerRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for name in subject.names where name.bytes.contains(UInt8(ascii: "{")) {
      let (matches, _) = MarkerScanner.jinjaMarkers(in: name.bytes, limit: 1)
      guard let match = matches.first else { continue }
      report.add(
        Finding(
          .leftoverJinjaMarker, .hard, path: name.findingPath,
          detail: "\(place(of: name)) \(quotation(name.bytes)) has the template marker \(Self.text(name.bytes, match))",
          hint: "Rename it: the template was not filled in where the marker stands."))
    }
  }

  func check(_ text: EligibleText, into report: inout FindingReport) {
    let before = text.bytes[..<text.scanned.lowerBound].reduce(0) { $1 == 0x0a ? $0 + 1 : $0 }
    let scanned = text.bytes[text.scanned]
    let (matches, count) = MarkerScanner.jinjaMarkers(in: scanned, limit: FindingReport.perFileLimit)
    let findings = matches.map { match in
      Finding(
        .leftoverJinjaMarker, .hard, path: text.path.findingText, detail: "the text has the template marker \(Self.text(scanned, match))",
        location: text.location(of: text.scanned.lowerBound + match.range.lowerBound, line: before + match.line),
        hint: "Open the file: the template was not filled in there. Write what belongs there, or make the file again.")
    }
    report.add(findings, of: count, inFile: text.path.findingText)
  }

  private static func text(_ bytes: ArraySlice<UInt8>, _ match: MarkerScanner.Match) -> String {
    quotation(bytes.dropFirst(match.range.lowerBound).prefix(match.range.count))
  }
}
