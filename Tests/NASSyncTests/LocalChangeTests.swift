import Foundation
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// The instrument, or a person, touches the run while it is on its way.
@Suite(.serialized) struct LocalChangeTests {
  /// Does something once.
  final class Once: Sendable {
    private let done = Mutex(false)
    func callAsFunction(_ body: () throws -> Void) {
      guard
        done.withLock({
          let first = !$0; $0 = true; return first
        })
      else { return }
      do { try body() } catch { Issue.record(error) }
    }
  }

  @Test(arguments: ["appended", "rewritten", "replaced"]) func aLargeFileThatChangesIsSentAgainWhole(how: String) async throws {
    try await LabFixture.with(backoff: [5, 5, 5]) { lab in
      let run = try lab.makeRun(files: ["large.bin": noise(900_000), "small.dat": noise(10)])
      let once = Once()
      let plan = FaultPlan(after: { call in
        guard call.name == "write", call.isFor("large.bin") else { return }
        once {
          switch how {
          case "appended":
            let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: run + "/large.bin"))
            try handle.seekToEnd()
            try handle.write(contentsOf: Data(noise(1000, seed: 5)))
            try handle.close()
          case "rewritten": try lab.flip(run + "/large.bin")
          default:
            try FileManager.default.removeItem(atPath: run + "/large.bin")
            try lab.write(noise(900_000, seed: 7), to: run + "/large.bin")
          }
        }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      _ = try await client.drain()
      let waiting = try await client.status(of: run)
      #expect(waiting.state == .job(.queued) && waiting.attempts == 1)
      #expect(waiting.lastError?.kind == .localChanged && waiting.lastError?.retry == true)
      #expect(try await client.problems().map(\.problemClass) == ["waiting"])
      #expect(!lab.exists(lab.remote(run)))
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.lastError == nil && status.attempts == 0)
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(plan.timesSent("small.dat") == 1)
      #expect(try await client.history(of: run).contains { $0.event == "snapshot_replaced" })
      await client.close()
    }
  }

  /// Same size, same second: neither a listing here nor one there shows the difference.
  @Test func aSmallFileThatChangesAfterItWasSentIsSentAgain() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["small.dat": noise(5000), "other.dat": noise(10)])
      let once = Once()
      let plan = FaultPlan(after: { call in
        if call.name == "put", call.isFor("small.dat") { once { try lab.flip(run + "/small.dat") } }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified))
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(plan.timesSent("small.dat") == 2 && plan.timesSent("other.dat") == 1)
      // It is known here that the file changed: the NAS need not be blamed for it.
      #expect(try await client.history(of: run).contains { $0.event == "digest_mismatch" } == false)
      await client.close()
    }
  }

  @Test func aLinkThatPointsElsewhereNowIsMadeAnew() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": [1], "b.dat": [2]])
      try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "a.dat")
      let once = Once()
      let plan = FaultPlan(before: { call in
        guard call.name == "syncFileSystem", call.sentBefore > 0 else { return }
        once {
          try FileManager.default.removeItem(atPath: run + "/link")
          try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "b.dat")
        }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified), "\(status)")
      #expect(try await lab.sameTree(run, lab.remote(run)))
      await client.close()
    }
  }

  @Test func filesThatComeAndGoMeanwhileAreFollowed() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(5000), "z.dat": noise(10), "sub/x": [1]])
      let once = Once()
      let plan = FaultPlan(before: { call in
        guard call.name == "syncFileSystem", call.sentBefore > 0 else { return }
        once {
          try lab.write(noise(70), to: run + "/added/new.dat")
          try FileManager.default.removeItem(atPath: run + "/sub")
        }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.filesTotal == 3, "\(status)")
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(plan.timesSent("a.dat") == 1 && plan.timesSent("new.dat") == 1)
      await client.close()
    }
  }

  @Test func aFileThatBecameALinkIsFollowedNoWhere() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(5000), "b.dat": noise(300_000)])
      try lab.write(Array("secret".utf8), to: lab.folder + "/secret")
      let once = Once()
      let plan = FaultPlan(before: { call in
        guard call.name == "beginUpload" else { return }
        once {
          try FileManager.default.removeItem(atPath: run + "/b.dat")
          try FileManager.default.createSymbolicLink(atPath: run + "/b.dat", withDestinationPath: lab.folder + "/secret")
        }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.failed))
      #expect(status.lastError?.kind == .blocked && status.lastError?.message.contains("symlink_escapes_run") == true, "\(status)")
      #expect(!lab.exists(lab.remote(run)))
      await client.close()
    }
  }

  @Test func whatChangesWhileItWaitsIsSentAsItIs() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["a.dat": noise(500), "gone.dat": [1]])
      try await client.enqueue(run)
      try lab.write(noise(900), to: run + "/a.dat")
      try lab.write([3], to: run + "/new.dat")
      try FileManager.default.removeItem(atPath: run + "/gone.dat")
      let report = try await client.drain()
      #expect(report.done.count == 1 && report.done.first?.filesTotal == 2 && report.done.first?.bytesTotal == 901)
      #expect(try await lab.sameTree(run, lab.remote(run)))
      let told = try #require(try await client.history(of: run).first { $0.event == "snapshot_replaced" }).detail
      for name in ["a.dat", "gone.dat", "new.dat"] { #expect(told.contains(name)) }
      await client.close()
    }
  }

  @Test func aRunThatVanishedFailsAndIsNotMadeAnew() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await client.enqueue(run)
      let events = client.events
      try FileManager.default.removeItem(atPath: run)
      let report = try await client.drain()
      #expect(report.failed.map(\.runPath) == [run])
      let status = try await client.status(of: run)
      #expect(status.state == .job(.failed) && status.lastError?.kind == .localVanished && status.lastError?.retry == false)
      #expect(!lab.exists(run) && !lab.exists(lab.remote(run)))
      #expect(try await client.problems().map(\.problemClass) == ["local_vanished"])
      await client.close()
      // Nobody is told besides that the record of a run that is gone could not be written.
      var warnings: [String] = []
      for await event in events { if case .warning(_, let message) = event { warnings.append(message) } }
      #expect(warnings.isEmpty)
    }
  }
}
