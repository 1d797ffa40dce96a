import Foundation
import TestSupport
import Testing

/// Overrides as people and other programs deal with them: the real program, many times at once.
@Suite(.serialized) struct OverrideTests {
  @Test func manyProcessesLoseNothing() async throws {
    try await Workstation.with { lab in
      let run = try lab.makeRun(files: ["CON": [1], "ok.fcs": [2]])
      try await withThrowingTaskGroup(of: Void.self) { group in
        for writer in 0..<6 {
          group.addTask {
            for number in 0..<4 {
              let added = try await lab.nassync(
                "override", "add", run, "--class", writer == 0 ? "reserved_filesystem_name" : "special_file", "--reason",
                "w\(writer)-\(number)")
              #expect(added.status == 0, "\(added)")
            }
          }
        }
        // Each refused or taken enqueue rewrites sync_status.
        group.addTask {
          for _ in 0..<8 { _ = try await lab.nassync("enqueue", run) }
        }
        try await group.waitForAll()
      }
      let data = try Data(contentsOf: URL(fileURLWithPath: run + "/.exlab-wizard/creation.json"))
      let record = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
      let reasons = (record["validation_overrides"] as? [[String: Any]] ?? []).compactMap { $0["reason"] as? String }
      #expect(reasons.count == 24 && Set(reasons) == Set((0..<6).flatMap { writer in (0..<4).map { "w\(writer)-\($0)" } }))
      #expect((record["kept"] as? [String: Int]) == ["a": 1])
      #expect(try ["pending", "blocked_by_validation"].contains(lab.syncStatus(run)))
      // Every entry follows from the one before it, whoever wrote that.
      let history = try await lab.nassync("history", run)
      #expect(history.status == 0 && history.text.contains("ledger: whole, 24 entries"), "\(history)")
    }
  }

  @Test func aBrokenLedgerIsToldWithItsOwnExitCode() async throws {
    try await Workstation.with { lab in
      let run = try lab.makeRun(files: ["CON": [1]])
      for reason in ["one", "two"] {
        #expect(try await lab.nassync("override", "add", run, "--class", "reserved_filesystem_name", "--reason", reason).status == 0)
      }
      let path = run + "/.exlab-wizard/creation.json"
      let text = try String(contentsOfFile: path, encoding: .utf8)
      try text.replacingOccurrences(of: "\"one\"", with: "\"another\"").write(toFile: path, atomically: true, encoding: .utf8)
      let history = try await lab.nassync("history", run)
      #expect(history.status == 4 && history.text.contains("broken at entry 2"), "\(history)")
      let gate = try await lab.nassync("gate", run)
      #expect(gate.status == 0 && gate.text.contains("override_ledger_broken"), "\(gate)")
      let unknown = try await lab.nassync("override", "revoke", run, "no-such-id", "--reason", "x")
      #expect(unknown.status == 2 && unknown.errorText.contains("no-such-id"), "\(unknown)")
    }
  }

  /// Who did it is the system's word, whatever the environment says; a run that lies elsewhere needs its instrument's name.
  @Test func theOperatorAndTheInstrument() async throws {
    try await Workstation.with { lab in
      try lab.folder.write(Workstation.record, to: "lab/elsewhere/Run_1/.exlab-wizard/creation.json")
      try lab.folder.write([1], to: "lab/elsewhere/Run_1/CON")
      let run = lab.folder.path + "/lab/elsewhere/Run_1"
      let words = [try Workstation.program(), "--config", lab.folder.path + "/nassync.yaml", "--json", "override", "add", run]
      let rest = ["--class", "reserved_filesystem_name", "--reason", "r"]
      #expect(try await lab.run(words + rest).status == 2)
      let added = try await lab.run(["env", "USER=mallory", "LOGNAME=mallory"] + words + rest + ["--equipment", "CYTOMETER_01"])
      #expect(added.status == 0, "\(added)")
      let real = try await runProcess(["id", "-run"]).text.trimmingCharacters(in: .whitespacesAndNewlines)
      #expect(added.json["operator"].text?.hasPrefix(real) == true, "\(added)")
      let list = try await lab.nassync("override", "list", run, "--equipment", "CYTOMETER_01")
      #expect(list.status == 0 && list.text.contains(real) && !list.text.contains("mallory"), "\(list)")
      let id = try #require(added.json["id"].text)
      #expect(try await lab.nassync("override", "revoke", run, id, "--reason", "r", "--equipment", "CYTOMETER_01").status == 0)
      #expect(try await lab.nassync("history", run, "--equipment", "CYTOMETER_01").text.contains("ledger: whole, 2 entries"))
    }
  }
}
