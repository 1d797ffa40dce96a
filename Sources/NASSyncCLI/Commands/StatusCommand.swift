import NASSync

/// `status [RUN] [--watch] [--all | --limit N]`: the queue, or where one run stands.
struct StatusCommand: Sendable {
  /// Runs that are listed for a person who says nothing else: what a terminal scrolls through, and what is found at once.
  static let usualLimit = 1000

  let run: String?
  let watch: Bool
  /// Nil where nothing was said.
  let limit: Int?

  /// What there is to show.
  private struct Answer: Equatable {
    let runs: [RunStatus]
    /// How many runs there are; nil where one was asked for.
    var overview: QueueOverview?
  }

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    try await context.withClient { (client) async throws(CommandFailure) in
      let answer = watch ? try await keepShowing(client, context) : try await look(client, context)
      if !watch { await context.console.show(lines(answer, context.console.names, width: context.console.output.width)) }
      if run != nil, let only = answer.runs.first {
        await context.console.document(only)
      } else {
        await context.console.document(answer.runs)
        if context.options.json, let overview = answer.overview {
          for line in StatusText.rest(overview) { await context.console.note(line) }
        }
      }
      return .done
    }
  }

  private func look(_ client: NASSyncClient, _ context: CommandContext) async throws(CommandFailure) -> Answer {
    // Who reads a document is told all: nothing in it would say that there is more.
    let limit = limit ?? (context.options.json ? .max : Self.usualLimit)
    return try await asking { () async throws(SyncFailure) in
      if let run { return Answer(runs: [try await client.status(of: run)]) }
      let overview = try await client.overview(limit: limit)
      return Answer(runs: overview.runs, overview: overview)
    }
  }

  private func lines(_ answer: Answer, _ names: RunNames, width: Int?) -> [String] {
    if run != nil, let only = answer.runs.first { return StatusText.details(only) }
    return StatusText.table(answer.runs, names: names, width: width) + (answer.overview.map(StatusText.rest) ?? [])
  }

  /// Shows the state as it changes until interrupted, or until nobody reads any more. With `--json` the changes go nowhere and the last
  /// state is the document.
  private func keepShowing(_ client: NASSyncClient, _ context: CommandContext) async throws(CommandFailure) -> Answer {
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
    var shown: Answer?
    for await _ in ticks {
      let answer = try await look(client, context)
      if onScreen {
        await console.redraw { terminal in lines(answer, console.names, width: terminal.width.map { $0 - 1 }) }
      } else if answer != shown {
        if shown != nil { await console.show([""]) }
        await console.show(lines(answer, console.names, width: nil))
      }
      shown = answer
      if await console.readerIsGone { break }
    }
    stopping.cancel()
    return shown ?? Answer(runs: [])
  }
}
