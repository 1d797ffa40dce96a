import NASSync

/// Where runs stand, for people.
enum StatusText {
  /// A row a run.
  static func table(_ runs: [RunStatus], names: RunNames, width: Int?) -> [String] {
    guard !runs.isEmpty else { return ["The queue is empty."] }
    var table = TextTable([
      .init("STATE"), .init("RUN", shrinks: true), .init("FILES", .right), .init("SIZE", .right), .init("SENT", .right),
      .init("REMARK", shrinks: true),
    ])
    for run in runs {
      table.add([
        run.state.name, names.short(run.runPath), Quantities.grouped(run.filesTotal), Quantities.bytes(run.bytesTotal), sent(run),
        remark(run),
      ])
    }
    return table.lines(width: width)
  }

  /// What a list leaves out: nothing to say where it is complete.
  static func rest(_ overview: QueueOverview) -> [String] {
    guard overview.runs.count < overview.total else { return [] }
    let states: [JobState] = [.running, .awaitingVerify, .failed, .queued, .verified, .cleanupEligible, .cleaned]
    let counts = states.compactMap { state in overview.counts[state].map { "\(Quantities.grouped($0)) \(state.rawValue)" } }
    return [
      "\(Quantities.count(overview.total, "run")): \(counts.joined(separator: ", ")).",
      "\(Quantities.grouped(overview.runs.count)) of them are listed: what is on its way, failed or waits, then the last that are done. "
        + "`nassync status --all` lists every run.",
    ]
  }

  /// Everything that is known of one run.
  static func details(_ run: RunStatus) -> [String] {
    var rows: [(String, String)] = [("run", run.runPath), ("state", run.state.name)]
    if let equipment = run.equipmentID { rows.append(("equipment", equipment)) }
    guard let job = run.jobID else { return aligned(rows) }
    rows.append(("job", "\(job), generation \(run.generation)"))
    rows.append(("files", "\(Quantities.grouped(run.filesDone)) of \(Quantities.count(run.filesTotal, "file")) on the NAS"))
    rows.append(("bytes", "\(Quantities.bytes(run.bytesSent)) of \(Quantities.bytes(run.bytesTotal)) (\(sent(run)))"))
    if let remote = run.remotePath { rows.append(("NAS", remote)) }
    if let verified = run.verifiedAt {
      let evidence = run.evidence.map { ", by \($0.rawValue)" } ?? ""
      rows.append(("verified", "\(Moment.local(verified))\(evidence), \(Quantities.count(run.verifyPasses, "time"))"))
    }
    if run.attempts > 0 { rows.append(("attempts", String(run.attempts))) }
    if let next = run.nextAttemptAt { rows.append(("next try", Moment.local(next))) }
    if let error = run.lastError {
      rows.append(("error", "\(error.message) (\(error.kind.rawValue))"))
      rows.append(("next step", error.hint))
    }
    return aligned(rows)
  }

  /// A run that needs a person or time: what is wrong, and what to do.
  static func trouble(_ run: RunStatus, _ names: RunNames) -> [String] {
    var lines = ["\(run.state == .job(.failed) ? "failed" : "waiting"): \(names.shown(run.runPath))"]
    if let error = run.lastError {
      lines.append("  \(displayText(error.message)) (\(error.kind.rawValue))")
      lines.append("  \(displayText(error.hint))")
    }
    if let next = run.nextAttemptAt { lines.append("  It is tried again after \(Moment.local(next)).") }
    return lines
  }

  /// `100 %` only where every byte is there.
  static func sent(_ run: RunStatus) -> String {
    switch run.state {
    case .none: return ""
    case .job(.verified), .job(.cleanupEligible), .job(.cleaned): return "100 %"
    case .job:
      guard run.bytesTotal > 0 else { return run.filesTotal > 0 && run.filesDone >= run.filesTotal ? "100 %" : "0 %" }
      guard run.bytesSent < run.bytesTotal else { return "100 %" }
      return "\(min(99, Int(Double(run.bytesSent) / Double(run.bytesTotal) * 100))) %"
    }
  }

  private static func remark(_ run: RunStatus) -> String {
    if let error = run.lastError, run.state == .job(.failed) || run.state == .job(.cleaned) || run.attempts > 0 {
      guard let next = run.nextAttemptAt else { return "\(error.kind.rawValue): \(error.message)" }
      return "again at \(Moment.local(next)); \(error.kind.rawValue): \(error.message)"
    }
    if let verified = run.verifiedAt { return "\(Moment.local(verified))\(run.evidence.map { ", by \($0.rawValue)" } ?? "")" }
    return run.lastError.map { "\($0.kind.rawValue): \($0.message)" } ?? ""
  }

  private static func aligned(_ rows: [(String, String)]) -> [String] {
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + displayText($0.1) }
  }
}
