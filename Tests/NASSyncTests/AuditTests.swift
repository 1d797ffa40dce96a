import Foundation
import JobQueue
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// What audits look at, when, and what counts.
@Suite(.serialized) struct AuditTests {
  @Test(arguments: [LoopbackSSHD.Style.shell, .sftpOnly]) func passesCountAtDifferentTimesOnly(style: LoopbackSSHD.Style) async throws {
    try await LabFixture.with(style) { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      let published = try await client.row(run)
      #expect(published.verifyPasses == 1)
      // Nothing is due yet.
      try await client.audit()
      clock.advance(seconds: LabFixture.day - 60)
      try await client.audit()
      #expect(try await client.row(run) == published)

      clock.advance(seconds: 61)
      try await client.audit()
      let audited = try await client.row(run)
      #expect(audited.verifyPasses == 2 && audited.state == .verified)
      #expect((audited.auditedAt ?? 0) > (published.auditedAt ?? 0) + 86_000)
      #expect(try await client.events(of: run).last == "audit_verified")
      let pass = try #require(try await client.queue().passes(of: audited).last)
      #expect(pass.source == .audit && pass.files == 2 && pass.evidence == (style == .shell ? .server : .readback))

      // Somebody sets the clock on the wall: it is looked at, and does not count.
      clock.set(by: 3 * LabFixture.day)
      try await client.audit()
      #expect(try await client.row(run).verifyPasses == 2)
      #expect(try await client.history(of: run).last?.detail.contains("too soon") == true)
      // And set back: what was looked at in the future is due.
      clock.set(by: -5 * LabFixture.day)
      try await client.audit()
      #expect(try await client.events(of: run).count { $0 == "audit_verified" } == 3)
      #expect(try await client.row(run).verifyPasses == 2)
      // Time counts again once the clock on the wall, too, is past the last look that counted.
      clock.advance(seconds: 3 * LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.row(run).verifyPasses == 3)
      await client.close()
    }
  }

