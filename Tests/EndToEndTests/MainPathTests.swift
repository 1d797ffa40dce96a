import Foundation
import TestSupport
import Testing

/// What a lab does every day, with the documents and exit codes that its scripts rely on.
@Suite struct MainPathTests {
  static let statusKeys = [
    "attempts", "bytes_sent", "bytes_total", "equipment_id", "evidence", "files_done", "files_total", "generation", "job_id", "last_error",
    "next_attempt_at", "remote_path", "run_path", "state", "verified_at", "verify_passes",
  ]

  @Test func fromInitToAVerifiedRun() async throws {
    try await Workstation.with { lab in
      let made = try await lab.run([try Workstation.program(), "--json", "init", "fresh"])
      #expect(made.status == 0, "\(made)")
      #expect(made.json["written"].elements.count == 2)
      let again = try await lab.run([try Workstation.program(), "--json", "init", "fresh"])
      #expect(again.status == 1)
      #expect(again.json["error"]["hint"].text?.isEmpty == false)

      let check = try await lab.nassync("--json", "check")
      #expect(check.status == 0, "\(check)")
      #expect(check.json.elements.map { $0["ok"] } == [.bool(true), .bool(true)])
      let run = try lab.makeRun()
      #expect(try await lab.nassync("gate", run).status == 0)
      let none = try await lab.nassync("--json", "status", run)
      #expect(none.status == 0)
      #expect(none.json["state"] == .string("none"))
      #expect(none.json.keys == Self.statusKeys)

      let handle = try await lab.nassync("--json", "enqueue", run)
      #expect(handle.status == 0, "\(handle)")
      for key in ["job_id", "state", "run_path", "blocking_findings"] { #expect(handle.json.keys.contains(key)) }
      #expect(handle.json["state"] == .string("queued"))
      #expect(handle.json["run_path"] == .string(run))
      #expect(handle.json["blocking_findings"] == .array([]))
      #expect(handle.json["job_id"].text?.isEmpty == false)
      #expect(try await lab.nassync("--json", "status", run).json["state"] == .string("queued"))

      let drain = try await lab.nassync("--json", "drain")
      #expect(drain.status == 0, "\(drain)")
      #expect(drain.json["done"].elements.count == 1)
      let status = try await lab.nassync("--json", "status", run).json
      #expect(status.keys == Self.statusKeys)
      #expect(status["job_id"] == handle.json["job_id"])
      #expect(status["state"] == .string("verified"))
      #expect(status["equipment_id"] == .string("CYTOMETER_01"))
      #expect(status["generation"] == .number(1))
      #expect(status["attempts"] == .number(0))
      #expect(status["last_error"] == .null)
      #expect(status["next_attempt_at"] == .null)
      #expect(status["files_done"] == status["files_total"])
      #expect(status["bytes_sent"] == status["bytes_total"])
      #expect(status["verify_passes"] == .number(1))
      #expect(status["evidence"] == .string("server"))
      #expect(status["verified_at"].text?.hasSuffix("Z") == true)
      #expect(status["remote_path"] == .string(lab.remote(run)))
      try await lab.expectVerified(run)
      #expect(try lab.syncStatus(run) == "synced")
      #expect(try lab.syncStatus(lab.remote(run)) == "synced")
      #expect(FileManager.default.fileExists(atPath: lab.remote(run) + "/.exlab-wizard/receipt.json"))

      let verify = try await lab.nassync("--json", "verify", run)
      #expect(verify.status == 0, "\(verify)")
      #expect(verify.json["ok"] == .bool(true))
      #expect(try await lab.nassync("--json", "verify", "--all").json.elements.count == 1)
      #expect(try await lab.nassync("--json", "problems").json == .array([]))
      let history = try await lab.nassync("--json", "history", run).json.elements.map { $0["event"] }
      #expect(history.first == .string("registered"))
      #expect(history.count { $0 == .string("claimed") } == 1)
      // Nothing is due any more, and asking again sends nothing again.
      #expect(try await lab.nassync("--json", "drain").json["done"] == .array([]))
      #expect(try await lab.nassync("--json", "enqueue", run).json["job_id"] == handle.json["job_id"])
    }
  }

  @Test func aChangedByteOnTheNASIsNamed() async throws {
    try await Workstation.with { lab in
      let run = try lab.makeRun()
      #expect(try await lab.nassync("enqueue", run).status == 0)
      #expect(try await lab.nassync("drain").status == 0)
      try Data("measureX".utf8).write(to: URL(fileURLWithPath: lab.remote(run) + "/data.fcs"))
      let verify = try await lab.nassync("--json", "verify", run)
      #expect(verify.status == 4, "\(verify)")
      let mismatches = verify.json["mismatches"].elements
      #expect(mismatches.map { $0["path"] } == [.string("data.fcs")])
      #expect(mismatches.first?["place"] == .string("nas"))
      #expect(mismatches.first?["problem"] == .string("differs"))
      #expect(try await lab.nassync("verify", "--local-only", run).status == 0)
    }
  }

  @Test func twoInstrumentsWithTheSameProjectAndRunNames() async throws {
    try await Workstation.with { lab in
      var runs: [String] = []
      for equipment in ["CYTOMETER_01", "CONFOCAL_01"] {
        for project in ["PROJ-0042", "PROJ-0057"] {
          runs.append(try lab.makeRun(equipment, project: project, files: ["data.fcs": Array("\(equipment) \(project)".utf8)]))
        }
      }
      #expect(try await lab.nassync(["enqueue"] + runs).status == 0)
      let drain = try await lab.nassync("drain")
      #expect(drain.status == 0, "\(drain)")
      for run in runs { try await lab.expectVerified(run) }
      #expect(Set(runs.map { lab.remote($0) }).count == 4)
    }
  }

  /// Paths, sizes, times and modes of everything below a folder.
  private func listing(_ folder: String) async throws -> String {
    try await runProcess(["find", folder, "-printf", "%P %s %T@ %C@ %m %i\n"]).text
  }

  @Test func theGateWritesNothingAndAnOverrideOpensIt() async throws {
    try await Workstation.with { lab in
      let run = try lab.makeRun(files: ["data.fcs": [1, 2, 3], "notes.txt": Array("Sample: <sample_id>\n".utf8)])
      let before = try await listing(lab.folder.path)
      let gate = try await lab.nassync("--json", "gate", run)
      #expect(gate.status == 3, "\(gate)")
      // The folder of the program's answers is elsewhere: the whole workstation is unchanged, and no state folder was made.
      #expect(try await listing(lab.folder.path) == before)
      #expect(!FileManager.default.fileExists(atPath: lab.state))

      let blocked = try await lab.nassync("--json", "enqueue", run)
      #expect(blocked.status == 3, "\(blocked)")
      #expect(blocked.json["state"] == .string("blocked"))
      let finding = blocked.json["blocking_findings"].elements.first ?? .null
      #expect(finding["problem_class"] == .string("unresolved_placeholder_token"))
      #expect(finding["tier"] == .string("hard"))
      #expect(finding["path"] == .string("notes.txt"))
      #expect(finding["hint"].text?.isEmpty == false)
      #expect(try lab.syncStatus(run) == "blocked_by_validation")
      #expect(try await lab.nassync("--json", "status", run).json["state"] == .string("none"))
      #expect(try await lab.nassync("--json", "problems").json.elements.count == 1)
      // Beside a queue too; SQLite's shared memory of readers is no content.
      let waiting = try await listing(lab.lab)
      let queue = try await runProcess(["sha256sum", lab.state + "/queue.db"]).text
      #expect(try await lab.nassync("gate", run).status == 3)
      #expect(try await listing(lab.lab) == waiting)
      #expect(try await runProcess(["sha256sum", lab.state + "/queue.db"]).text == queue)

      let added = try await lab.nassync(
        "--json", "override", "add", run, "--class", "unresolved_placeholder_token", "--reason", "the vendor's own template")
      #expect(added.status == 0, "\(added)")
      #expect(try await lab.nassync("gate", run).status == 0)
      #expect(try await lab.nassync("enqueue", run).status == 0)
      #expect(try await lab.nassync("drain").status == 0)
      try await lab.expectVerified(run)
      let record = try Data(contentsOf: URL(fileURLWithPath: run + "/.exlab-wizard/creation.json"))
      let kept = try JSONDecoder().decode(JSONValue.self, from: record)["kept"]["a"]
      #expect(kept == .number(1))
    }
  }
}
