import Foundation
import NASSync
import TestSupport
import Testing

/// Runs that are on the NAS already.
@Suite(.serialized) struct AdoptionTests {
  @Test func anEqualRunIsAdoptedWithoutAByte() async throws {
    try await LabFixture.with { lab in
      let first = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["data.fcs": noise(5000), "large.bin": noise(400_000), "sub/x": [1]])
      try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "sub/x")
      try await lab.published(first, run)
      await first.close()

      let plan = FaultPlan()
      let second = lab.client(plan, configuration: lab.configuration(state: "other"))
      try await lab.published(second, run)
      #expect(plan.bytesSent == 0)
      #expect(!plan.calls.contains { $0.name == "makeSymlink" })
      let status = try await second.status(of: run)
      #expect(status.filesDone == 3 && status.bytesSent == 405_001)
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(try await second.forceVerify(run).ok)
      await second.close()
    }
  }

  @Test func whatIsMissingIsAdded() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(100), "b.dat": noise(200), "sub/c.dat": noise(300)])
      let remote = lab.remote(run)
      // Somebody copied a part of it by hand: no manifest there.
      try lab.write(noise(100), to: remote + "/a.dat")
      let plan = FaultPlan()
      let client = lab.client(plan)
      try await lab.published(client, run)
      #expect(plan.timesSent("a.dat") == 0 && plan.timesSent("b.dat") == 1 && plan.timesSent("c.dat") == 1)
      #expect(try await lab.sameTree(run, remote))
      #expect(try await lab.checksumsHold(in: remote))
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      await client.close()
    }
  }

  @Test(arguments: ["content", "size", "kind", "link", "file"]) func aDifferingRunIsAConflictAndNothingIsOverwritten(how: String)
    async throws
  {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(100), "b.dat": noise(200)])
      let remote = lab.remote(run)
      try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "a.dat")
      switch how {
      case "content": try lab.write(noise(100, seed: 9), to: remote + "/a.dat")
      case "size": try lab.write(noise(99), to: remote + "/a.dat")
      case "kind": try FileManager.default.createDirectory(atPath: remote + "/a.dat", withIntermediateDirectories: true)
      case "file": try lab.write([1], to: remote)
      default:
        try FileManager.default.createDirectory(atPath: remote, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: remote + "/link", withDestinationPath: "b.dat")
      }
      let before = try await runProcess(["sh", "-c", "find \"$1\" -printf '%p %y %s %l %T@\\n' | sort", "sh", remote]).text
      let plan = FaultPlan()
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.failed))
      #expect(status.lastError?.kind == .remoteConflict && status.lastError?.retry == false)
      #expect(status.lastError?.message.contains(["link": "link", "file": "not a folder"][how] ?? "a.dat") == true)
      #expect(plan.bytesSent == 0)
      let after = try await runProcess(["sh", "-c", "find \"$1\" -printf '%p %y %s %l %T@\\n' | sort", "sh", remote]).text
      #expect(before == after)
      #expect(try lab.syncStatus(run) == "failed")

      // Moved away there, the run goes through.
      try FileManager.default.removeItem(atPath: remote)
      try await client.retry(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      await client.close()
    }
  }

  /// Whoever may write beside the run on the NAS plants a link where the job stages: nothing is written to where it leads.
  @Test(arguments: [".exlab-wizard", "sub", "a.dat", ""]) func aLinkInTheStagingFolderIsNeverWrittenThrough(name: String) async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(100), "sub/b.dat": noise(200), ".exlab-wizard/notes.txt": noise(30)])
      let client = NASSyncClient(configuration: lab.configuration)
      let job = try await client.enqueue(run).jobID
      let remote = lab.remote(run)
      let staging = (remote as NSString).deletingLastPathComponent + "/.nassync-\(job)"
      let outside = lab.folder + "/outside"
      try lab.write([7], to: outside + "/theirs")
      let link = name.isEmpty ? staging : staging + "/" + name
      let parent = (link as NSString).deletingLastPathComponent
      try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: name == "a.dat" ? outside + "/theirs" : outside)

      let status = try await lab.settle(client, run)
      #expect(try FileManager.default.contentsOfDirectory(atPath: outside) == ["theirs"])
      #expect(try lab.bytes(outside + "/theirs") == [7])
      if name.isEmpty {
        #expect(status.lastError?.kind == .remoteConflict, "\(status)")
      } else {
        #expect(status.state == .job(.verified), "\(status)")
        #expect(try await lab.sameTree(run, remote))
        #expect(try await lab.checksumsHold(in: remote))
      }
      await client.close()
    }
  }

  /// Somebody else puts a run there in the very moment in which ours is to be published.
  @Test(arguments: [true, false]) func aRunThatAppearsMeanwhileIsAdoptedOrAConflict(equal: Bool) async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(100), "b.dat": noise(200), "c.dat": noise(10)])
      let remote = lab.remote(run)
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(before: { call in
        guard call.name == "publish" else { return }
        once { try lab.write(noise(200, seed: equal ? 1 : 8), to: remote + "/b.dat") }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(try lab.bytes(remote + "/b.dat") == noise(200, seed: equal ? 1 : 8))
      if equal {
        #expect(status.state == .job(.verified), "\(status)")
        #expect(try await lab.checksumsHold(in: remote))
        #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      } else {
        #expect(status.state == .job(.failed) && status.lastError?.kind == .remoteConflict, "\(status)")
        #expect(status.lastError?.message.contains("b.dat") == true)
        // A folder that is no copy of the run is left as it was.
        #expect(try FileManager.default.contentsOfDirectory(atPath: remote) == ["b.dat"])
      }
      await client.close()
    }
  }

  /// A file that is added to a published run and gone again before the manifest says that it is there.
  @Test func whatVanishesWhileItIsPublishedIsNotCalledVerified() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(100), "b.dat": noise(200), "c.dat": noise(10)])
      let remote = lab.remote(run)
      try lab.write(noise(100), to: remote + "/a.dat")
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(after: { call in
        if call.name == "publish", call.isFor("b.dat") { once { try FileManager.default.removeItem(atPath: remote + "/b.dat") } }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified), "\(status)")
      #expect(try await lab.sameTree(run, remote))
      #expect(plan.timesSent("a.dat") == 0 && plan.timesSent("b.dat") == 2 && plan.timesSent("c.dat") == 1)
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      await client.close()
    }
  }

  @Test func newFilesMakeANewGenerationAndChangedOnesAreBlocked() async throws {
    try await LabFixture.with { lab in
      let plan = FaultPlan()
      let client = lab.client(plan)
      let run = try lab.makeRun(files: ["a.dat": noise(100)])
      let first = try await client.enqueue(run)
      #expect(!first.unchanged)
      let waiting = try await client.enqueue(run)
      #expect(waiting.unchanged && waiting.jobID == first.jobID && waiting.jobState == .queued)
      #expect(try await lab.settle(client, run).generation == 1)
      let again = try await client.enqueue(run)
      #expect(again.unchanged && again.jobID == first.jobID && again.jobState == .verified)
      #expect(try lab.syncStatus(run) == "synced")

      try lab.write(noise(300), to: run + "/late/b.dat")
      let next = try await client.enqueue(run)
      #expect(!next.unchanged && next.jobID != first.jobID)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.generation == 2, "\(String(describing: status.lastError))")
      #expect(plan.timesSent("a.dat") == 1 && plan.timesSent("b.dat") == 1)
      let manifest = String(decoding: try lab.bytes(lab.remote(run) + "/.exlab-wizard/checksums.sha256"), as: UTF8.self)
      #expect(manifest.contains("  a.dat\n") && manifest.contains("  late/b.dat\n"))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])

      try lab.flip(run + "/a.dat")
      let blocked = try await client.enqueue(run)
      #expect(blocked.state == .blocked)
      #expect(blocked.blockingFindings.map(\.problemClass) == [.changedAfterSync])
      #expect(blocked.blockingFindings.first?.path == "a.dat")
      #expect(try lab.bytes(lab.remote(run) + "/a.dat") == noise(100))
      #expect(try await client.status(of: run).state == .job(.verified))
      await client.close()
    }
  }

  @Test func whatIsGoneHereStaysInTheManifestThere() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["a.dat": noise(100), "b.dat": noise(50)])
      try await lab.published(client, run)
      try FileManager.default.removeItem(atPath: run + "/b.dat")
      try lab.write([1], to: run + "/c.dat")
      try await lab.published(client, run)
      let manifest = String(decoding: try lab.bytes(lab.remote(run) + "/.exlab-wizard/checksums.sha256"), as: UTF8.self)
      for name in ["a.dat", "b.dat", "c.dat"] { #expect(manifest.contains("  \(name)\n")) }
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      let report = try await client.forceVerify(run)
      #expect(report.mismatches.map { "\($0.place) \($0.problem) \($0.path)" } == ["local missing b.dat"])
      await client.close()
    }
  }
}
