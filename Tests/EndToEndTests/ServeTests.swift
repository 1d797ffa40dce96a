import Foundation
import Glibc
import TestSupport
import Testing

/// The service, as a service manager runs it.
@Suite struct ServeTests {
  private func eventually(
    _ what: String, seconds: Double = 180, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () async throws -> Bool
  ) async throws {
    let deadline = Date().addingTimeInterval(seconds)
    while try await !condition() {
      guard Date() < deadline else {
        Issue.record("not in \(seconds) s: \(what)", sourceLocation: sourceLocation)
        return
      }
      try await Task.sleep(for: .milliseconds(50))
    }
  }

  private func state(_ lab: Workstation, _ run: String) async throws -> String? {
    try await lab.nassync("--json", "status", run).json["state"].text
  }

  /// Starts the service, waits until it serves, and ends it by SIGTERM.
  private func serving(_ lab: Workstation, log: String, _ body: (ChildProcess) async throws -> Void) async throws {
    let service = try lab.start("serve", log: log)
    do {
      try await eventually("the service serves") { try lab.log(log).contains("serving ") }
      try await body(service)
    } catch {
      kill(service.id, SIGKILL)
      _ = await service.exitStatus()
      throw error
    }
    kill(service.id, SIGTERM)
    let status = await service.exitStatus()
    let written = try lab.log(log)
    #expect(status == 0, "\(written)")
  }

  @Test func takesUpARunWhenItsSentinelAppearsAndAfterARestartNotAgain() async throws {
    var setup = Workstation.Setup()
    setup.completeness = "{ signal: sentinel, file: acquisition_complete.flag }"
    try await Workstation.with(.shell, setup) { lab in
      let run = try lab.makeRun()
      let other = try lab.makeRun("CONFOCAL_01", files: ["a.tif": [1], "acquisition_complete.flag": []])
      try await serving(lab, log: "first.log") { _ in
        try await eventually("the finished run is verified") { try await state(lab, other) == "verified" }
        #expect(try await state(lab, run) == "none")
        try lab.folder.write(noise(200_000, seed: 9), to: "lab/CYTOMETER_01/PROJ-0042/Runs/Run_2026-04-17T14-32/late.fcs")
        try lab.folder.write([], to: "lab/CYTOMETER_01/PROJ-0042/Runs/Run_2026-04-17T14-32/acquisition_complete.flag")
        try await eventually("the run is verified") { try await state(lab, run) == "verified" }
      }
      try await lab.expectVerified(run)
      let third = try lab.makeRun(leaf: "Run_3", files: ["a.fcs": [1], "acquisition_complete.flag": []])
      try await serving(lab, log: "second.log") { _ in
        try await eventually("the third run is verified") { try await state(lab, third) == "verified" }
      }
      #expect(try await lab.nassync("--json", "status", run).json["generation"].number == 1)
      #expect(try !lab.log("second.log").contains("Run_2026-04-17T14-32"))
    }
  }

  @Test func hangUpReadsTheConfigurationAgain() async throws {
    var setup = Workstation.Setup()
    setup.equipment = ["CYTOMETER_01"]
    setup.uploadMbps = 1
    try await Workstation.with(.shell, setup) { lab in
      // At this rate: more than five minutes, which is longer than anything here is waited for.
      let run = try lab.makeRun(files: ["data.fcs": [UInt8](repeating: 7, count: 40 << 20)])
      #expect(try await lab.nassync("enqueue", run).status == 0)
      let second = try lab.makeRun("CONFOCAL_01")
      #expect(try await lab.nassync("enqueue", second).status == 2)
      try await serving(lab, log: "serve.log") { service in
        try await eventually("the run is being sent") { try await state(lab, run) == "running" }
        var next = Workstation.Setup()
        next.uploadMbps = 8000
        next.completeness = "{ signal: quiet, after: 1s }"
        try lab.configure(next)
        kill(service.id, SIGHUP)
        try await eventually("the change is told") { try lab.log("serve.log").contains("SIGHUP: configuration read again") }
        let line = try #require(try lab.log("serve.log").split(separator: "\n").first { $0.contains("configuration read again") })
        #expect(line.contains("instrument CYTOMETER_01: completeness, bandwidth") && line.contains("instrument CONFOCAL_01 added"))
        try await eventually("the run in flight is verified") { try await state(lab, run) == "verified" }
        try await eventually("a run of the new instrument is verified") { try await state(lab, second) == "verified" }
      }
      try await lab.expectVerified(run)
    }
  }

  @Test func aBrokenConfigurationIsToldAndNotTaken() async throws {
    try await Workstation.with { lab in
      try await serving(lab, log: "serve.log") { service in
        let good = try String(contentsOfFile: lab.folder.path + "/nassync.yaml", encoding: .utf8)
        try lab.folder.write(good + "wrokers: 3\n", to: "nassync.yaml")
        kill(service.id, SIGHUP)
        try await eventually("the fault is told") { try lab.log("serve.log").contains("the former one stays in force") }
        let log = try lab.log("serve.log")
        #expect(log.contains("nassync.yaml:6:1: wrokers: ") || log.contains("nassync.yaml:5:1: wrokers: "), "\(log)")
        try lab.folder.write(good.replacingOccurrences(of: "./state", with: "./other"), to: "nassync.yaml")
        kill(service.id, SIGHUP)
        try await eventually("the need of a restart is told") { try lab.log("serve.log").contains("state_dir cannot change") }
        try lab.folder.write(good, to: "nassync.yaml")
        kill(service.id, SIGHUP)
        try await eventually("nothing has changed") { try lab.log("serve.log").contains("nothing has changed") }
        let run = try lab.makeRun()
        #expect(try await lab.nassync("enqueue", run).status == 0)
        try await eventually("it still serves") { try await state(lab, run) == "verified" }
      }
    }
  }
}
