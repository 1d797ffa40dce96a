import NASSync

/// `verify RUN… | --all [--local-only]`: manifest against workstation and NAS, file by file. Changes no run's state.
struct VerifyCommand: Sendable {
  let selection: RunSelection
  let localOnly: Bool
  /// More mismatches of a run than this are counted only: `--json` has them all.
  static let limit = 100

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    try await context.withClient { (client) async throws(CommandFailure) in
      let runs: [String]
      switch selection {
      case .runs(let typed): runs = typed
      case .all:
        runs = try await asking { () async throws(SyncFailure) in try await client.verifiableRuns() }
        if runs.isEmpty { await context.console.say(["No run has been published yet: there is nothing to verify."]) }
      }
      let batch = RunBatch(runs: runs, alwaysArray: selection == .all)
      let clock = SystemClock()
      return await batch.run(context.console) { (run) async throws(CommandFailure) in
        let start = clock.monotonicNanoseconds
        await context.console.draw { terminal in shortened("verifying \(displayText(run))", to: (terminal.width ?? 80) - 1) }
        let report = try await asking { () async throws(SyncFailure) in try await client.verify(run, localOnly: localOnly) }
        return Timed(report: report, seconds: Double(clock.monotonicNanoseconds &- start) / 1e9)
      } show: { timed in
        let lines = Self.lines(timed.report, context.console.names, seconds: timed.seconds)
        if timed.report.ok { await context.console.say(lines) } else { await context.console.show(lines) }
        return Self.exitCode(timed.report)
      }
    }
  }

  /// A report and how long it took, which is for people only.
  private struct Timed: Encodable, Sendable {
    let report: IntegrityReport
    let seconds: Double
    func encode(to encoder: any Encoder) throws { try report.encode(to: encoder) }
  }

  static func exitCode(_ report: IntegrityReport) -> ExitCode { report.ok && report.mismatches.isEmpty ? .done : .mismatch }

  static func lines(_ report: IntegrityReport, _ names: RunNames, seconds: Double) -> [String] {
    let run = names.shown(report.runPath)
    let amount = "\(Quantities.count(report.filesChecked, "file")), \(Quantities.bytes(report.bytesChecked))"
    let how = report.remotePath == nil ? ", this workstation only" : report.evidence.map { ", NAS by \($0.rawValue)" } ?? ""
    guard exitCode(report) == .mismatch else { return ["whole: \(run) (\(amount)\(how), \(Quantities.duration(seconds)))"] }
    var lines = ["NOT WHOLE: \(run) (\(amount)\(how))"]
    if let remote = report.remotePath { lines.append("  on the NAS: \(displayText(remote))") }
    for mismatch in report.mismatches.prefix(limit) {
      let place = mismatch.place == .nas ? "NAS" : "workstation"
      lines.append("  \(words(mismatch.problem)) on the \(place): \(displayText(mismatch.path))")
      if !mismatch.detail.isEmpty { lines.append("    \(displayText(mismatch.detail))") }
    }
    if report.mismatches.count > limit { lines.append("  … and \(report.mismatches.count - limit) more; `--json` lists all") }
    if report.mismatches.contains(where: { $0.place == .nas }) {
      lines.append(
        "  Next: `nassync enqueue` the run: what is missing or wrong there is sent again, where the file here still is the published one.")
    }
    return lines
  }

  private static func words(_ problem: IntegrityReport.Mismatch.Problem) -> String {
    switch problem {
    case .missing: "missing"
    case .extra: "not in the manifest, but"
    case .differs: "different"
    case .otherKind: "something else than a file"
    case .unreadable: "unreadable"
    case .damagedManifest: "damaged manifest"
    }
  }
}
