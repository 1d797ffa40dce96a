import NASSync

/// `recover [RUN…] [--equipment ID] [--dry-run]`: what a lost or damaged queue file knew, from the runs and the NAS.
struct RecoverCommand: Sendable {
  let runs: [String]
  let equipment: String?
  let dryRun: Bool
  /// More hidden folders than this are counted only: `--json` has them all.
  static let limit = 20

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    try await context.withClient { (client) async throws(CommandFailure) in
      await context.console.draw { terminal in
        shortened("looking at the runs here and on the NAS", to: (terminal.width ?? 80) - 1)
      }
      let report = try await asking { () async throws(SyncFailure) in
        try await client.recover(runs: runs, equipment: equipment, dryRun: dryRun)
      }
      let lines = Self.lines(report, context.console.names)
      if Self.exitCode(report) == .done { await context.console.say(lines) } else { await context.console.show(lines) }
      await context.console.document(report)
      return Self.exitCode(report)
    }
  }

  static func exitCode(_ report: RecoverReport) -> ExitCode {
    var codes = report.runs.map { run -> ExitCode in
      switch run.outcome {
      case .known, .verified, .cleaned, .queued: .done
      case .blocked: .blocked
      case .notWhole: .mismatch
      case .unclear: run.kind.map(code) ?? .failed
      }
    }
    codes += report.obstacles.map { $0.kind.map(code) ?? .failed }
    return ExitCode.worst(codes)
  }

  /// A NAS that does not answer is asked another time.
  private static func code(_ kind: SyncFailure.Kind) -> ExitCode { kind == .network || kind == .timeout ? .tryAgainLater : ExitCode(kind) }

  static func lines(_ report: RecoverReport, _ names: RunNames) -> [String] {
    var lines: [String] = []
    if let damage = report.damage { lines.append("The queue file cannot be used: \(displayText(damage)).") }
    if let aside = report.setAside { lines.append("It lies at \(displayText(aside)) now; nothing of it was removed.") }
    for run in report.runs where run.outcome != .known {
      lines.append("\(word(run.outcome, report.dryRun)): \(names.shown(run.runPath))")
      lines.append("  \(displayText(run.detail))")
      if let hint = run.hint { lines.append("  Next: \(displayText(hint))") }
    }
    for obstacle in report.obstacles {
      lines.append("NOT SEARCHED: \(displayText(obstacle.place))")
      lines.append("  \(displayText(obstacle.message)). \(displayText(obstacle.hint))")
    }
    if !report.leftovers.isEmpty {
      lines.append(
        "Hidden folders of transfers that no job here knows; once everything is verified, and if no other workstation sends there, remove them:"
      )
      lines += report.leftovers.prefix(limit).map { "  \(displayText($0))" }
      if report.leftovers.count > limit { lines.append("  … and \(report.leftovers.count - limit) more; `--json` lists all") }
    }
    let count = Dictionary(grouping: report.runs, by: \.outcome).mapValues(\.count)
    let parts = [RecoverReport.Run.Outcome.verified, .cleaned, .queued, .blocked, .notWhole, .unclear, .known].compactMap { outcome in
      count[outcome].map { "\($0) \(outcome.rawValue.replacingOccurrences(of: "_", with: " "))" }
    }
    lines.append(parts.isEmpty ? "No run was found." : "\(Quantities.count(report.runs.count, "run")): \(parts.joined(separator: ", ")).")
    if !report.dryRun, count[.queued] != nil || count[.notWhole] != nil {
      lines.append("`nassync drain`, or the service, goes on with what is queued.")
    }
    return lines
  }

  private static func word(_ outcome: RecoverReport.Run.Outcome, _ dryRun: Bool) -> String {
    switch outcome {
    case .known: "known"
    case .verified: dryRun ? "is verified" : "verified"
    case .cleaned: dryRun ? "is cleaned" : "cleaned"
    case .queued: dryRun ? "would be queued" : "queued"
    case .blocked: dryRun ? "WOULD BE BLOCKED" : "BLOCKED"
    case .notWhole: "NOT WHOLE"
    case .unclear: "UNCLEAR"
    }
  }
}
