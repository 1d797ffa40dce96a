import JobQueue
import SyncModel
import TestSupport
import Testing

@Suite struct ClaimTests {
  @Test func aClaimIsATransitionWithItsHistory() async throws {
    try await QueueFixture.with { fixture in
      let row = try await fixture.register("/lab/run")
      let claimed = try #require(try await fixture.queue.claimNext(worker: "w1"))
      #expect(claimed.number == row.number && claimed.state == .running && claimed.claimedBy == "w1")
      #expect(try await fixture.queue.claimNext(worker: "w2") == nil)
      let last = try #require(try await fixture.queue.history(ofRun: "/lab/run").last)
      #expect(last.event == "claimed" && last.from == .queued && last.to == .running)
    }
  }

  @Test func anIdleWorkerWritesNothing() async throws {
    try await QueueFixture.with { fixture in
      let before = try fixture.foreign().first("PRAGMA data_version") { $0.integer(0) }
      let watcher = try fixture.foreign()
      let first = try watcher.first("PRAGMA data_version") { $0.integer(0) }
      for _ in 0..<10 { #expect(try await fixture.queue.claimNext(worker: "w") == nil) }
      #expect(try watcher.first("PRAGMA data_version") { $0.integer(0) } == first)
      #expect(before != nil)
    }
  }

  @Test func priorityThenOrderOfArrival() async throws {
    try await QueueFixture.with { fixture in
      for (run, priority) in [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", Int.max), ("f", Int.min), ("g", 0)] {
        try await fixture.register("/lab/\(run)", priority: priority)
      }
      var order: [String] = []
      while let job = try await fixture.queue.claimNext(worker: "w") { order.append(String(job.runPath.suffix(1))) }
      #expect(order == ["e", "b", "d", "a", "g", "c", "f"])
    }
  }

  @Test func theLowestPriorityOfTwoInstrumentsIsNoTrap() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.register("/lab/a", equipment: "A", priority: Int.min)
      try await fixture.register("/lab/b", equipment: "B", priority: Int.max)
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/b")
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/a")
    }
  }

  @Test func instrumentsTakeTurns() async throws {
    try await QueueFixture.with { fixture in
      for number in 0..<6 { try await fixture.register("/lab/big\(number)", equipment: "BIG", priority: 9) }
      try await fixture.register("/lab/small0", equipment: "SMALL")
      try await fixture.register("/lab/small1", equipment: "SMALL")
      var inFlight: [String: Int] = [:]
      var order: [String] = []
      while let job = try await fixture.queue.claimNext(worker: "w", inFlight: inFlight) {
        inFlight[job.equipmentID, default: 0] += 1
        order.append(job.equipmentID)
      }
      #expect(order == ["BIG", "SMALL", "BIG", "SMALL", "BIG", "BIG", "BIG", "BIG"])
    }
  }

  /// A time that was reckoned while the clock was years ahead must not strand the job once the clock is right.
  @Test func aTimeFromAClockThatWasSetBackIsForgotten() async throws {
    try await QueueFixture.with { fixture in
      for (run, wait) in [("/lab/soon", 60.0), ("/lab/late", 20 * 86_400)] {
        let job = try await fixture.running(run)
        var change = QueueFixture.released()
        change.nextAttemptAt = .some(1_000_000 + wait)
        try await fixture.queue.transition(job, on: .interrupted, worker: "w", change: change, detail: "no route")
      }
      let failure = SyncFailure(.network, "no route", hint: "Wait.")
      try await fixture.queue.recordOutage("sftp://nas", failure: failure, nextAttemptAt: 5_000_000)
      try await fixture.queue.recordOutage("sftp://other", failure: failure, nextAttemptAt: 1_000_060)
      #expect(try await fixture.queue.forgetTimes(beyond: 7260) == 2)
      #expect(try await fixture.queue.forgetTimes(beyond: 7260) == 0)
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/late")
      #expect(try await fixture.queue.claimNext(worker: "w") == nil)
      #expect(try await fixture.queue.outages().map(\.nextAttemptAt) == [1_000_000, 1_000_060])
    }
  }

  @Test func aJobIsNotDueBeforeItsTime() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running()
      var change = QueueFixture.released()
      change.attempts = 1
      change.nextAttemptAt = .some(1_000_030)
      change.lastError = .some(SyncFailure(.network, "no route", hint: "Wait."))
      try await fixture.queue.transition(job, on: .interrupted, worker: "w", change: change, detail: "no route")
      #expect(try await fixture.queue.claimNext(worker: "w") == nil)
      #expect(try await fixture.queue.backlog() == (1, 0, 1_000_030))
      fixture.clock.advance(seconds: 29.9)
      #expect(try await fixture.queue.claimNext(worker: "w") == nil)
      fixture.clock.advance(seconds: 0.2)
      #expect(try await fixture.queue.backlog() == (1, 1, nil))
      let again = try #require(try await fixture.queue.claimNext(worker: "w"))
      #expect(again.attempts == 1 && again.nextAttemptAt == nil && again.lastError?.kind == .network && again.lastError?.retry == true)
      #expect(try await fixture.queue.history(ofRun: "/lab/run").last?.detail == "attempt 2")
    }
  }

  @Test func aRetriedJobAndAFreshOneKeepTheirOrder() async throws {
    try await QueueFixture.with { fixture in
      var change = QueueFixture.released()
      change.nextAttemptAt = .some(1_000_010)
      for (run, priority) in [("low", 1), ("high", 3)] {
        try await fixture.register("/lab/\(run)", priority: priority)
        let job = try #require(try await fixture.queue.claimNext(worker: "w"))
        try await fixture.queue.transition(job, on: .interrupted, worker: "w", change: change, detail: "later")
      }
      for (run, priority) in [("middle", 2), ("even", 1)] { try await fixture.register("/lab/\(run)", priority: priority) }
      fixture.clock.advance(seconds: 10)
      var order: [String] = []
      while let job = try await fixture.queue.claimNext(worker: "w") { order.append(job.runPath) }
      #expect(order == ["/lab/high", "/lab/middle", "/lab/low", "/lab/even"])
    }
  }

  @Test func theBacklogCountsWhatIsActive() async throws {
    try await QueueFixture.with { fixture in
      #expect(try await fixture.queue.backlog() == (0, 0, nil))
      try await fixture.verified("/lab/done")
      #expect(try await fixture.queue.backlog() == (0, 0, nil))
      let job = try await fixture.running("/lab/flying")
      #expect(try await fixture.queue.backlog() == (1, 1, nil))
      for (number, at) in [1_000_500.0, 1_000_200.0].enumerated() {
        try await fixture.register("/lab/later\(number)")
        let later = try #require(try await fixture.queue.claimNext(worker: "w"))
        var change = QueueFixture.released()
        change.nextAttemptAt = .some(at)
        try await fixture.queue.transition(later, on: .interrupted, worker: "w", change: change, detail: "later")
      }
      #expect(try await fixture.queue.backlog() == (3, 1, nil))
      try await fixture.queue.transition(job, on: .gaveUp, worker: "w", change: QueueFixture.released(), detail: "no")
      #expect(try await fixture.queue.backlog() == (2, 0, 1_000_200))
    }
  }

  @Test func jobsOfAnExcludedDestinationHideNoOthers() async throws {
    try await QueueFixture.with { fixture in
      for number in 0..<40 { try await fixture.register("/lab/dead\(number)", destination: "sftp://dead", priority: 1) }
      try await fixture.register("/lab/live", destination: "sftp://live")
      let job = try await fixture.queue.claimNext(worker: "w", excludingDestinations: ["sftp://dead"])
      #expect(job?.runPath == "/lab/live")
      #expect(try await fixture.queue.claimNext(worker: "w", excludingDestinations: ["sftp://dead", "sftp://live"]) == nil)
      #expect(try await fixture.queue.claimNext(worker: "w")?.destination == "sftp://dead")
    }
  }

  @Test func whatWaitsToBeVerifiedIsClaimedAndKeepsItsState() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.awaiting()
      #expect(try await fixture.queue.claimNext(worker: "other") == nil)
      let failure = SyncFailure(.timeout, "no answer", hint: "Wait.")
      try await fixture.queue.postponeVerification(job, worker: "w", failure: failure, attempts: 1, nextAttemptAt: 1_000_060)
      #expect(try await fixture.queue.claimNext(worker: "other") == nil)
      fixture.clock.advance(seconds: 61)
      let claimed = try #require(try await fixture.queue.claimNext(worker: "other"))
      #expect(claimed.state == .awaitingVerify && claimed.claimedBy == "other" && claimed.attempts == 1)
      #expect(claimed.lastError == failure)
      await expectFailure(.local, saying: "no longer") {
        try await fixture.queue.postponeVerification(job, worker: "w", failure: nil, attempts: 2, nextAttemptAt: nil)
      }
      #expect(try await fixture.queue.job(number: job.number) == claimed)
      try await fixture.queue.postponeVerification(claimed, worker: "other", failure: nil, attempts: 1, nextAttemptAt: nil)
      #expect(try await fixture.queue.job(number: job.number).lastError == failure)
    }
  }
}
