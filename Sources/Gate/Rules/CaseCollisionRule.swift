import SyncModel

/// `case_collision`: two paths that differ only in case, on a destination that takes them for one: the second would overwrite the first.
struct CaseCollisionRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let limits = subject.context.limits
    guard limits.foldsCase else { return }
    var seen: [NameFolding.Key: (path: RelativePath, text: String)] = [:]
    let paths = NameFolding.paths(of: subject)
    seen.reserveCapacity(paths.count)
    for (path, text) in paths {
      let folded = NameFolding.caseFolded(text)
      let key: NameFolding.Key = limits.foldsNormalization ? .text(folded) : .exact(Array(folded.utf8))
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
