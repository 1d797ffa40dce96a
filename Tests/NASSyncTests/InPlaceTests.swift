import Foundation
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// A destination that renames nothing, as an object store: files go to their place under a claim, and the manifest, written last, publishes.
/// The store here is a real SFTP server that is asked for no rename of folders; the S3 driver has its own tests.
@Suite struct InPlaceTests {
  private static let claimName = ".nassync-claim-Run_2026-11-20T10-00"
  private func claimPath(_ lab: LabFixture, _ run: String) -> String {
    (lab.remote(run) as NSString).deletingLastPathComponent + "/" + Self.claimName
  }
  private func manifest(_ lab: LabFixture, _ run: String) -> String { lab.remote(run) + "/.exlab-wizard/checksums.sha256" }

  @Test func theManifestComesLastAndTheClaimGuardsThePlace() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(900), "sub/large.bin": noise(600_000)])
      try FileManager.default.createDirectory(atPath: run + "/nothing", withIntermediateDirectories: true)
      let claim = claimPath(lab, run)
      let manifest = manifest(lab, run)
      let plan = FaultPlan(
        inPlace: true,
        before: { call in
          guard ["put", "beginUpload", "write", "finishUpload"].contains(call.name) else { return }
          if !lab.exists(claim) { Issue.record("\(call) without a claim") }
          if lab.exists(manifest) { Issue.record("\(call) after the manifest") }
        })
      let client = lab.client(plan)
      try await lab.published(client, run)
      #expect(plan.calls.last { ["put", "putNew", "write", "finishUpload"].contains($0.name) }?.isFor("checksums.sha256") == true)
      let names = plan.calls.map(\.name)
      let published = try #require(names.lastIndex(of: "putNew"))
      // Everything was read back before the manifest said that it is there.
      #expect(names[..<published].contains("download"))
      #expect(plan.calls.filter { $0.name == "publish" || $0.name == "replace" }.isEmpty)
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await client.forceVerify(run).ok)
      let receipt = try lab.json(lab.remote(run) + "/.exlab-wizard/receipt.json")
      #expect(receipt["foreign"] == nil)
      // Nothing is sent a second time.
      let sent = plan.bytesSent
      #expect(try await client.enqueue(run).unchanged)
      _ = try await client.drain()
      #expect(plan.bytesSent == sent)
      await client.close()
    }
  }

  @Test func aStrangersFileIsNeverWrittenOver() async throws {
    try await LabFixture.with { lab in
      let client = lab.client(FaultPlan(inPlace: true))
      let run = try lab.makeRun(record: false, files: ["a.dat": noise(900), "b.dat": noise(10)])
      try lab.write([9, 9], to: lab.remote(run) + "/a.dat")
      try await client.enqueue(run)
      // Not at the first attempt, nor once a person has said to try again.
      for _ in 0..<2 {
        let failed = try await lab.settle(client, run)
        #expect(failed.state == .job(.failed) && failed.lastError?.kind == .remoteConflict, "\(failed)")
        #expect(try lab.bytes(lab.remote(run) + "/a.dat") == [9, 9])
        #expect(!lab.exists(lab.remote(run) + "/b.dat") && !lab.exists(claimPath(lab, run)))
        try await client.retry(run)
      }
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/a.dat")
      #expect(try await lab.settle(client, run).state == .job(.verified))
      await client.close()
    }
  }

  /// An equal file that was there before is adopted; once it is another one, it is not taken for one that this job sent.
  @Test func anAdoptedFileThatChangesThereIsAConflict() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let run = try lab.makeRun(record: false, files: ["theirs.dat": noise(900), "ours.dat": noise(700_000)])
      let theirs = lab.remote(run) + "/theirs.dat"
      try lab.write(noise(900), to: theirs)
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(
        inPlace: true,
        after: { call throws(TransportError) in
          guard call.name == "write", call.isFor("ours.dat") else { return }
          var changed = false
          once {
            try lab.overwrite(theirs, noise(900, seed: 5))
            changed = true
          }
          if changed { throw FaultPlan.lost }
        })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let failed = try await lab.settle(client, run)
      #expect(failed.state == .job(.failed) && failed.lastError?.kind == .remoteConflict, "\(failed)")
      #expect(try lab.bytes(theirs) == noise(900, seed: 5))
      #expect(!lab.exists(manifest(lab, run)))
      await client.close()
    }
  }

  @Test func anotherWorkstationsClaimKeepsUsOut() async throws {
    try await LabFixture.with { lab in
      let client = lab.client(FaultPlan(inPlace: true))
      let run = try lab.makeRun()
      let claim = """
        {"version": 1, "job_id": "x", "workstation": "other", "host": "microscope-pc", "run_path": "/data/lab/Run", "since": "2026-11-20T10:00:00Z", "found": []}
        """
      try lab.write(Array(claim.utf8), to: claimPath(lab, run))
      try await client.enqueue(run)
      let failed = try await lab.settle(client, run)
      #expect(failed.state == .job(.failed) && failed.lastError?.kind == .remoteConflict, "\(failed)")
      #expect(failed.lastError?.message.contains("microscope-pc") == true && failed.lastError?.hint.contains(Self.claimName) == true)
      #expect(!lab.exists(lab.remote(run)) && lab.exists(claimPath(lab, run)))
      // A claim that nobody can read keeps us out as well.
      try lab.overwrite(claimPath(lab, run), [1, 2])
      try await client.retry(run)
      #expect(try await lab.settle(client, run).lastError?.message.contains("cannot be read") == true)
      try FileManager.default.removeItem(atPath: claimPath(lab, run))
      try await client.retry(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      await client.close()
    }
  }

  /// The instrument writes on while the run is sent: what was sent of the earlier state is this job's own and is written over.
  @Test func aFileThatChangesWhileSentIsSentAgain() async throws {
    try await LabFixture.with(backoff: [0.1, 0.1, 0.1]) { lab in
      let run = try lab.makeRun(files: ["early.dat": noise(800), "large.bin": noise(900_000)])
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(
        inPlace: true,
        after: { call in
          guard call.name == "write", call.isFor("large.bin") else { return }
          once { try lab.write(noise(801, seed: 4), to: run + "/early.dat") }
        })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(plan.timesSent("large.bin") <= 2)
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      await client.close()
    }
  }

  /// The store lost or changed what was sent before it was proven: only that is sent again.
  @Test func aMismatchIsSentAgainOnce() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(800), "b.dat": noise(600_000)])
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(
        inPlace: true,
        after: { call in
          guard call.name == "finishUpload", call.isFor("b.dat") else { return }
          once { try lab.flip(lab.remote(run) + "/b.dat") }
        })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      #expect(try await client.history(of: run).contains { $0.event == "digest_mismatch" })
      #expect(plan.timesSent("a.dat") == 1 && plan.timesSent("b.dat") == 2)
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// The queue file is lost in mid-transfer: the same workstation goes on in its own place.
  @Test func aLostQueueDoesNotLockTheRunOut() async throws {
    try await LabFixture.with(backoff: [60, 60]) { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(800), "b.dat": noise(600_000)])
      let plan = FaultPlan(
        inPlace: true, before: { call throws(TransportError) in if call.name == "finishUpload" { throw FaultPlan.lost } })
      let first = lab.client(plan)
      try await first.enqueue(run)
      _ = try await first.drain()
      await first.close()
      #expect(lab.exists(claimPath(lab, run)) && lab.exists(lab.remote(run) + "/b.dat"))
      let second = lab.client(FaultPlan(inPlace: true), configuration: lab.configuration(state: "new"))
      try await second.enqueue(run)
      let status = try await lab.settle(second, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(!lab.exists(claimPath(lab, run)))
      await second.close()
    }
  }

  /// Somebody publishes a run of this path while ours is sent: theirs stays.
  @Test func aManifestThatAppearsMeanwhileIsNotReplaced() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let run = try lab.makeRun()
      let place = manifest(lab, run)
      let plan = FaultPlan(
        inPlace: true,
        before: { call in
          guard call.name == "putNew", call.isFor("checksums.sha256") else { return }
          do { try lab.write([0x0a], to: place) } catch { Issue.record(error) }
        })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let failed = try await lab.settle(client, run)
      #expect(failed.state == .job(.failed) && failed.lastError?.kind == .remoteConflict, "\(failed)")
      #expect(try lab.bytes(place) == [0x0a])
      await client.close()
    }
  }

  /// Another workstation comes, publishes and goes between our look at the place and our claim on it: its files are not written over.
  @Test(arguments: [false, true]) func whatIsPublishedBetweenLookAndClaimStays(somethingLayThere: Bool) async throws {
    try await LabFixture.with(method: .readback, backoff: [0.1]) { lab in
      let run = try lab.makeRun()
      let theirs = lab.remote(run) + "/data.fcs"
      if somethingLayThere { try lab.write(Array("fine\n".utf8), to: lab.remote(run) + "/sub/notes.txt") }
      let claim = claimPath(lab, run)
      let plan = FaultPlan(
        inPlace: true,
        before: { call in
          guard call.name == "putNew", call.path.map({ claim.hasSuffix($0.description.split(separator: "/").last ?? "?") }) == true,
            !lab.exists(theirs)
          else { return }
          do { try lab.write(Array("of another workstation".utf8), to: theirs) } catch { Issue.record(error) }
        })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let failed = try await lab.settle(client, run)
      #expect(failed.state == .job(.failed) && failed.lastError?.kind == .remoteConflict, "\(failed)")
      #expect(try lab.bytes(theirs) == Array("of another workstation".utf8))
      #expect(!lab.exists(manifest(lab, run)) && !lab.exists(claim))
      await client.close()
    }
  }
}
