import Foundation
import NASSync
import TestSupport
import Testing

/// A run that goes on after it was published, or after its local copy was removed.
@Suite struct GenerationTests {
  static let files: [String: [UInt8]] = ["a.dat": noise(100), "sub/b.dat": noise(50, seed: 2)]

  private func cleaned(_ lab: LabFixture, _ client: NASSyncClient) async throws -> String {
    let run = try lab.makeRun(files: Self.files)
    try FileManager.default.createDirectory(atPath: run + "/nothing", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "sub/b.dat")
    try lab.write([5], to: run + "/.exlab-wizard/extra.json")
    try await lab.published(client, run)
    try await lab.takeAway(run)
    return run
  }

  @Test func aCleanedRunIsNotAnEmptyOne() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try await cleaned(lab, client)
      let handle = try await client.enqueue(run)
      #expect(handle.state == .queued && handle.unchanged && handle.jobState == .cleaned, "\(handle)")
      // A component in the metadata folder that is as it was changes nothing, nor does its absence.
      try FileManager.default.removeItem(atPath: run + "/.exlab-wizard/extra.json")
      let bare = try await client.enqueue(run)
      #expect(bare.unchanged && bare.jobState == .cleaned, "\(bare)")
      #expect(try await client.status(of: run).generation == 1)
      #expect(try await client.problems().isEmpty)
      await client.close()
    }
  }

  @Test func newFilesOfACleanedRunAreAddedAndTheManifestCoversAll() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let plan = FaultPlan()
      let client = lab.client(plan)
      let run = try await cleaned(lab, client)
      let sent = plan.bytesSent
      try lab.write(noise(70, seed: 3), to: run + "/late/c.dat")
      let handle = try await client.enqueue(run)
      #expect(!handle.unchanged && handle.state == .queued)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.generation == 2, "\(String(describing: status.lastError))")
      #expect(plan.bytesSent - sent == 70)
      let names = [".exlab-wizard/extra.json", "a.dat", "late/c.dat", "sub/b.dat"]
      #expect(try lab.manifestNames(lab.remote(run)) == names)
      #expect(try lab.manifestNames(run) == names)
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(try lab.json(lab.remote(run) + "/.exlab-wizard/receipt.json")["generation"] as? Int == 2)

      // What was removed here on purpose is not missing here; what was lost there is, links and folders too.
      let whole = try await client.forceVerify(run)
      #expect(whole.ok && whole.filesChecked == 4, "\(whole)")
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/link")
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/nothing")
      try lab.flip(lab.remote(run) + "/a.dat")
      let damaged = try await client.forceVerify(run)
      #expect(
        damaged.mismatches.map { "\($0.place) \($0.problem) \($0.path)" } == [
          "nas differs a.dat", "nas missing link", "nas missing nothing",
        ])
      await client.close()
    }
  }

  @Test func aFileThatComesBackIsAdoptedOrBlocked() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let plan = FaultPlan()
      let client = lab.client(plan)
      let run = try await cleaned(lab, client)
      let sent = plan.bytesSent
      try lab.write(noise(100), to: run + "/a.dat")
      let same = try await client.enqueue(run)
      #expect(same.unchanged && same.jobState == .cleaned, "\(same)")
      try lab.write([9], to: run + "/new.dat")
      try await lab.published(client, run)
      #expect(plan.bytesSent - sent == 1)
      #expect(try lab.manifestNames(lab.remote(run)).count == 4)
      try lab.write(noise(50, seed: 9), to: run + "/sub/b.dat")
      let other = try await client.enqueue(run)
      #expect(other.state == .blocked && other.blockingFindings.map(\.problemClass) == [.changedAfterSync])
      #expect(other.blockingFindings.first?.path == "sub/b.dat")
      #expect(try lab.bytes(lab.remote(run) + "/sub/b.dat") == noise(50, seed: 2))
      await client.close()
    }
  }

  @Test func aTouchedFileIsNoChangedOne() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: Self.files)
      try await lab.published(client, run)
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSince1970: 1_700_000_000)], ofItemAtPath: run + "/a.dat")
      try lab.write([1], to: run + "/c.dat")
      try await lab.published(client, run)
      #expect(try lab.manifestNames(lab.remote(run)) == ["a.dat", "c.dat", "sub/b.dat"])
      await client.close()
    }
  }

  /// Somebody writes a manifest of his own on the NAS: whatever it leaves out or adds, it is not believed.
  @Test(arguments: ["shorter", "other", "none"]) func onlyThePublishedManifestIsBelieved(how: String) async throws {
    try await LabFixture.with(method: .readback) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try await cleaned(lab, client)
      let manifest = lab.remote(run) + "/.exlab-wizard/checksums.sha256"
      let text = String(decoding: try lab.bytes(manifest), as: UTF8.self)
      switch how {
      case "shorter": try lab.write(Array(text.split(separator: "\n").dropLast().joined(separator: "\n").utf8) + [10], to: manifest)
      case "other":
        try lab.write([1, 2, 3], to: lab.remote(run) + "/a.dat")
        let forged = "039058c6f2c0cb492c533b0a4d14ef77cc0f78abccced5287d84a1a2011cfb81  a.dat"
        let lines = text.split(separator: "\n").map { $0.hasSuffix("  a.dat") ? forged : String($0) }
        try lab.write(Array(lines.joined(separator: "\n").utf8) + [10], to: manifest)
      default: try FileManager.default.removeItem(atPath: manifest)
      }
      try lab.write([1], to: run + "/c.dat")
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      if how == "none" {
        // Nothing contradicts what is known here.
        #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
        #expect(try lab.manifestNames(lab.remote(run)) == [".exlab-wizard/extra.json", "a.dat", "c.dat", "sub/b.dat"])
      } else {
        #expect(status.state == .job(.failed) && status.lastError?.kind == .remoteCorrupted, "\(status)")
        #expect(status.lastError?.message.contains("checksums.sha256") == true)
        // Moved away, as the hint says.
        try FileManager.default.removeItem(atPath: manifest)
        try await client.retry(run)
        let again = try await lab.settle(client, run)
        #expect(again.state == .job(how == "shorter" ? .verified : .failed), "\(again)")
        if how == "other" { #expect(again.lastError?.message.contains("a.dat") == true) }
      }
      await client.close()
    }
  }

  @Test func theOnlyCopyThatTheNASLostDoesNotVanishSilently() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try await cleaned(lab, client)
      try FileManager.default.moveItem(atPath: lab.remote(run) + "/a.dat", toPath: lab.folder + "/saved")
      try lab.write([1], to: run + "/c.dat")
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.failed) && status.lastError?.kind == .remoteCorrupted, "\(status)")
      #expect(status.lastError?.message.contains("a.dat") == true && status.lastError?.message.contains("b.dat") == false)
      #expect(try lab.manifestNames(lab.remote(run)).contains("a.dat"))
      // Put back here, it is sent again.
      try FileManager.default.moveItem(atPath: lab.folder + "/saved", toPath: run + "/a.dat")
      try await client.retry(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(try lab.bytes(lab.remote(run) + "/a.dat") == noise(100))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// Another workstation, or a lost queue: the NAS's manifest is what there is, and stays covered in the generations after it.
  @Test func aLostQueueTakesTheManifestThatIsThere() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try await cleaned(lab, client)
      await client.close()
      let other = NASSyncClient(configuration: lab.configuration(state: "other"))
      for number in 1...2 {
        try lab.write([UInt8(number)], to: run + "/n\(number).dat")
        try await lab.published(other, run)
      }
      let names = [".exlab-wizard/extra.json", "a.dat", "n1.dat", "n2.dat", "sub/b.dat"]
      #expect(try lab.manifestNames(lab.remote(run)) == names)
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await other.close()
    }
  }
}
