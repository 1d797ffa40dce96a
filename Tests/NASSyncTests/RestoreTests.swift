import Foundation
import Glibc
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// A run comes back from the NAS, whole and proven, or what is wrong with it is named.
@Suite struct RestoreTests {
  /// Names that want care, links, an empty folder, permissions and times.
  private func makeRun(_ lab: LabFixture) throws -> String {
    let run = try lab.makeRun(files: [
      "data.fcs": noise(3000), "sub/notes.txt": Array("fine\n".utf8), "sub/deep/large.bin": noise(900_000, seed: 2), "empty.dat": [],
      "sp ace/ü-\u{65e5}.txt": noise(7, seed: 3),
    ])
    try FileManager.default.createDirectory(atPath: run + "/nothing", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: run + "/sub/link", withDestinationPath: "../data.fcs")
    try FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSince1970: 1_600_000_000.25), .posixPermissions: 0o640], ofItemAtPath: run + "/data.fcs")
    for folder in ["nothing", "sub/deep", "sub"] {
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSince1970: 1_600_000_100)], ofItemAtPath: run + "/" + folder)
    }
    return run
  }

  @Test(arguments: [LoopbackSSHD.Style.shell, .sftpOnly]) func aRunComesBackAsItWas(style: LoopbackSSHD.Style) async throws {
    try await LabFixture.with(style) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab)
      try await lab.published(client, run)
      let before = try await lab.listing(run)
      let first = try await client.restore(run, to: lab.folder + "/copy")
      #expect(first.ok && first.filesTotal == 5 && first.filesRestored == 5 && first.filesKept == 0 && first.links == 1, "\(first)")
      #expect(first.anchor == .queue && first.evidence == .readback && first.bytes == 903_012 && first.bytesDownloaded == 903_012)
      #expect(try await lab.sameTree(run, lab.folder + "/copy"))
      #expect(try await lab.listing(lab.folder + "/copy") == before)
      let documents = try FileManager.default.contentsOfDirectory(atPath: lab.folder + "/copy/.exlab-wizard").sorted()
      #expect(documents == ["checksums.sha256", "creation.json", "receipt.json"])
      #expect(try await lab.checksumsHold(in: lab.folder + "/copy"))

      // In its own place, after the local copy was removed: the record there stays.
      try await lab.takeAway(run)
      let record = try lab.bytes(run + "/.exlab-wizard/creation.json")
      let second = try await client.restore(run, to: run)
      #expect(second.ok && second.filesRestored == 5, "\(second)")
      #expect(try await lab.listing(run) == before)
      #expect(try lab.bytes(run + "/.exlab-wizard/creation.json") == record)
      #expect(lab.exists(run + "/.exlab-wizard/deletion.json"))
      #expect(try await client.status(of: run).state == .job(.cleaned))
      let handle = try await client.enqueue(run)
      #expect(handle.unchanged && handle.jobState == .cleaned, "\(handle)")
      // Once more: all is there, and nothing is downloaded.
      let third = try await client.restore(run, to: run)
      #expect(third.ok && third.filesKept == 5 && third.bytesDownloaded == 0)
      await client.close()
    }
  }

  @Test func withTheTreeOnTheNASAloneARunIsFoundByItsPlaceThere() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab)
      try await lab.published(client, run)
      let before = try await lab.listing(run, digits: 0, modes: false, linkTimes: false)
      await client.close()
      try FileManager.default.removeItem(atPath: lab.lab)
      try FileManager.default.createDirectory(atPath: lab.lab, withIntermediateDirectories: true)

      let configuration = lab.configuration(state: "fresh")
      let fresh = NASSyncClient(configuration: configuration)
      let relative = "CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00"
      for (number, name) in [
        "CYTOMETER_01:\(relative)", "CYTOMETER_01:\(lab.server.remoteRoot)/\(relative)/", "CONFOCAL_01:\(relative)", run,
      ].enumerated() {
        let report = try await fresh.restore(name, to: lab.folder + "/copy\(number)")
        #expect(report.ok && report.anchor == .receipt, "\(report)")
        #expect(try await lab.listing(lab.folder + "/copy\(number)", digits: 0, modes: false, linkTimes: false) == before)
      }
      #expect(!lab.exists(configuration.stateDirectory), "a restore makes no queue")
      for (name, word) in [
        ("CYTOMETER_01:/elsewhere/x", "remote_root"), ("CYTOMETER_01:../x", "names no folder"), ("CYTOMETER_01:", "names no folder"),
        ("CYTOMETER_01:CYTOMETER_01/none", "no run at"), ("CYTOMETER_02:x", "CYTOMETER_02"),
      ] {
        let failure = await failure { try await fresh.restore(name, to: lab.folder + "/never") }
        #expect(failure?.kind == .misconfigured && failure?.message.contains(word) == true, "\(name): \(String(describing: failure))")
      }
      #expect(!lab.exists(lab.folder + "/never"))
      await fresh.close()
    }
  }

  private func failure(_ body: () async throws -> RestoreReport) async -> SyncFailure? {
    do {
      let report = try await body()
      Issue.record("it went through: \(report)")
      return nil
    } catch { return error as? SyncFailure }
  }

  /// Two that fill one folder would write into, and cut, each other's unfinished files: also those that the other has proven meanwhile.
  @Test func onlyOneRestoreFillsAFolder() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab)
      try await lab.published(client, run)
      let copy = lab.folder + "/copy"
      try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: false)
      let other = open(copy, O_RDONLY | O_DIRECTORY)
      #expect(flock(other, LOCK_EX | LOCK_NB) == 0)
      await #expect { try await client.restore(run, to: copy) } throws: {
        ($0 as? SyncFailure)?.message.contains("another restore") == true
      }
      close(other)
      #expect(try await client.restore(run, to: copy).ok)
      await client.close()
    }
  }

  @Test func nothingIsOverwritten() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab)
      try await lab.published(client, run)
      let there = lab.folder + "/there"
      @Sendable func expectRefusal(_ destination: String, _ word: String) async throws {
        let before = try await runProcess([
          "find", lab.folder, "-path", lab.configuration.stateDirectory, "-prune", "-o", "-printf", "%p %y %s %T@\\n",
        ]).text
        let failure = await failure { try await client.restore(run, to: destination) }
        #expect(failure?.kind == .misconfigured && failure?.message.contains(word) == true, "\(String(describing: failure))")
        let after = try await runProcess([
          "find", lab.folder, "-path", lab.configuration.stateDirectory, "-prune", "-o", "-printf", "%p %y %s %T@\\n",
        ]).text
        #expect(before == after)
      }
      try lab.write([1], to: there + "/strange.dat")
      try await expectRefusal(there, "strange.dat")
      try lab.write([1], to: lab.folder + "/record/.exlab-wizard/creation.json")
      try await expectRefusal(lab.folder + "/record", "creation.json")
      try await expectRefusal(there + "/strange.dat", "no folder")
      try FileManager.default.createSymbolicLink(atPath: lab.folder + "/link", withDestinationPath: there)
      try await expectRefusal(lab.folder + "/link", "symbolic link")
      try await expectRefusal(lab.folder + "/no/such", "cannot be made")
      // The run's own folder, where one file is another one, one became a folder, and a link points elsewhere.
      try lab.flip(run + "/data.fcs")
      try await expectRefusal(run, "data.fcs")
      try lab.flip(run + "/data.fcs")
      try FileManager.default.removeItem(atPath: run + "/empty.dat")
      try FileManager.default.createDirectory(atPath: run + "/empty.dat", withIntermediateDirectories: true)
      try await expectRefusal(run, "empty.dat")
      try FileManager.default.removeItem(atPath: run + "/empty.dat")
      try FileManager.default.removeItem(atPath: run + "/sub/link")
      try FileManager.default.createSymbolicLink(atPath: run + "/sub/link", withDestinationPath: "/etc/passwd")
      try await expectRefusal(run, "sub/link")
      // A folder on the way that became a link: nothing is written through it.
      try FileManager.default.removeItem(atPath: run + "/sub")
      try FileManager.default.createSymbolicLink(atPath: run + "/sub", withDestinationPath: there)
      try await expectRefusal(run, "sub")
      try FileManager.default.removeItem(atPath: run + "/sub")
      try lab.write([5], to: run + "/new.dat")
      // What is missing is added, what is new stays.
      let report = try await client.restore(run, to: run)
      #expect(report.ok && report.filesKept == 2 && report.filesRestored == 3, "\(report)")
      #expect(try lab.bytes(run + "/new.dat") == [5])
      await client.close()
    }
  }

  @Test func whatIsDamagedThereIsNamedAndTheRestComesBack() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab)
      try await lab.published(client, run)
      let remote = lab.remote(run)
      let good = try lab.bytes(remote + "/sub/deep/large.bin")
      try lab.flip(remote + "/sub/deep/large.bin")
      try lab.flip(remote + "/sub/notes.txt")
      try FileManager.default.removeItem(atPath: remote + "/empty.dat")
      try lab.write([1], to: remote + "/foreign.dat")
      let copy = lab.folder + "/copy"
      let report = try await client.restore(run, to: copy)
      #expect(!report.ok && report.hasDamage)
      #expect(
        report.faults.map { "\($0.problem) \($0.path)" } == ["missing empty.dat", "differs sub/deep/large.bin", "differs sub/notes.txt"])
      #expect(report.foreign == ["foreign.dat"] && report.filesRestored == 2)
      for name in ["sub/deep/large.bin", "sub/notes.txt", "empty.dat", "foreign.dat"] { #expect(!lab.exists(copy + "/" + name)) }
      let names = try FileManager.default.contentsOfDirectory(atPath: copy + "/.exlab-wizard").filter { $0.hasPrefix(".") }
      #expect(names == [".nassync-restore.json"])

      try lab.write(good, to: remote + "/sub/deep/large.bin")
      try lab.flip(remote + "/sub/notes.txt")
      try lab.write([], to: remote + "/empty.dat")
      let again = try await client.restore(run, to: copy)
      #expect(again.ok && again.filesKept == 2 && again.filesRestored == 3, "\(again)")
      #expect(try await lab.sameTree(run, copy))
      #expect(try FileManager.default.contentsOfDirectory(atPath: copy + "/.exlab-wizard").count == 3)
      await client.close()
    }
  }

  @Test(arguments: ["changed", "forged", "gone", "unreadable"]) func aManifestThatProvesNothingRestoresNothing(how: String) async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab)
      try await lab.published(client, run)
      let remote = lab.remote(run)
      let manifest = remote + "/.exlab-wizard/checksums.sha256"
      let text = try lab.bytes(manifest)
      switch how {
      case "changed", "forged": try lab.write(Array(text.dropFirst(1 + (text.firstIndex(of: 10) ?? 0))), to: manifest)
      case "gone": try FileManager.default.removeItem(atPath: manifest)
      default: try lab.write(Array("nonsense\n".utf8), to: manifest)
      }
      if how == "forged" {
        let digest = try await runProcess(["sha256sum", manifest]).text.prefix(64)
        let receipt = remote + "/.exlab-wizard/receipt.json"
        let old = try lab.json(receipt)["manifest_sha256"] as? String ?? ""
        let new = String(decoding: try lab.bytes(receipt), as: UTF8.self).replacingOccurrences(of: old, with: digest)
        try lab.write(Array(new.utf8), to: receipt)
      }
      let failure = await failure { try await client.restore(run, to: lab.folder + "/copy") }
      #expect(failure?.kind == .remoteCorrupted && failure?.message.contains("checksums.sha256") == true, "\(String(describing: failure))")
      #expect(!lab.exists(lab.folder + "/copy"))
      // The NAS's own word is enough where it is asked for, and only if it agrees with itself.
      let place = "CYTOMETER_01:CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00"
      if how == "forged" {
        #expect(try await client.restore(place, to: lab.folder + "/copy").foreign.count == 1)
      } else {
        let other = await self.failure { try await client.restore(place, to: lab.folder + "/copy") }
        #expect(other?.kind == .remoteCorrupted)
      }
      await client.close()
    }
  }

  /// The NAS loses the connection again and again; what has arrived stays, and a large file goes on inside.
  @Test func lostConnectionsCostTimeOnly() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let run = try makeRun(lab)
      let sender = NASSyncClient(configuration: lab.configuration)
      try await lab.published(sender, run)
      await sender.close()
      let failures = Mutex(0)
      let plan = FaultPlan(before: { call throws(TransportError) in
        guard call.name == "download", call.isFor("large.bin") else { return }
        let number = failures.withLock { count in
          count += 1
          return count
        }
        if number <= 4 { throw FaultPlan.lost }
      })
      let client = lab.client(plan)
      let report = try await client.restore(
        run, to: lab.folder + "/copy", equipment: nil, pauses: [0.05, 0.05, 0.05, 0.05], progress: { _ in })
      #expect(report.ok, "\(report)")
      #expect(try await lab.sameTree(run, lab.folder + "/copy"))
      #expect(failures.withLock { $0 } == 5)
      for name in ["empty.dat", "notes.txt"] { #expect(plan.calls.count { $0.name == "download" && $0.isFor(name) } == 1) }

      // One that stays away ends the command, and the next goes on.
      let dead = lab.client(
        FaultPlan(before: { call throws(TransportError) in if call.name == "download", call.isFor("large.bin") { throw FaultPlan.lost } }))
      let failure = await failure {
        try await dead.restore(run, to: lab.folder + "/other", equipment: nil, pauses: [0.05, 0.05], progress: { _ in })
      }
      #expect(failure?.kind == .network)
      #expect(lab.exists(lab.folder + "/other/data.fcs") && !lab.exists(lab.folder + "/other/sub/deep/large.bin"))
      let rest = try await client.restore(run, to: lab.folder + "/other")
      #expect(rest.ok && rest.filesKept == 4 && rest.bytesDownloaded == 900_000)
      await dead.close()
      await client.close()
    }
  }

  @Test func whatIsThereOfALargeFileIsNotFetchedAgainUnlessItIsWrong() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let large = noise(24_000_000, seed: 4)
      let run = try lab.makeRun(files: ["large.bin": large])
      let client = NASSyncClient(configuration: lab.configuration)
      try await lab.published(client, run)
      for isWrong in [false, true] {
        let copy = lab.folder + "/copy-\(isWrong)"
        // Cancelled in the middle of the file.
        let started = Mutex<Task<RestoreReport, any Error>?>(nil)
        let task = Task {
          try await client.restore(run, to: copy) { if $0.bytesDone > 3_000_000 { started.withLock { $0 }?.cancel() } }
        }
        started.withLock { $0 = task }
        let ended = await task.result
        guard case .failure(let error as SyncFailure) = ended else {
          Issue.record("it was not interrupted")
          continue
        }
        #expect(error.kind == .interrupted, "\(error)")
        let part = try #require(
          try FileManager.default.contentsOfDirectory(atPath: copy + "/.exlab-wizard").first { $0.hasPrefix(".nassync-part-") })
        let length = try lab.bytes(copy + "/.exlab-wizard/" + part).count
        #expect(length > 0 && length < large.count)
        if isWrong { try lab.flip(copy + "/.exlab-wizard/" + part) }
        let report = try await client.restore(run, to: copy)
        #expect(report.ok && lab.exists(copy + "/large.bin"))
        #expect(report.bytesDownloaded == UInt64(isWrong ? large.count + large.count - length : large.count - length))
        #expect(try lab.bytes(copy + "/large.bin") == large)
      }
      await client.close()
    }
  }

  @Test func aFullDiskHereIsSaidAndGoneOnFrom() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      try #require(geteuid() == 0, "a small file system can only be mounted by root: run the tests as root")
      let run = try makeRun(lab)
      let client = NASSyncClient(configuration: lab.configuration)
      try await lab.published(client, run)
      let small = lab.folder + "/small"
      try FileManager.default.createDirectory(atPath: small, withIntermediateDirectories: true)
      let mounted = try await runProcess(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small])
      try #require(mounted.status == 0, "\(mounted.errorText)")
      do {
        try lab.write(noise(600_000), to: small + "/ballast")
        let failure = await failure { try await client.restore(run, to: small + "/copy") }
        #expect(failure?.kind == .local && failure?.hint.contains("full") == true, "\(String(describing: failure))")
        #expect(!lab.exists(small + "/copy/sub/deep/large.bin"))
        try FileManager.default.removeItem(atPath: small + "/ballast")
        let report = try await client.restore(run, to: small + "/copy")
        #expect(report.ok && report.bytesDownloaded < 700_000, "\(report)")
        #expect(try await lab.sameTree(run, small + "/copy"))
      } catch { Issue.record(error) }
      let unmounted = try await runProcess(["umount", small])
      #expect(unmounted.status == 0, "\(unmounted.errorText)")
      await client.close()
    }
  }

  /// A tree that nobody of ours wrote: links out of the run, names that are no text, a manifest that wants to climb.
  @Test func aHostileTreeIsHandledWithCare() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let place = lab.server.rootFolder + "/X/run"
      let script = """
        mkdir -p "$1/.exlab-wizard" "$1/d" && cd "$1" && printf a > "$(printf 'new\\nline\\\\x')" && printf b > "$(printf 'raw\\377')" && printf c > d/c
        ln -s /etc/passwd out && ln -s ../../x d/up && ln -s ../c d/in && ln -s sub/../../.. d/clever && ln -s d deep && printf z > unlisted
        printf r > .exlab-wizard/.nassync-restore.json
        sha256sum * .exlab-wizard/.nassync-restore.json d/c 2>/dev/null | LC_ALL=C grep -av ' \\(unlisted\\|out\\)$' | LC_ALL=C sort -k2 -u > .exlab-wizard/checksums.sha256
        true
        """
      let made = try await runProcess(["sh", "-c", script, "sh", place])
      #expect(made.status == 0, "\(made.errorText)")
      let report = try await client.restore("CYTOMETER_01:X/run", to: lab.folder + "/copy")
      #expect(report.anchor == .manifest && report.filesRestored == 3, "\(report)")
      #expect(
        report.faults.map { "\($0.problem) \($0.path)" } == [
          "name .exlab-wizard/.nassync-restore.json", "leadsOut d/clever", "leadsOut d/up", "leadsOut out",
        ])
      #expect(!report.ok && !report.hasDamage && report.foreign == ["unlisted"] && report.links == 2)
      let found = try await runProcess([
        "sh", "-c", "cd \"$1\" && find . -path ./.exlab-wizard -prune -o -print0 | sort -z | tr '\\n\\0' '?\\n'", "sh",
        lab.folder + "/copy",
      ])
      #expect(found.stdout.split(separator: 10).count == 7, "\(found.text)")

      let digest = String(repeating: "0", count: 64)
      for (text, word) in [
        ("\(digest)  ../../etc/x\n", "not inside"), ("\(digest)  /etc/x\n", "not inside"), ("\(digest)  a\n\(digest)  a\n", "twice"),
        ("\(digest)  a", "cut"), ("\\\(digest)  a\\tb\n", "escape"), ("\(digest)  a/../b\n", "not inside"),
      ] {
        try lab.write(Array(text.utf8), to: place + "/.exlab-wizard/checksums.sha256")
        let failure = await failure { try await client.restore("CYTOMETER_01:X/run", to: lab.folder + "/never") }
        #expect(failure?.kind == .remoteCorrupted && failure?.message.contains(word) == true, "\(String(describing: failure))")
      }
      // Names only: everything is missing, nothing hangs.
      let many = (0..<100_000).map { "\(digest)  many/f\($0)\n" }.joined()
      try lab.write(Array(many.utf8), to: place + "/.exlab-wizard/checksums.sha256")
      let missing = try await client.restore("CYTOMETER_01:X/run", to: lab.folder + "/many")
      #expect(missing.faults.count { $0.problem == .missing } == 100_000)
      await client.close()
    }
  }

  @Test func thousandsOfSmallFilesComeBack() async throws {
    try await LabFixture.with(.sftpOnly) { lab in
      let place = lab.server.rootFolder + "/X/many"
      let script = """
        mkdir -p "$1/.exlab-wizard" && cd "$1" && head -c 12288000 /dev/urandom | split -a 4 -d -b 4096 - t && sha256sum t* > .exlab-wizard/checksums.sha256
        """
      #expect(try await runProcess(["sh", "-c", script, "sh", place]).status == 0)
      let client = NASSyncClient(configuration: lab.configuration)
      let clock = ContinuousClock()
      let start = clock.now
      let report = try await client.restore("CYTOMETER_01:X/many", to: lab.folder + "/copy")
      let took = clock.now - start
      print("restore: 3,000 files of 4 KiB in \(took)")
      #expect(report.ok && report.filesRestored == 3_000, "\(report.faults.prefix(3))")
      #expect(try await lab.sameTree(place, lab.folder + "/copy"))
      await client.close()
    }
  }
}
