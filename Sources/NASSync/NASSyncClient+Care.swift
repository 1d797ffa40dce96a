import SyncModel

/// What a service does beside its jobs: it looks for finished runs and removes local copies that are proven. Audits take as long as
/// their runs are large, and have rounds of their own.
extension NASSyncClient {
  /// Seconds between two rounds. What a round finds due is decided by times in the queue, not by this.
  static let careInterval: Double = 1

  /// Rounds of care until the service stops. One round's failure is told and ends nothing.
  func runCare(_ environment: RunnerEnvironment) async {
    var told: SyncFailure?
    var clockSampledAt: UInt64?
    while !environment.stop.isSet, !Task.isCancelled {
      do throws(SyncFailure) {
        let now = clock.monotonicNanoseconds
        if now - (clockSampledAt ?? 0) >= 60_000_000_000 || clockSampledAt == nil {
          try await environment.queue.sampleClock()
          clockSampledAt = now
        }
        try await lookForFinishedRuns(environment)
        try await reapEligibleRuns(environment)
        told = nil
      } catch {
        if told != error { hub.send(.warning(runPath: nil, message: "\(error)")) }
        told = error
      }
      let next = clock.monotonicNanoseconds + UInt64(Self.careInterval * 1e9)
      do throws(CancellationError) { try await clock.sleep(untilMonotonic: next) } catch { return }
    }
  }

  /// Enqueues runs that their instruments have finished.
  func lookForFinishedRuns(_ environment: RunnerEnvironment) async throws(SyncFailure) {}

  /// Marks runs whose passes and age are met as eligible and, where `cleanup.enabled`, removes their local copies.
  func reapEligibleRuns(_ environment: RunnerEnvironment) async throws(SyncFailure) {}
}
