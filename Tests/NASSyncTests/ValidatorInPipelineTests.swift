import Foundation
import Glibc
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// Programs of the lab's own, and the ledger of overrides, in the pipeline.
@Suite(.serialized) struct ValidatorInPipelineTests {
  /// A lab whose validator objects to each file whose name holds `blue`, and notes each time that it is asked.
  private func withValidator(_ body: @Sendable (LabFixture, ServiceConfiguration, String) async throws -> Void) async throws {
    try await LabFixture.with { lab in
      let program = lab.folder + "/no-blue"
      let script = """
        #!/usr/bin/env python3
        import json, os, sys
        here = os.path.dirname(sys.argv[0])
        run = json.load(sys.stdin)
        with open(here + "/asked", "a") as log: log.write(run["relative_path"] + "\\n")
        if os.path.exists(here + "/hang"):
            import signal
            open(here + "/hanging", "w").close()
            signal.pause()
        json.dump({"findings": [
            {"problem_class": "too_blue", "tier": "hard", "path": e["path"], "detail": "this is blue", "hint": "Repaint it."}
            for e in run["entries"] if "blue" in e["path"]]}, sys.stdout)
        """
      try lab.write(Array(script.utf8), to: program)
      chmod(program, 0o755)
      var configuration = lab.configuration
      configuration.gate.validators = [GateSettings.Validator(command: [program], timeout: 120)]
      try await body(lab, configuration, lab.folder)
    }
  }

