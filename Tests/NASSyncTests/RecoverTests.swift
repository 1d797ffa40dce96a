import Foundation
import NASSync
import TestSupport
import Testing

/// The queue file is lost, or no longer what was written: what it knew comes back from the runs and a real NAS.
@Suite(.serialized) struct RecoverTests {
  /// A lab with a run in each state that a queue can know, and what the queue said of each.
  private struct Bench {
    let lab: LabFixture
    let clock: ShiftedClock
    let runs: [String: String]
    let before: [String: RunStatus]

    var database: String { lab.configuration.stateDirectory + "/queue.db" }
    func client() -> NASSyncClient { NASSyncClient(configuration: lab.configuration, clock: clock) }
    func run(_ name: String) throws -> String { try #require(runs[name]) }
  }

  private static func with(_ style: LoopbackSSHD.Style = .shell, _ body: @Sendable (Bench) async throws -> Void) async throws {
    try await LabFixture.with(style) { lab in
      let clock = ShiftedClock()
      let client = NASSyncClient(configuration: lab.configuration, clock: clock)
      var runs: [String: String] = [:]
      func make(_ name: String, files: [String: [UInt8]]? = nil) throws {
        runs[name] = try lab.makeRun(
          leaf: "Run_\(name)",
          files: files ?? ["data.fcs": noise(3_000, seed: UInt64(name.count)), "sub/notes.txt": Array("\(name)\n".utf8)])
      }
      for name in ["verified", "grown", "cleaned"] { try make(name) }
      try FileManager.default.createSymbolicLink(atPath: try #require(runs["cleaned"]) + "/link", withDestinationPath: "data.fcs")
      try FileManager.default.createDirectory(atPath: try #require(runs["cleaned"]) + "/empty", withIntermediateDirectories: false)
      for run in runs.values { try await client.enqueue(run) }
      _ = try await client.drain()
      try lab.write(noise(100), to: try #require(runs["grown"]) + "/second.fcs")
      try await client.enqueue(try #require(runs["grown"]))
      _ = try await client.drain()
      clock.advance(seconds: 90_000)
      let cleaned = try #require(runs["cleaned"])
      _ = try await client.cleanup(runs: [cleaned])
      clock.advance(seconds: 90_000)
      let outcome = try #require(try await client.cleanup(runs: [cleaned]).runs.first)
      #expect(outcome.result == .cleaned, "\(outcome)")
      try make("waiting")
      try await client.enqueue(try #require(runs["waiting"]))
      try make("blocked", files: ["note.txt": Array("<sample_id>\n".utf8)])
      try await client.enqueue(try #require(runs["blocked"]))
      try make("never")
      try lab.write(
        Array(#"{"schema_version":"1.8","level":"run","run_kind":"experimental"}"#.utf8),
        to: try #require(runs["never"]) + "/.exlab-wizard/creation.json")
      var before: [String: RunStatus] = [:]
      for (name, run) in runs { before[name] = try await client.status(of: run) }
      await client.close()
      try await body(Bench(lab: lab, clock: clock, runs: runs, before: before))
    }
  }

  private static func outcomes(_ report: RecoverReport) -> [String: RecoverReport.Run.Outcome] {
    Dictionary(report.runs.map { (String($0.runPath.split(separator: "_").last ?? ""), $0.outcome) }) { $1 }
  }

  private static let expected: [String: RecoverReport.Run.Outcome] = [
    "verified": .verified, "grown": .verified, "cleaned": .cleaned, "waiting": .queued, "blocked": .blocked,
  ]

  @Test(arguments: [LoopbackSSHD.Style.shell, .chroot]) func aLostQueueComesBack(_ style: LoopbackSSHD.Style) async throws {
    try await Self.with(style) { bench in
      for ending in ["", "-wal", "-shm"] { try? FileManager.default.removeItem(atPath: bench.database + ending) }  // not all are there
      let client = bench.client()
      let looked = try await client.recover(dryRun: true)
      #expect(Self.outcomes(looked) == Self.expected && looked.dryRun && looked.obstacles.isEmpty, "\(looked)")
      #expect(!FileManager.default.fileExists(atPath: bench.database))
      let report = try await client.recover()
      #expect(Self.outcomes(report) == Self.expected && report.damage == nil && report.leftovers.isEmpty, "\(report)")
      for name in ["verified", "grown", "cleaned"] {
        let (now, then) = (try await client.status(of: try bench.run(name)), try #require(bench.before[name]))
        #expect(now.state == then.state && now.jobID == then.jobID && now.generation == then.generation, "\(name): \(now)")
        #expect(now.remotePath == then.remotePath && now.filesTotal >= then.filesTotal && now.evidence != nil, "\(name): \(now)")
        #expect(now.verifyPasses == (name == "cleaned" ? 0 : 1))
        #expect(try await client.history(of: try bench.run(name)).contains { $0.event == "recovered" && $0.detail.contains("published") })
        #expect(try await client.verify(try bench.run(name)).ok)
      }
      #expect(try await client.status(of: try bench.run("never")).state == .none)
      // Nothing is deleted on the word of what was lost: the verifications count anew.
      let kept = try #require(try await client.cleanup(runs: [try bench.run("verified")]).runs.first)
      #expect(kept.result == .kept && kept.unmet.map(\.name).contains(.verifyPasses), "\(kept.unmet)")
      // And then it goes on as ever.
      _ = try await client.drain()
      #expect(try await client.status(of: try bench.run("waiting")).state == .job(.verified))
      for _ in 0..<2 {
        bench.clock.advance(seconds: 90_000)
        _ = try await client.cleanup(runs: [try bench.run("verified")])
      }
      #expect(try await client.status(of: try bench.run("verified")).state == .job(.cleaned))
      let again = try await client.recover()
      #expect(again.runs.allSatisfy { $0.outcome == .known || $0.runPath.hasSuffix("blocked") }, "\(again.runs)")
      let back = bench.lab.folder + "/back"
      let restored = try await client.restore(try bench.run("cleaned"), to: back)
      #expect(restored.ok && FileManager.default.fileExists(atPath: back + "/empty"), "\(restored)")
      #expect(try FileManager.default.destinationOfSymbolicLink(atPath: back + "/link") == "data.fcs")
      await client.close()
    }
  }

  @Test func aDamagedQueueIsKeptAndRebuilt() async throws {
    try await Self.with { bench in
      // The file holds everything that the log did.
      for ending in ["-wal", "-shm"] { try? FileManager.default.removeItem(atPath: bench.database + ending) }  // not both are there
      // The same bit wherever the run's path stands, so that table and indexes agree: only the seal tells.
      var content = try #require(FileManager.default.contents(atPath: bench.database))
      let path = Data(try bench.run("verified").utf8)
      var places: [Int] = []
      while let place = content.range(of: path) {
        content[place.upperBound - 3] ^= 1
        places.append(place.lowerBound)
      }
      #expect(places.count > 1)
      try content.write(to: URL(fileURLWithPath: bench.database))
      let client = bench.client()
      let report = try await client.recover()
      #expect(report.damage?.contains("is damaged") == true && Self.outcomes(report) == Self.expected, "\(report)")
      let aside = try #require(report.setAside)
      #expect(aside.hasPrefix(bench.database + ".damaged-"))
      #expect(FileManager.default.contents(atPath: aside)?.count == content.count)
      _ = try await client.drain()
      await client.close()
    }
  }

  @Test func whatTheNASNoLongerHoldsIsNamed() async throws {
    try await Self.with { bench in
      let changed = bench.lab.remote(try bench.run("verified")) + "/data.fcs"
      var bytes = try #require(FileManager.default.contents(atPath: changed))
      bytes[100] ^= 1
      try bytes.write(to: URL(fileURLWithPath: changed))
      try FileManager.default.removeItem(atPath: bench.lab.remote(try bench.run("cleaned")) + "/sub/notes.txt")
      try FileManager.default.removeItem(atPath: bench.database)
      let client = bench.client()
      let report = try await client.recover()
      var expected = Self.expected
      expected["verified"] = .notWhole
      expected["cleaned"] = .notWhole
      #expect(Self.outcomes(report) == expected, "\(report)")
      #expect(report.runs.contains { $0.outcome == .notWhole && $0.detail.contains("sub/notes.txt") })
      let problems = try await client.problems()
      #expect(problems.contains { $0.runPath == bench.runs["cleaned"] && $0.severity == .critical }, "\(problems)")
      _ = try await client.drain()
      // The good copy is the one here: it stays, and the other one is not written over.
      let status = try await client.status(of: try bench.run("verified"))
      #expect(status.state == .job(.failed) && status.lastError?.kind == .remoteConflict, "\(status)")
      #expect(try #require(FileManager.default.contents(atPath: changed)) == bytes)
      await client.close()
    }
  }

  @Test func anInterruptedCleanUpGoesOn() async throws {
    try await Self.with { bench in
      // As if the machine had died between two removals: the certificate says what was to go.
      let cleaned = try bench.run("cleaned")
      let certificate = cleaned + "/.exlab-wizard/deletion.json"
      #expect(FileManager.default.fileExists(atPath: certificate))
      try FileManager.default.createDirectory(atPath: cleaned + "/sub", withIntermediateDirectories: true)
      try FileManager.default.copyItem(atPath: bench.lab.remote(cleaned) + "/sub/notes.txt", toPath: cleaned + "/sub/notes.txt")
      try FileManager.default.removeItem(atPath: bench.database)
      let client = bench.client()
      let report = try await client.recover()
      #expect(report.runs.contains { $0.runPath == cleaned && $0.outcome == .verified && $0.detail.contains("had begun") }, "\(report)")
      for _ in 0..<2 {
        bench.clock.advance(seconds: 90_000)
        _ = try await client.cleanup(runs: [cleaned])
      }
      #expect(try await client.status(of: cleaned).state == .job(.cleaned))
      #expect(!FileManager.default.fileExists(atPath: cleaned + "/sub/notes.txt"))
      await client.close()
    }
  }

  /// A disk that is not mounted looks like runs that were removed; a link that points elsewhere is not the one that was published.
  @Test func whatIsNotHereForAnotherReasonIsNotTakenForCleaned() async throws {
    try await Self.with { bench in
      try FileManager.default.removeItem(atPath: bench.database)
      let client = bench.client()
      let disk = bench.lab.lab + "/CYTOMETER_01"
      try FileManager.default.moveItem(atPath: disk, toPath: disk + ".away")
      let away = try await client.recover()
      #expect(away.runs.count == 3 && away.runs.allSatisfy { $0.outcome == .unclear && $0.hint?.contains("mounted") == true }, "\(away)")
      #expect(try await client.statuses().isEmpty)
      try FileManager.default.moveItem(atPath: disk + ".away", toPath: disk)
      try FileManager.default.createSymbolicLink(atPath: try bench.run("verified") + "/new", withDestinationPath: "data.fcs")
      // All of it is here, and each file is another one.
      for name in ["data.fcs", "sub/notes.txt"] { try bench.lab.write([1, 2, 3], to: try bench.run("cleaned") + "/" + name) }
      let report = try await client.recover()
      var expected = Self.expected
      expected["verified"] = .queued
      expected["cleaned"] = .blocked
      #expect(Self.outcomes(report) == expected, "\(report)")
      await client.close()
    }
  }

  @Test func anUnreachableNASIsSaidAndNothingIsGuessed() async throws {
    try await Self.with { bench in
      try FileManager.default.removeItem(atPath: bench.database)
      try await bench.lab.server.stop()
      let client = bench.client()
      let report = try await client.recover()
      #expect(report.obstacles.count == 2 && report.obstacles.allSatisfy { $0.kind == .network }, "\(report.obstacles)")
      #expect(report.runs.allSatisfy { $0.outcome == .unclear && $0.kind == .network }, "\(report.runs)")
      #expect(try await client.statuses().isEmpty)
      await client.close()
    }
  }

  @Test func besideAServiceItRefuses() async throws {
    try await LabFixture.with { lab in
      let service = NASSyncClient(configuration: lab.configuration)
      try await service.start()
      let client = NASSyncClient(configuration: lab.configuration)
      let error = await #expect(throws: SyncFailure.self) { try await client.recover() }
      #expect(error?.message.contains("a service works") == true)
      await client.close()
      await service.close()
    }
  }
}
