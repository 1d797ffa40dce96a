import SyncModel

/// `case_collision`: two paths that differ only in case, on a destination that takes them for one: the second would overwrite the first.
struct CaseCollisionRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let limits = subject.context.limits
    guard limits.foldsCase else { return }
    func key(_ text: String) -> NameFolding.Key {
      let folded = NameFolding.caseFolded(text)
      return limits.foldsNormalization ? .text(folded) : .exact(Array(folded.utf8))
    }
    var seen: [NameFolding.Key: (path: RelativePath, text: String)] = [:]
    for (path, text) in NameFolding.candidates(in: subject, key: { key($1) }) {
      let key = key(text)
      guard let first = seen[key] else {
        seen[key] = (path, text)
        continue
      }
      // Equal but for the normalisation form: the other rule's matter.
      if first.path == path || first.text == text { continue }
      report.add(
        Finding(
          .caseCollision, .hard, path: path.findingText,
          detail: "\(quotation(path.bytes)) and \(quotation(first.path.bytes)) differ only in upper and lower case",
          hint: subject.context.limits.collisionHint))
    }
  }
}
