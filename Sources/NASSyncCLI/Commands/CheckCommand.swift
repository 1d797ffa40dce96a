import NASSync

/// `check [--equipment ID]`: the configuration is right, the NAS answers, and what it can do.
struct CheckCommand: Sendable {
  let equipment: String?

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let (reports, source) = try await context.withClient { (client) async throws(CommandFailure) in
      let reports = try await asking { () async throws(SyncFailure) in try await client.check(equipment: equipment) }
      return (reports, client.configuration.sourceFile)
    }
    if let source { await context.console.say(["The configuration \(displayText(source)) is understood."]) }
    if reports.isEmpty { await context.console.say(["It has no instrument yet: add a file to its equipment_dir."]) }
    for report in reports where !report.ok || !context.options.quiet {
      await context.console.show(Self.lines(report, unicode: context.console.output.unicode))
    }
    await context.console.document(reports)
    return ExitCode.worst(reports.map(Self.exitCode))
  }

  static func lines(_ report: CheckReport, unicode: Bool) -> [String] {
    let label = report.label == report.equipmentID ? "" : " (\(report.label))"
    var lines = ["", displayText("\(report.equipmentID)\(label): \(report.address)")]
    for line in report.lines {
      let mark =
        switch line.grade {
        case .good: unicode ? "✓" : "ok "
        case .limited: unicode ? "!" : "!  "
        case .bad: unicode ? "✗" : "BAD"
        }
      lines.append("  \(mark) \(displayText(line.detail))")
    }
    if let error = report.error, !report.lines.contains(where: { $0.detail.contains(error.message) }) {
      lines += ["  \(displayText(error.message)) (\(error.kind.rawValue))", "  \(displayText(error.hint))"]
    }
    lines.append(report.ok ? "  Runs will be sent and proven." : "  Runs cannot be sent and proven like this.")
    return lines
  }

  static func exitCode(_ report: CheckReport) -> ExitCode {
    guard !report.ok else { return .done }
    switch report.error?.kind {
    case .misconfigured: return .usage
    case .network, .timeout: return .tryAgainLater
    default: return .failed
    }
  }
}
