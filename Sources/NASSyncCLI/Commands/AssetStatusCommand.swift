import NASSync

/// `asset status NUMBER`: where one asset stands, and what vouches for each of its files.
struct AssetStatusCommand: Sendable {
  let number: Int64

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let asset = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.asset(number) }
    }
    await context.console.show(AssetText.details(asset, width: context.console.output.width))
    await context.console.document(AssetDocument(asset))
    return .done
  }
}
