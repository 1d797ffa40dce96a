import Configuration
import Intake
import JobQueue
import SyncModel

/// Watching for finished runs, beside the workers and the rounds of care: an audit of a large run takes hours, and a finished run does not
/// wait for it.
extension NASSyncClient {
  /// Rounds until the service stops. One round's failure is told and ends nothing.
  func watchForRuns(_ environment: RunnerEnvironment) async {
    let watcher = RunWatcher(queue: environment.queue, clock: clock, events: hub, readers: readers) {
      [weak self] (path, equipment) async throws(SyncFailure) in
      guard let self else { throw SyncFailure(.interrupted, "the service stops", hint: "It goes on at the next start.") }
      return try await self.enqueue(path, equipment: equipment)
    }
    self.watcher = watcher
    var told: SyncFailure?
    while !environment.stop.isSet, !Task.isCancelled {
      var pause: UInt64 = 1_000_000_000
      do throws(SyncFailure) {
        pause = try await watcher.round(configuration, stop: environment.stop)
        told = nil
      } catch {
        if told != error { hub.send(.warning(runPath: nil, message: "\(error)")) }
        told = error
      }
      do throws(CancellationError) { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds &+ pause) } catch { break }
    }
    self.watcher = nil
    await watcher.stop()
  }
}
