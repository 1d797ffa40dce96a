import Synchronization
import SyncModel

/// A clock that stands still until a test moves it; who sleeps on it wakes when it is moved past the deadline, never otherwise.
package final class ManualClock: SyncClock {
  private struct Sleeper {
    let deadline: UInt64
    let continuation: CheckedContinuation<Bool, Never>
  }

  private struct Watcher {
    let count: Int
    let continuation: CheckedContinuation<Void, Never>
  }

  private struct State {
    var monotonic: UInt64
    var wall: Double
    var lastNumber: UInt64 = 0
    var sleepers: [UInt64: Sleeper] = [:]
    /// Cancelled before they slept.
    var cancelled: Set<UInt64> = []
    var watchers: [Watcher] = []
  }

  private let state: Mutex<State>

  /// - Parameters:
  ///   - wall: Seconds since 1970.
  ///   - monotonic: Nanoseconds.
  package init(wall: Double = 1_700_000_000, monotonic: UInt64 = 1_000_000_000) {
    state = Mutex(State(monotonic: monotonic, wall: wall))
  }

  package var wallSeconds: Double { state.withLock { $0.wall } }

  package var monotonicNanoseconds: UInt64 { state.withLock { $0.monotonic } }

  /// How many tasks sleep now.
  package var sleeping: Int { state.withLock { $0.sleepers.count } }

  /// The earliest moment at which somebody wakes, monotonic nanoseconds.
  package var nextDeadline: UInt64? { state.withLock { $0.sleepers.values.map(\.deadline).min() } }

  /// Moves both clocks and wakes whose deadline has come, the earliest first.
  package func advance(seconds: Double) { advance(nanoseconds: UInt64((seconds * 1e9).rounded())) }

  /// Moves both clocks and wakes whose deadline has come, the earliest first.
  package func advance(nanoseconds: UInt64) {
    let due = state.withLock { state in
      state.monotonic += nanoseconds
      state.wall += Double(nanoseconds) / 1e9
      let due = state.sleepers.filter { $0.value.deadline <= state.monotonic }.sorted { $0.value.deadline < $1.value.deadline }
      for sleeper in due { state.sleepers[sleeper.key] = nil }
      return due.map(\.value.continuation)
    }
    for continuation in due { continuation.resume(returning: true) }
  }

  /// Moves the clock on the wall alone, as somebody does who sets it.
  package func setWall(_ seconds: Double) { state.withLock { $0.wall = seconds } }

  /// Returns once so many tasks sleep at the same time.
  package func waitForSleepers(_ count: Int = 1) async {
    await withCheckedContinuation { continuation in
      let isThere = state.withLock { state in
        if state.sleepers.count >= count { return true }
        state.watchers.append(Watcher(count: count, continuation: continuation))
        return false
      }
      if isThere { continuation.resume() }
    }
  }

  package func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError) {
    let number = state.withLock { state in
      state.lastNumber += 1
      return state.lastNumber
    }
    let woke = await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
        var answer: Bool?
        var seen: [Watcher] = []
        state.withLock { state in
          if state.cancelled.remove(number) != nil {
            answer = false
          } else if deadline <= state.monotonic {
            answer = true
          } else {
            state.sleepers[number] = Sleeper(deadline: deadline, continuation: continuation)
            let count = state.sleepers.count
            seen = state.watchers.filter { $0.count <= count }
            state.watchers.removeAll { $0.count <= count }
          }
        }
        if let answer { continuation.resume(returning: answer) }
        for watcher in seen { watcher.continuation.resume() }
      }
    } onCancel: {
      let sleeper = state.withLock { state in
        let sleeper = state.sleepers.removeValue(forKey: number)
        if sleeper == nil { state.cancelled.insert(number) }
        return sleeper
      }
      sleeper?.continuation.resume(returning: false)
    }
    if !woke { throw CancellationError() }
  }
}
