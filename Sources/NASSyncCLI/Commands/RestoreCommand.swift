import NASSync

/// `restore RUN DEST`: a run from the NAS, proven against its manifest.
struct RestoreCommand: Sendable {
  let run: String
  let destination: String
  let equipment: String?
  /// More faults than this are counted only: `--json` has them all.
  static let limit = 100

  func run(in context: CommandContext) async throws(CommandFailure) -> ExitCode {
    let console = context.console
    let client = try await context.client()
    let (run, destination, equipment) = (run, destination, equipment)
    let (progress, feed) = AsyncStream<RestoreProgress>.makeStream(bufferingPolicy: .bufferingNewest(1))
    let working = Task { () -> Result<RestoreReport, SyncFailure> in
      do throws(SyncFailure) {
        return .success(try await client.restore(run, to: destination, equipment: equipment) { feed.yield($0) })
      } catch { return .failure(error) }
    }
    let showing = Task { await Self.show(progress, console) }
    let signals = context.signals.listen()
    let stopping = Task { () -> StopSignal? in
      for await signal in signals {
        await console.note("\(signal.name): stopping; the same command goes on where it was")
        working.cancel()
        return signal
      }
      return nil
    }
    let clock = SystemClock()
    let start = clock.monotonicNanoseconds
    let outcome = await working.value
    feed.finish()
    await showing.value
    context.signals.ignoreNoMore()
    let stopped = await stopping.value
    await client.close()

    switch outcome {
    case .success(let report):
      let lines = Self.lines(report, console.names, seconds: Double(clock.monotonicNanoseconds &- start) / 1e9)
      if report.ok { await console.say(lines) } else { await console.show(lines) }
      await console.document(report)
      return Self.exitCode(report)
    case .failure(let failure):
      if let stopped {
        throw CommandFailure(
          exit: .tryAgainLater, kind: SyncFailure.Kind.interrupted.rawValue, message: "\(stopped.name) ended the restore", retry: true,
          hint: "The same command goes on where it was.")
      }
      guard Self.isForLater(failure) else { throw CommandFailure(failure) }
      throw CommandFailure(
        exit: .tryAgainLater, kind: failure.kind.rawValue, message: failure.message, retry: true,
        hint: "Give the same command again once the NAS answers: it goes on where it was.")
    }
  }

  private static func isForLater(_ failure: SyncFailure) -> Bool {
    switch failure.kind {
    case .network, .timeout, .interrupted: true
    default: false
    }
  }

  private static func show(_ progress: AsyncStream<RestoreProgress>, _ console: Console) async {
    guard console.draws else { return }
    let clock = SystemClock()
    var meter = RateMeter()
    var drawnAt: UInt64 = 0
    for await step in progress {
      let now = clock.monotonicNanoseconds
      meter.record(step.bytesDone, at: now)
      guard now &- drawnAt >= 100_000_000 else { continue }
      drawnAt = now
      let reading = ProgressBar.Reading(
        bytesDone: step.bytesDone, bytesTotal: step.bytesTotal, filesDone: step.filesDone, filesTotal: step.filesTotal, rate: meter.rate,
        current: step.current)
      await console.draw { terminal in ProgressBar(width: terminal.width ?? 80, unicode: terminal.unicode).line(reading) }
    }
    await console.clearTransient()
  }

  static func exitCode(_ report: RestoreReport) -> ExitCode {
    if report.ok { return .done }
    return report.hasDamage ? .mismatch : .failed
  }

  static func lines(_ report: RestoreReport, _ names: RunNames, seconds: Double) -> [String] {
    let proven = report.filesRestored + report.filesKept
    let amount = "\(Quantities.count(proven, "file")), \(Quantities.bytes(report.bytes))"
    let kept = report.filesKept > 0 ? ", \(Quantities.grouped(report.filesKept)) of them were there" : ""
    let place = displayText(report.destination)
    var lines: [String]
    if report.ok {
      lines = ["restored and proven: \(place) (\(amount)\(kept), \(Quantities.duration(seconds)))"]
    } else {
      lines = ["NOT WHOLE: \(place) (\(amount) of \(Quantities.count(report.filesTotal, "file")) proven\(kept))"]
      lines.append("  on the NAS: \(displayText(report.remotePath))")
      for fault in report.faults.prefix(limit) { lines.append("  \(displayText(fault.path)): \(displayText(fault.detail))") }
      if report.faults.count > limit { lines.append("  … and \(report.faults.count - limit) more; `--json` lists all") }
      if report.hasDamage {
        lines.append("  Next: bring these back on the NAS from its snapshots, then give the same command again: it adds what is missing.")
      }
    }
    if report.anchor == .manifest {
      lines.append("  There is no receipt on the NAS: only the manifest itself says which files the run has.")
    }
    if !report.foreign.isEmpty {
      lines.append(
        "  Left on the NAS, because the manifest does not list them: "
          + report.foreign.prefix(5).map(displayText).joined(separator: ", ")
          + (report.foreign.count > 5 ? " and \(report.foreign.count - 5) more" : ""))
    }
    return lines
  }
}
