import NASSync

/// `problems`: everything that wants a person, each with the next step.
struct ProblemsCommand: Sendable {
  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let problems = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.problems() }
    }
    if problems.isEmpty { await context.console.say(["Nothing wants a person."]) }
    for problem in problems { await context.console.show(Self.lines(problem, context.console.names)) }
    await context.console.document(problems)
    return .done
  }

  static func lines(_ problem: Problem, _ names: RunNames) -> [String] {
    let subject = problem.runPath ?? problem.destination ?? problem.equipmentID ?? ""
    var lines = [
      "\(problem.severity == .critical ? "CRITICAL" : "warning") \(displayText(problem.problemClass)): \(names.shown(subject))",
      "  \(displayText(problem.message))", "  since \(Moment.local(problem.since))",
    ]
    if !problem.blocks.isEmpty { lines.append("  held up: \(displayText(problem.blocks))") }
    lines.append("  next: \(displayText(problem.nextStep))")
    return lines
  }
}
