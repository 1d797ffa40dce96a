import Foundation
import Glibc
import NASSync
import TestSupport
import Testing

/// What wants a person, beyond failures.
@Suite struct ProblemTests {
  /// A client for which so much time has gone by.
  private func later(_ lab: LabFixture, hours: Double) -> NASSyncClient {
    NASSyncClient(configuration: lab.configuration, clock: ManualClock(wall: Date().timeIntervalSince1970 + hours * 3600))
  }

  private func problems(_ lab: LabFixture, hours: Double) async throws -> [Problem] {
    let client = later(lab, hours: hours)
    let problems = try await client.problems()
    await client.close()
    return problems
  }

  @Test func aSentinelThatNeverComes() async throws {
    try await LabFixture.with(adjust: { $0.equipment[0].completeness = .sentinel(file: "done.flag") }) { lab in
      let run = try lab.makeRun(leaf: "Run_it's late")
      _ = try lab.makeRun("CONFOCAL_01")
      #expect(try await problems(lab, hours: 23).isEmpty)
      let found = try await problems(lab, hours: 25)
      #expect(found.map(\.problemClass) == ["unfinished_run"])
      #expect(found.first?.runPath == run && found.first?.message.contains("done.flag is not there") == true)
      #expect(found.first?.nextStep.contains(#"`nassync enqueue '\#(lab.lab)/CYTOMETER_01/Alpha/Runs/Run_it'\''s late'`"#) == true)
      try lab.write([], to: run + "/done.flag")
      #expect(try await problems(lab, hours: 2).map(\.problemClass) == ["run_not_taken_up"])
      let client = NASSyncClient(configuration: lab.configuration)
      try await client.enqueue(run)
      _ = try await client.drain()
      await client.close()
      #expect(try await problems(lab, hours: 25).isEmpty)
    }
  }

  @Test func manyOldRunsAreOneProblem() async throws {
    try await LabFixture.with(adjust: { $0.equipment[0].completeness = .sentinel(file: "done.flag") }) { lab in
      for number in 0..<20 { _ = try lab.makeRun(leaf: "Run_\(number)") }
      let found = try await problems(lab, hours: 48)
      #expect(found.count == 1 && found.first?.runPath == nil && found.first?.message.hasPrefix("20 runs of CYTOMETER_01") == true)
    }
  }

  @Test func aQuietRunThatNobodyTakesUpAndAListThatIsNone() async throws {
    try await LabFixture.with(
      adjust: {
        $0.equipment[0].completeness = .quiet(seconds: 60)
        $0.equipment[1].completeness = .manifest(file: "files.txt")
      }
    ) { lab in
      _ = try lab.makeRun()
      _ = try lab.makeRun("CONFOCAL_01", files: ["a.tif": [1], "files.txt": Array("a.tif\n".utf8)])
      #expect(try await problems(lab, hours: 0.5).isEmpty)
      let found = try await problems(lab, hours: 30)
      #expect(Set(found.map(\.problemClass)) == ["run_not_taken_up", "unfinished_run"])
      #expect(found.contains { $0.message.contains("files.txt is no list of files: line 1") })
      #expect(found.first { $0.problemClass == "run_not_taken_up" }?.nextStep.contains("`nassync serve`") == true)
    }
  }

  @Test func aFolderThatIsNotThere() async throws {
    try await LabFixture.with(
      adjust: {
        $0.equipment[0].completeness = .quiet(seconds: 60)
        $0.equipment[0].localRoot += "/unmounted"
      }
    ) { lab in
      let found = try await problems(lab, hours: 0)
      #expect(found.map(\.problemClass) == ["folder_not_readable"] && found.first?.equipmentID == "CYTOMETER_01")
    }
  }