  @Test func anOverrideLedgersLengthGoesWithThePass() async throws {
    try await LabFixture.with { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      try await client.addOverride(run, problemClass: .emptyFile, reason: "a test")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.queue().passes(of: try await client.row(run)).map(\.ledgerLength) == [0, 1])
      await client.close()
    }
  }

  /// What somebody else puts into the folder is told and left alone.
  @Test func aForeignFileIsAWarningAndNoCorruption() async throws {
    try await LabFixture.with { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      try lab.write([1], to: lab.remote(run) + "/sub/own.txt")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      let row = try await client.row(run)
      #expect(row.state == .verified && row.verifyPasses == 2)
      let told = try #require(try await client.history(of: run).first { $0.event == "audit_extra_files" })
      #expect(told.detail.contains("sub/own.txt"))
      #expect(try lab.bytes(lab.remote(run) + "/sub/own.txt") == [1])
      await client.close()
    }
  }

  /// What could not be written beside the run when it was published is written by the next audit; what others write there stays.
  @Test func whatIsMissingBesideTheRunIsWritten() async throws {
    try await LabFixture.with { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try lab.makeRun()
      let folder = run + "/.exlab-wizard"
      func record(_ status: String) -> [UInt8] {
        Array(#"{"schema_version":"1.8","level":"run","sync_status":"\#(status)","operator":"kept","validation_overrides":[]}"#.utf8)
      }
      try lab.write(record("pending"), to: folder + "/creation.json")
      try await lab.published(client, run)
      let papers = try ["checksums.sha256", "receipt.json"].map { try lab.bytes("\(folder)/\($0)") }

      try FileManager.default.removeItem(atPath: folder + "/checksums.sha256")
      try lab.write(Array("an older generation's".utf8), to: folder + "/receipt.json")
      try lab.write(record("pending"), to: folder + "/creation.json")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try ["checksums.sha256", "receipt.json"].map { try lab.bytes("\(folder)/\($0)") } == papers)
      let text = String(decoding: try lab.bytes(folder + "/creation.json"), as: UTF8.self)
      #expect(text.contains(#""synced""#) && text.contains(#""kept""#), "\(text)")
      #expect(try await client.events(of: run).filter { $0 == "documents_written" }.count == 1)

      // What is right is left alone, and so is what somebody else says of the run.
      try lab.write(record("blocked_by_validation"), to: folder + "/creation.json")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try lab.bytes(folder + "/creation.json") == record("blocked_by_validation"))
      #expect(try await client.events(of: run).filter { $0 == "documents_written" }.count == 1)
      #expect(try await client.row(run).verifyPasses == 3)

      // A run that is gone is not made again.
      try FileManager.default.removeItem(atPath: run)
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(!lab.exists(run))
      await client.close()
    }
  }

  /// Published bytes that a clean-up has left on the NAS alone.
  @Test func aCleanedRunKeepsItsStateAndIsACriticalProblem() async throws {
    try await LabFixture.with { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try lab.makeRun(files: ["a.dat": noise(900), "b.dat": noise(70)])
      try await lab.published(client, run)
      try FileManager.default.removeItem(atPath: run + "/a.dat")
      try await client.markCleaned(run)
      try lab.flip(lab.remote(run) + "/a.dat")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.row(run).state == .cleaned)
      let first = try #require(try await client.problem("remote_corrupted"))
      #expect(first.severity == .critical && first.message.contains("a.dat") && first.blocks.contains("only copy"))
      #expect(first.nextStep.contains("snapshots") && first.nextStep.contains("nassync verify"))
      #expect(try await client.status(of: run).lastError?.kind == .remoteCorrupted)
      // Its start is kept while it lasts.
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.problem("remote_corrupted")?.since == first.since)
      #expect(try await client.row(run).verifyPasses == 1)

      try lab.flip(lab.remote(run) + "/a.dat")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.problems().isEmpty)
      let row = try await client.row(run)
      #expect(row.state == .cleaned && row.verifyPasses == 2 && row.lastError == nil)
      await client.close()
    }
  }

  @Test func aNASThatIsOutIsNoFaultAndHoldsUpNoOther() async throws {
    try await LabFixture.with(backoff: [60, 60]) { lab in
      let clock = ShiftedClock()
      let down = Mutex(false)
      let plan = FaultPlan(before: { (_) throws(TransportError) in if down.withLock({ $0 }) { throw FaultPlan.lost } })
      let real = lab.realDriver
      let client = NASSyncClient(
        configuration: lab.configuration, clock: clock,
        driver: { profile in
          guard profile.id == "CYTOMETER_01" else { return nil }
          return RenamedDriver(base: FaultingDriver(base: real, plan: plan), address: "sftp://other")
        })
      var runs: [String] = []
      for number in 0..<3 { runs.append(try lab.makeRun(project: "P\(number)")) }
      let other = try lab.makeRun("CONFOCAL_01")
      for run in runs + [other] { try await lab.published(client, run) }
      let before = try await client.row(runs[0])
      down.withLock { $0 = true }
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.row(other).verifyPasses == 2)
      #expect(try await client.row(runs[0]) == before)
      #expect(try await client.queue().faults().isEmpty)
      let problem = try #require(try await client.problems().first)
      #expect(problem.problemClass == "destination_unreachable" && problem.destination == "sftp://other")
      #expect(try await client.problems().count == 1)
      // It is not asked again before its time.
      let asked = plan.calls.count
      try await client.audit()
      #expect(plan.calls.count == asked)

      clock.advance(seconds: LabFixture.day + 1)
      let overdue = try #require(try await client.problem("audits_overdue"))
      #expect(overdue.severity == .warning && overdue.message.hasPrefix("3 published runs") && overdue.destination == "sftp://other")
      down.withLock { $0 = false }
      try await client.audit()
      for run in runs { #expect(try await client.row(run).verifyPasses == 2) }
      #expect(try await client.problems().isEmpty)
      await client.close()
    }
  }

  /// What one run's folder answers says nothing about the copy, and does not keep the others waiting.
  @Test func aRunThatCannotBeReadIsPutOffAndTold() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let clock = ShiftedClock()
      let locked = Mutex(true)
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        guard locked.withLock({ $0 }), call.name == "download", call.isFor("locked.dat") else { return }
        throw .failure(SyncFailure(.permission, "the test forbids it", hint: "None."), sessionLost: false)
      })
      let client = lab.client(clock, plan)
      let run = try lab.makeRun(project: "P0", files: ["locked.dat": [1]])
      let other = try lab.makeRun(project: "P1")
      locked.withLock { $0 = false }
      try await lab.published(client, run)
      try await lab.published(client, other)
      locked.withLock { $0 = true }
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.row(run).state == .verified)
      #expect(try await client.row(other).verifyPasses == 2)
      let problem = try #require(try await client.problem("audit_not_made"))
      #expect(problem.runPath == run && problem.message.contains("locked.dat"))
      // Its turn comes again after a while, not at once.
      let asked = plan.calls.count
      try await client.audit()
      #expect(plan.calls.count == asked)
      locked.withLock { $0 = false }
      clock.advance(seconds: 1801)
      try await client.audit()
      #expect(try await client.row(run).verifyPasses == 2)
      #expect(try await client.problems().isEmpty)
      await client.close()
    }
  }

  /// A volume that is not mounted must not send every run to FAILED.
  @Test func anEmptyRootIsNotTakenForLostRuns() async throws {
    try await LabFixture.with { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      let place = lab.server.rootFolder + "/CYTOMETER_01"
      try FileManager.default.moveItem(atPath: place, toPath: lab.folder + "/unmounted")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(try await client.row(run).state == .verified)
      #expect(try await client.problem("audit_not_made")?.message.contains("mounted") == true)
      try FileManager.default.moveItem(atPath: lab.folder + "/unmounted", toPath: place)
      clock.advance(seconds: 1801)
      try await client.audit()
      #expect(try await client.row(run).verifyPasses == 2)
      await client.close()
    }
  }

  @Test func whatIsEnqueuedMeanwhileIsNotCounted() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let clock = ShiftedClock()
      let run = try lab.makeRun()
      let enqueue = Mutex<(@Sendable () async throws -> Void)?>(nil)
      let plan = FaultPlan(before: { call in
        guard call.name == "download", call.isFor("data.fcs"), let body = enqueue.withLock({ $0.take() }) else { return }
        do { try await body() } catch { Issue.record(error) }
      })
      let client = lab.client(clock, plan)
      try await lab.published(client, run)
      clock.advance(seconds: LabFixture.day + 1)
      let first = try await client.row(run)
      enqueue.withLock {
        $0 = {
          try lab.write([9], to: run + "/late.dat")
          try await client.enqueue(run)
          // Even a difference that the audit sees now is none of the older generation's any more.
          try lab.flip(lab.remote(run) + "/sub/notes.txt")
        }
      }
      let warnings = Task {
        var found: [String] = []
        for await event in client.events { if case .warning(_, let message) = event { found.append(message) } }
        return found
      }
      try await client.audit()
      let now = try await client.row(run)
      #expect(now.generation == 2 && now.state == .queued)
      #expect(try await client.queue().job(number: first.number).verifyPasses == 1)
      #expect(try await client.queue().job(number: first.number).state == .verified)
      // With a job on its way nothing is due.
      let asked = plan.calls.count
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      #expect(plan.calls.count == asked)
      await client.close()
      #expect(await warnings.value.isEmpty)
    }
  }

  @Test func theLimitOfTimeIsKept() async throws {
    try await LabFixture.with(adjust: { $0.verify.auditTime = 15 }) { lab in
      let clock = ShiftedClock()
      let slow = Mutex(false)
      let plan = FaultPlan(before: { call in if slow.withLock({ $0 }), call.name == "digests" { clock.advance(seconds: 10) } })
      let client = lab.client(clock, plan)
      var runs: [String] = []
      for number in 0..<5 { runs.append(try lab.makeRun(project: "P\(number)")) }
      for run in runs { try await lab.published(client, run) }
      slow.withLock { $0 = true }
      clock.advance(seconds: LabFixture.day + 1)
      func passes() async throws -> [Int] {
        var counts: [Int] = []
        for run in runs { counts.append(try await client.row(run).verifyPasses) }
        return counts
      }
      // The second begins while there is time left and is finished; the oldest come first.
      try await client.audit()
      #expect(try await passes() == [2, 2, 1, 1, 1])
      clock.advance(seconds: LabFixture.day / 2)
      try await client.audit()
      #expect(try await passes() == [2, 2, 1, 1, 1])
      clock.advance(seconds: LabFixture.day / 2)
      try await client.audit()
      #expect(try await passes() == [2, 2, 2, 2, 1])
      await client.close()
    }
  }

  @Test func theLimitOfReadingBackIsKept() async throws {
    try await LabFixture.with(.sftpOnly, adjust: { $0.verify.auditDownloadMbps = 4 }) { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try lab.makeRun(files: ["a.dat": noise(500_000), "b.dat": noise(500_000, seed: 2)])
      let sending = clock.monotonicNanoseconds
      try await lab.published(client, run)
      let published = Double(clock.monotonicNanoseconds - sending) / 1e9
      clock.advance(seconds: LabFixture.day + 1)
      let start = clock.monotonicNanoseconds
      try await client.audit()
      let seconds = Double(clock.monotonicNanoseconds - start) / 1e9
      #expect(try await client.row(run).verifyPasses == 2)
      // 8 Mbit at 4 Mbit/s; the first pieces of each file come ahead of it.
      #expect(seconds > 1.6, "\(seconds)")
      #expect(published < seconds + 10, "what is no audit is not held back: \(published)")
      await client.close()
    }
  }

  /// A service is told to end while an audit has hours to go.
  @Test(arguments: [LoopbackSSHD.Style.shell, .sftpOnly]) func theEndOfTheServiceEndsAnAudit(style: LoopbackSSHD.Style) async throws {
    try await LabFixture.with(style, adjust: { $0.verify.auditDownloadMbps = 0.05 }) { lab in
      let clock = ShiftedClock()
      let reached = Mutex(false)
      let auditing = Mutex(false)
      let plan = FaultPlan(before: { call in
        guard auditing.withLock({ $0 }), call.name == "download" || call.name == "digests" else { return }
        reached.withLock { $0 = true }
        // The far side hashes for an hour.
        if call.name == "digests" { do { try await Task.sleep(nanoseconds: 3_600_000_000_000) } catch { return } }
      })
      let client = lab.client(clock, plan)
      let run = try lab.makeRun(files: ["a.dat": noise(500_000)])
      try await lab.published(client, run)
      auditing.withLock { $0 = true }
      clock.advance(seconds: LabFixture.day + 1)
      try await client.start()
      while !reached.withLock({ $0 }) { try await Task.sleep(nanoseconds: 10_000_000) }
      // Transfers go on beside it.
      let other = try lab.makeRun(project: "Beta", files: ["x.dat": [1]])
      if style == .sftpOnly {
        try await client.enqueue(other)
        while try await client.status(of: other).state != .job(.verified) { try await Task.sleep(nanoseconds: 10_000_000) }
      }
      let start = SystemClock().monotonicNanoseconds
      await client.close()
      #expect(Double(SystemClock().monotonicNanoseconds - start) / 1e9 < 8)
      let later = lab.client(clock)
      let row = try await later.row(run)
      #expect(row.state == .verified && row.verifyPasses == 1)
      #expect(try await later.problems().isEmpty)
      await later.close()
    }
  }
}
