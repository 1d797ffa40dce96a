import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// Commands over one channel, and what is done where that cannot be.
@Suite struct ShellConversationTests {
  private static let carriers: [(name: String, connector: SSHConnector)] = [
    ("libssh", BuiltinConnection.connector()), ("libssh2", LibSSH2Connection.connector()),
    ("ssh", OpenSSHConnection.connector(configurationFile: "/dev/null")),
  ]

  /// How many commands the server was asked for, each on a channel of its own.
  private func commands(_ server: LoopbackSSHD) -> Int {
    server.log.split(whereSeparator: \.isNewline).count { $0.contains("Starting session: command") }
  }

  /// Digests files of so many bytes, a name with a line feed among them, and compares them with the system's own answer.
  private func digest(_ server: LoopbackSSHD, _ shell: RemoteShell, _ sizes: [Int]) async throws {
    var wanted: [RemotePath: ContentDigest] = [:]
    for (index, size) in sizes.enumerated() {
      let name = index % 2 == 0 ? "file \(index)" : "line\nfeed \(index)"
      let content = Data((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ index) })
      try content.write(to: URL(fileURLWithPath: "\(server.rootFolder)/\(name)"))
      let said = try await runProcess(["sha256sum"], input: Array(content))
      wanted[RemotePath(root: server.remoteRoot, relative: try RelativePath(name))] = ContentDigest(hex: String(said.text.prefix(64)))
    }
    #expect(try await shell.digests(of: Array(wanted.keys)) { _ in } == wanted)
  }

  @Test(arguments: 0..<2) func allCommandsGoOverOneChannel(_ carrier: Int) async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let shell = try await server.shell(by: Self.carriers[carrier].connector)
      // One that looks round and stays.
      #expect(commands(server) == 1)
      for round in 1...3 { try await digest(server, shell, [0, 1, 70_000 * round]) }
      #expect(try await shell.digests(of: []) { _ in }.isEmpty)
      #expect(try await shell.syncFileSystem(of: RemotePath(root: server.remoteRoot)))
      try await digest(server, shell, (0..<400).map { $0 * 7 })
      #expect(commands(server) == 1)
      // At rest nothing is open; what was found out is known.
      await shell.rest()
      try await digest(server, shell, [5])
      #expect(commands(server) == 2)
      await shell.close()
    }
  }

  /// BusyBox's reads what it gets, and keeps what is too much.
  private static let greedyHead =
    "#!/usr/bin/env python3\nimport os,sys\nn=int(sys.argv[2])\ngot=os.read(0,65536) if n else b''\nos.write(1,got[:n])\n"

  @Test(arguments: 0..<2) func whereHeadReadsAheadEachCommandHasItsChannel(_ carrier: Int) async throws {
    try await TemporaryFolder.with { folder in
      try folder.write(Self.greedyHead, to: "head", mode: 0o755)
      let path = "SetEnv SHLVL=5 PATH=\(folder.path):/usr/bin:/bin"
      try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: [path]) { server in
        let shell = try await server.shell(by: Self.carriers[carrier].connector)
        let before = commands(server)
        try await digest(server, shell, [0, 1, 300_000])
        // Two programs, as one of the names has a line feed.
        #expect(commands(server) == before + 2)
        await shell.close()
      }
    }
  }

  /// A `head` that cannot be started, as in mid of an update, leaves the names to the shell's `read`.
  @Test func noNameIsEverReadAsACommand() async throws {
    try await TemporaryFolder.with { folder in
      try folder.write("#!/bin/sh\nexit 127\n", to: "bin/head", mode: 0o755)
      let names = "/lab/a\nx 0 touch PWNED\n0 touch PWNED\ntouch PWNED\n"
      let input = "secret\nsecret \(names.utf8.count) cat\n\(names)secret 0 touch DONE\n"
      let result = try await runProcess(
        ["sh", "-c", ShellConversation.loop], input: Array(input.utf8), environment: ["PATH": "\(folder.path)/bin:/usr/bin:/bin"],
        directory: folder.path)
      #expect(result.text.hasPrefix("NASSYNC-READY\nNASSYNC-BEGIN\nNASSYNC-END 0\n"))
      #expect(
        !FileManager.default.fileExists(atPath: folder.path + "/PWNED") && !FileManager.default.fileExists(atPath: folder.path + "/DONE"))
    }
  }

  @Test func aShellThatDiedIsBegunAgain() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let shell = try await server.shell(by: Self.carriers[0].connector)
      try await digest(server, shell, [10])
      // The shell itself, with the connection alive.
      for process in try shells(below: server) { kill(process, SIGKILL) }
      try await digest(server, shell, [20])
      #expect(commands(server) == 2)
      try await server.killSessions()
      try await digest(server, shell, [30])
      await shell.close()
    }
  }

  /// Processes that run the loop for this server's sessions.
  private func shells(below server: LoopbackSSHD) throws -> [pid_t] {
    let found = try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { process in
      guard let line = FileManager.default.contents(atPath: "/proc/\(process)/cmdline"),
        let environment = FileManager.default.contents(atPath: "/proc/\(process)/environ")
      else { return false }
      return line.starts(with: Data("/bin/sh\0-c\0echo NASSYNC-READY".utf8))
        && String(decoding: environment, as: UTF8.self).contains("SSH_CONNECTION=")
        && String(decoding: environment, as: UTF8.self).contains(" \(server.port)\0")
    }
    try #require(!found.isEmpty)
    return found
  }
}
