import Foundation
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// What the NAS holds is compared with what was sent, before anybody can see it.
@Suite(.serialized) struct ProofTests {
  @Test func aFlippedByteSendsThatFileAgainOnce() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(5000), "b.dat": noise(600_000), "c.dat": noise(10)])
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(before: { call in
        if call.name == "digests" { once { try lab.flip(try #require(try lab.staging(of: run)) + "/b.dat") } }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.lastError == nil && status.verifyPasses == 1)
      #expect(plan.timesSent("a.dat") == 1 && plan.timesSent("b.dat") == 2 && plan.timesSent("c.dat") == 1)
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      let told = try await client.history(of: run).filter { $0.event == "digest_mismatch" }
      #expect(told.count == 1 && told.first?.toState == .queued && told.first?.detail.contains("b.dat") == true)
      await client.close()
    }
  }

  @Test(arguments: [VerifySettings.Method.server, .readback]) func flippedTwiceItFails(method: VerifySettings.Method) async throws {
    try await LabFixture.with(method: method) { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(5000), "b.dat": noise(6000)])
      // Two at the same moment would put it right again.
      let oneAtATime = Mutex(())
      let plan = FaultPlan(before: { call in
        guard call.name == "digests" || call.name == "download" else { return }
        // Each time it was sent, before anybody asks for it.
        do {
          guard let path = try lab.staging(of: run).map({ $0 + "/a.dat" }), lab.exists(path) else { return }
          try oneAtATime.withLock { _ in if try lab.bytes(path) == noise(5000) { try lab.flip(path) } }
        } catch { Issue.record(error) }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let report = try await client.drain()
      #expect(report.failed.count == 1)
      let status = try await client.status(of: run)
      #expect(status.state == .job(.failed) && status.lastError?.kind == .hashMismatch && status.lastError?.retry == false)
      #expect(status.lastError?.message.contains("a.dat") == true && status.lastError?.message.contains("b.dat") == false)
      #expect(plan.timesSent("a.dat") == 2 && plan.timesSent("b.dat") == 1)
      #expect(!lab.exists(lab.remote(run)) && status.verifyPasses == 0)
      #expect(try lab.syncStatus(run) == "failed")
      await client.close()
      // With a sound NAS the operator's word is enough.
      let sound = NASSyncClient(configuration: lab.configuration)
      try await sound.retry(run)
      #expect(try await lab.settle(sound, run).state == .job(.verified))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await sound.close()
    }
  }

  @Test func missingAndExtraThingsInTheStagingFolderAreNamed() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(5000), "sub/b.dat": noise(60)])
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(after: { call in
        guard call.name == "syncFileSystem", call.sentBefore > 0 else { return }
        once {
          let staging = try #require(try lab.staging(of: run))
          try FileManager.default.removeItem(atPath: staging + "/a.dat")
          try lab.write([1], to: staging + "/sub/intruder")
          try lab.write([1], to: staging + "/own/folder/intruder")
        }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified))
      let told = try #require(try await client.history(of: run).first { $0.event == "digest_mismatch" }).detail
      #expect(told.contains("a.dat (missing on the NAS)"), "\(told)")
      #expect(told.contains("sub/intruder (on the NAS, but not in the manifest)"), "\(told)")
      #expect(told.contains("own/folder/intruder"), "\(told)")
      #expect(try await lab.sameTree(run, lab.remote(run)))
      await client.close()
    }
  }

  /// The folder that a reader sees is there with its manifest and all of its files whole, or it is not there.
  @Test func aReaderNeverSeesHalfARun() async throws {
    try await LabFixture.with { lab in
      var files: [String: [UInt8]] = [:]
      for number in 0..<60 { files["d\(number % 5)/f\(number)"] = noise(2000 + number, seed: UInt64(number + 1)) }
      files["large.bin"] = noise(1_200_000)
      let content = files
      let looks = Mutex(0)
      let client = NASSyncClient(configuration: lab.configuration)
      let runs = try (0..<4).map { try lab.makeRun(project: "P\($0)", files: content) }
      let reader = Task.detached {
        var seen: Set<String> = []
        while seen.count < runs.count, !Task.isCancelled {
          for run in runs where !seen.contains(run) {
            looks.withLock { $0 += 1 }
            guard lab.exists(lab.remote(run)) else { continue }
            seen.insert(run)
            #expect(lab.exists(lab.remote(run) + "/.exlab-wizard/checksums.sha256"))
            for (name, bytes) in content {
              do { #expect(try lab.bytes(lab.remote(run) + "/" + name) == bytes, "\(name)") } catch { Issue.record(error) }
            }
          }
          await Task.yield()
        }
        return seen.count
      }
      for run in runs { try await client.enqueue(run) }
      #expect(try await client.drain().done.count == 4)
      #expect(await reader.value == 4)
      #expect(looks.withLock { $0 } > 100)
      await client.close()
    }
  }
}
