import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// Runs that the gate stopped, and destinations that do not answer.
@Suite struct ConditionTests {
  @Test func anOutageKeepsItsStartUntilTheDestinationAnswers() async throws {
    try await QueueFixture.with { fixture in
      let queue = fixture.queue
      #expect(try await queue.clearOutage("sftp://nas") == false)
      try await queue.recordOutage("sftp://nas", failure: SyncFailure(.network, "refused", hint: "Look."), nextAttemptAt: 1_000_030)
      fixture.clock.advance(seconds: 30)
      let timeout = SyncFailure(.timeout, "silent", hint: "Wait.")
      try await queue.recordOutage("sftp://nas", failure: timeout, nextAttemptAt: 1_000_150)
      try await queue.recordOutage("sftp://b", failure: timeout, nextAttemptAt: 1_000_060)
      #expect(
        try await queue.outages() == [
          Outage(destination: "sftp://nas", since: 1_000_000, nextAttemptAt: 1_000_150, failure: timeout),
          Outage(destination: "sftp://b", since: 1_000_030, nextAttemptAt: 1_000_060, failure: timeout),
        ])
      #expect(try await queue.clearOutage("sftp://nas"))
      #expect(try await queue.clearOutage("sftp://nas") == false)
      #expect(try await queue.outages().map(\.destination) == ["sftp://b"])
    }
  }

  @Test func aBlockedRunKeepsItsStartUntilItIsLetThrough() async throws {
    try await QueueFixture.with { fixture in
      let queue = fixture.queue
      try await queue.recordBlocked(runPath: "/lab/a", equipmentID: "EQ", findings: "[1]")
      fixture.clock.advance(seconds: 60)
      try await queue.recordBlocked(runPath: "/lab/a", equipmentID: "EQ2", findings: "[2]")
      try await queue.recordBlocked(runPath: "/lab/b", equipmentID: "EQ", findings: "[]")
      #expect(
        try await queue.blockedRuns() == [
          BlockedRun(runPath: "/lab/a", equipmentID: "EQ2", since: 1_000_000, findings: "[2]"),
          BlockedRun(runPath: "/lab/b", equipmentID: "EQ", since: 1_000_060, findings: "[]"),
        ])
      try await queue.clearBlocked(runPath: "/lab/nowhere")
      try await queue.clearBlocked(runPath: "/lab/b")
      #expect(try await queue.blockedRuns().map(\.runPath) == ["/lab/a"])
      try await fixture.register("/lab/a")
      #expect(try await queue.blockedRuns().isEmpty)
    }
  }
}
