import NASSync

/// `override list RUN`: every override of the run's record, also past ones.
struct OverrideListCommand: Sendable {
  let run: String
  let equipment: String?

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let overrides = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.overrides(of: run, equipment: equipment) }
    }
    await context.console.show(Self.lines(overrides, width: context.console.output.width))
    await context.console.document(overrides)
    return .done
  }

  static func lines(_ overrides: [OverrideStatus], width: Int?) -> [String] {
    guard !overrides.isEmpty else { return ["The run has no overrides."] }
    var table = TextTable([
      .init("STATE"), .init("CLASS"), .init("PATH", shrinks: true), .init("BY"), .init("RECORDED"), .init("UNTIL"),
      .init("REASON", shrinks: true), .init("ID"),
    ])
    for entry in overrides {
      table.add([
        entry.state.rawValue, entry.problemClass.rawValue, entry.path ?? "(any)", entry.operatorName, entry.recordedAt,
        entry.expiresAt ?? "for ever", entry.reason, entry.id,
      ])
    }
    return table.lines(width: width)
  }
}
