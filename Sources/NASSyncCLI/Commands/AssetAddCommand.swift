import NASSync

/// `asset add FILE… --type T`: records files as one asset to be sent.
struct AssetAddCommand: Sendable {
  let files: [String]
  let type: String
  let service: String?
  let key: String?
  let mediaType: String?

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let asset = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in
        try await client.addAsset(
          files, assetType: type, service: service, key: key, contentType: mediaType ?? "application/octet-stream")
      }
    }
    let config = context.options.config.map { " --config \(shellWord($0))" } ?? ""
    if asset.state == .ready {
      await context.console.say(["unchanged: \(AssetText.title(asset)) is ready already"])
    } else {
      await context.console.say(["recorded: \(AssetText.title(asset))", "Next: nassync\(config) asset run \(asset.number)"])
    }
    await context.console.document(AssetDocument(asset))
    return .done
  }
}
