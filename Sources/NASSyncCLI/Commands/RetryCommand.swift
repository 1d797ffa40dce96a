import NASSync

/// `retry RUN… | --all-failed`: FAILED runs back into the queue. Any other state is an error.
struct RetryCommand: Sendable {
  let selection: RunSelection

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    try await context.withClient { (client) async throws(CommandFailure) in
      switch selection {
      case .runs(let runs):
        return await RunBatch(runs: runs).run(context.console) { (run) async throws(CommandFailure) in
          try await asking { () async throws(SyncFailure) in try await client.retry(run) }
        } show: { status in
          await context.console.say([Self.line(status, context.console.names)])
          return .done
        }
      case .all:
        let moved = try await asking { () async throws(SyncFailure) in try await client.retryAllFailed() }
        await context.console.say(moved.isEmpty ? ["No run has failed."] : moved.map { Self.line($0, context.console.names) })
        await context.console.document(moved)
        return .done
      }
    }
  }

  private static func line(_ status: RunStatus, _ names: RunNames) -> String { "queued again: \(names.shown(status.runPath))" }
}
