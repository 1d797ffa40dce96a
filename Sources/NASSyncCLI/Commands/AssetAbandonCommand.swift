import NASSync

/// `asset abandon NUMBER`: gives an unfinished asset up, on this side.
struct AssetAbandonCommand: Sendable {
  let number: Int64

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let asset = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.abandonAsset(number) }
    }
    await context.console.say(["given up: \(AssetText.title(asset)); the service was not told, and no file was removed"])
    await context.console.document(AssetDocument(asset))
    return .done
  }
}
