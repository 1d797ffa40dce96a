import SyncModel

/// `symlink_escapes_run`: a link with an absolute target, or one that climbs out of the run, directly or by way of other links.
///
/// Worked out from the snapshot alone, without touching the disk. A link that points nowhere inside the run, or in a circle, is harmless.
struct SymlinkEscapeRule: GateRule {
  /// No system follows a chain of more links.
  private static let maxHops = 255

  func check(_ subject: GateSubject, into report: inout FindingReport) {
    var links: [[UInt8]: [UInt8]] = [:]
    for entry in subject.snapshot.entries {
      if case .symlink(let target) = entry.kind { links[entry.path.bytes] = target }
    }
    if links.isEmpty { return }
    for entry in subject.snapshot.entries {
      guard case .symlink(let target) = entry.kind, let reason = Self.escape(from: entry.path, target: target, links: links) else {
        continue
      }
      report.add(
        Finding(
          .symlinkEscapesRun, .hard, path: entry.path.findingText, detail: "the link points at \(quotation(target)): \(reason)",
          hint: "Replace the link by what it points at, or remove it; on the NAS it would lead nowhere or elsewhere."))
    }
  }

  private static func escape(from link: RelativePath, target: [UInt8], links: [[UInt8]: [UInt8]]) -> String? {
    if target.first == UInt8(ascii: "/") { return "an absolute path" }
    var current = link.parent.map { $0.segments.map(Array.init) } ?? []
    // Reversed, so that the next step is the last element.
    var steps = Array(target.split(separator: UInt8(ascii: "/")).map(Array.init).reversed())
    var hops = 0
    while let step = steps.popLast() {
      if step == [0x2e] { continue }
      if step == [0x2e, 0x2e] {
        if current.isEmpty { return hops == 0 ? "a place outside the run" : "by way of other links, a place outside the run" }
        current.removeLast()
        continue
      }
      current.append(step)
      guard let next = links[Array(current.joined(separator: [UInt8(ascii: "/")]))] else { continue }
      hops += 1
      if hops > maxHops { return nil }
      if next.first == UInt8(ascii: "/") { return "by way of another link, an absolute path" }
      current.removeLast()
      steps += next.split(separator: UInt8(ascii: "/")).map(Array.init).reversed()
    }
    return nil
  }
}
