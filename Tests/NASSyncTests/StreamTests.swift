import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// Many small files in one stream, from the queue to the published run.
@Suite struct StreamTests {
  private static let files = Dictionary(
    uniqueKeysWithValues: (0..<1_900).map { ("f\($0 / 100)/\($0).dat", Array("measured \($0)".utf8)) } + [("big.raw", noise(900_000))])

  private func puts(_ plan: FaultPlan) -> Int { plan.calls.count { $0.name == "put" && $0.path?.description.hasSuffix(".dat") == true } }
  /// Slows the sessions down until it is known who unpacks, which a busy machine may take its time for: too little would be left for a stream.
  private final class Patience: Sendable {
    private let begun = Turn()
    private let wanted = Turn()

    init() { another() }

    /// One more stream is to be waited for.
    func another() { _ = wanted.advance() }

    func hold(_ call: FaultPlan.Call) async {
      if call.name == "unpack" { _ = begun.advance() }
      guard call.name == "put", call.path?.description.hasSuffix(".dat") == true else { return }
      for _ in 0..<200 where begun.value < wanted.value {
        do { try await Task.sleep(for: .milliseconds(5)) } catch { return }
      }
    }
  }

  private func streams(_ plan: FaultPlan) -> Int { plan.calls.count { $0.name == "unpack" } }

  @Test func theyArriveInOneStream() async throws {
    try await LabFixture.with { lab in
      let patience = Patience()
      let plan = FaultPlan(unpacks: true, before: { await patience.hold($0) })
      let client = lab.client(plan)
      let run = try lab.makeRun(files: Self.files)
      try await lab.published(client, run)
      #expect(streams(plan) == 1)
      #expect(puts(plan) < 1_900)
      // What was unpacked was flushed before anything was published.
      let stream = try #require(plan.calls.lastIndex { $0.name == "unpack" })
      let publication = try #require(plan.calls.firstIndex { $0.name == "publish" })
      #expect(plan.calls[stream..<publication].contains { $0.name == "syncFileSystem" })
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// A stream that breaks costs no attempt: the sessions send what it did not confirm.
  @Test(arguments: [true, false]) func whatItDoesNotBringIsSentOtherwise(beforeAnything: Bool) async throws {
    try await LabFixture.with { lab in
      let killed = Turn()
      let patience = Patience()
      let plan = FaultPlan(
        unpacks: true,
        before: { (call) throws(TransportError) in
          await patience.hold(call)
          guard call.name == "unpack" else { return }
          if beforeAnything { throw FaultPlan.lost }
          // In the midst of it.
          Task {
            for _ in 0..<4_000 {
              if try await lab.server.killPrograms(named: "tar") > 0 {
                _ = killed.advance()
                return
              }
              try await Task.sleep(for: .milliseconds(1))
            }
          }
        })
      let client = lab.client(plan)
      let run = try lab.makeRun(files: Self.files)
      try await client.enqueue(run)
      _ = try await client.drain()
      let status = try await client.status(of: run)
      #expect(status.state == .job(.verified), "\(status)")
      #expect(beforeAnything || killed.value > 0)
      // One whose program fails is not tried again; one whose connection fails is.
      if beforeAnything { patience.another() }
      let another = try lab.makeRun(project: "Beta", files: Self.files)
      try await lab.published(client, another)
      #expect(streams(plan) == (beforeAnything ? 2 : 1))
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// Where nobody makes the NAS write everything to its disks, each file is flushed by itself, and that takes a request.
  @Test func withoutASyncThereIsNoStream() async throws {
    try await LabFixture.with { lab in
      let plan = FaultPlan(unpacks: true, syncs: { _ in false })
      let client = lab.client(plan)
      let run = try lab.makeRun(files: Self.files)
      try await lab.published(client, run)
      #expect(streams(plan) == 0)
      #expect(puts(plan) == 1_900)
      await client.close()
    }
  }

  /// `readback` is for those who do not trust what runs on the NAS.
  @Test func withReadBackThereIsNoStream() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let plan = FaultPlan(unpacks: true)
      let client = lab.client(plan)
      let run = try lab.makeRun(files: Self.files)
      try await lab.published(client, run)
      #expect(streams(plan) == 0)
      await client.close()
    }
  }

  /// What came out wrong is sent again over the sessions, once.
  @Test(arguments: ["content", "gone", "link"]) func whatCameOutWrongIsSentInThePlainWay(change: String) async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: Self.files)
      let patience = Patience()
      let plan = FaultPlan(
        unpacks: true, before: { await patience.hold($0) },
        after: { call in
          guard call.name == "unpack", let path = call.path else { return }
          do {
            let file = path.description + "/f18/1899.dat"
            let content = try lab.bytes(file)
            try FileManager.default.removeItem(atPath: file)
            if change == "content" { try lab.write(content.map { $0 ^ 1 }, to: file) }
            if change == "link" { try FileManager.default.createSymbolicLink(atPath: file, withDestinationPath: "/etc/passwd") }
          } catch { Issue.record(error) }
        })
      let client = lab.client(plan)
      try await lab.published(client, run)
      #expect(streams(plan) == 1)
      #expect(plan.timesSent("1899.dat") >= 1)
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// A file that changes while it waits for its turn fails the attempt as it does otherwise, and the next one sends what is missing.
  @Test func aFileThatChangesIsNotSent() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: Self.files)
      let changed = Turn()
      let patience = Patience()
      let plan = FaultPlan(
        unpacks: true,
        before: { call in
          await patience.hold(call)
          guard call.name == "unpack", changed.advance() == 0 else { return }
          do { try lab.write(Array("something else".utf8), to: run + "/f18/1899.dat") } catch { Issue.record(error) }
        })
      let client = lab.client(plan)
      try await lab.published(client, run)
      #expect(try lab.bytes(lab.remote(run) + "/f18/1899.dat") == Array("something else".utf8))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }
}
