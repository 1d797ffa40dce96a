import Foundation
import TestSupport
import Testing

/// The fixture itself: the system's own clients get in, and see what each style promises.
@Suite struct LoopbackSSHDTests {
  private func options(_ server: LoopbackSSHD) -> [String] {
    [
      "-F", "none", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "UserKnownHostsFile=\(server.knownHostsFile)", "-i",
      server.keyFile, "-o", "Port=\(server.port)",
    ]
  }

  @Test(arguments: LoopbackSSHD.Style.allCases) func systemClientsGetIn(style: LoopbackSSHD.Style) async throws {
    try await LoopbackSSHD.with(style) { server in
      let target = "\(server.user)@\(server.host)"
      let put = try await runProcess(
        ["sftp"] + options(server) + ["-b", "-", target], input: Array("put \(server.keyFile).pub \(server.remoteRoot)/it\n".utf8))
      #expect(put.status == 0, "\(put.errorText) \(server.log)")
      #expect(FileManager.default.contentsEqual(atPath: server.keyFile + ".pub", andPath: server.rootFolder + "/it"))
      let exec = try await runProcess(["ssh"] + options(server) + [target, "echo from the shell; command -v sha256sum"])
      switch style {
      case .shell, .otherRoot: #expect(exec.text == "from the shell\n/usr/bin/sha256sum\n")
      case .noHashTool: #expect(exec.text == "from the shell\n")
      case .sftpOnly, .chroot: #expect(!exec.text.contains("from the shell"))
      }
    }
  }
}
