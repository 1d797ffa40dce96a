import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// Whose turn it is to be audited, and what is remembered of faults and time.
@Suite struct AuditQueueTests {
  @discardableResult
  private func published(_ fixture: QueueFixture, _ run: String) async throws -> JobRow {
    let job = try await fixture.awaiting(run)
    var change = QueueFixture.released()
    change.pass = VerificationPass(reading: fixture.clock.reading, source: .publish, evidence: .server, files: 1, ledgerLength: 0)
    change.verifiedAt = fixture.clock.wallSeconds
    return try await fixture.queue.transition(
      job, on: .proven, worker: "w", change: change, proofs: try await fixture.proofs(of: job), detail: "proven")
  }

  private func next(_ fixture: QueueFixture, before: Double? = nil) async throws -> String? {
    try await fixture.queue.nextAudit(
      equipment: "EQ", destination: "sftp://nas", auditedBefore: before ?? fixture.clock.wallSeconds - 100)?.runPath
  }

  @Test func theOldestComesFirstAndOnlyOfTheNewestGeneration() async throws {
    try await QueueFixture.with { fixture in
      let first = try await published(fixture, "/lab/a")
      fixture.clock.advance(seconds: 10)
      try await published(fixture, "/lab/b")
      #expect(try await next(fixture) == nil)
      fixture.clock.advance(seconds: 200)
      #expect(try await next(fixture) == "/lab/a")
      #expect(
        try await fixture.queue.auditBacklog(equipment: "EQ", destination: "sftp://nas", auditedBefore: fixture.clock.wallSeconds).count
          == 2)
      // A new generation on its way: the older one is not looked at, and is not even in the index.
      let second = try await fixture.register("/lab/a")
      #expect(try await next(fixture) == "/lab/b")
      #expect(try await fixture.queue.job(number: first.number).auditedAt == nil)
      #expect(second.repairs == false)
      // What was found out about the older one meanwhile counts for nothing.
      let pass = VerificationPass(reading: fixture.clock.reading, source: .audit, evidence: .server, files: 1, ledgerLength: 0)
      await expectFailure(.local) { _ = try await fixture.queue.recordPass(first, pass, spacing: 1) }
      await expectFailure(.local) { try await fixture.queue.transition(first, on: .remoteCorrupted, worker: nil, detail: "x") }
    }
  }

  @Test func whatCouldNotBeAuditedLetsOthersGoFirst() async throws {
    try await QueueFixture.with { fixture in
      let first = try await published(fixture, "/lab/a")
      fixture.clock.advance(seconds: 1)
      try await published(fixture, "/lab/b")
      fixture.clock.advance(seconds: 200)
      #expect(try await fixture.queue.postponeAudit(first, auditedAt: fixture.clock.wallSeconds - 70, detail: "why"))
      #expect(try await next(fixture) == "/lab/b")
      #expect(try await fixture.queue.auditsNotMade()[first.number]?.detail == "why")
      // Whoever saw an older state changes nothing.
      #expect(try await !fixture.queue.postponeAudit(first, auditedAt: 0, detail: "late"))
      // A clock that was set back does not put a run off for years.
      fixture.clock.setWall(fixture.clock.wallSeconds - 10_000)
      #expect(try await next(fixture) != nil)
    }
  }

  @Test func aFaultKeepsItsStartUntilTheCopyIsWhole() async throws {
    try await QueueFixture.with { fixture in
      var job = try await published(fixture, "/lab/a")
      job = try await fixture.queue.transition(job, on: .becameEligible, worker: nil, detail: "x")
      job = try await fixture.queue.transition(job, on: .removedLocally, worker: nil, detail: "x")
      let failure = SyncFailure(.remoteCorrupted, "it differs", hint: "Look.")
      #expect(try await fixture.queue.recordFault(ofCleaned: job, failure))
      let since = fixture.clock.wallSeconds
      fixture.clock.advance(seconds: 500)
      #expect(try await fixture.queue.recordFault(ofCleaned: job, failure))
      let fault = try #require(try await fixture.queue.faults()[job.number])
      #expect(fault.since == since && fault.lastAt == since + 500 && fault.detail == "it differs")
      #expect(try await fixture.queue.hasFault(runPath: "/lab/a"))
      job = try await fixture.queue.job(number: job.number)
      #expect(job.state == .cleaned && job.lastError?.kind == .remoteCorrupted)
      let pass = VerificationPass(reading: fixture.clock.reading, source: .audit, evidence: .server, files: 1, ledgerLength: 0)
      #expect(try await fixture.queue.recordPass(job, pass, spacing: 100).job.lastError == nil)
      #expect(try await fixture.queue.faults().isEmpty)
    }
  }

  @Test func timeIsCountedInAWindow() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.queue.recordAuditTime(5)
      fixture.clock.advance(seconds: 60)
      try await fixture.queue.recordAuditTime(7)
      #expect(try await fixture.queue.auditTime(inLast: 100) == 12)
      #expect(try await fixture.queue.auditTime(inLast: 30) == 7)
      fixture.clock.advance(seconds: 86_400)
      #expect(try await fixture.queue.auditTime(inLast: 86_400) == 0)
    }
  }
}
