import NASSync

/// `asset check [--service NAME]`: the asset services answer and take the token.
struct AssetCheckCommand: Sendable {
  let service: String?

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let checks = try await context.withClient { (client) async throws(CommandFailure) in
      try await asking { () async throws(SyncFailure) in try await client.checkAssetServices(service) }
    }
    if checks.isEmpty { await context.console.say(["The configuration has no asset service: add one to asset_services."]) }
    for check in checks where !check.ok || !context.options.quiet {
      await context.console.show(Self.lines(check, unicode: context.console.output.unicode))
    }
    await context.console.document(checks)
    return ExitCode.worst(checks.map(Self.exitCode))
  }

  static func lines(_ check: AssetServiceCheck, unicode: Bool) -> [String] {
    var lines = [displayText("\(check.service): \(check.address)")]
    guard let error = check.error else { return lines + ["  \(unicode ? "✓" : "ok ") it answers and takes the log-in"] }
    lines.append("  \(unicode ? "✗" : "BAD") \(displayText(error.message)) (\(error.kind.rawValue))")
    lines.append("  \(displayText(error.hint))")
    return lines
  }

  static func exitCode(_ check: AssetServiceCheck) -> ExitCode {
    switch check.error?.kind {
    case nil: .done
    case .misconfigured: .usage
    case .network, .timeout: .tryAgainLater
    default: .failed
    }
  }
}
