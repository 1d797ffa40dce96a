import Foundation
import NASSync
import TestSupport
import Testing

@Suite struct PipelineTests {
  @Test(arguments: [LoopbackSSHD.Style.shell, .chroot])
  func aRunIsCheckedSentProvenAndPublished(style: LoopbackSSHD.Style) async throws {
    try await LabFixture.with(style) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      let handle = try await client.enqueue(run)
      #expect(handle.state == .queued)
      let report = try await client.drain()
      let status = try await client.status(of: run)
      #expect(report.done.count == 1, "\(String(describing: status.lastError))")
      #expect(status.state == .job(.verified))
      #expect(status.verifyPasses == 1)
      #expect(status.evidence == (style == .shell ? .server : .readback))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(try await lab.checksumsHold(in: run))
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      let integrity = try await client.forceVerify(run)
      #expect(integrity.ok, "\(integrity.mismatches)")
      await client.close()
    }
  }
}

@Suite struct OtherLayoutTests {
  /// A run outside `<local_root>/<EQUIPMENT>/` is found again by the instrument that was named when it was enqueued.
  @Test func aRunOfAnotherLayoutIsKnownByWhatEnqueueWasTold() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = lab.lab + "/loose/day one"
      try lab.write(Array("x".utf8), to: run + "/a.bin")
      await #expect(throws: SyncFailure.self) { try await client.status(of: run) }
      try await client.enqueue(run, equipment: "CONFOCAL_01")
      _ = try await client.drain()
      let status = try await client.status(of: run)
      #expect(status.state == .job(.verified))
      #expect(status.equipmentID == "CONFOCAL_01")
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }
}
