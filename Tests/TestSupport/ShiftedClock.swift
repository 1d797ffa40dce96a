import Synchronization
import SyncModel

/// The machine's clocks, moved at will: time passes by itself, and a test lets it leap, sets the clock on the wall, or starts the machine anew.
package final class ShiftedClock: SyncClock {
  private struct State {
    /// Seconds that passed in a leap, for every clock.
    var passed = 0.0
    /// Seconds by which the clock on the wall was set besides.
    var set = 0.0
    /// Seconds of `passed` and the machine's own time before the last start.
    var startedAt: Double
    var boot = 1
  }

  private let real = SystemClock()
  private let state: Mutex<State>

  package init() { state = Mutex(State(startedAt: Double(SystemClock().monotonicNanoseconds) / 1e9 - 3600)) }

  /// So many seconds go by at once.
  package func advance(seconds: Double) { state.withLock { $0.passed += seconds } }

  /// Somebody sets the clock on the wall forward, or back.
  package func set(by seconds: Double) { state.withLock { $0.set += seconds } }

  /// Somebody sets the clock on the wall to a moment, seconds since 1970.
  package func setWall(_ seconds: Double) {
    let now = wallSeconds
    set(by: seconds - now)
  }

  /// The clock on the wall is right again.
  package func setRight() { state.withLock { $0.set = 0 } }

  /// The machine was off for so long and has been running for a minute.
  package func restart(after seconds: Double) {
    state.withLock { state in
      state.passed += seconds + 60
      state.boot += 1
      state.startedAt = Double(real.monotonicNanoseconds) / 1e9 + state.passed - 60
    }
  }

  package var wallSeconds: Double { state.withLock { real.wallSeconds + $0.passed + $0.set } }

  package var monotonicNanoseconds: UInt64 { state.withLock { real.monotonicNanoseconds + UInt64($0.passed * 1e9) } }

  package var reading: ClockReading {
    state.withLock { state in
      let now = Double(real.monotonicNanoseconds) / 1e9 + state.passed
      return ClockReading(wall: real.wallSeconds + state.passed + state.set, boot: "start-\(state.boot)", uptime: now - state.startedAt)
    }
  }

  /// Sleeps in short pieces, so that a leap wakes whoever sleeps.
  package func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError) {
    while monotonicNanoseconds < deadline {
      let piece = min(real.monotonicNanoseconds + 5_000_000, real.monotonicNanoseconds + (deadline - min(deadline, monotonicNanoseconds)))
      try await real.sleep(untilMonotonic: piece)
    }
    if Task.isCancelled { throw CancellationError() }
  }
}
