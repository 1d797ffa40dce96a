import SyncModel

/// `path_too_long`: a name, or the whole path below the destination's root, is longer than the destination can hold.
struct PathLengthRule: GateRule {
  private static let hint = "Shorten the name or the names of the folders above it."

  func check(_ subject: GateSubject, into report: inout FindingReport) {
    let limits = subject.context.limits
    for name in subject.names where name.bytes.count > limits.maxSegmentBytes {
      report.add(
        Finding(
          .pathTooLong, .hard, path: name.findingPath,
          detail:
            "\(place(of: name)) \(quotation(name.bytes)) has \(name.bytes.count) bytes; the destination holds \(limits.maxSegmentBytes)",
          hint: Self.hint))
    }
    guard let maxPathBytes = limits.maxPathBytes else { return }
    let run = subject.location.relative.bytes.count
    if run > maxPathBytes { report.add(Self.finding(nil, run, maxPathBytes)) }
    for entry in subject.snapshot.entries where run + 1 + entry.path.bytes.count > maxPathBytes {
      report.add(Self.finding(entry.path, run + 1 + entry.path.bytes.count, maxPathBytes))
    }
  }

  private static func finding(_ path: RelativePath?, _ length: Int, _ limit: Int) -> Finding {
    Finding(
      .pathTooLong, .hard, path: path?.findingText,
      detail: "the path below the destination's root has \(length) bytes; the destination holds \(limit)", hint: hint)
  }
}
