import SyncModel

/// `normalization_collision`: two paths that look the same and differ in how their accents are encoded (NFC and NFD).
struct NormalizationCollisionRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    guard subject.context.limits.foldsNormalization else { return }
    // String keys compare by canonical equivalence, which is exactly the question here.
    var seen: [String: RelativePath] = [:]
    let paths = NameFolding.candidates(in: subject) { path, text in path.bytes.contains { $0 >= 0x80 } ? .text(text) : nil }
    for (path, text) in paths {
      guard let first = seen[text] else {
        seen[text] = path
        continue
      }
      if first == path { continue }
      report.add(
        Finding(
          .normalizationCollision, .hard, path: path.findingText,
          detail: "\(quotation(path.bytes)) occurs twice: the same letters, encoded in two ways (NFC and NFD)",
          hint: subject.context.limits.collisionHint))
    }
  }
}
