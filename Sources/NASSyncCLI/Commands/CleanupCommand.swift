import NASSync

/// `cleanup [RUN…] [--dry-run]`: removes local copies whose NAS copy is proven, and says of every condition whether it is met.
struct CleanupCommand: Sendable {
  let runs: [String]
  let dryRun: Bool
  /// More names of a run than this are counted only: `--json` has them all.
  static let limit = 20

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    try await context.withClient { (client) async throws(CommandFailure) in
      guard runs.isEmpty else {
        return await RunBatch(runs: runs).run(context.console) { (run) async throws(CommandFailure) in
          await context.console.draw { terminal in shortened("looking at \(displayText(run))", to: (terminal.width ?? 80) - 1) }
          let outcomes = try await clean(client, [run])
          guard let outcome = outcomes.first else { throw Self.elsewhere }
          return outcome
        } show: { outcome in
          await show(outcome, context.console)
          return Self.exitCode(outcome)
        }
      }
      let outcomes = try await clean(client, nil)
      if outcomes.isEmpty { await context.console.say(["No run is verified long enough: there is nothing to clean."]) }
      for outcome in outcomes { await show(outcome, context.console) }
      await context.console.document(outcomes)
      return ExitCode.worst(outcomes.map(Self.exitCode))
    }
  }

  private func clean(_ client: NASSyncClient, _ runs: [String]?) async throws(CommandFailure) -> [CleanupOutcome] {
    let report = try await asking { () async throws(SyncFailure) in try await client.cleanup(runs: runs, dryRun: dryRun) }
    guard !report.elsewhere else { throw Self.elsewhere }
    return report.runs
  }

  private static let elsewhere = CommandFailure(
    exit: .tryAgainLater, kind: SyncFailure.Kind.local.rawValue, message: "another process removes local copies just now", retry: true,
    hint: "Wait until it has finished, then try again; the service does the same by itself.")

  private func show(_ outcome: CleanupOutcome, _ console: Console) async {
    let lines = Self.lines(outcome, console.names)
    // What was asked for is said; what did not come of it is shown even to those who want no remarks.
    if outcome.dryRun || outcome.result == .kept || outcome.result == .partial {
      await console.show(lines)
    } else {
      await console.say(lines)
    }
  }

  /// A dry run that came to its end has done what it was asked.
  static func exitCode(_ outcome: CleanupOutcome) -> ExitCode {
    switch outcome.result {
    case .cleaned, .wouldClean, .nothingToDo: return .done
    case .partial: return outcome.error?.kind == .interrupted ? .tryAgainLater : .failed
    case .kept:
      if outcome.dryRun, outcome.error == nil { return .done }
      // On its way to the NAS: nothing else can be said of it yet.
      if outcome.state.isActive { return .tryAgainLater }
      var codes = outcome.unmet.map { interlock -> ExitCode in
        switch interlock.remedy {
        case .wait, nil: .tryAgainLater
        case .gate: .blocked
        case .nas: .mismatch
        case .look: .failed
        }
      }
      // A copy on the NAS that differs is what is to be told, whatever else is said of the run.
      if codes.contains(.mismatch) { return .mismatch }
      if let error = outcome.error { codes.append(ExitCode(error.kind)) }
      return codes.isEmpty ? .failed : ExitCode.worst(codes)
    }
  }

  static func lines(_ outcome: CleanupOutcome, _ names: RunNames) -> [String] {
    let amount = "\(Quantities.count(outcome.files, "file")), \(Quantities.bytes(outcome.bytes))"
    let run = names.shown(outcome.runPath)
    var lines: [String]
    switch outcome.result {
    case .cleaned: lines = ["cleaned: \(run) (\(amount) removed)"]
    case .wouldClean: lines = ["would be cleaned: \(run) (\(amount))"]
    case .partial: lines = ["CLEANED IN PART: \(run) (\(amount) removed)"]
    case .kept: lines = [outcome.dryRun ? "would be kept: \(run) (\(amount))" : "KEPT: \(run)"]
    case .nothingToDo: lines = ["nothing to do: \(run) was cleaned before"]
    }
    if outcome.dryRun || outcome.result == .kept {
      lines += outcome.interlocks.map { "  \($0.met ? "✓" : "✗") \($0.name.rawValue): \(displayText($0.detail))" }
    }
    for kept in outcome.kept.prefix(limit) { lines.append("  stays: \(displayText(kept.path)): \(displayText(kept.reason))") }
    if outcome.kept.count > limit { lines.append("  … and \(outcome.kept.count - limit) more; `--json` lists all") }
    if let error = outcome.error { lines.append("  \(displayText(error.message)). \(displayText(error.hint))") }
    return lines
  }
}
