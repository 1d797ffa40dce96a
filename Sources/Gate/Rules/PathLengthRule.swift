import SyncModel

/// `path_too_long`: a name, or the whole path below the destination's root, is longer than the destination can hold.
struct PathLengthRule: GateRule {
  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let limits = subject.context.limits
    // Whatever the destination says: no file system that this run may be brought back to holds more.
    let maxName = min(limits.maxSegmentBytes, 255)
    for name in subject.names where name.bytes.count > maxName {
      report.add(
        Finding(
          .pathTooLong, .hard, path: name.findingPath,
          detail: "\(place(of: name)) \(quotation(name.bytes)) has \(name.bytes.count) bytes; the destination holds \(maxName)",
          hint: "Shorten the name by \(name.bytes.count - maxName) bytes; a letter with an accent has two, a Chinese one three."))
    }
    guard let maxPath = limits.maxPathBytes else { return }
    let relative = subject.location.relative
    let above = relative.parent.map { $0.bytes.count + 1 } ?? 0
    let run = max(relative.bytes.count, above + limits.stagingNameBytes)
    if run > maxPath { report.add(Self.finding(nil, relative.bytes, run, maxPath)) }
    for entry in subject.snapshot.entries where run + 1 + entry.path.bytes.count > maxPath {
      report.add(Self.finding(entry.path, entry.path.bytes, run + 1 + entry.path.bytes.count, maxPath))
    }
  }

  private static func finding(_ path: RelativePath?, _ bytes: [UInt8], _ length: Int, _ limit: Int) -> Finding {
    Finding(
      .pathTooLong, .hard, path: path?.findingText,
      detail: "the path \(quotation(bytes)) has \(length) bytes below the destination's root; the destination holds \(limit)",
      hint: "Shorten the name or the names of the folders above it by \(length - limit) bytes, or take a shorter remote_root.")
  }
}
