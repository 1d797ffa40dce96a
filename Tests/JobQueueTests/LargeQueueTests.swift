import SQLite
import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// What is there so that nobody has to read a whole queue.
@Suite struct LargeQueueTests {
  private func counted(_ fixture: QueueFixture) throws -> [String: Int64] {
    let rows = try fixture.foreign().query(
      """
      SELECT state, count(*) FROM job WHERE generation = (SELECT max(generation) FROM job AS j WHERE j.run_path = job.run_path) GROUP BY state
      """
    ) { ($0.text(0), $0.integer(1)) }
    return Dictionary(uniqueKeysWithValues: rows)
  }

  private func expectCounts(_ fixture: QueueFixture) async throws {
    let counts = Dictionary(uniqueKeysWithValues: try await fixture.queue.counts().map { ($0.key.rawValue, Int64($0.value)) })
    #expect(try counted(fixture) == counts)
  }

  @Test func theNewestJobOfEachRunCounts() async throws {
    try await QueueFixture.with { fixture in
      try await expectCounts(fixture)
      let first = try await fixture.verified("/lab/mine", entries: [QueueFixture.file("mine.bin")])
      try await expectCounts(fixture)
      try fixture.fill(100)
      try await expectCounts(fixture)
      try await fixture.register("/lab/mine")
      try await expectCounts(fixture)
      #expect(try await fixture.queue.counts()[.verified] == nil, "a newer job stands for the run")
      // What becomes of the older job counts for nothing.
      try fixture.foreign().execute("UPDATE job SET state = 'failed' WHERE number = \(first.number)")
      try await expectCounts(fixture)
    }
  }

  @Test func anOlderFileIsCountedWhenItIsOpened() async throws {
    try await SealTests.withFile(ofSchema: 5) { state, old in
      try old.execute(
        """
        INSERT INTO job (id, run_path, equipment_id, relative_path, destination, remote_path, generation, state, created_at, updated_at)
          VALUES ('j', '/lab/a', 'EQ', x'72', 'sftp://nas', '/srv/a', 1, 'verified', 1, 1),
            ('k', '/lab/a', 'EQ', x'72', 'sftp://nas', '/srv/a', 2, 'queued', 1, 1),
            ('l', '/lab/b', 'EQ', x'73', 'sftp://nas', '/srv/b', 1, 'queued', 1, 1);
        """)
      let queue = try await SyncQueue.open(stateDirectory: state, clock: ManualClock())
      #expect(try await queue.counts() == [.queued: 2])
      try await queue.checkForDamage()
      await queue.close()
    }
  }

  @Test func whatMattersComesFirstInAPart() async throws {
    try await QueueFixture.with { fixture in
      for run in ["/lab/done1", "/lab/done2", "/lab/done3"] { try await fixture.verified(run) }
      let failing = try await fixture.running("/lab/failed")
      try await fixture.queue.transition(failing, on: .gaveUp, worker: "w", change: QueueFixture.released(), detail: "no")
      _ = try await fixture.running("/lab/running")
      try await fixture.register("/lab/waiting1")
      try await fixture.register("/lab/waiting2")
      func listed(_ limit: Int) async throws -> [String] {
        try await fixture.queue.jobsOfInterest(limit: limit).map { String($0.runPath.dropFirst(5)) }
      }
      #expect(try await listed(100) == ["running", "failed", "waiting1", "waiting2", "done3", "done2", "done1"])
      #expect(try await listed(5) == ["running", "failed", "waiting1", "waiting2", "done3"])
      #expect(try await listed(3) == ["running", "failed", "waiting1"])
      #expect(try await listed(1) == ["running"])
    }
  }

  @Test func newsAreOfTheNewestJobsAndSayWhereTheyStood() async throws {
    try await QueueFixture.with { fixture in
      let old = try await fixture.verified("/lab/old")
      let sequence = try await fixture.queue.lastSequence()
      #expect(try await fixture.queue.news(since: sequence).news.isEmpty)
      try await fixture.verified("/lab/new")
      try await fixture.queue.note(old, event: "warning", detail: "nothing")
      let (last, news) = try await fixture.queue.news(since: sequence)
      #expect(last > sequence)
      #expect(news.map(\.job.runPath) == ["/lab/old", "/lab/new"])
      #expect(news.map(\.former) == [nil, .queued] && news.map(\.job.state) == [.verified, .verified])
      try await fixture.register("/lab/old")
      #expect(try await fixture.queue.news(since: last).news.map(\.job.generation) == [2])
      let standings = try await fixture.queue.standings(ofRuns: ["/lab/old", "/lab/new", "/lab/none"])
      #expect(standings[Array("/lab/old".utf8)]?.state == .queued && standings.count == 2)
    }
  }

  @Test func whatGoesToADestinationThatIsOutIsPassedOver() async throws {
    try await QueueFixture.with { fixture in
      for number in 0..<3 { try await fixture.register("/lab/out\(number)", destination: "sftp://out", priority: 9) }
      try await fixture.register("/lab/low", destination: "sftp://nas", priority: -1)
      try await fixture.register("/lab/high", destination: "sftp://nas", priority: 1)
      #expect(try await fixture.queue.claimNext(worker: "w", excludingDestinations: ["sftp://out"])?.runPath == "/lab/high")
      #expect(try await fixture.queue.claimNext(worker: "w", excludingDestinations: ["sftp://out"])?.runPath == "/lab/low")
      #expect(try await fixture.queue.claimNext(worker: "w", excludingDestinations: ["sftp://out"]) == nil)
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/out0")
    }
  }

  /// A job of a high priority that waits for its time does not hold up the others.
  @Test func aPriorityThatIsNotDueIsPassedOver() async throws {
    try await QueueFixture.with { fixture in
      for priority in 1...4 { try await fixture.register("/lab/p\(priority)", priority: priority) }
      try fixture.foreign().execute("UPDATE job SET next_attempt_at = 1000050 WHERE priority IN (4, 3)")
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/p2")
      fixture.clock.advance(seconds: 60)
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/p4")
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/p3")
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/p1")
    }
  }

  @Test func passesThatLieTooCloseDoNotRipen() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.verified("/lab/a")
      for hours in [0.0, 30] {
        if hours > 0 { fixture.clock.advance(seconds: hours * 3600) }
        let pass = VerificationPass(reading: fixture.clock.reading, source: .audit, evidence: .server, files: 1, ledgerLength: 0)
        _ = try await fixture.queue.recordPass(try await fixture.queue.job(number: job.number), pass, spacing: 1)
      }
      func ripe(_ passes: Int, _ hours: Double) async throws -> Int {
        try await fixture.queue.ripeningJobs(after: 0, minimumPasses: passes, before: fixture.clock.wallSeconds - hours * 3600).count
      }
      #expect(try await ripe(2, 0) == 1)
      #expect(try await ripe(2, 1) == 0, "the second is as young as that")
      for (passes, hours, count) in [(1, 1.0, 1), (1, 31, 0), (3, 0, 0)] { #expect(try await ripe(passes, hours) == count) }
      #expect(try await fixture.queue.ripeningJobs(after: job.number, minimumPasses: 1, before: 9e9).isEmpty)
    }
  }
}
