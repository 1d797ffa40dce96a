import Foundation
import NASSync
import TestSupport
import Testing

/// What arrives where.
@Suite(.serialized) struct LayoutTests {
  @Test func runsOfOneNameStayApart() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      var runs: [String: [UInt8]] = [:]
      for (number, (equipment, project)) in [
        ("CYTOMETER_01", "Alpha"), ("CONFOCAL_01", "Alpha"), ("CYTOMETER_01", "Beta"), ("CONFOCAL_01", "Beta"),
      ].enumerated() {
        let content = noise(20_000, seed: UInt64(number + 1))
        runs[try lab.makeRun(equipment, project: project, files: ["data.fcs": content])] = content
      }
      for run in runs.keys { #expect(try await client.enqueue(run).state == .queued) }
      #expect(try await client.drain().done.count == 4)
      for (run, content) in runs {
        #expect(try lab.bytes(lab.remote(run) + "/data.fcs") == content)
        #expect(try await lab.checksumsHold(in: lab.remote(run)))
        #expect(try lab.json(lab.remote(run) + "/.exlab-wizard/receipt.json")["run_path"] as? String == run)
      }
      await client.close()
    }
  }

  @Test(arguments: [VerifySettings.Method.server, .readback])
  func aTreeOfEveryKindOfThingArrivesWhole(method: VerifySettings.Method) async throws {
    try await LabFixture.with(method: method) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: [
        "a/b/c/d/deep.txt": [1, 2, 3], "empty.dat": [], "large.bin": noise(1_500_000), "scratch.tmp": [9], "a/other.tmp": [9],
        ".exlab-wizard/session.log": Array("log".utf8), ".exlab-wizard/plots/one.png": noise(500),
        "sub/.exlab-wizard/creation.json": Array("{}".utf8),
      ])
      let record =
        #"{"run_kind":"experimental","sync_status":"pending","level":"run","schema_version":"1.8","x_own":{"deep":[1,2.50]}}"#
      try lab.write(Array(record.utf8), to: run + "/.exlab-wizard/creation.json")
      let manager = FileManager.default
      try manager.createDirectory(atPath: run + "/nothing/in/here", withIntermediateDirectories: true)
      try manager.createSymbolicLink(atPath: run + "/a/link", withDestinationPath: "../large.bin")
      let old = Date(timeIntervalSince1970: 1_500_000_000)
      for path in ["/large.bin", "/a/b/c/d/deep.txt", "/nothing/in"] {
        try manager.setAttributes([.modificationDate: old], ofItemAtPath: run + path)
      }
      try await lab.published(client, run)

      let remote = lab.remote(run)
      #expect(try await lab.sameTree(run, remote))
      #expect(!lab.exists(remote + "/scratch.tmp") && !lab.exists(remote + "/a/other.tmp"))
      #expect(lab.exists(run + "/scratch.tmp") && lab.exists(run + "/a/other.tmp"))
      #expect(try manager.destinationOfSymbolicLink(atPath: remote + "/a/link") == "../large.bin")
      for path in ["/large.bin", "/a/b/c/d/deep.txt", "/nothing/in"] {
        #expect(try manager.attributesOfItem(atPath: remote + path)[.modificationDate] as? Date == old, "\(path)")
      }
      let receipt = try lab.json(remote + "/.exlab-wizard/receipt.json")
      #expect(receipt["excluded"] as? [String] == ["a/other.tmp", "scratch.tmp"])
      #expect((receipt["verification"] as? [String: Any])?["evidence"] as? String == method.rawValue)
      for place in [run, remote] {
        let record = try lab.json(place + "/.exlab-wizard/creation.json")
        #expect(record["sync_status"] as? String == "synced")
        #expect((record["x_own"] as? [String: Any])?["deep"] as? [Double] == [1, 2.5])
        #expect(try await lab.checksumsHold(in: place))
      }
      for name in ["checksums.sha256", "receipt.json"] {
        #expect(try lab.bytes(run + "/.exlab-wizard/" + name) == lab.bytes(remote + "/.exlab-wizard/" + name))
      }
      let manifest = String(decoding: try lab.bytes(remote + "/.exlab-wizard/checksums.sha256"), as: UTF8.self)
      #expect(manifest.contains("  .exlab-wizard/session.log\n") && manifest.contains("  empty.dat\n"))
      #expect(!manifest.contains("  .exlab-wizard/creation.json\n") && manifest.contains("  sub/.exlab-wizard/creation.json\n"))
      #expect(try await client.forceVerify(run).ok)
      await client.close()
    }
  }

  @Test func aRunWithoutARecordIsSentWithoutOne() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(record: false)
      try await lab.published(client, run)
      #expect(!lab.exists(lab.remote(run) + "/.exlab-wizard/creation.json"))
      #expect(!lab.exists(run + "/.exlab-wizard/creation.json"))
      // What this program wrote into the run is no change of the run.
      #expect(try await client.enqueue(run).unchanged)
      #expect(try await client.forceVerify(run).ok)
      #expect(try await lab.checksumsHold(in: run))
      await client.close()
    }
  }

  static let harmless = [
    "with space.txt", "it's.txt", "$(touch pwned)", "`touch pwned`", "-rf", "--help", "a;touch pwned;b", "a&b", "#hash", "~", "!x", "[a]",
    "comma,semi", "Messung µ 🔬 日本.dat", ".hidden", " leading", "a\u{301}bc", String(repeating: "n", count: 255),
    String(repeating: "é", count: 127), "%s%n", "tab=no", "{x}", "$HOME", "é/ü/$(id)/-x",
  ]
  static let refused = [
    "new\nline", "\nfirst", "back\\slash", "\\", "\\n", "cr\rx", "tab\tx", "quote\"x\"", "star*", "ques?tion", "co:lon", "pi|pe", "a<b",
    "x>y",
    "bell\u{7}", "trailing.", "trailing ", "CON", "aux.txt", "esc\u{1b}[31m",
  ]

  @Test(arguments: [VerifySettings.Method.server, .readback])
  func anyNameArrivesAndIsProven(method: VerifySettings.Method) async throws {
    try await LabFixture.with(method: method) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let plain = try lab.makeRun(
        files: Dictionary(uniqueKeysWithValues: Self.harmless.enumerated().map { ($0.element, [UInt8($0.offset), 10]) }))
      let odd = try lab.makeRun(
        project: "Odd", files: Dictionary(uniqueKeysWithValues: Self.refused.enumerated().map { ($0.element, [UInt8($0.offset), 13]) }))
      let first = try await client.enqueue(plain)
      #expect(first.state == .queued, "\(first.blockingFindings)")
      let handle = try await client.enqueue(odd)
      #expect(handle.state == .blocked)
      // Each of the names is named.
      #expect(Set(handle.blockingFindings.compactMap(\.path)).count == Self.refused.count, "\(handle.blockingFindings)")
      for problem in [FindingClass.illegalFilesystemCharacter, .reservedFilesystemName] {
        try await client.addOverride(odd, problemClass: problem, reason: "the instrument writes such names")
      }
      let second = try await client.enqueue(odd)
      #expect(second.state == .queued, "\(second.blockingFindings)")
      _ = try await client.drain()
      for run in [plain, odd] {
        let status = try await client.status(of: run)
        #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
        #expect(status.evidence?.rawValue == method.rawValue)
        #expect(try await lab.sameTree(run, lab.remote(run)))
        #expect(try await lab.checksumsHold(in: lab.remote(run)))
        #expect(try await lab.checksumsHold(in: run))
        let report = try await client.forceVerify(run)
        #expect(report.ok, "\(report.mismatches)")
      }
      let overridden = try lab.json(lab.remote(odd) + "/.exlab-wizard/receipt.json")["gate"] as? [String: Any]
      #expect((overridden?["overrides"] as? [[String: Any]])?.count == 2)
      let found = try await runProcess(["find", lab.folder, lab.server.rootFolder, lab.server.folder.path, "-name", "pwned"])
      #expect(found.text.isEmpty)
      await client.close()
    }
  }
}
