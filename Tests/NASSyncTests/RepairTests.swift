import Foundation
import JobQueue
import TestSupport
import Testing

@testable import NASSync

/// The NAS copy of a published run goes bad: it is found, and put right from here.
@Suite(.serialized) struct RepairTests {
  /// What is done to the copy, and what of it must be found kept aside afterwards.
  struct Damage: Sendable, CustomStringConvertible {
    let what: String
    let names: String
    let aside: [String]
    let body: @Sendable (LabFixture, String) throws -> Void
    var description: String { what }
  }

  private static let manager = FileManager.default

  static let all: [Damage] = [
    Damage(what: "flipped", names: "a.dat", aside: ["a.dat"]) { lab, run in try lab.flip(lab.remote(run) + "/a.dat") },
    Damage(what: "truncated", names: "sub/b.dat", aside: ["sub/b.dat"]) { lab, run in
      try lab.overwrite(lab.remote(run) + "/sub/b.dat", Array(noise(69_999)))
    },
    Damage(what: "missing", names: "sub/b.dat", aside: []) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/sub/b.dat")
    },
    Damage(what: "swapped", names: "same1.dat", aside: ["same1.dat", "same2.dat"]) { lab, run in
      let there = lab.remote(run)
      try FileManager.default.moveItem(atPath: there + "/same1.dat", toPath: there + "/x")
      try FileManager.default.moveItem(atPath: there + "/same2.dat", toPath: there + "/same1.dat")
      try FileManager.default.moveItem(atPath: there + "/x", toPath: there + "/same2.dat")
    },
    Damage(what: "manifest edited", names: "checksums.sha256", aside: [".exlab-wizard/checksums.sha256"]) { lab, run in
      let path = lab.remote(run) + "/.exlab-wizard/checksums.sha256"
      let text = String(decoding: try lab.bytes(path), as: UTF8.self).replacingOccurrences(of: "  a.dat", with: "  z.dat")
      try lab.overwrite(path, Array(text.utf8))
    },
    Damage(what: "manifest gone", names: "checksums.sha256", aside: []) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/.exlab-wizard/checksums.sha256")
    },
    Damage(what: "receipt", names: "receipt.json", aside: [".exlab-wizard/receipt.json"]) { lab, run in
      try lab.overwrite(lab.remote(run) + "/.exlab-wizard/receipt.json", Array("{}".utf8))
    },
    Damage(what: "the record's copy", names: "creation.json", aside: [".exlab-wizard/creation.json"]) { lab, run in
      try lab.overwrite(lab.remote(run) + "/.exlab-wizard/creation.json", Array("{".utf8))
    },
    Damage(what: "a link that points elsewhere", names: "link", aside: ["link"]) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/link")
      try FileManager.default.createSymbolicLink(atPath: lab.remote(run) + "/link", withDestinationPath: "sub/b.dat")
    },
    Damage(what: "a folder instead of a file", names: "a.dat", aside: ["a.dat/inside"]) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/a.dat")
      try lab.write([5], to: lab.remote(run) + "/a.dat/inside")
    },
    Damage(what: "a file instead of a folder", names: "sub", aside: ["sub"]) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/sub")
      try lab.write([6], to: lab.remote(run) + "/sub")
    },
    Damage(what: "the whole run", names: "a.dat", aside: []) { lab, run in try FileManager.default.removeItem(atPath: lab.remote(run)) },
    Damage(what: "several", names: "a.dat", aside: ["a.dat", "same2.dat"]) { lab, run in
      try lab.flip(lab.remote(run) + "/a.dat")
      try lab.overwrite(lab.remote(run) + "/same2.dat", [])
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/empty.dat")
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/.exlab-wizard/receipt.json")
    },
  ]

  private func makeRun(_ lab: LabFixture, _ project: String) throws -> String {
    let run = try lab.makeRun(
      project: project,
      files: [
        "a.dat": noise(900), "sub/b.dat": noise(70_000), "same1.dat": noise(50, seed: 3), "same2.dat": noise(50, seed: 4), "empty.dat": [],
      ])
    try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "a.dat")
    return run
  }

  @Test(arguments: [(LoopbackSSHD.Style.shell, false), (.sftpOnly, false), (.shell, true)])
  func everyDamageFailsTheRunAndRetryPutsItRight(style: LoopbackSSHD.Style, inPlace: Bool) async throws {
    try await LabFixture.with(style) { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock, FaultPlan(inPlace: inPlace))
      let runs = try Self.all.indices.map { try makeRun(lab, "P\($0)") }
      for run in runs { try await client.enqueue(run) }
      #expect(try await client.drain().done.count == runs.count)
      var wrong: [[String: [UInt8]]] = []
      for (damage, run) in zip(Self.all, runs) {
        try damage.body(lab, run)
        wrong.append(
          try Dictionary(uniqueKeysWithValues: damage.aside.map { ($0, $0 == "link" ? [] : try lab.bytes(lab.remote(run) + "/" + $0)) }))
      }
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      for (number, (damage, run)) in zip(Self.all, runs).enumerated() {
        let failed = try await client.status(of: run)
        #expect(failed.state == .job(.failed) && failed.lastError?.kind == .remoteCorrupted, "\(damage): \(failed)")
        #expect(failed.lastError?.message.contains(damage.names) == true, "\(damage): \(String(describing: failed.lastError))")
        #expect(failed.lastError?.hint.contains("nassync retry") == true && failed.lastError?.message.contains("NO GOOD COPY") == false)
        #expect(try lab.syncStatus(run) == "failed")
        let problem = try #require(try await client.problems().first { $0.runPath == run })
        #expect(problem.problemClass == "remote_corrupted" && problem.severity == .critical && problem.blocks.contains("NAS copy"))
        #expect(try await client.queue().faults()[try await client.row(run).number] != nil)

        // A person may say it either way.
        if number % 2 == 0 { try await client.retry(run) } else { #expect(try await client.enqueue(run).state == .queued) }
        let status = try await lab.settle(client, run)
        #expect(status.state == .job(.verified) && status.generation == 1, "\(damage): \(String(describing: status.lastError))")
        #expect(try await lab.checksumsHold(in: lab.remote(run)), "\(damage)")
        #expect(try await lab.sameTree(run, lab.remote(run)), "\(damage)")
        #expect(try await client.forceVerify(run).ok, "\(damage)")
        #expect(try lab.movedAside(run) == wrong[number], "\(damage)")
        let events = try await client.events(of: run)
        #expect(events.contains("moved_aside") == !damage.aside.isEmpty, "\(damage): \(events)")
        #expect(!events.contains("digest_mismatch"), "\(damage): \(events)")
        #expect(try lab.syncStatus(run) == "synced")
        #expect(try await client.row(run).repairs == false)
      }
      #expect(try await client.problems().isEmpty)
      #expect(try await client.queue().faults().isEmpty)
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      for run in runs { #expect(try await client.row(run).state == .verified) }
      await client.close()
    }
  }

  /// The place where the wrong file is kept is told; a second repair of the same file takes another.
  @Test func theSameFileMayGoWrongTwice() async throws {
    try await LabFixture.with { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try makeRun(lab, "P")
      try await lab.published(client, run)
      for seed in 1...2 {
        try lab.overwrite(lab.remote(run) + "/a.dat", noise(900, seed: UInt64(50 + seed)))
        clock.advance(seconds: LabFixture.day + 1)
        try await client.audit()
        try await client.retry(run)
        #expect(try await lab.settle(client, run).state == .job(.verified))
      }
      let id = try await client.row(run).id
      let parent = (lab.remote(run) as NSString).deletingLastPathComponent
      #expect(try lab.bytes("\(parent)/.nassync-replaced-\(id)/a.dat") == noise(900, seed: 51))
      #expect(try lab.bytes("\(parent)/.nassync-replaced-\(id)-2/a.dat") == noise(900, seed: 52))
      let told = try await client.history(of: run).filter { $0.event == "moved_aside" }
      #expect(told.count == 2 && told[1].detail.contains(".nassync-replaced-\(id)-2") && told[1].detail.contains("a.dat"))
      await client.close()
    }
  }

  enum Loss: String, CaseIterable, Sendable { case changed, touchedAndChanged, gone }

  /// A file that is not the published one any more is never sent in its place.
  @Test(arguments: Loss.allCases) func withoutAGoodCopyNothingIsRepaired(loss: Loss) async throws {
    try await LabFixture.with { lab in
      let clock = ShiftedClock()
      let client = lab.client(clock)
      let run = try makeRun(lab, "P")
      try await lab.published(client, run)
      let good = try lab.bytes(run + "/a.dat")
      switch loss {
      case .changed: try lab.flip(run + "/a.dat")
      case .touchedAndChanged: try lab.overwrite(run + "/a.dat", noise(901))
      case .gone: try FileManager.default.removeItem(atPath: run + "/a.dat")
      }
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/a.dat")
      try lab.flip(lab.remote(run) + "/same1.dat")
      clock.advance(seconds: LabFixture.day + 1)
      try await client.audit()
      let failed = try await client.status(of: run)
      #expect(failed.lastError?.message.contains("NO GOOD COPY is known of a.dat") == true, "\(String(describing: failed.lastError))")
      #expect(failed.lastError?.hint.contains("backup") == true)
      let problem = try #require(try await client.problem("remote_corrupted"))
      #expect(problem.severity == .critical && problem.message.contains("NO GOOD COPY is known of a.dat"))

      let before = try await runProcess(["find", lab.server.rootFolder, "-type", "f", "-exec", "sha256sum", "{}", "+"]).text
      try await client.retry(run)
      let again = try await lab.settle(client, run)
      #expect(again.state == .job(.failed) && again.lastError?.kind == .remoteCorrupted, "\(again)")
      #expect(again.lastError?.message.contains("NO GOOD COPY is known of a.dat") == true)
      #expect(try await runProcess(["find", lab.server.rootFolder, "-type", "f", "-exec", "sha256sum", "{}", "+"]).text == before)

      // Put back as it was published, on either side, the run is repaired.
      if loss == .gone { try lab.write(good, to: lab.remote(run) + "/a.dat") } else { try lab.write(good, to: run + "/a.dat") }
      try await client.retry(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      #expect(try lab.bytes(lab.remote(run) + "/a.dat") == good)
      #expect(try lab.bytes(lab.remote(run) + "/same1.dat") == noise(50, seed: 3))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      let manifest = String(decoding: try lab.bytes(lab.remote(run) + "/.exlab-wizard/checksums.sha256"), as: UTF8.self)
      #expect(manifest.contains("  a.dat\n") && manifest.contains("  sub/b.dat\n"))
      await client.close()
    }
  }

  /// What `verify` found is put right by a new generation where the queue knows the file as its own, and by nothing else.
  @Test func whatACheckOnDemandFoundIsRepairedByEnqueueing() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab, "P")
      try await lab.published(client, run)
      try lab.flip(lab.remote(run) + "/a.dat")
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/same1.dat")
      let bad = try lab.bytes(lab.remote(run) + "/a.dat")
      #expect(try await client.forceVerify(run).mismatches.count == 2)
      #expect(try await client.status(of: run).state == .job(.verified))
      #expect(try await client.problem("nas_copy_differs")?.nextStep.contains("moved aside") == true)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.generation == 2, "\(String(describing: status.lastError))")
      #expect(try lab.movedAside(run) == ["a.dat": bad])
      #expect(try await client.forceVerify(run).ok)
      #expect(try await client.problems().isEmpty)

      // A new file here whose name somebody else took there is not ours to move.
      try lab.flip(lab.remote(run) + "/same2.dat")
      try lab.write([1, 2, 3], to: lab.remote(run) + "/new.dat")
      try lab.write([4, 5, 6], to: run + "/new.dat")
      #expect(try await !client.forceVerify(run).ok)
      try await client.enqueue(run)
      let refused = try await lab.settle(client, run)
      #expect(refused.state == .job(.failed) && refused.lastError?.kind == .remoteConflict, "\(refused)")
      #expect(refused.lastError?.message.contains("new.dat") == true && refused.lastError?.message.contains("same2.dat") == false)
      #expect(try lab.bytes(lab.remote(run) + "/new.dat") == [1, 2, 3])
      await client.close()
    }
  }
}
