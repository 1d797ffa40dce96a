import JobQueue
import SQLite
import SyncModel
import TestSupport
import Testing

@Suite struct TransitionTests {
  @Test func theWholeWayOfAJobIsInItsHistory() async throws {
    try await QueueFixture.with { fixture in
      var job = try await fixture.verified()
      #expect(job.state == .verified && job.claimedBy == nil)
      job = try await fixture.queue.transition(job, on: .becameEligible, worker: nil, detail: "2 passes")
      job = try await fixture.queue.transition(job, on: .removedLocally, worker: nil, detail: "1 file")
      #expect(job.state == .cleaned)
      let history = try await fixture.queue.history(ofRun: "/lab/run")
      #expect(history.map(\.event) == ["registered", "claimed", "sent", "proven", "became_eligible", "removed_locally"])
      #expect(history.map(\.to) == [.queued, .running, .awaitingVerify, .verified, .cleanupEligible, .cleaned])
      #expect(history.dropFirst().map(\.from) == history.dropLast().map(\.to))
      #expect(history.allSatisfy { $0.jobID == job.id && $0.at == 1_000_000 })
    }
  }

  @Test func whatATransitionCarriesIsStored() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.awaiting()
      let digest = QueueFixture.digest(QueueFixture.path("manifest"))
      var change = QueueFixture.released()
      change.attempts = 0
      let reading = ClockReading(wall: 1_000_000, boot: "b", uptime: 7)
      let pass = VerificationPass(reading: reading, source: .publish, evidence: .readback, files: 1, ledgerLength: 2)
      change.pass = pass
      change.verifiedAt = 1_000_000
      change.evidence = .readback
      change.manifestDigest = digest
      change.receiptDigest = digest
      change.lastError = .some(nil)
      let done = try await fixture.queue.transition(
        job, on: .proven, worker: "w", change: change, proofs: try await fixture.proofs(of: job), detail: "proven")
      #expect(done.verifyPasses == 1 && done.verifiedAt == 1_000_000 && done.evidence == .readback && done.lastError == nil)
      #expect(done.manifestDigest == digest && done.receiptDigest == digest)
      #expect(try await fixture.queue.passes(of: done) == [pass])
      #expect(try await fixture.queue.clockSamples() == [reading])
      #expect(try await fixture.queue.job(number: job.number) == done)
      let component = try #require(try await fixture.queue.components(of: job).first)
      #expect(component.state == .verified && component.evidence == .server && component.verifiedAt == 1_000_000)
    }
  }

  /// Every event on every state that the contract does not name: refused, nothing written.
  @Test func illegalTransitionsAreErrorsAndWriteNothing() async throws {
    try await QueueFixture.with { fixture in
      let jobs = try await oneOfEachState(fixture)
      #expect(Set(jobs.map(\.state)) == Set(JobState.allCases))
      let rows = try fixture.count("history")
      for job in jobs {
        for event in JobEvent.allCases {
          if (try? JobStateMachine.next(job.state, on: event)) != nil { continue }  // a legal pair is not this test's matter
          await expectFailure(.misconfigured, saying: job.state.rawValue) {
            try await fixture.queue.transition(job, on: event, worker: job.claimedBy, detail: "no")
          }
        }
        #expect(try await fixture.queue.job(number: job.number) == job)
      }
      #expect(try fixture.count("history") == rows)
    }
  }

  @Test func aStaleRowMovesNothing() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running()
      let sent = try await fixture.queue.transition(job, on: .sent, worker: "w", detail: "sent")
      let rows = try fixture.count("history")
      let proofs = try await fixture.proofs(of: job)
      await expectFailure(.local, saying: "no longer running") {
        try await fixture.queue.transition(job, on: .gaveUp, worker: "w", proofs: proofs, detail: "late")
      }
      #expect(try await fixture.queue.job(number: job.number) == sent)
      #expect(try fixture.count("history") == rows)
      #expect(try await fixture.queue.components(of: job).allSatisfy { $0.state == .pending })
    }
  }

  @Test func onlyTheHolderMovesAJob() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running()
      for worker in ["other", nil] {
        await expectFailure(.local) { try await fixture.queue.transition(job, on: .sent, worker: worker, detail: "sent") }
      }
      await expectFailure(.local) { try await fixture.queue.freeze(job, worker: "other") }
      await expectFailure(.local) {
        try await fixture.queue.checkpoint(
          job, worker: "other",
          [ComponentProgress(path: QueueFixture.path("data.bin"), state: .sent, bytesDurable: 100, localDigest: nil)])
      }
      #expect(try await fixture.queue.job(number: job.number) == job)
      #expect(try await fixture.queue.components(of: job).map(\.state) == [.pending])
      try await fixture.queue.freeze(job, worker: "w")
      #expect(try await fixture.queue.job(number: job.number).frozen)
    }
  }

  @Test func theFirstMismatchIsRepairedTheSecondFails() async throws {
    try await QueueFixture.with { fixture in
      var job = try await fixture.awaiting()
      var change = QueueFixture.released()
      change.mismatches = 1
      job = try await fixture.queue.transition(job, on: .digestMismatch, worker: "w", change: change, detail: "a differs")
      #expect(job.state == .queued && job.mismatches == 1)
      job = try #require(try await fixture.queue.claimNext(worker: "w"))
      job = try await fixture.queue.transition(job, on: .sent, worker: "w", detail: "sent")
      job = try await fixture.queue.transition(job, on: .digestMismatch, worker: "w", change: QueueFixture.released(), detail: "again")
      #expect(job.state == .failed)
      change.mismatches = 0
      job = try await fixture.queue.transition(job, on: .retried, worker: nil, change: change, detail: "asked")
      #expect(job.state == .queued && job.mismatches == 0)
    }
  }

  /// A job that nobody works on must be free, whatever the caller forgot: it would be stranded otherwise.
  @Test(arguments: [JobEvent.interrupted, .gaveUp]) func leavingTheHandsOfAWorkerFreesTheJob(_ event: JobEvent) async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running()
      let moved = try await fixture.queue.transition(job, on: event, worker: "w", detail: "no word of the claim")
      #expect(moved.claimedBy == nil)
      if event == .gaveUp { try await fixture.queue.transition(moved, on: .retried, worker: nil, detail: "asked") }
      #expect(try await fixture.queue.claimNext(worker: "w2")?.number == job.number)
    }
  }

  @Test func nothingIsVerifiedThatWasNotProvenNow() async throws {
    try await QueueFixture.with { fixture in
      let entries = [QueueFixture.file("a"), QueueFixture.file("b"), QueueFixture.entry("folder", .folder)]
      let job = try await fixture.awaiting(entries: entries)
      let proofs = try await fixture.proofs(of: job)
      let wrong = proofs.map {
        ComponentProof(path: $0.path, remoteDigest: QueueFixture.digest(QueueFixture.path("other")), evidence: .server)
      }
      let rows = try fixture.count("history")
      for list in [[], [proofs[0]], [proofs[0], wrong[1]]] {
        await expectFailure(.protocol, saying: "not proven") {
          try await fixture.queue.transition(job, on: .proven, worker: "w", change: QueueFixture.released(), proofs: list, detail: "proven")
        }
        #expect(try await fixture.queue.job(number: job.number) == job)
        #expect(try await fixture.queue.components(of: job).allSatisfy { $0.state != .verified && $0.remoteDigest == nil })
      }
      #expect(try fixture.count("history") == rows)
      let done = try await fixture.queue.transition(
        job, on: .proven, worker: "w", change: QueueFixture.released(), proofs: proofs, detail: "proven")
      #expect(done.state == .verified)

      // A proof of an earlier time does not count for a later one.
      var again = try await fixture.queue.transition(done, on: .remoteCorrupted, worker: nil, detail: "audit")
      again = try await fixture.queue.transition(again, on: .retried, worker: nil, detail: "asked")
      fixture.clock.advance(seconds: 60)
      again = try #require(try await fixture.queue.claimNext(worker: "w"))
      again = try await fixture.queue.transition(again, on: .sent, worker: "w", detail: "sent")
      let last = again
      await expectFailure(.protocol, saying: "not proven") {
        try await fixture.queue.transition(
          last, on: .proven, worker: "w", change: QueueFixture.released(), proofs: [proofs[0]], detail: "proven")
      }
    }
  }

  @Test func onlyTheNewestJobOfARunIsRetried() async throws {
    try await QueueFixture.with { fixture in
      let old = try await fixture.queue.transition(
        try await fixture.running(), on: .gaveUp, worker: "w", change: QueueFixture.released(), detail: "no")
      try await fixture.register("/lab/run")
      let rows = try fixture.count("history")
      await expectFailure(.local, saying: "newer job") {
        try await fixture.queue.transition(old, on: .retried, worker: nil, detail: "asked")
      }
      #expect(try await fixture.queue.job(number: old.number) == old)
      #expect(try fixture.count("history") == rows)
    }
  }

  @Test func historyIsAppendOnly() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.verified()
      try await fixture.queue.note(job, event: "warning", detail: "a line that is no transition")
      let before = try await fixture.queue.history(ofRun: "/lab/run")
      #expect(before.last?.event == "warning" && before.last?.from == nil && before.last?.to == nil)
      let foreign = try fixture.foreign()
      for sql in ["UPDATE history SET detail = 'x'", "DELETE FROM history", "UPDATE history SET at = 0 WHERE sequence = 1"] {
        #expect { try foreign.execute(sql) } throws: { ($0 as? SQLiteError)?.message == "history is append-only" }
      }
      let recursive =
        "PRAGMA recursive_triggers = ON; INSERT OR REPLACE INTO history SELECT sequence, job, at, 'x', NULL, NULL, 'x' FROM history"
      #expect(throws: SQLiteError.self) { try foreign.execute(recursive) }
      #expect(try await fixture.queue.history(ofRun: "/lab/run") == before)
    }
  }

  /// REPLACE deletes without a trigger unless triggers are recursive, so the insert itself must refuse a number that is taken.
  @Test func historyIsNotReplacedEither() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.verified()
      let before = try await fixture.queue.history(ofRun: "/lab/run")
      let foreign = try fixture.foreign()
      #expect(throws: SQLiteError.self) {
        try foreign.execute("INSERT OR REPLACE INTO history SELECT sequence, job, at, 'x', NULL, NULL, 'x' FROM history")
      }
      #expect(try await fixture.queue.history(ofRun: "/lab/run") == before)
    }
  }

  private func oneOfEachState(_ fixture: QueueFixture) async throws -> [JobRow] {
    var jobs = [
      try await fixture.running("/lab/running"), try await fixture.awaiting("/lab/awaiting"), try await fixture.verified("/lab/verified"),
    ]
    let eligible = try await fixture.verified("/lab/eligible")
    jobs.append(try await fixture.queue.transition(eligible, on: .becameEligible, worker: nil, detail: "x"))
    let cleaned = try await fixture.queue.transition(
      try await fixture.verified("/lab/cleaned"), on: .becameEligible, worker: nil, detail: "x")
    jobs.append(try await fixture.queue.transition(cleaned, on: .removedLocally, worker: nil, detail: "x"))
    jobs.append(
      try await fixture.queue.transition(
        try await fixture.running("/lab/failed"), on: .gaveUp, worker: "w", change: QueueFixture.released(), detail: "x"))
    jobs.append(try await fixture.register("/lab/queued"))
    return jobs
  }
}
