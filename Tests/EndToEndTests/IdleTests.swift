import Foundation
import Glibc
import TestSupport
import Testing

/// What the program costs while it has nothing to do.
@Suite struct IdleTests {
  /// Its sessions are kept for a while after the last run and ask now and then whether the server is there: the answers must not keep a
  /// processor busy.
  @Test func anIdleServiceWithOpenSessionsTakesNoProcessorTime() async throws {
    var setup = Workstation.Setup()
    setup.transport = ["keepalive": "1s", "connections": "1"]
    setup.workers = 1
    try await Workstation.with(.shell, setup) { lab in
      let run = try lab.makeRun()
      #expect(try await lab.nassync("enqueue", run).status == 0)
      let service = try lab.start("serve")
      let deadline = Date().addingTimeInterval(120)
      while try await lab.nassync("--json", "status", run).json["state"] != .string("verified"), Date() < deadline {
        try await Task.sleep(nanoseconds: 50_000_000)
      }
      // Longer than a few keepalives, shorter than the sessions are kept.
      try await Task.sleep(nanoseconds: 4_000_000_000)
      let before = try processorSeconds(service.id)
      try await Task.sleep(nanoseconds: 6_000_000_000)
      let spent = try processorSeconds(service.id) - before
      #expect(spent < 1.5, "\(spent) s of processor time in 6 s of rest")
      kill(service.id, SIGTERM)
      #expect(await service.exitStatus() == 0)
    }
  }

  /// User and system time of a process so far.
  private func processorSeconds(_ process: pid_t) throws -> Double {
    let text = try String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
    let fields = text[(text.lastIndex(of: ")") ?? text.startIndex)...].split(separator: " ")
    guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13]) else {
      throw TemporaryFolder.Failure("/proc/\(process)/stat says \(text)")
    }
    return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
  }
}
