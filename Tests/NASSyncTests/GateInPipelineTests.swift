import Foundation
import NASSync
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

/// The gate's place in the pipeline.
@Suite(.serialized) struct GateInPipelineTests {
  @Test func aBlockedRunIsToldAndAnOverrideLetsItPass() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["<sample>.fcs": [1]])
      let handle = try await client.enqueue(run)
      #expect(handle.state == .blocked && handle.jobID.isEmpty && handle.jobState == nil)
      #expect(handle.blockingFindings.contains { $0.problemClass == .unresolvedPlaceholderToken && $0.path == "<sample>.fcs" })
      #expect(try lab.syncStatus(run) == "blocked_by_validation")
      #expect(try await client.status(of: run).state == .none)
      let problem = try #require(try await client.problems().first)
      #expect(problem.problemClass == "blocked_by_gate" && problem.runPath == run && !problem.nextStep.isEmpty)
      #expect(try await client.drain().done.isEmpty)
      #expect(!lab.exists(lab.remote(run)))

      let one = try await client.addOverride(run, problemClass: .unresolvedPlaceholderToken, reason: "kept as it is")
      let two = try await client.addOverride(run, problemClass: .illegalFilesystemCharacter, reason: "kept as it is", path: "<sample>.fcs")
      #expect(try await client.enqueue(run).state == .queued)
      #expect(try lab.syncStatus(run) == "pending")
      #expect(try await client.problems().isEmpty)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      let gate = try #require(try lab.json(lab.remote(run) + "/.exlab-wizard/receipt.json")["gate"] as? [String: Any])
      #expect(Set((gate["overrides"] as? [[String: Any]] ?? []).compactMap { $0["id"] as? String }) == [one.id, two.id])
      #expect((gate["overridden"] as? [[String: Any]])?.count == 2)
      await client.close()
    }
  }

  /// What an earlier version let into the queue is stopped when it is claimed; what it sent is there, and may be cleaned up here.
  @Test func aNameThatIsWithheldStopsWhatIsQueuedAndNotWhatIsPublished() async throws {
    try await LabFixture.with { lab in
      let files: [String: [UInt8]] = ["raw/.htaccess": [1], "data.fcs": [2]]
      let (sent, queued) = (try lab.makeRun(leaf: "Run_1", files: files), try lab.makeRun(leaf: "Run_2", files: files))
      let before = NASSyncClient(configuration: lab.configuration)
      try await lab.published(before, sent)
      _ = try await before.addOverride(queued, problemClass: .illegalFilesystemCharacter, reason: "we need it")
      #expect(try await before.enqueue(queued).state == .queued)
      await before.close()
      let client = lab.client(FaultPlan(withheld: [WithheldName(".htaccess", reason: "is read by the server")]))
      #expect(try await client.drain().blocked.map(\.runPath) == [queued])
      let error = try #require(try await client.status(of: queued).lastError)
      #expect(error.kind == .blocked && error.message.contains("raw/.htaccess") && !error.hint.contains("override add"), "\(error)")
      #expect(!lab.exists(lab.remote(queued)))
      #expect(try await client.gate(sent).verdict.isOpen)
      // A further generation adds what is new, and nothing of that name.
      try FileManager.default.createDirectory(atPath: sent + "/new", withIntermediateDirectories: true)
      try Data([3]).write(to: URL(fileURLWithPath: sent + "/new/.htaccess"))
      #expect(try await client.gate(sent).verdict.blocking.map(\.path) == ["new/.htaccess"])
      try FileManager.default.moveItem(atPath: queued + "/raw/.htaccess", toPath: queued + "/raw/access.txt")
      try await client.retry(queued)
      #expect(try await lab.settle(client, queued).state == .job(.verified))
      await client.close()
    }
  }

  @Test func expiredAndRevokedOverridesBlock() async throws {
    try await LabFixture.with { lab in
      let clock = ManualClock()
      let client = NASSyncClient(configuration: lab.configuration, clock: clock)
      let run = try lab.makeRun(files: ["CON": [1]])
      let entry = try await client.addOverride(
        run, problemClass: .reservedFilesystemName, reason: "for a while", expiresAt: Date(timeIntervalSince1970: clock.wallSeconds + 60))
      #expect(entry.state == .active)
      clock.advance(seconds: 59)
      #expect(try await client.gate(run).verdict.isOpen)
      clock.advance(seconds: 2)
      #expect(try await client.overrides(of: run).map(\.state) == [.expired])
      #expect(try await client.enqueue(run).state == .blocked)
      let other = try await client.addOverride(run, problemClass: .reservedFilesystemName, reason: "for good")
      #expect(try await client.gate(run).verdict.isOpen)
      try await client.revokeOverride(run, id: other.id, reason: "not so good")
      #expect(try await client.overrides(of: run).map(\.state) == [.expired, .revoked])
      #expect(try await client.enqueue(run).state == .blocked)
      await client.close()
    }
  }

  @Test func aRunThatTurnedBadWhileItWaitedFails() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await client.enqueue(run)
      try lab.write([1], to: run + "/{{ name }}.dat")
      let report = try await client.drain()
      #expect(report.blocked.map(\.runPath) == [run] && report.failed.isEmpty)
      let status = try await client.status(of: run)
      #expect(status.state == .job(.failed))
      #expect(status.lastError?.kind == .blocked && status.lastError?.retry == false)
      #expect(try lab.syncStatus(run) == "blocked_by_validation")
      #expect(!lab.exists(lab.remote(run)))
      #expect(try await client.problems().map(\.problemClass) == ["blocked"])

      // Blocked once more on the way back: what is remembered of that must go when the gate lets the run through.
      #expect(try await client.enqueue(run).state == .blocked)
      try FileManager.default.removeItem(atPath: run + "/{{ name }}.dat")
      try await client.retry(run)
      #expect(try lab.syncStatus(run) == "pending")
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(try lab.syncStatus(run) == "synced")
      #expect(try await client.problems().isEmpty)
      await client.close()
    }
  }

  /// The NAS is asked whether it is there while the run is looked through; what is wrong here is said without its answer.
  @Test func whatIsRefusedHereDoesNotWaitForASilentNAS() async throws {
    try await LabFixture.with { lab in
      let isSilent = Mutex(false)
      let waited = Mutex(false)
      let plan = FaultPlan(before: { _ throws(TransportError) in
        guard isSilent.withLock({ $0 }) else { return }
        do { try await Task.sleep(nanoseconds: 60_000_000_000) } catch { throw FaultPlan.lost }
        waited.withLock { $0 = true }
        throw FaultPlan.lost
      })
      let client = lab.client(plan)
      // What the NAS makes of names is known: that is asked first, and waited for.
      try await lab.published(client, try lab.makeRun(leaf: "Run_1"))
      let run = try lab.makeRun(leaf: "Run_2")
      try await client.enqueue(run)
      _ = try await client.check()
      try lab.write([1], to: run + "/<sample>.fcs")
      isSilent.withLock { $0 = true }
      #expect(try await client.drain().blocked.map(\.runPath) == [run])
      #expect(!waited.withLock { $0 })
      isSilent.withLock { $0 = false }
      try FileManager.default.removeItem(atPath: run + "/<sample>.fcs")
      try await client.retry(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      await client.close()
    }
  }

  @Test func aRunOfNothingIsNeverVerified() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["only.tmp": [1]])
      let handle = try await client.enqueue(run)
      #expect(handle.state == .blocked)
      #expect(handle.blockingFindings.map(\.problemClass) == [.emptyRun])
      do throws(SyncFailure) {
        _ = try await client.addOverride(run, problemClass: .emptyRun, reason: "let it pass")
        Issue.record("an override of empty_run was taken")
      } catch {
        #expect(error.kind == .misconfigured && error.message.contains("nothing is ever proven of nothing"))
      }
      await client.close()
    }
  }
}
