import Foundation
import Glibc
import NASSync
import TestSupport
import Testing

/// A working client and the runs that its instruments finish.
@Suite struct WatchTests {
  /// Asks until the answer is yes.
  private func eventually(
    _ what: String, seconds: Double = 180, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
  ) async throws {
    let deadline = Date().addingTimeInterval(seconds)
    while try await !condition() {
      guard Date() < deadline else {
        Issue.record("not in \(seconds) s: \(what)", sourceLocation: sourceLocation)
        return
      }
      try await Task.sleep(nanoseconds: 50_000_000)
    }
  }

  private func state(_ client: NASSyncClient, _ run: String) async throws -> RunStatus.State { try await client.status(of: run).state }

  private func serving(
    _ signal: EquipmentProfile.Completeness, _ body: @escaping @Sendable (LabFixture, NASSyncClient) async throws -> Void
  ) async throws {
    try await LabFixture.with(
      adjust: {
        $0.equipment[0].completeness = signal
        $0.equipment[1].completeness = signal
      }
    ) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      do {
        try await client.start()
        try await body(lab, client)
        await client.close()
      } catch {
        await client.close()
        throw error
      }
    }
  }

  /// Waits for two rounds of the watcher: it takes this other run up only after it has looked at what was there before.
  private func anotherRunGoesThrough(_ lab: LabFixture, _ client: NASSyncClient, _ leaf: String, flag: String = "done.flag") async throws {
    let other = try lab.makeRun("CONFOCAL_01", leaf: leaf, files: ["a.tif": [1], flag: []])
    try await eventually("\(leaf) is verified") { try await state(client, other) == .job(.verified) }
  }

  @Test func aSentinelStartsARunAndNothingElseDoes() async throws {
    try await serving(.sentinel(file: "done.flag")) { lab, client in
      let run = try lab.makeRun()
      let linked = try lab.makeRun(leaf: "Run_linked")
      #expect(symlink("data.fcs", linked + "/done.flag") == 0)
      #expect(symlink(run, lab.lab + "/CYTOMETER_01/Alpha/Runs/Run_alias") == 0)
      try await anotherRunGoesThrough(lab, client, "Run_0")
      #expect(try await state(client, run) == .none)
      #expect(try await state(client, linked) == .none)
      try lab.write(noise(50_000), to: run + "/late.fcs")
      try lab.write([], to: run + "/done.flag")
      try await eventually("the run is verified") { try await state(client, run) == .job(.verified) }
      #expect(lab.exists(lab.remote(run) + "/late.fcs"))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(try await client.statuses().count == 2)
    }
  }

  @Test func laterFilesOfASentRunMakeANewGeneration() async throws {
    try await serving(.sentinel(file: "done.flag")) { lab, client in
      let run = try lab.makeRun(files: ["data.fcs": [1, 2, 3], "done.flag": []])
      try await eventually("the first generation is verified") { try await state(client, run) == .job(.verified) }
      try lab.write([4], to: run + "/second.fcs")
      try await anotherRunGoesThrough(lab, client, "Run_1")
      // The sentinel speaks of what was there before.
      #expect(try await client.status(of: run).generation == 1)
      try lab.write([], to: run + "/done.flag")
      try await eventually("the second generation is verified") {
        let status = try await client.status(of: run)
        return status.generation == 2 && status.state == .job(.verified)
      }
      #expect(lab.exists(lab.remote(run) + "/second.fcs"))
      try await anotherRunGoesThrough(lab, client, "Run_2")
      #expect(try await client.status(of: run).generation == 2)
    }
  }

  @Test func aQuietRunIsTakenUpAndAGrowingOneIsNot() async throws {
    try await serving(.quiet(seconds: 2)) { lab, client in
      let run = try lab.makeRun(record: false, files: ["data.fcs": [1]])
      let growing = try lab.makeRun(leaf: "Run_growing", record: false, files: ["data.fcs": [1]])
      let writer = Task {
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: growing + "/data.fcs"))
        while !Task.isCancelled {
          try handle.seekToEnd()
          try handle.write(contentsOf: Data([7]))
          try? await Task.sleep(nanoseconds: 200_000_000)  // its end is the test's own
        }
        try handle.close()
      }
      try await eventually("the quiet run is verified") { try await state(client, run) == .job(.verified) }
      #expect(try await state(client, growing) == .none)
      writer.cancel()
      try await writer.value
      try await eventually("the run that grew is verified") { try await state(client, growing) == .job(.verified) }
      #expect(try lab.bytes(lab.remote(growing) + "/data.fcs") == lab.bytes(growing + "/data.fcs"))
    }
  }

  @Test func aListIsHashedBeforeItsRunIsTakenUp() async throws {
    try await serving(.manifest(file: nil)) { lab, client in
      let run = try lab.makeRun(files: ["data.fcs": noise(300_000), "sub/notes.txt": Array("fine".utf8)])
      let sums = try await runProcess(["sha256sum", "data.fcs", "sub/notes.txt"], directory: run)
      try lab.flip(run + "/data.fcs")
      var warnings = client.events.makeAsyncIterator()
      try lab.write(sums.stdout, to: run + "/checksums.sha256")
      var told = ""
      while let event = await warnings.next() {
        if case .warning(run, let message) = event { told = message; break }
      }
      #expect(told.contains("data.fcs has not the digest"))
      #expect(try await state(client, run) == .none)
      try lab.write(noise(300_000), to: run + "/data.fcs")
      try await eventually("the whole run is verified") { try await state(client, run) == .job(.verified) }
    }
  }

  @Test func aBlockedRunIsTakenUpOnceItsRecordLetsItPass() async throws {
    try await serving(.sentinel(file: "done.flag")) { lab, client in
      let events = client.events
      let counting = Task {
        var count = 0
        for await event in events { if case .blocked = event { count += 1 } }
        return count
      }
      let run = try lab.makeRun(files: ["notes.txt": Array("<SAMPLE_ID>".utf8)])
      // Last: a run that is said to be finished before its record is there is blocked twice.
      try lab.write([], to: run + "/done.flag")
      try await eventually("the run is blocked") { try await client.problems().contains { $0.problemClass == "blocked_by_gate" } }
      try await anotherRunGoesThrough(lab, client, "Run_1")
      try await anotherRunGoesThrough(lab, client, "Run_2")
      try await client.addOverride(run, problemClass: .unresolvedPlaceholderToken, reason: "a real name")
      try await eventually("the run is verified") { try await state(client, run) == .job(.verified) }
      await client.close()
      // The gate was asked once, and not every second.
      #expect(await counting.value == 1)
    }
  }

  @Test func afterARestartNothingIsEnqueuedTwice() async throws {
    try await LabFixture.with(adjust: { $0.equipment[0].completeness = .sentinel(file: "done.flag") }) { lab in
      let first = NASSyncClient(configuration: lab.configuration)
      try await first.start()
      // Without a record: the metadata folder is made by the first generation.
      let run = try lab.makeRun(record: false, files: ["data.fcs": [1], "done.flag": []])
      try await eventually("the run is verified") { try await state(first, run) == .job(.verified) }
      await first.close()
      let second = NASSyncClient(configuration: lab.configuration)
      try await second.start()
      let other = try lab.makeRun(leaf: "Run_other", files: ["data.fcs": [1], "done.flag": []])
      try await eventually("the other run is verified") { try await state(second, other) == .job(.verified) }
      #expect(try await second.status(of: run).generation == 1)
      await second.close()
    }
  }

  @Test func aFailedRunWaitsForAPerson() async throws {
    try await serving(.sentinel(file: "done.flag")) { lab, client in
      let run = try lab.makeRun(files: ["data.fcs": [1], "done.flag": []])
      // Something else lies in its place on the NAS.
      try lab.write([9], to: lab.remote(run) + "/data.fcs")
      try await eventually("the run failed") { try await state(client, run) == .job(.failed) }
      let history = try await client.history(of: run).count
      try lab.write([2], to: run + "/more.fcs")
      try await anotherRunGoesThrough(lab, client, "Run_1")
      #expect(try await client.history(of: run).count == history)
    }
  }

  @Test func aRunAmongThousandsOfOldOnesIsFound() async throws {
    try await LabFixture.with(adjust: { $0.equipment[0].completeness = .sentinel(file: "done.flag") }) { lab in
      for number in 0..<3_000 {
        let run = "\(lab.lab)/CYTOMETER_01/P\(number % 10)/Runs/Run_\(number)"
        try FileManager.default.createDirectory(atPath: run, withIntermediateDirectories: true)
      }
      let client = NASSyncClient(configuration: lab.configuration)
      try await client.start()
      // A run is found among them, and soon.
      let run = try lab.makeRun(files: ["data.fcs": [1], "done.flag": []])
      let began = Date()
      try await eventually("the new run is verified") { try await state(client, run) == .job(.verified) }
      print("among 3,000 runs without a signal: verified after \(Date().timeIntervalSince(began)) s")
      await client.close()
    }
  }
}
