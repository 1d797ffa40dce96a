import NASSync

/// Shows what happens on standard error: on a terminal a bar that stays at the bottom, with the changes of state above it; elsewhere a line
/// a change; nothing but trouble with `--quiet`.
struct ProgressDisplay: Sendable {
  private let console: Console
  private let clock = SystemClock()
  private var progress: DrainProgress
  private var meter = RateMeter()
  private var drawnAt: UInt64 = 0

  /// - Parameter runs: Where the runs stood at the beginning.
  init(console: Console, runs: [RunStatus]) {
    self.console = console
    progress = DrainProgress(runs)
  }

  /// Until the events end.
  mutating func follow(_ events: AsyncStream<SyncEvent>) async {
    for await event in events {
      progress.apply(event)
      switch EventText.weight(of: event) {
      case .progress: await draw(now: false)
      case .change:
        await console.note(EventText.line(event, console.names))
        await draw(now: true)
      case .trouble:
        await console.complain([EventText.line(event, console.names)])
        await draw(now: true)
      }
    }
    await console.clearTransient()
  }

  private mutating func draw(now urgent: Bool) async {
    guard console.draws, !progress.isEmpty else { return }
    let time = clock.monotonicNanoseconds
    meter.record(progress.bytesDone, at: time)
    guard urgent || time &- drawnAt >= 100_000_000 else { return }
    drawnAt = time
    let reading = progress.reading(rate: meter.rate)
    await console.draw { terminal in ProgressBar(width: terminal.width ?? 80, unicode: terminal.unicode).line(reading) }
  }
}
