import SyncModel

/// `illegal_filesystem_character`, and final: a name that destinations of this kind are never given, because one of them would take it for more than
/// a name and others would suffer from that.
///
/// What this run has on the NAS already is no finding: it does no harm there, or it would not have been proven, and its copy here may go.
struct WithheldNameRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let limits = subject.context.limits
    for name in subject.names {
      guard let withheld = limits.withheld.first(where: { $0.matches(name.bytes) }), !Self.isThere(name, subject) else { continue }
      report.add(
        Finding(
          .illegalFilesystemCharacter, .hard, path: name.findingPath,
          detail: "\(place(of: name)) \(quotation(name.bytes)) is no name to this kind of destination: \(withheld.name) \(withheld.reason)",
          hint: name.path == nil
            ? "Rename that folder; no override lets it through."
            : "Rename it, or `exclude` it in the equipment's profile; no override lets it through.", isFinal: true))
    }
  }

  private static func isThere(_ name: GateSubject.Name, _ subject: GateSubject) -> Bool {
    let published = subject.context.published
    guard let path = name.path else { return !published.isEmpty }
    return published.keys.contains { $0.isWithin(path) }
  }
}
