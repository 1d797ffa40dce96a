import Foundation
import Glibc
import TestSupport
import Testing

/// The program with `ssh: openssh`: the connection is the system's ssh program's.
@Suite struct SystemSSHTests {
  /// The machine's own configuration of ssh plays no part.
  private static func setup(uploadMbps: Int? = nil) -> Workstation.Setup {
    var setup = Workstation.Setup(uploadMbps: uploadMbps)
    setup.transport = ["ssh": "openssh", "ssh_config": "/dev/null"]
    return setup
  }

  /// The ssh programs that run for a port, whoever started them.
  private func carriers(_ port: Int) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { pid in
      guard let command = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
      let words = command.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      return words.first?.hasSuffix("/ssh") == true && words.contains("\(port)")
    }
  }

  @Test(arguments: [LoopbackSSHD.Style.shell, .chroot]) func checksSendsAndProves(style: LoopbackSSHD.Style) async throws {
    try await Workstation.with(style, Self.setup()) { lab in
      let check = try await lab.nassync("check")
      #expect(check.status == 0, "\(check)")
      #expect(check.text.contains("/ssh (OpenSSH_"))
      let run = try lab.makeRun()
      #expect(try await lab.nassync("enqueue", run).status == 0)
      let drain = try await lab.nassync("drain")
      #expect(drain.status == 0, "\(drain)")
      try await lab.expectVerified(run)
      let evidence = try await lab.nassync("--json", "status", run).json["evidence"]
      #expect(evidence == .string(style == .shell ? "server" : "readback"))
      #expect(try carriers(lab.server.port).isEmpty)
    }
  }

  @Test func anSSHEndsWithTheProgramThatWasKilled() async throws {
    try await Workstation.with(.shell, Self.setup(uploadMbps: 80)) { lab in
      let run = try lab.makeRun(files: ["raw/stack.bin": noise(24 << 20, seed: 1)])
      #expect(try await lab.nassync("enqueue", run).status == 0)
      let drain = try lab.start("drain")
      let deadline = ContinuousClock.now + .seconds(60)
      while try await lab.stagingFolders().isEmpty, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(50)) }
      #expect(try !carriers(lab.server.port).isEmpty)
      kill(drain.id, SIGKILL)
      _ = await drain.exitStatus()
      for _ in 0..<200 where try !carriers(lab.server.port).isEmpty { try await Task.sleep(for: .milliseconds(20)) }
      #expect(try carriers(lab.server.port).isEmpty)
      #expect(try await lab.nassync("drain").status == 0)
      try await lab.expectVerified(run)
    }
  }
}