  @Test func jobsAreDueAndNobodyWorks() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun()
      let client = NASSyncClient(configuration: lab.configuration)
      try await client.enqueue(run)
      #expect(try await problems(lab, hours: 1).isEmpty)
      let found = try await problems(lab, hours: 2)
      #expect(found.map(\.problemClass) == ["no_service"] && found.first?.nextStep.contains("`nassync serve`") == true)
      _ = try await client.drain()
      #expect(try await problems(lab, hours: 2).isEmpty)
      await client.close()
    }
  }

  @Test func aServiceThatWorksIsNotMissed() async throws {
    // It sends for longer than the test lasts.
    try await LabFixture.with(adjust: { $0.equipment[0].bandwidth = BandwidthProfile(uploadMbps: 0.02) }) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      try await client.start()
      for number in 0..<3 { try await client.enqueue(try lab.makeRun(leaf: "Run_\(number)", files: ["data.fcs": noise(1 << 20)])) }
      #expect(try await problems(lab, hours: 5).isEmpty)
      await client.close()
    }
  }

  @Test func anOverrideThatEndsBeforeItsRunIsSafe() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["notes.txt": Array("<SAMPLE_ID>".utf8)])
      let client = NASSyncClient(configuration: lab.configuration)
      #expect(try await client.enqueue(run).state == .blocked)
      let blocked = try #require(try await client.problems().first)
      #expect(
        blocked.nextStep.contains("`nassync override add \(run) --class unresolved_placeholder_token --path notes.txt --reason 'WHY'`"))
      #expect(blocked.nextStep.hasSuffix("Then `nassync enqueue \(run)`."))
      try await client.addOverride(
        run, problemClass: .unresolvedPlaceholderToken, reason: "for a month", expiresAt: Date(timeIntervalSinceNow: 30 * 86_400))
      try await client.enqueue(run)
      #expect(try await client.problems().isEmpty)
      let found = try await problems(lab, hours: 24 * 24).filter { $0.problemClass == "override_expires" }
      #expect(found.map(\.runPath) == [run])
      // What the step says resolves it: an override that stands for longer.
      #expect(found.first?.nextStep.contains("--path") == false)
      let narrow = try await client.addOverride(
        run, problemClass: .unresolvedPlaceholderToken, reason: "one place only", path: "notes.txt",
        expiresAt: Date(timeIntervalSinceNow: 29 * 86_400))
      #expect(try await problems(lab, hours: 24 * 24).filter { $0.problemClass == "override_expires" }.count == 1)
      let longer = try await client.addOverride(run, problemClass: .unresolvedPlaceholderToken, reason: "for good")
      #expect(try await !problems(lab, hours: 24 * 24).contains { $0.problemClass == "override_expires" })
      try await client.revokeOverride(run, id: longer.id, reason: "not for good")
      try await client.revokeOverride(run, id: narrow.id, reason: "nor there")
      #expect(try await problems(lab, hours: 24 * 24).filter { $0.problemClass == "override_expires" }.count == 1)
      _ = try await client.drain()
      // The service does not clean up: nothing counts on it any more.
      #expect(try await problems(lab, hours: 24 * 24).isEmpty)
      await client.close()
    }
  }

  /// An override cannot make a pipe a file, or a file readable: none is offered.
  @Test func whereAnOverrideWouldNotHelpNoneIsOffered() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun()
      #expect(mkfifo(run + "/trigger", 0o600) == 0)
      let client = NASSyncClient(configuration: lab.configuration)
      #expect(try await client.enqueue(run).state == .blocked)
      let problem = try #require(try await client.problems().first)
      #expect(problem.message.hasPrefix("special_file at trigger") && !problem.nextStep.contains("override"), "\(problem)")
      await client.close()
    }
  }

  @Test func aBlockedRunThatIsGoneWantsNobody() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["notes.txt": Array("<SAMPLE_ID>".utf8)])
      let client = NASSyncClient(configuration: lab.configuration)
      #expect(try await client.enqueue(run).state == .blocked)
      #expect(try await client.problems().count == 1)
      try FileManager.default.removeItem(atPath: run)
      #expect(try await client.problems().isEmpty)
      await client.close()
    }
  }

  @Test func aFailureNamesTheCommandWithItsRun() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(leaf: "Run_a b")
      try lab.write([9], to: lab.remote(run) + "/data.fcs")
      let client = NASSyncClient(configuration: lab.configuration)
      try await client.enqueue(run)
      _ = try await client.drain()
      let problem = try #require(try await client.problems().first)
      #expect(problem.problemClass == "remote_conflict" && problem.nextStep.contains("`nassync retry '\(run)'`"))
      await client.close()
    }
  }
}
