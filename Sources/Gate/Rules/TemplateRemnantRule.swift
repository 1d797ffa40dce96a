import SyncModel

/// What a template or a person forgot to fill in, in a name or in eligible text: `unresolved_placeholder_token` (`<name>`) and
/// `leftover_jinja_marker` (`{{ … }}`, `{% … %}`).
struct TemplateRemnantRule: GateRule {
  let problemClass: FindingClass
  /// The byte that every remnant starts with: a name without it is not searched.
  let opening: UInt8
  let what: String
  let nameHint: String
  let textHint: String
  let search: @Sendable (_ bytes: ArraySlice<UInt8>, _ limit: Int) -> (matches: [MarkerScanner.Match], count: Int)

  static let placeholder = TemplateRemnantRule(
    problemClass: .unresolvedPlaceholderToken, opening: UInt8(ascii: "<"), what: "the placeholder",
    nameHint: "Rename it: put the real value where the placeholder stands.",
    textHint: "Open the file and put the real value where the placeholder stands.",
    search: { MarkerScanner.placeholders(in: $0, limit: $1) })

  static let jinjaMarker = TemplateRemnantRule(
    problemClass: .leftoverJinjaMarker, opening: UInt8(ascii: "{"), what: "the template marker",
    nameHint: "Rename it: the template was not filled in where the marker stands.",
    textHint: "Open the file: the template was not filled in there. Write what belongs there, or make the file again.",
    search: { MarkerScanner.jinjaMarkers(in: $0, limit: $1) })

  func check(_ subject: GateSubject, into report: inout FindingReport) {
    for name in subject.names where name.bytes.contains(opening) {
      guard let match = search(name.bytes, 1).matches.first else { continue }
      report.add(
        Finding(
          problemClass, .hard, path: name.findingPath,
          detail: "\(place(of: name)) \(quotation(name.bytes)) has \(what) \(Self.text(name.bytes, match))", hint: nameHint))
    }
  }

  func check(_ text: EligibleText, into report: inout FindingReport) {
    let scanned = text.bytes[text.scanned]
    report.add(search(scanned, FindingReport.perFileLimit), of: problemClass, inFile: text.path) { match in
      Finding(
        problemClass, .hard, path: text.path.findingText, detail: "the text has \(what) \(Self.text(scanned, match))",
        location: text.location(of: match), hint: textHint)
    }
  }

  private static func text(_ bytes: ArraySlice<UInt8>, _ match: MarkerScanner.Match) -> String {
    quotation(bytes.dropFirst(match.range.lowerBound).prefix(match.range.count))
  }
}
