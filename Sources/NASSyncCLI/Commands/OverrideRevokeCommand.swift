import NASSync

/// `override revoke RUN ID --reason R`: takes an override back. Both stay in the record.
struct OverrideRevokeCommand: Sendable {
  let run: String
  let equipment: String?
  let id: String
  let reason: String

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let revoked = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in
        try await client.revokeOverride(run, equipment: equipment, id: id, reason: reason)
      }
    }
    await context.console.say(["revoked: \(displayText(revoked.id)) (\(displayText(revoked.problemClass.rawValue)))"])
    await context.console.document(revoked)
    return .done
  }
}
