import NASSync

/// `history RUN`: every transition, attempt, verification and override, in order; last, what the ledger of overrides is worth.
struct HistoryCommand: Sendable {
  let run: String
  let equipment: String?

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let entries = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.history(of: run, equipment: equipment) }
    }
    await context.console.show(Self.lines(entries, width: context.console.output.width))
    await context.console.document(entries)
    return entries.contains { $0.event == HistoryEntry.ledgerBroken } ? .mismatch : .done
  }

  static func lines(_ entries: [HistoryEntry], width: Int?) -> [String] {
    guard !entries.isEmpty else { return ["Nothing has happened to this run yet."] }
    var table = TextTable([.init("WHEN"), .init("JOB", .right), .init("EVENT"), .init("STATE"), .init("DETAIL", shrinks: true)])
    for entry in entries {
      let states = [entry.fromState?.rawValue, entry.toState?.rawValue].compactMap { $0 }
      table.add([
        Moment.local(entry.at), entry.generation.map(String.init) ?? "", entry.event, states.joined(separator: " to "), entry.detail,
      ])
    }
    return table.lines(width: width)
  }
}
