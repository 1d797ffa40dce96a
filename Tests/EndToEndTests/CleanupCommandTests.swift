import Foundation
import Glibc
import TestSupport
import Testing

/// The real program removes local copies, and says why it does not.
@Suite struct CleanupCommandTests {
  /// A workstation whose runs may be cleaned at once after so many verifications.
  private func configure(_ lab: Workstation, enabled: Bool, passes: Int) throws {
    let path = lab.folder.path + "/nassync.yaml"
    var text = try String(contentsOfFile: path, encoding: .utf8)
    text += "cleanup: { enabled: \(enabled), min_verify_passes: \(passes), min_age_hours: 0 }\n"
    try text.write(toFile: path, atomically: true, encoding: .utf8)
  }

  private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  @Test func dryRunThenCleanup() async throws {
    try await Workstation.with(.shell, Workstation.Setup(auditInterval: "1s")) { lab in
      try configure(lab, enabled: false, passes: 2)
      let run = try lab.makeRun()
      #expect(try await lab.nassync("cleanup", run).status == 2)
      #expect(try await lab.nassync("enqueue", run).status == 0)
      #expect(try await lab.nassync("cleanup", run).status == 75)
      #expect(try await lab.nassync("drain").status == 0)
      // Only what is named is cleaned without cleanup.enabled.
      #expect(try await lab.nassync("cleanup").status == 2)

      try await Task.sleep(nanoseconds: 1_200_000_000)
      let dry = try await lab.nassync("cleanup", "--dry-run", run)
      #expect(dry.status == 0, "\(dry)")
      #expect(dry.text.contains("would be cleaned") && dry.text.contains("✓ nas_copy_proven") && !dry.text.contains("✗"), "\(dry)")
      let document = try await lab.nassync("--json", "cleanup", "--dry-run", run).json
      #expect(document["interlocks"].elements.count == 15 && document["bytes"] == .number(13) && document["dry_run"] == .bool(true))
      #expect(document["error"] == .null && document["certificate"] == .null && document["result"] == .string("would_clean"))
      #expect(exists(run + "/data.fcs"))

      try lab.folder.write([1], to: "late.dat")
      try FileManager.default.moveItem(atPath: lab.folder.path + "/late.dat", toPath: run + "/late.dat")
      let kept = try await lab.nassync("cleanup", run)
      #expect(kept.status == 1, "\(kept)")
      #expect(kept.text.contains("✗ nothing_unknown") && exists(run + "/late.dat") && exists(run + "/data.fcs"), "\(kept)")
      #expect(try await lab.nassync("--json", "problems").json.elements.map { $0["problem_class"] } == [.string("cleanup_kept")])
      try FileManager.default.removeItem(atPath: run + "/late.dat")

      let cleaned = try await lab.nassync("--json", "cleanup", run)
      #expect(cleaned.status == 0, "\(cleaned)")
      #expect(cleaned.json["result"] == .string("cleaned") && cleaned.json["state"] == .string("cleaned"))
      #expect(!exists(run + "/data.fcs") && exists(run + "/.exlab-wizard/deletion.json"))
      #expect(try lab.syncStatus(run) == "cleaned")
      #expect(try await lab.nassync("cleanup", run).status == 0)
      #expect(try await lab.nassync("verify", run).status == 0)
    }
  }

  @Test func whatKeepsARunDecidesTheExitCode() async throws {
    try await Workstation.with(.shell, Workstation.Setup(auditInterval: "1s")) { lab in
      try configure(lab, enabled: false, passes: 1)
      let gated = try lab.makeRun(project: "A")
      let damaged = try lab.makeRun(project: "B")
      #expect(try await lab.nassync("enqueue", gated, damaged).status == 0)
      #expect(try await lab.nassync("drain").status == 0)
      try Data("{".utf8).write(to: URL(fileURLWithPath: gated + "/.exlab-wizard/creation.json"))
      #expect(try await lab.nassync("cleanup", gated).status == 3)
      try Data("measureX".utf8).write(to: URL(fileURLWithPath: lab.remote(damaged) + "/data.fcs"))
      #expect(try await lab.nassync("cleanup", damaged).status == 4)
      #expect(try await lab.nassync("cleanup", "--dry-run", gated, damaged).status == 0)
      #expect(exists(gated + "/data.fcs") && exists(damaged + "/data.fcs"))
    }
  }

  @Test func theServiceCleansByItself() async throws {
    try await Workstation.with(.shell, Workstation.Setup(auditInterval: "1s")) { lab in
      try configure(lab, enabled: true, passes: 2)
      let run = try lab.makeRun()
      let late = try lab.makeRun(project: "LATE")
      #expect(try await lab.nassync("enqueue", run, late).status == 0)
      #expect(try await lab.nassync("drain").status == 0)
      try Data([1]).write(to: URL(fileURLWithPath: late + "/late.dat"))
      let service = try lab.start("serve")
      let deadline = Date().addingTimeInterval(120)
      var states: [JSONValue] = []
      while Date() < deadline {
        states = [
          try await lab.nassync("--json", "status", run).json["state"],
          try await lab.nassync("--json", "problems").json.elements.first?["run_path"] ?? .null,
        ]
        if states == [.string("cleaned"), .string(late)] { break }
        try await Task.sleep(nanoseconds: 100_000_000)
      }
      kill(service.id, SIGTERM)
      #expect(await service.exitStatus() == 0)
      let log = try lab.log()
      #expect(states == [.string("cleaned"), .string(late)], "\(log)")
      #expect(!exists(run + "/data.fcs") && exists(late + "/data.fcs") && exists(late + "/late.dat"))
    }
  }
}
