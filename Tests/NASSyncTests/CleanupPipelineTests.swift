import Cleanup
import Foundation
import NASSync
import Synchronization
import TestSupport
import Testing

/// Removal of local copies with a real NAS, over the whole way.
@Suite(.serialized) struct CleanupPipelineTests {
  static let day: Double = 86_400

  /// A lab whose clock the test moves on.
  struct Bench {
    let lab: LabFixture
    let clock: ShiftedClock
    let client: NASSyncClient
    let run: String

    func clean(dryRun: Bool = false) async throws -> CleanupOutcome {
      guard let outcome = try await client.cleanup(runs: [run], dryRun: dryRun).runs.first else {
        throw TemporaryFolder.Failure("no outcome")
      }
      return outcome
    }

    func unmet(dryRun: Bool = false) async throws -> [CleanupInterlock.Name] { try await clean(dryRun: dryRun).unmet.map(\.name) }

    var state: RunStatus.State { get async throws { try await client.status(of: run).state } }

    /// The conditions that stay unmet once all is right by the clock, with the data still there.
    func expectKept(_ expected: [CleanupInterlock.Name], sourceLocation: SourceLocation = #_sourceLocation) async throws {
      let outcome = try await clean()
      #expect(outcome.unmet.map(\.name) == expected, "\(outcome.unmet)", sourceLocation: sourceLocation)
      #expect(outcome.result == .kept && outcome.files == 0, sourceLocation: sourceLocation)
      #expect(lab.exists(run + "/data.fcs"), sourceLocation: sourceLocation)
    }
  }

