import NASSync

/// `gate RUN… [--equipment ID]`: the Pre-Sync Gate alone. Writes nothing.
struct GateCommand: Sendable {
  let runs: [String]
  let equipment: String?

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    try await context.withClient { (client) async throws(CommandFailure) in
      await RunBatch(runs: runs).run(context.console) { (run) async throws(CommandFailure) in
        try await asking { () async throws(SyncFailure) in try await client.gate(run, equipment: equipment) }
      } show: { report in
        let lines = Self.lines(report, context.console.names, config: context.options.config, equipment: equipment)
        if report.verdict.isOpen { await context.console.say(lines) } else { await context.console.show(lines) }
        return report.verdict.isOpen ? .done : .blocked
      }
    }
  }

  static func lines(_ report: GateReport, _ names: RunNames, config: String?, equipment: String? = nil) -> [String] {
    let verdict = report.verdict
    let size = "\(Quantities.count(report.files, "file")), \(Quantities.bytes(report.bytes))"
    var lines = ["\(verdict.isOpen ? "open" : "BLOCKED"): \(names.shown(report.runPath)) (\(report.equipmentID), \(size))"]
    lines += FindingText.lines(verdict.blocking)
    if !verdict.blocking.isEmpty {
      lines += FindingText.nextSteps(verdict.blocking, run: names.short(report.runPath), config: config, equipment: equipment)
    }
    if !verdict.overridden.isEmpty {
      lines.append("  Let pass by an override: \(Quantities.count(verdict.overridden.count, "finding"))")
      for used in verdict.activeOverrides {
        lines.append("    \(displayText("\(used.problemClass) by \(used.operatorName): \(used.reason) (\(used.id))"))")
      }
    }
    if !verdict.informing.isEmpty {
      lines.append("  To know, not in the way:")
      lines += FindingText.lines(verdict.informing).map { "  " + $0 }
    }
    if let free = report.destination.freeBytes, let asked = report.destination.askedAt {
      let fits = report.bytes <= free ? "" : "; the run would wait until there is more"
      lines.append("  The NAS had \(Quantities.bytes(free)) free on \(Moment.local(asked))\(fits)")
    }
    if !report.excluded.isEmpty { lines.append("  Not sent, by `exclude`: \(Quantities.count(report.excluded.count, "file"))") }
    return lines
  }
}
