import Executors
import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

@Suite struct RemoteShellTests {
  private func shell(_ server: LoopbackSSHD, settings: SFTPSettings? = nil, interrupter: Interrupter = Interrupter()) async throws -> (
    RemoteShell, RemoteShellFacts
  ) {
    switch try await server.lookForShell(settings, interrupter: interrupter) {
    case .available(let shell, let facts): return (shell, facts)
    case .unavailable(let reason, _): throw TemporaryFolder.Failure("no shell: \(reason)")
    }
  }

  /// Writes a file whose name is any bytes below the server's root.
  private func write(_ content: [UInt8], to name: RelativePath, in server: LoopbackSSHD) throws {
    let path = Array(server.rootFolder.utf8) + [UInt8(ascii: "/")] + name.bytes
    let file = path.map { CChar(bitPattern: $0) } + [0]
    guard let stream = fopen(file, "w") else { throw TemporaryFolder.Failure("cannot write \(name): \(errno)") }
    defer { fclose(stream) }
    guard content.isEmpty || fwrite(content, 1, content.count, stream) == content.count else {
      throw TemporaryFolder.Failure("cannot write \(name)")
    }
  }

  private func remote(_ name: RelativePath, _ server: LoopbackSSHD) -> RemotePath {
    RemotePath(root: server.remoteRoot, relative: name)
  }

  // MARK: Finding the shell

  @Test func shellAccount() async throws {
    try await LoopbackSSHD.with { server in
      let (shell, facts) = try await shell(server)
      #expect(facts.shellRoot == server.rootFolder)
      #expect(facts.program == "openssl dgst")
      #expect(facts.hashesAnyName)
      #expect(facts.canSync && facts.canUnpack)
      #expect(shell.evidence == .server)
      #expect(try await shell.syncFileSystem(of: RemotePath(root: server.remoteRoot)))
      #expect(try await !shell.syncFileSystem(of: remote(try RelativePath("missing"), server)))
      await shell.close()
    }
  }

  @Test(arguments: [LoopbackSSHD.Style.sftpOnly, .chroot]) func accountsWithoutAShell(style: LoopbackSSHD.Style) async throws {
    try await LoopbackSSHD.with(style) { server in
      guard case .unavailable(let reason, _) = try await server.lookForShell() else {
        Issue.record("a shell was found where there is none")
        return
      }
      #expect(!reason.isEmpty)
    }
  }

  @Test func noHashingProgram() async throws {
    try await LoopbackSSHD.with(.noHashTool) { server in
      guard case .unavailable(let reason, _) = try await server.lookForShell() else {
        Issue.record("a hashing program was found where there is none")
        return
      }
      #expect(reason.contains("SHA-256"))
    }
  }

  @Test func shellSeesAnotherRoot() async throws {
    try await LoopbackSSHD.with(.otherRoot) { server in
      let (shell, facts) = try await shell(server)
      #expect(facts.shellRoot == server.rootFolder)
      #expect(facts.shellRoot != server.remoteRoot)
      let name = try RelativePath("it")
      try write([1, 2, 3], to: name, in: server)
      let digests = try await shell.digests(of: [remote(name, server)]) { _ in }
      #expect(try await digests == [remote(name, server): sha256([1, 2, 3])])
    }
  }

