import NASSync

/// `status [RUN] [--watch]`: the queue, or where one run stands.
struct StatusCommand: Sendable {
  let run: String?
  let watch: Bool

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    try await context.withClient { (client) async throws(CommandFailure) in
      let answer = watch ? try await keepShowing(client, context) : try await look(client)
      if !watch { await context.console.show(lines(answer, context.console.names, width: context.console.output.width)) }
      if run != nil, let only = answer.first { await context.console.document(only) } else { await context.console.document(answer) }
      return .done
    }
  }

  private func look(_ client: NASSyncClient) async throws(CommandFailure) -> [RunStatus] {
    try await asking { () async throws(SyncFailure) in
      if let run { [try await client.status(of: run)] } else { try await client.statuses() }
    }
  }

  private func lines(_ runs: [RunStatus], _ names: RunNames, width: Int?) -> [String] {
    if run != nil, let only = runs.first { StatusText.details(only) } else { StatusText.table(runs, names: names, width: width) }
  }

  /// Shows the state as it changes until interrupted, or until nobody reads any more. With `--json` the changes go nowhere and the last
  /// state is the document.
  private func keepShowing(_ client: NASSyncClient, _ context: CommandContext) async throws(CommandFailure) -> [RunStatus] {
    let console = context.console
    let signals = context.signals.listen()
    let clock = SystemClock()
    let (ticks, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    let ticking = Task {
      while true {
        continuation.yield()
        do throws(CancellationError) {
          try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds &+ 1_000_000_000)
        } catch { return }
      }
    }
    let stopping = Task {
      for await _ in signals { break }
      continuation.finish()
    }
    defer {
      ticking.cancel()
      context.signals.ignoreNoMore()
    }
    let onScreen = console.redraws && !context.options.json
    if onScreen { await console.clearScreen() }
    var shown: [RunStatus]?
    for await _ in ticks {
      let runs = try await look(client)
      if onScreen {
        await console.redraw { terminal in lines(runs, console.names, width: terminal.width.map { $0 - 1 }) }
      } else if runs != shown {
        if shown != nil { await console.show([""]) }
        await console.show(lines(runs, console.names, width: nil))
      }
      shown = runs
      if await console.readerIsGone { break }
    }
    stopping.cancel()
    return shown ?? []
  }
}
