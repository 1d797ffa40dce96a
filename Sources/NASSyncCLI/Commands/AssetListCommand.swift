import NASSync

/// `asset list [--all]`: the assets that are not finished, or all of them.
struct AssetListCommand: Sendable {
  let all: Bool

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let assets = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.assets(openOnly: !all) }
    }
    await context.console.show(AssetText.table(assets, all: all, width: context.console.output.width))
    await context.console.document(assets.map(AssetDocument.init))
    return .done
  }
}