  @Test func serversThatAnswerACommandWithSomethingElse() async throws {
    for command in ["echo welcome; exit 0", "cat >/dev/null", "exit 1", "kill -9 $PPID"] {
      try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: ["ForceCommand \(command)"]) { server in
        guard case .unavailable = try await server.lookForShell() else {
          Issue.record("a shell was found behind “\(command)”")
          return
        }
      }
    }
  }

  @Test func loginProfilesMayPrint() async throws {
    let noisy = "echo 'Welcome to NAS'; echo oops >&2; eval \"$SSH_ORIGINAL_COMMAND\""
    try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: ["ForceCommand \(noisy)"]) { server in
      let (shell, _) = try await shell(server)
      let name = try RelativePath("it")
      try write([7], to: name, in: server)
      #expect(try await shell.digests(of: [remote(name, server)]) { _ in }.count == 1)
    }
  }

  @Test func brokenNetworkIsAnError() async throws {
    try await LoopbackSSHD.with { server in
      try await server.stop()
      await #expect(throws: TransportError.self) { _ = try await server.lookForShell() }
    }
  }

  // MARK: Hashing

  @Test func anyNameAnyContent() async throws {
    try await LoopbackSSHD.with { server in
      let (shell, _) = try await shell(server)
      var names: [RelativePath] = []
      for text in [
        "plain", " lead and trail ", "-rf", "--help", "it's", "\"quoted\"", "line\nfeed", "back\\slash", "back\\nslash", "$(touch pwned)",
        "`touch pwned`", "semi;colon", "a*?[b]", "tab\there", "carriage\rreturn", "🧪 µ-scope", "e\u{301}", "\u{e9}", "%s%n", "#hash", "~",
        "!x",
        "NASSYNC-END 0", "NASSYNC-BEGIN", "a & b | c > d", String(repeating: "n", count: 255),
      ] {
        names.append(try RelativePath(text))
      }
      names.append(try RelativePath(bytes: [0xff, 0xfe, 0x80]))
      var wanted: [RemotePath: ContentDigest] = [:]
      for (index, name) in names.enumerated() {
        let content = Array("content \(index)".utf8)
        try write(content, to: name, in: server)
        wanted[remote(name, server)] = try await sha256(content)
      }
      let missing = remote(try RelativePath("missing"), server)
      let folder = remote(try RelativePath("folder"), server)
      try FileManager.default.createDirectory(atPath: server.rootFolder + "/folder", withIntermediateDirectories: false)
      let asked = [missing] + names.map { remote($0, server) } + [folder, missing]
      #expect(try await shell.digests(of: asked) { _ in } == wanted)
      #expect(try await shell.digests(of: [missing, folder]) { _ in }.isEmpty)
      #expect(try await shell.digests(of: []) { _ in }.isEmpty)
      #expect(!FileManager.default.fileExists(atPath: NSHomeDirectory() + "/pwned"))
      #expect(!FileManager.default.fileExists(atPath: server.rootFolder + "/pwned"))

      try write(Array("changed".utf8), to: names[0], in: server)
      #expect(try await shell.digests(of: [remote(names[0], server)]) { _ in }[remote(names[0], server)] == sha256(Array("changed".utf8)))
    }
  }

  @Test func thousandsInOneCommand() async throws {
    try await LoopbackSSHD.with { server in
      let (shell, _) = try await shell(server)
      let folder = String(repeating: "d", count: 200)
      try FileManager.default.createDirectory(atPath: "\(server.rootFolder)/\(folder)", withIntermediateDirectories: false)
      var paths: [RemotePath] = []
      for index in 0..<5000 {
        let name = try RelativePath("\(folder)/file \(index)")
        try write(Array("\(index)".utf8), to: name, in: server)
        paths.append(remote(name, server))
      }
      let channelsBefore = server.log.split(whereSeparator: \.isNewline).count { $0.contains("Starting session: command") }
      let last = Mutex(0)
      let digests = try await shell.digests(of: paths) { done in last.withLock { $0 = max($0, done) } }
      #expect(digests.count == 5000)
      #expect(last.withLock { $0 } == 5000)
      #expect(try await digests[paths[4711]] == sha256(Array("4711".utf8)))
      #expect(Set(digests.values).count == 5000)
      #expect(server.log.split(whereSeparator: \.isNewline).count { $0.contains("Starting session: command") } == channelsBefore)
    }
  }

  @Test func lostConnectionIsMadeAgain() async throws {
    try await LoopbackSSHD.with { server in
      let (shell, _) = try await shell(server)
      let name = try RelativePath("it")
      try write([1], to: name, in: server)
      try await server.killSessions()
      #expect(try await shell.digests(of: [remote(name, server)]) { _ in }.count == 1)
      try await server.stop()
      await #expect(throws: TransportError.self) { _ = try await shell.digests(of: [self.remote(name, server)]) { _ in } }
      try await server.start()
      #expect(try await shell.digests(of: [remote(name, server)]) { _ in }.count == 1)
    }
  }

  // MARK: Hanging

  /// A named pipe that nobody writes to: hashing it takes for ever.
  private func makeHangingFile(_ server: LoopbackSSHD) throws -> RemotePath {
    try #require(mkfifo(server.rootFolder + "/pipe", 0o600) == 0)
    return remote(try RelativePath("pipe"), server)
  }

  @Test func interruptEndsHashingAtOnce() async throws {
    try await LoopbackSSHD.with { server in
      let (shell, _) = try await shell(server)
      let pipe = try makeHangingFile(server)
      let hashing = Task { () -> SyncFailure? in
        do throws(TransportError) {
          _ = try await shell.digests(of: [pipe]) { _ in }
          return nil
        } catch { return error.failure }
      }
      try await Task.sleep(for: .milliseconds(300))
      let start = ContinuousClock.now
      shell.interrupt()
      #expect(await hashing.value?.kind == .interrupted)
      // Some milliseconds; the rest is for the test's own task to be resumed on a busy machine.
      #expect(ContinuousClock.now - start < .seconds(5))

      // Cancelling does the same.
      let (other, _) = try await self.shell(server)
      let cancelled = Task { () -> SyncFailure? in
        do throws(TransportError) {
          _ = try await other.digests(of: [pipe]) { _ in }
          return nil
        } catch { return error.failure }
      }
      try await Task.sleep(for: .milliseconds(300))
      cancelled.cancel()
      #expect(await cancelled.value?.kind == .interrupted)
    }
  }

  /// A program that never ends, on a NAS that answers otherwise: it is waited for as long as the bytes may take, and not for ever.
  @Test func hashingThatNeverEndsIsGivenUp() async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.progressTimeout = .seconds(1)
      let (shell, _) = try await shell(server, settings: settings)
      let pipe = try makeHangingFile(server)
      let start = ContinuousClock.now
      let watchman = Task {
        try await Task.sleep(for: .seconds(30))
        shell.interrupt()
      }
      do throws(TransportError) {
        _ = try await shell.digests(of: [pipe], bytes: 2_000_000) { _ in }
        Issue.record("a pipe that nobody writes to was hashed")
      } catch { #expect(error.failure.kind == .timeout, "\(error)") }
      watchman.cancel()
      #expect(ContinuousClock.now - start >= .seconds(3))
    }
  }

  @Test func deadPeerIsNoticedByKeepalives() async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.keepAliveSeconds = 1
      let (shell, _) = try await shell(server, settings: settings)
      let pipe = try makeHangingFile(server)
      let hashing = Task { () -> SyncFailure? in
        do throws(TransportError) {
          _ = try await shell.digests(of: [pipe]) { _ in }
          return nil
        } catch { return error.failure }
      }
      // A peer that only takes its time answers the keepalives.
      try await Task.sleep(for: .seconds(3))
      let start = ContinuousClock.now
      await server.pauseSessions()
      let failure = await hashing.value
      #expect(failure?.kind == .timeout)
      #expect(ContinuousClock.now - start < .seconds(12))
      #expect(ContinuousClock.now - start > .milliseconds(500))
    }
  }
}