  /// What looks through a run may take long, and the NAS, which has answered before, may have dropped its sessions by then: that is no attempt.
  @Test func aSessionThatDiesMeanwhileCostsNoAttempt() async throws {
    try await LabFixture.with(backoff: [3600]) { lab in
      let program = lab.folder + "/slow"
      try lab.write(Array("#!/bin/sh\ncat >/dev/null; sleep 2.5; echo '{\"findings\": []}'\n".utf8), to: program)
      chmod(program, 0o755)
      var configuration = lab.configuration
      let other = try lab.makeRun(leaf: "Run_1")
      let first = NASSyncClient(configuration: configuration)
      // What the NAS makes of names is known then.
      try await lab.published(first, other)
      await first.close()
      configuration.gate.validators = [GateSettings.Validator(command: [program], timeout: 120)]
      let began = Mutex<ContinuousClock.Instant?>(nil)
      let once = LocalChangeTests.Once()
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        guard call.name == "entry" || call.name == "list" else { return }
        let now = ContinuousClock.now
        let start = began.withLock { began in
          began = began ?? now
          return began ?? now
        }
        var isLost = false
        if now - start > .seconds(2) { once { isLost = true } }
        if isLost { throw FaultPlan.lost }
      })
      let client = lab.client(plan, configuration: configuration)
      let run = try lab.makeRun(leaf: "Run_2")
      #expect(try await client.enqueue(run).state == .queued)
      _ = try await client.drain()
      let status = try await client.status(of: run)
      #expect(status.state == .job(.verified) && plan.calls.count { $0.name == "connect" } >= 2, "\(status)")
      await client.close()
    }
  }

  @Test func itIsAskedEachTimeAndCanBeOverridden() async throws {
    try await withValidator { lab, configuration, folder in
      let client = NASSyncClient(configuration: configuration)
      let run = try lab.makeRun(files: ["blue.fcs": [1], "CON": [2]])
      let handle = try await client.enqueue(run)
      #expect(handle.state == .blocked)
      // The program's finding beside that of a built-in rule.
      #expect(Set(handle.blockingFindings.map(\.problemClass.rawValue)) == ["too_blue", "reserved_filesystem_name"])
      #expect(handle.blockingFindings.first { $0.problemClass.rawValue == "too_blue" }?.validator == "no-blue")
      let entry = try await client.addOverride(run, problemClass: FindingClass(rawValue: "too_blue"), reason: "it was", path: "blue.fcs")
      let other = try await client.addOverride(run, problemClass: .reservedFilesystemName, reason: "so called")
      #expect(try await client.enqueue(run).state == .queued)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      // Refused, let in, claimed, and once more for the receipt.
      #expect(try String(contentsOfFile: folder + "/asked", encoding: .utf8).split(separator: "\n").count >= 4)
      let gate = try #require(try lab.json(lab.remote(run) + "/.exlab-wizard/receipt.json")["gate"] as? [String: Any])
      #expect((gate["rules"] as? [String])?.contains("validator no-blue") == true)
      #expect(Set((gate["overrides"] as? [[String: Any]] ?? []).compactMap { $0["id"] as? String }) == [entry.id, other.id])
      #expect((gate["overridden"] as? [[String: Any]])?.contains { $0["validator"] as? String == "no-blue" } == true)

      // The ledger as the history shows it, whole, and with its last entry gone.
      #expect(try await client.history(of: run).last?.event == HistoryEntry.ledgerWhole)
      let path = run + "/.exlab-wizard/creation.json"
      var record = try lab.json(path)
      record["validation_overrides"] = Array(try #require(record["validation_overrides"] as? [Any]).dropLast())
      try JSONSerialization.data(withJSONObject: record).write(to: URL(fileURLWithPath: path))
      let told = try #require(try await client.history(of: run).last)
      #expect(told.event == HistoryEntry.ledgerBroken && told.detail.contains(other.id), "\(told)")
      #expect(told.detail.contains("the receipt names override"))
      await client.close()
    }
  }

  /// A revocation that was taken out of the record again: neither the chain nor the receipt knows it, the queue does.
  @Test func theQueueRemembersWhatWasTakenOut() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await client.enqueue(run)
      let entry = try await client.addOverride(run, problemClass: .reservedFilesystemName, reason: "in case")
      let path = run + "/.exlab-wizard/creation.json"
      let before = try Data(contentsOf: URL(fileURLWithPath: path))
      try await client.revokeOverride(run, id: entry.id, reason: "no more")
      let history = try await client.history(of: run)
      #expect(
        history.filter { $0.event.hasPrefix("override_") }.map(\.event) == ["override_added", "override_revoked", HistoryEntry.ledgerWhole])
      try before.write(to: URL(fileURLWithPath: path))
      let told = try #require(try await client.history(of: run).last)
      #expect(told.event == HistoryEntry.ledgerBroken && told.detail.contains("has it no more"), "\(told)")
      await client.close()
    }
  }

  @Test func anOverrideThatEndsWhileTheRunWaitsStopsIt() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["CON": [1]])
      let entry = try await client.addOverride(
        run, problemClass: .reservedFilesystemName, reason: "for a while", expiresAt: Date(timeIntervalSinceNow: 5))
      #expect(try await client.enqueue(run).state == .queued)
      while try await client.overrides(of: run).map(\.state) == [.active] { try await Task.sleep(for: .milliseconds(50)) }
      let report = try await client.drain()
      #expect(report.blocked.map(\.runPath) == [run])
      let failure = try #require(try await client.status(of: run).lastError)
      #expect(failure.kind == .blocked)
      #expect(failure.message.contains("the override \(entry.id) expired at \(entry.expiresAt ?? "?")"), "\(failure.message)")
      #expect(!lab.exists(lab.remote(run)))
      await client.close()
    }
  }

  /// The service stops while the program thinks: the program goes at once, and the run is neither blocked nor failed by that.
  @Test func stoppingTheServiceStopsTheProgram() async throws {
    try await withValidator { lab, configuration, folder in
      let run = try lab.makeRun()
      let enqueuing = NASSyncClient(configuration: configuration)
      #expect(try await enqueuing.enqueue(run).state == .queued)
      try lab.write([], to: folder + "/hang")
      let service = NASSyncClient(configuration: configuration)
      try await service.start()
      while !lab.exists(folder + "/hanging") { try await Task.sleep(for: .milliseconds(10)) }
      let clock = ContinuousClock()
      let start = clock.now
      await service.close()
      #expect(clock.now - start < .seconds(30))
      let status = try await enqueuing.status(of: run)
      #expect(status.state != .job(.failed) && status.lastError?.kind != .blocked, "\(status)")
      #expect(try lab.syncStatus(run) == "pending")
      try FileManager.default.removeItem(atPath: folder + "/hang")
      #expect(try await lab.settle(enqueuing, run).state == .job(.verified))
      await enqueuing.close()
    }
  }

  @Test func checkSaysWhichProgramCannotBeStarted() async throws {
    try await withValidator { lab, configuration, folder in
      var configuration = configuration
      let good = NASSyncClient(configuration: configuration)
      let lines = try await good.check(equipment: "CYTOMETER_01").first?.lines ?? []
      #expect(lines.contains { $0.name == "validator" && $0.grade == .good && $0.detail.contains("/no-blue") })
      await good.close()
      configuration.gate.validators.append(GateSettings.Validator(command: [folder + "/not-there"]))
      let bad = NASSyncClient(configuration: configuration)
      let report = try #require(try await bad.check(equipment: "CYTOMETER_01").first)
      #expect(!report.ok && report.lines.contains { $0.name == "validator" && $0.grade == .bad && $0.detail.contains("not-there") })
      // Blocked, and nothing that a person says lets it pass.
      let run = try lab.makeRun()
      #expect(try await bad.enqueue(run).blockingFindings.map(\.problemClass) == [.validatorFailed])
      await #expect { try await bad.addOverride(run, problemClass: .validatorFailed, reason: "please") } throws: {
        ($0 as? SyncFailure)?.kind == .misconfigured
      }
      await bad.close()
    }
  }

  /// A validator of the embedder's own takes the place of the built-in rules, not that of the programs.
  @Test func programsAreAskedBesideACallersValidator() async throws {
    try await withValidator { lab, configuration, _ in
      let client = NASSyncClient(configuration: configuration, validator: Approving())
      let run = try lab.makeRun(files: ["blue.fcs": [1], "CON": [1]])
      #expect(try await client.enqueue(run).blockingFindings.map(\.problemClass.rawValue) == ["too_blue"])
      await client.close()
    }
  }

  private struct Approving: RunValidator {
    func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async throws -> [Finding] { [] }
  }

  @Test func theOperatorIsWhoTheSystemSays() async throws {
    func name(_ id: uid_t) -> String { "user\(id)" }
    #expect(OperatorName.describe(user: 5, login: nil, sudo: nil, name: name) == "user5")
    #expect(OperatorName.describe(user: 5, login: 5, sudo: 7, name: name) == "user5")
    #expect(OperatorName.describe(user: 5, login: nil, sudo: 7, name: name) == "user5")
    #expect(OperatorName.describe(user: 0, login: nil, sudo: 7, name: name) == "user0 (sudo: user7)")
    #expect(OperatorName.describe(user: 0, login: 6, sudo: 7, name: name) == "user0 (login: user6)")
    #expect(OperatorName.name(of: 0) == "root")
    #expect(OperatorName.name(of: 3_999_999_999) == "uid 3999999999")
    let real = try await runProcess(["id", "-run"]).text.trimmingCharacters(in: .whitespacesAndNewlines)
    #expect(OperatorName.current.hasPrefix(real))
  }
}
