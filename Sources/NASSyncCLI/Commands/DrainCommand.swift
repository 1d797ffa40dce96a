import NASSync

/// `drain`: sends, proves and publishes what is queued until nothing is due.
struct DrainCommand: Sendable {
  private struct Document: Encodable, Sendable {
    let done: [RunStatus]
    let failed: [RunStatus]
    let blocked: [RunStatus]
    let waiting: [RunStatus]
    let elsewhere: Bool
    let failedBefore: Int
    let interrupted: Bool
  }

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let console = context.console
    let client = try await context.client()
    let signals = context.signals.listen()
    let closing = Task { () -> StopSignal? in
      for await signal in signals {
        await console.note("\(signal.name): the progress is being saved; once more ends at once")
        await client.close()
        return signal
      }
      return nil
    }
    let outcome = await work(client, console)
    context.signals.ignoreNoMore()
    let stopped = await closing.value

    switch outcome {
    case .success(let report):
      await show(report, console)
      await console.document(
        Document(
          done: report.done, failed: report.failed, blocked: report.blocked, waiting: report.waiting, elsewhere: report.elsewhere,
          failedBefore: report.failedBefore, interrupted: stopped != nil))
      return stopped == nil ? Self.exitCode(report) : .tryAgainLater
    case .failure(let failure):
      guard let stopped else { throw failure }
      throw CommandFailure(
        exit: .tryAgainLater, kind: SyncFailure.Kind.interrupted.rawValue, message: "\(stopped.name) ended the drain", retry: true,
        hint: "`nassync drain` goes on where it was.")
    }
  }

  /// Drains, with everything that happens shown; the client is closed in the end.
  private func work(_ client: NASSyncClient, _ console: Console) async -> Result<DrainReport, CommandFailure> {
    let events = client.events
    let outcome: Result<DrainReport, CommandFailure>
    do throws(CommandFailure) {
      let runs = try await asking { () async throws(SyncFailure) in try await client.statuses() }
      let showing = Task {
        var display = ProgressDisplay(console: console, runs: runs)
        await display.follow(events)
      }
      do throws(CommandFailure) {
        outcome = .success(try await asking { () async throws(SyncFailure) in try await client.drain() })
      } catch { outcome = .failure(error) }
      // The events end with the client.
      await client.close()
      await showing.value
    } catch {
      outcome = .failure(error)
      await client.close()
    }
    return outcome
  }

  private func show(_ report: DrainReport, _ console: Console) async {
    if report.elsewhere { await console.note("Another process is the worker of this queue; this one watched.") }
    for run in report.failed + report.blocked + report.waiting { await console.complain(StatusText.trouble(run, console.names)) }
    await console.say(Self.summary(report))
  }

  static func summary(_ report: DrainReport) -> [String] {
    let bytes = report.done.reduce(UInt64(0)) { $0 &+ $1.bytesTotal }
    var parts: [String] = []
    if !report.done.isEmpty {
      parts.append("\(Quantities.count(report.done.count, "run")) verified and published (\(Quantities.bytes(bytes)))")
    }
    if !report.failed.isEmpty { parts.append("\(report.failed.count) failed") }
    if !report.blocked.isEmpty { parts.append("\(report.blocked.count) blocked by the gate") }
    if !report.waiting.isEmpty { parts.append("\(report.waiting.count) waiting for a later try") }
    var lines = [parts.isEmpty ? "Nothing was due." : parts.joined(separator: ", ") + "."]
    if report.failedBefore > 0 {
      lines.append(
        "\(Quantities.count(report.failedBefore, "run")) failed earlier and waits for a person: `nassync problems` says for what.")
    }
    return lines
  }

  static func exitCode(_ report: DrainReport) -> ExitCode {
    if !report.failed.isEmpty { return .failed }
    if !report.blocked.isEmpty { return .blocked }
    return report.waiting.isEmpty ? .done : .tryAgainLater
  }
}
