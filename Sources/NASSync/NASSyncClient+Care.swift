import SyncModel

/// What a service does beside its jobs. Watching, audits and removals take as long as they take, and have rounds of their own.
extension NASSyncClient {
  /// Seconds between two looks for what is due. What is due is decided by times in the queue, not by this.
  static let careInterval: Double = 1
  /// Seconds between two notes that the machine is running: what a restart may cost of witnessed time.
  private static let witnessInterval: Double = 60

  /// Notes the clocks until the service stops, so that time across restarts of the machine has a witness.
  func witnessTime(_ environment: RunnerEnvironment) async {
    var told: SyncFailure?
    while !environment.stop.isSet, !Task.isCancelled {
      do throws(SyncFailure) {
        try await environment.queue.sampleClock()
        told = nil
      } catch {
        if told != error { hub.send(.warning(runPath: nil, message: "\(error)")) }
        told = error
      }
      let next = clock.monotonicNanoseconds + UInt64(Self.witnessInterval * 1e9)
      do throws(CancellationError) { try await clock.sleep(untilMonotonic: next) } catch { return }
    }
  }

  /// One round of what a service does: every audit that is due, then every removal. For tests that move the clock themselves.
  package func careRound() async throws(SyncFailure) {
    let environment = try await environment()
    try await environment.queue.sampleClock()
    await auditDueRuns(environment)
    try await reapEligibleRuns(environment)
  }
}
