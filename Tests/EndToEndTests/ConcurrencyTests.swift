import Foundation
import Glibc
import TestSupport
import Testing

/// Several processes on one queue.
@Suite(.serialized) struct ConcurrencyTests {
  @Test func twoDrainsSendEachRunOnce() async throws {
    try await Workstation.with { lab in
      var runs: [String] = []
      for number in 0..<6 {
        let files = ["a.bin": noise(3 << 20, seed: UInt64(number)), "b.txt": Array("run \(number)\n".utf8)]
        runs.append(try lab.makeRun(project: "P\(number % 2)", leaf: "Run_2026-04-1\(number)", files: files))
      }
      #expect(try await lab.nassync(["enqueue"] + runs).status == 0)
      let paths = runs
      async let first = lab.nassync("--json", "drain")
      async let second = lab.nassync("--json", "drain")
      for answer in try await [first, second] {
        #expect(answer.status == 0, "\(answer)")
        #expect(answer.json["failed"] == .array([]))
      }
      for run in paths {
        try await lab.expectVerified(run)
        let history = try await lab.nassync("--json", "history", run).json.elements
        #expect(history.count { $0["event"] == .string("claimed") } == 1, "\(history)")
        #expect(Set(history.compactMap { $0["job_id"].text }).count == 1)
      }
    }
  }

  @Test func commandsBesideAWorkingService() async throws {
    try await Workstation.with(.shell, Workstation.Setup(uploadMbps: 60)) { lab in
      let busy = try lab.makeRun(project: "BUSY", files: ["big.bin": noise(24 << 20, seed: 9)])
      var runs: [String] = []
      for number in 0..<10 { runs.append(try lab.makeRun("CONFOCAL_01", project: "MANY", leaf: "Run_2026-05-0\(number)")) }
      let service = try lab.start("serve")
      #expect(try await lab.nassync("enqueue", busy).status == 0)
      let paths = runs
      let answers = try await withThrowingTaskGroup(of: [Workstation.Answer].self) { group in
        for lane in 0..<5 {
          group.addTask {
            var answers: [Workstation.Answer] = []
            for turn in 0..<10 {
              switch (lane + turn) % 3 {
              case 0: answers.append(try await lab.nassync("--json", "enqueue", paths[(lane * 2 + turn) % 10]))
              case 1: answers.append(try await lab.nassync("--json", "status"))
              default: answers.append(try await lab.nassync("--json", "problems"))
              }
            }
            return answers
          }
        }
        return try await group.reduce(into: []) { $0 += $1 }
      }
      #expect(answers.count == 50)
      for answer in answers {
        #expect(answer.status == 0, "\(answer)")
        #expect(answer.json != .null, "\(answer)")
        #expect(!answer.errorText.lowercased().contains("locked"), "\(answer)")
        #expect(answer.json["error"] == .null, "\(answer)")
      }
      // A drain beside the service watches it and says how it ended.
      for run in paths { #expect(try await lab.nassync("enqueue", run).status == 0) }
      let beside = try await lab.nassync("--json", "drain")
      #expect(beside.status == 0, "\(beside)")
      for run in paths + [busy] { #expect(try await lab.nassync("--json", "status", run).json["state"] == .string("verified")) }
      kill(service.id, SIGTERM)
      #expect(await service.exitStatus() == 0)
      let log = try lab.log()
      #expect(!log.lowercased().contains("locked"), "\(log)")
      for run in paths + [busy] { try await lab.expectVerified(run) }
    }
  }
}