  /// A run that was verified twice, a day apart, with the age over.
  static func bench(
    due: Bool = true, retain: Bool = true, record: Bool = true, override: Bool = false, _ body: @Sendable (Bench) async throws -> Void
  ) async throws {
    try await LabFixture.with(adjust: { $0.cleanup.retainMetadata = retain }) { lab in
      let clock = ShiftedClock()
      let client = NASSyncClient(configuration: lab.configuration, clock: clock)
      var files = ["data.fcs": noise(5_000), "sub/notes.txt": Array("fine\n".utf8), "sub/scratch.tmp": [1]]
      if override { files["note.txt"] = Array("<sample_id>\n".utf8) }
      let run = try lab.makeRun(record: record, files: files)
      try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "data.fcs")
      if override { _ = try await client.addOverride(run, problemClass: .unresolvedPlaceholderToken, reason: "known") }
      try await client.enqueue(run)
      #expect(try await client.drain().done.count == 1)
      let bench = Bench(lab: lab, clock: clock, client: client, run: run)
      if due {
        clock.advance(seconds: day)
        #expect(try await bench.unmet() == [.age])
        clock.advance(seconds: day + 1)
      }
      try await body(bench)
      await client.close()
    }
  }

  /// The record went with the clean-up, an excluded file stayed: nobody tampered with the ledger.
  @Test func aLedgerThatWasCleanedAwayIsNotBroken() async throws {
    try await LabFixture.with(adjust: { $0.cleanup.retainMetadata = false }) { lab in
      let clock = ShiftedClock()
      let client = NASSyncClient(configuration: lab.configuration, clock: clock)
      let run = try lab.makeRun(record: false, files: ["note.txt": Array("<sample_id>\n".utf8), "scratch.tmp": [1]])
      _ = try await client.addOverride(run, problemClass: .unresolvedPlaceholderToken, reason: "known")
      try await client.enqueue(run)
      // This one the queue notes.
      _ = try await client.addOverride(run, problemClass: .reservedFilesystemName, reason: "in case")
      #expect(try await client.drain().done.count == 1)
      #expect(try await client.history(of: run).last?.event == HistoryEntry.ledgerWhole)
      for _ in 0..<2 {
        clock.advance(seconds: Self.day + 1)
        _ = try await client.cleanup(runs: [run])
      }
      #expect(try await client.status(of: run).state == .job(.cleaned))
      #expect(lab.exists(run + "/scratch.tmp") && !lab.exists(run + "/.exlab-wizard"))
      #expect(try await !client.history(of: run).contains { $0.event == HistoryEntry.ledgerBroken })
      await client.close()
    }
  }

  @Test func theWholeWay() async throws {
    try await Self.bench(due: false) { bench in
      #expect(try await bench.unmet() == [.verifyPasses, .age])
      #expect(try await bench.state == .job(.verified))
      bench.clock.advance(seconds: 2 * Self.day)
      // A dry run writes nothing: no pass, no state, no file.
      #expect(try await bench.unmet(dryRun: true) == [.age])
      #expect(try await bench.client.status(of: bench.run).verifyPasses == 1)
      #expect(try await bench.unmet() == [.age])
      #expect(try await bench.client.status(of: bench.run).verifyPasses == 2)
      bench.clock.advance(seconds: Self.day - 60)
      #expect(try await bench.unmet() == [.age])
      bench.clock.advance(seconds: 61)
      let dry = try await bench.clean(dryRun: true)
      #expect(dry.result == .wouldClean && dry.files == 2 && dry.bytes == 5_005 && dry.state == .verified)
      #expect(!bench.lab.exists(bench.run + "/.exlab-wizard/deletion.json"))
      let outcome = try await bench.clean()
      #expect(outcome.result == .cleaned && outcome.state == .cleaned && outcome.files == 2 && outcome.bytes == 5_005, "\(outcome)")
      #expect(outcome.kept.isEmpty)
      #expect(!bench.lab.exists(bench.run + "/data.fcs") && !bench.lab.exists(bench.run + "/link"))
      // Never sent, never deleted; its folder stays for it.
      #expect(bench.lab.exists(bench.run + "/sub/scratch.tmp"))
      #expect(try bench.lab.syncStatus(bench.run) == "cleaned")
      let certificate = try bench.lab.json(bench.run + "/.exlab-wizard/deletion.json")
      #expect(certificate["progress"] as? String == "done")
      #expect((certificate["files"] as? [[String: Any]])?.compactMap { $0["path"] as? String } == ["data.fcs", "sub/notes.txt"])
      #expect((certificate["files"] as? [[String: Any]])?.first?["evidence"] as? String == "server")
      #expect((certificate["passes"] as? [Any])?.count == 3)
      #expect((certificate["interlocks"] as? [[String: Any]])?.allSatisfy { $0["met"] as? Bool == true } == true)
      let events = try await bench.client.history(of: bench.run).map(\.event)
      #expect(events.suffix(3) == ["became_eligible", "cleanup_started", "removed_locally"], "\(events)")
      let again = try await bench.clean()
      #expect(again.result == .nothingToDo)
      #expect(try await bench.client.verify(bench.run).ok)
    }
  }

  @Test func withoutRetentionTheRunGoesAndTheRecordOnlyAsPublished() async throws {
    try await Self.bench(retain: false) { bench in
      try FileManager.default.removeItem(atPath: bench.run + "/sub/scratch.tmp")
      #expect(try await bench.clean().result == .cleaned)
      #expect(!bench.lab.exists(bench.run))
      #expect(try await bench.clean().result == .nothingToDo)
    }
    try await Self.bench(retain: false) { bench in
      // An override made since is nowhere but in this record.
      _ = try await bench.client.addOverride(bench.run, problemClass: .unresolvedPlaceholderToken, reason: "only here")
      #expect(try await bench.clean().result == .cleaned)
      #expect(!bench.lab.exists(bench.run + "/data.fcs"))
      #expect(bench.lab.exists(bench.run + "/.exlab-wizard/creation.json") && bench.lab.exists(bench.run + "/.exlab-wizard/deletion.json"))
    }
  }

  @Test func whatAKilledWriterLeftInTheMetadataFolderGoes() async throws {
    let left = "/.exlab-wizard/.nassync-document-51de6f0e"
    try await Self.bench { bench in
      try Data("half a manif".utf8).write(to: URL(fileURLWithPath: bench.run + left))
      #expect(try await bench.clean().result == .cleaned)
      #expect(!bench.lab.exists(bench.run + left))
    }
    try await Self.bench(retain: false) { bench in
      try FileManager.default.removeItem(atPath: bench.run + "/sub/scratch.tmp")
      try Data("half a manif".utf8).write(to: URL(fileURLWithPath: bench.run + left))
      #expect(try await bench.clean().result == .cleaned)
      #expect(!bench.lab.exists(bench.run))
    }
  }

  @Test func aFlippedByteOnTheNASKeepsTheLocalCopy() async throws {
    try await Self.bench { bench in
      try bench.lab.flip(bench.lab.remote(bench.run) + "/data.fcs")
      #expect(try await bench.unmet(dryRun: true) == [.nasCopyProven])
      let outcome = try await bench.clean()
      #expect(outcome.result == .kept && outcome.error?.kind == .remoteCorrupted && outcome.state == .failed)
      #expect(bench.lab.exists(bench.run + "/data.fcs"))
      #expect(try await bench.client.problems().map(\.problemClass) == ["remote_corrupted"])
      try await bench.expectKept([.state, .nasCopyProven])
    }
    try await Self.bench { bench in
      try bench.lab.flip(bench.lab.remote(bench.run) + "/.exlab-wizard/checksums.sha256")
      try await bench.expectKept([.nasCopyProven, .nasManifestIntact])
    }
  }

  @Test func aNASThatDoesNotAnswerKeepsTheLocalCopy() async throws {
    try await Self.bench { bench in
      let server = bench.lab.server
      try await server.stop()
      try await bench.expectKept([.nasReachable, .nasCopyProven, .nasManifestIntact])
      #expect(try await bench.client.problems().map(\.problemClass).contains("destination_unreachable"))
    }
  }

  @Test func aRecordThatCannotBeReadStopsTheDeletion() async throws {
    try await Self.bench { bench in
      try bench.lab.write(Array("{\"validation_overrides\": [".utf8), to: bench.run + "/.exlab-wizard/creation.json")
      try await bench.expectKept([.recordReadable, .gateOpen, .noRevocation])
      try FileManager.default.removeItem(atPath: bench.run + "/.exlab-wizard/creation.json")
      try await bench.expectKept([.recordReadable, .noRevocation])
    }
  }

  @Test func anOverrideTakenBackAtAnyTimeStopsTheDeletion() async throws {
    try await Self.bench(override: true) { bench in
      let id = try await bench.client.overrides(of: bench.run).first?.id ?? ""
      _ = try await bench.client.revokeOverride(bench.run, id: id, reason: "wrong sample")
      try await bench.expectKept([.gateOpen, .noRevocation])
      // Another override opens the gate again; that the one which let the run through was taken back stays.
      _ = try await bench.client.addOverride(bench.run, problemClass: .unresolvedPlaceholderToken, reason: "again")
      bench.clock.advance(seconds: 3 * Self.day)
      try await bench.expectKept([.noRevocation])
      bench.clock.advance(seconds: 3 * Self.day)
      try await bench.expectKept([.noRevocation])
    }
  }

  @Test func aNewOrChangedOrMissingFileStopsTheDeletion() async throws {
    try await Self.bench { bench in
      try bench.lab.write([1], to: bench.run + "/late.dat")
      try await bench.expectKept([.nothingUnknown])
      try FileManager.default.removeItem(atPath: bench.run + "/late.dat")
      try FileManager.default.removeItem(atPath: bench.run + "/sub/notes.txt")
      try await bench.expectKept([.nothingMissing])
      #expect(try await bench.state == .job(.cleanupEligible))
      #expect(try await bench.client.problems().map(\.problemClass) == ["cleanup_kept"])
    }
    try await Self.bench { bench in
      try bench.lab.flip(bench.run + "/data.fcs")
      let unmet = try await bench.unmet()
      #expect(unmet.contains(.localUnchanged) && unmet.contains(.gateOpen))
      #expect(bench.lab.exists(bench.run + "/sub/notes.txt"))
    }
  }

  @Test func aClockSetForwardDeletesNothing() async throws {
    try await Self.bench(due: false) { bench in
      bench.clock.advance(seconds: 2 * Self.day)
      #expect(try await bench.unmet() == [.age])
      bench.clock.setWall(bench.clock.wallSeconds + 3_650 * Self.day)
      try await bench.expectKept([.age, .clock])
      // Too soon after the last to count. The next one does: the clock is measured from it then, the age still in witnessed time.
      bench.clock.advance(seconds: 7_200)
      try await bench.expectKept([.age, .clock])
      try await bench.expectKept([.age])
      bench.clock.advance(seconds: Self.day)
      #expect(try await bench.clean().result == .cleaned)
    }
  }

  @Test func timeThatTheMachineWasSwitchedOffDoesNotCount() async throws {
    try await Self.bench(due: false) { bench in
      bench.clock.advance(seconds: 2 * Self.day)
      #expect(try await bench.unmet() == [.age])
      bench.clock.restart(after: 30 * Self.day)
      try await bench.expectKept([.age])
      bench.clock.advance(seconds: Self.day)
      #expect(try await bench.clean().result == .cleaned)
    }
  }

  @Test func aCrashInTheMiddleIsGoneOnFrom() async throws {
    for retain in [true, false] {
      try await Self.bench(retain: retain) { bench in
        let failed = try await bench.client.cleanup(runs: [bench.run]) { (moment, path) throws(SyncFailure) in
          if moment == .setAside, path.description == "link" { throw SyncFailure(.local, "the test pulled the plug", hint: "None.") }
        }.runs.first
        #expect(failed?.error?.message == "the test pulled the plug" && failed?.state == .cleanupEligible)
        #expect(!bench.lab.exists(bench.run + "/data.fcs") && bench.lab.exists(bench.run + "/sub/notes.txt"))
        #expect(try bench.lab.json(bench.run + "/.exlab-wizard/deletion.json")["progress"] as? String == "started")
        // A file that comes now is still safe.
        try bench.lab.write([7], to: bench.run + "/late.dat")
        #expect(try await bench.unmet() == [.nothingUnknown])
        try FileManager.default.removeItem(atPath: bench.run + "/late.dat")
        let outcome = try await bench.clean()
        #expect(outcome.result == .cleaned && outcome.certificate?.removed == 3, "\(outcome)")
        #expect(!bench.lab.exists(bench.run + "/sub/notes.txt") && bench.lab.exists(bench.run + "/sub/scratch.tmp"))
      }
    }
  }

  /// What is added while the removal goes on is left, and the run is not called cleaned.
  /// What an audit finds while a removal goes on ends it between two names.
  @Test func aRemovalEndsWhenTheCopyGoesBadMeanwhile() async throws {
    try await Self.bench { bench in
      let (run, client) = (bench.run, bench.client)
      let first = Mutex(true)
      let outcome = try await client.cleanup(runs: [run]) { (moment, _) throws(SyncFailure) in
        guard moment == .removed,
          first.withLock({ old in
            defer { old = false }; return old
          })
        else { return }
        // The cleaner's own thread waits here, as it would for a slow disk.
        let done = DispatchSemaphore(value: 0)
        Task.detached {
          do { try await client.fail(run) } catch { Issue.record(error) }
          done.signal()
        }
        done.wait()
        Thread.sleep(forTimeInterval: 3)
      }.runs.first
      #expect(outcome?.result != .cleaned, "\(String(describing: outcome))")
      #expect(bench.lab.exists(run + "/sub/notes.txt") && !bench.lab.exists(run + "/data.fcs"))
      #expect(try await bench.state == .job(.failed))
    }
  }

  @Test func aFileAddedDuringTheRemovalSurvivesAndTheStateStays() async throws {
    try await Self.bench { bench in
      let run = bench.run
      let outcome = try await bench.client.cleanup(runs: [run]) { (moment, path) throws(SyncFailure) in
        if moment == .examined, path.description == "sub/notes.txt" {
          _ = FileManager.default.createFile(atPath: run + "/sub/late.dat", contents: Data([9]))
        }
      }.runs.first
      #expect(outcome?.result == .partial && outcome?.state == .cleanupEligible)
      #expect(outcome?.kept.map(\.path) == ["sub/late.dat"])
      #expect(bench.lab.exists(run + "/sub/late.dat"))
      #expect(try bench.lab.json(run + "/.exlab-wizard/deletion.json")["progress"] as? String == "partial")
      #expect(try await bench.client.problems().map(\.problemClass) == ["cleanup_kept"])
    }
  }

  /// A volume that is not mounted on the NAS looks like a lost run, and must not send every eligible run to FAILED.
  @Test func anEmptyRootOfTheNASIsNotTakenForALostCopy() async throws {
    try await Self.bench { bench in
      let place = bench.lab.server.rootFolder + "/CYTOMETER_01"
      try FileManager.default.moveItem(atPath: place, toPath: bench.lab.folder + "/unmounted")
      let outcome = try await bench.clean()
      #expect(outcome.result == .kept && outcome.state == .cleanupEligible, "\(outcome)")
      #expect(outcome.unmet.contains { $0.name == .nasCopyProven && $0.detail.contains("mounted") }, "\(outcome.unmet)")
      try FileManager.default.moveItem(atPath: bench.lab.folder + "/unmounted", toPath: place)
      #expect(try await bench.clean().result == .cleaned)
    }
  }

  /// The disk of the workstation went away in the middle of a removal: what is left on it is not removed by that.
  @Test func aRunWhoseVolumeIsGoneIsNotCalledCleaned() async throws {
    for (retain, record) in [(false, true), (true, false)] {
      try await Self.bench(retain: retain, record: record) { bench in
        try await Self.pullThePlug(bench)
        let away = bench.lab.folder + "/unmounted"
        try FileManager.default.moveItem(atPath: bench.lab.lab, toPath: away)
        try FileManager.default.createDirectory(atPath: bench.lab.lab, withIntermediateDirectories: true)
        let outcome = try await bench.clean()
        #expect(outcome.result == .kept && outcome.state == .cleanupEligible, "\(outcome)")
        try FileManager.default.removeItem(atPath: bench.lab.lab)
        try FileManager.default.moveItem(atPath: away, toPath: bench.lab.lab)
        #expect(try await bench.clean().result == .cleaned)
      }
    }
  }

  /// What a removal that died had set aside may be the only good copy by now: it gets its name back before anything rests on the folder.
  @Test func whatACrashSetAsideIsTheGoodCopyOfARepair() async throws {
    try await Self.bench { bench in
      try await Self.pullThePlug(bench)
      #expect(!bench.lab.exists(bench.run + "/data.fcs"))
      try bench.lab.flip(bench.lab.remote(bench.run) + "/data.fcs")
      #expect(try await bench.clean().state == .failed)
      try await bench.client.retry(bench.run)
      #expect(bench.lab.exists(bench.run + "/data.fcs"))
      #expect(try await bench.client.drain().done.count == 1)
      #expect(try await bench.state == .job(.verified))
      #expect(try await bench.lab.checksumsHold(in: bench.lab.remote(bench.run)))
    }
  }

  /// A new generation does not leave it behind under a name that nobody looks for, in a run that is called cleaned.
  @Test func whatACrashSetAsideGoesWithTheNextGeneration() async throws {
    try await Self.bench { bench in
      try await Self.pullThePlug(bench)
      try bench.lab.write([7], to: bench.run + "/late.dat")
      try await bench.client.enqueue(bench.run)
      #expect(bench.lab.exists(bench.run + "/data.fcs"))
      #expect(try await bench.client.drain().done.count == 1)
      bench.clock.advance(seconds: Self.day)
      _ = try await bench.clean()
      bench.clock.advance(seconds: Self.day + 1)
      #expect(try await bench.clean().result == .cleaned)
      let left = try FileManager.default.contentsOfDirectory(atPath: bench.run + "/.exlab-wizard")
      #expect(!left.contains { $0.hasPrefix(".nassync-removing") }, "\(left)")
    }
  }

  /// A removal ends while `data.fcs` is set aside.
  private static func pullThePlug(_ bench: Bench) async throws {
    let failed = try await bench.client.cleanup(runs: [bench.run]) { (moment, path) throws(SyncFailure) in
      if moment == .setAside, path.description == "data.fcs" { throw SyncFailure(.local, "the test pulled the plug", hint: "None.") }
    }.runs.first
    #expect(failed?.error?.message == "the test pulled the plug" && failed?.state == .cleanupEligible)
  }

  @Test func onlyOneCleansAtATime() async throws {
    try await Self.bench { bench in
      let other = NASSyncClient(configuration: bench.lab.configuration, clock: bench.clock)
      let (run, client) = (bench.run, bench.client)
      let (waiting, reached) = AsyncStream<Void>.makeStream()
      let gate = DispatchSemaphore(value: 0)
      let first = Task {
        try await client.cleanup(runs: [run]) { (moment, path) throws(SyncFailure) in
          guard moment == .before, path.description == "data.fcs" else { return }
          reached.yield()
          gate.wait()
        }
      }
      for await _ in waiting { break }
      let second = try await other.cleanup(runs: [run])
      // Looking is free.
      let dry = try await other.cleanup(runs: [run], dryRun: true)
      gate.signal()
      let report = try await first.value
      #expect(second.elsewhere && second.runs.isEmpty)
      #expect(dry.runs.first?.result == .wouldClean)
      #expect(report.runs.first?.result == .cleaned)
      await other.close()
    }
  }

  @Test func withoutANameItNeedsToBeEnabled() async throws {
    try await Self.bench { bench in
      await #expect { try await bench.client.cleanup() } throws: { ($0 as? SyncFailure)?.kind == .misconfigured }
      let dry = try await bench.client.cleanup(dryRun: true)
      #expect(dry.runs.map(\.result) == [.wouldClean])
      var enabled = bench.lab.configuration
      enabled.cleanup.enabled = true
      let other = NASSyncClient(configuration: enabled, clock: bench.clock)
      #expect(try await other.cleanup().runs.map(\.result) == [.cleaned])
      #expect(try await other.cleanup().runs.isEmpty)
      await other.close()
    }
  }
}
