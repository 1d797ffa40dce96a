import Foundation
import Glibc
import TestSupport
import Testing

/// The real service audits what it published.
@Suite struct AuditTests {
  @Test func aServiceCountsItsAuditsAndNamesAFlippedByte() async throws {
    var setup = Workstation.Setup()
    setup.auditInterval = "1s"
    try await Workstation.with(.shell, setup) { lab in
      let run = try lab.makeRun()
      let service = try lab.start("serve")
      #expect(try await lab.nassync("enqueue", run).status == 0)
      try await wait(lab) {
        guard case .number(let passes) = try await lab.nassync("--json", "status", run).json["verify_passes"] else { return false }
        return passes >= 3
      }
      let there = lab.remote(run) + "/data.fcs"
      try Data("measureD".utf8).write(to: URL(fileURLWithPath: there))
      try await wait(lab) { try await lab.nassync("--json", "status", run).json["state"] == .string("failed") }
      let problems = try await lab.nassync("problems")
      #expect(problems.text.contains("remote_corrupted") && problems.text.contains("data.fcs"), "\(problems)")
      #expect(try await lab.nassync("retry", run).status == 0)
      try await wait(lab) { try await lab.nassync("--json", "status", run).json["state"] == .string("verified") }
      try await lab.expectWhole(run)
      kill(service.id, SIGTERM)
      #expect(await service.exitStatus() == 0)
      #expect(try lab.log().contains("audited, 2 files whole on the NAS"))
      #expect(try lab.log().contains("THE NAS COPY IS WRONG"))
      #expect(try await lab.nassync("history", run).text.contains("moved_aside"))
    }
  }

  private func wait(_ lab: Workstation, _ condition: () async throws -> Bool) async throws {
    let deadline = Date().addingTimeInterval(120)
    while try await !condition() {
      guard Date() < deadline else { throw TemporaryFolder.Failure("it did not come about; the log: \(try lab.log())") }
      try await Task.sleep(nanoseconds: 100_000_000)
    }
  }
}
