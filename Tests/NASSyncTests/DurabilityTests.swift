import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// What was sent is on the NAS's disks before anything is called verified.
@Suite struct DurabilityTests {
  private final class Flag: Sendable { let value = Mutex(false) }

  private let files: [String: [UInt8]] = ["a.fcs": [1], "b.fcs": [2], "sub/c.fcs": [3]]

  private func flushed(_ plan: FaultPlan, since first: Int) -> Set<String> {
    Set(
      plan.calls.dropFirst(first).filter { $0.name == "flush" }.compactMap { $0.path?.relative?.lastSegment }.map {
        String(decoding: $0, as: UTF8.self)
      })
  }

  @Test func whereTheNASCannotWriteEverythingAnyMoreEachFileIsFlushed() async throws {
    try await LabFixture.with { lab in
      let wrong = Flag()
      let plan = FaultPlan(syncs: { _ in wrong.value.withLock { $0 } ? false : nil })
      let client = lab.client(plan)
      // The first finds out that the NAS can be told at once.
      try await lab.published(client, try lab.makeRun(leaf: "Run_1", files: files))
      try await lab.published(client, try lab.makeRun(leaf: "Run_2", files: files))
      #expect(flushed(plan, since: 0).isEmpty)
      wrong.value.withLock { $0 = true }
      let before = plan.calls.count
      try await lab.published(client, try lab.makeRun(leaf: "Run_3", files: files))
      #expect(flushed(plan, since: before).isSuperset(of: ["a.fcs", "b.fcs", "c.fcs"]))
      // From now on every file is flushed as it is sent.
      let after = plan.calls.count
      try await lab.published(client, try lab.makeRun(leaf: "Run_4", files: files))
      #expect(flushed(plan, since: after).isEmpty)
      await client.close()
    }
  }

  @Test func whereTheHashingProgramIsGoneEachFileIsFlushed() async throws {
    try await LabFixture.with { lab in
      let gone = Flag()
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        guard gone.value.withLock({ $0 }), call.name == "syncFileSystem" else { return }
        throw FaultPlan.lost
      })
      let client = lab.client(plan)
      try await lab.published(client, try lab.makeRun(leaf: "Run_1", files: files))
      gone.value.withLock { $0 = true }
      let run = try lab.makeRun(leaf: "Run_2", files: files)
      try await client.enqueue(run)
      _ = try await client.drain()
      // Not known to be on the disks: not verified.
      #expect(try await client.status(of: run).state != .job(.verified))
      gone.value.withLock { $0 = false }
      #expect(try await lab.settle(client, run).state == .job(.verified))
      await client.close()
    }
  }
}
