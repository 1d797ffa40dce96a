import NASSync

/// `asset run [NUMBER…]`: sends what is recorded and has the service finish it.
struct AssetRunCommand: Sendable {
  let numbers: [Int64]

  private struct Document: Encodable, Sendable {
    let ready: [AssetDocument]
    let waiting: [AssetDocument]
    let failed: [AssetDocument]
    let interrupted: Bool
  }

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let console = context.console
    let client = try await context.client()
    let signals = context.signals.listen()
    let numbers = numbers
    let work = Task { () -> Result<AssetReport, CommandFailure> in
      do throws(CommandFailure) {
        return .success(
          try await asking { () async throws(SyncFailure) in
            try await client.sendAssets(numbers) { asset in
              if asset.state == .pending { await console.note("sending \(AssetText.title(asset))") }
            } settled: { asset in
              if asset.state == .ready {
                await console.say(["ready: \(AssetText.title(asset)), evidence \(asset.evidence.rawValue)"])
              } else {
                await console.complain(AssetText.trouble(asset))
              }
            }
          })
      } catch { return .failure(error) }
    }
    let stopping = Task { () -> StopSignal? in
      for await signal in signals {
        await console.note("\(signal.name): what the stores have confirmed is on record; once more ends at once")
        work.cancel()
        return signal
      }
      return nil
    }
    let outcome = await work.value
    context.signals.ignoreNoMore()
    let stopped = await stopping.value
    await client.close()
    switch outcome {
    case .failure(let failure): throw failure
    case .success(let report):
      if report.interrupted {
        await console.note("\(stopped?.name ?? "A signal") ended it; `nassync asset run` goes on where it was.")
      } else if report.ready.isEmpty, report.waiting.isEmpty, report.failed.isEmpty {
        await console.say(["Nothing was to be sent."])
      }
      await console.document(
        Document(
          ready: report.ready.map(AssetDocument.init), waiting: report.waiting.map(AssetDocument.init),
          failed: report.failed.map(AssetDocument.init), interrupted: report.interrupted))
      return Self.exitCode(report)
    }
  }

  static func exitCode(_ report: AssetReport) -> ExitCode {
    if !report.failed.isEmpty { return .failed }
    return report.waiting.isEmpty && !report.interrupted ? .done : .tryAgainLater
  }
}
