import Foundation
import NASSync
import TestSupport
import Testing

/// What must not happen where two runs, or a stranger's files, meet in one place on the NAS; and how a damaged copy is mended.
@Suite struct SharedPlaceTests {
  /// Two instruments with a local_root each and one remote_root: runs of one relative path would lie in one folder.
  @Test func twoRunsOfOneWorkstationNeverShareAFolder() async throws {
    try await LabFixture.with { lab in
      var configuration = lab.configuration
      for index in configuration.equipment.indices { configuration.equipment[index].localRoot = lab.folder + "/root\(index)" }
      let client = NASSyncClient(configuration: configuration)
      for index in 0..<2 { try lab.write(Array("run \(index)".utf8), to: lab.folder + "/root\(index)/P/Runs/Run_1/file\(index)") }
      try await client.enqueue(lab.folder + "/root0/P/Runs/Run_1", equipment: configuration.equipment[0].id)
      let failure = await #expect(throws: SyncFailure.self) {
        try await client.enqueue(lab.folder + "/root1/P/Runs/Run_1", equipment: configuration.equipment[1].id)
      }
      #expect(failure?.kind == .misconfigured && failure?.message.contains("root0") == true)
      await client.close()
    }
  }

  /// The same with a queue of its own each, as two workstations have: the record tells the runs apart.
  @Test func aRunOfAnotherWorkstationIsNotMergedInto() async throws {
    try await LabFixture.with { lab in
      let first = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["first.fcs": [1, 2, 3]])
      try await lab.published(first, run)
      await first.close()
      let record = lab.remote(run) + "/.exlab-wizard/creation.json"
      let before = try Data(contentsOf: URL(fileURLWithPath: record))

      try FileManager.default.removeItem(atPath: run)
      _ = try lab.makeRun(files: ["second.fcs": [4, 5]])
      try lab.write(
        Array(#"{"schema_version":"1.8","run_kind":"experimental","created_by":"somebody else","sync_status":"pending"}"#.utf8),
        to: run + "/.exlab-wizard/creation.json")
      var configuration = lab.configuration
      configuration.stateDirectory = lab.folder + "/other-state"
      let second = NASSyncClient(configuration: configuration)
      try await second.enqueue(run)
      let report = try await second.drain()
      #expect(report.failed.map(\.lastError?.kind) == [.remoteConflict])
      let hint = report.failed.first?.lastError?.hint ?? ""
      #expect(hint.contains("nassync retry"), "\(hint)")
      #expect(try Data(contentsOf: URL(fileURLWithPath: record)) == before)
      #expect(!lab.exists(lab.remote(run) + "/second.fcs"))
      #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
      await second.close()
    }
  }

  /// Files that were there before us are left alone, named in the receipt, and no mismatch of ours.
  @Test func foreignFilesAreNamedAndLeftAlone() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(record: false, files: ["data.fcs": [1, 2, 3]])
      try lab.write([1, 2, 3], to: lab.remote(run) + "/data.fcs")
      try lab.write([9], to: lab.remote(run) + "/somebody's notes.txt")
      try lab.write([9], to: lab.remote(run) + "/left.tmp")
      try await client.enqueue(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      let receipt = try lab.json(lab.remote(run) + "/.exlab-wizard/receipt.json")
      #expect(receipt["foreign"] as? [String] == ["somebody's notes.txt"])
      let integrity = try await client.forceVerify(run)
      #expect(integrity.ok, "\(integrity.mismatches)")
      try lab.write([8], to: lab.remote(run) + "/new since.txt")
      #expect(try await client.forceVerify(run).mismatches.map(\.path) == ["new since.txt"])
      await client.close()
    }
  }

  /// A damaged copy is a problem until it is mended, and enqueueing the run again mends it once the wrong file is out of the way.
  @Test func aDamagedCopyIsAProblemAndCanBeMended() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      try lab.flip(lab.remote(run) + "/data.fcs")
      #expect(try await !client.forceVerify(run).ok)
      #expect(try await client.problems().map(\.problemClass) == ["nas_copy_differs"])
      #expect(try await client.status(of: run).state == .job(.verified))

      try FileManager.default.removeItem(atPath: lab.remote(run) + "/data.fcs")
      let handle = try await client.enqueue(run)
      #expect(!handle.unchanged && handle.jobState == .queued)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(try await client.forceVerify(run).ok)
      #expect(try await client.problems().isEmpty)
      #expect(try await client.enqueue(run).unchanged)
      await client.close()
    }
  }
}
