import Executors
import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

@Suite struct ConnectionTests {
  @Test(arguments: LoopbackSSHD.Style.allCases) func logsInWithAKeyFile(style: LoopbackSSHD.Style) async throws {
    try await LoopbackSSHD.with(style) { server in
      let facts = try await tryConnecting(server.settings)
      #expect(facts.server.hasPrefix("SSH-2.0-OpenSSH"))
      let wanted = try await runProcess(["ssh-keygen", "-lf", "\(server.folder.path)/host_ed25519.pub"])
      #expect(wanted.text.contains(facts.fingerprint))
    }
  }

  /// Silence counts from its beginning: what is written into the void meanwhile does not begin it anew.
  @Test func aQuestionIntoTheVoidIsNoSignOfLife() async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.keepAliveSeconds = 2
      settings.progressTimeout = .seconds(60)
      let driver = SFTPDriver(settings: settings)
      let session = try await driver.connect()
      let path = RemotePath(root: server.remoteRoot, relative: try RelativePath("nothing"))
      #expect(try await session.entry(at: path) == nil)
      await server.pauseSessions()
      let start = ContinuousClock.now
      // Two questions have been asked in vain then; the third would have been the last.
      try await Task.sleep(for: .seconds(5))
      do throws(TransportError) {
        _ = try await session.entry(at: path)
        Issue.record("a server that stands still has answered")
      } catch { #expect(error.failure.kind == .timeout, "\(error)") }
      #expect(ContinuousClock.now - start < .seconds(Patience.factor == 1 ? 11 : 30))
      await session.close()
    }
  }

  @Test func asksForTheKeyThatIsKnown() async throws {
    try await LoopbackSSHD.with { server in
      for type in [LoopbackSSHD.KeyType.ed25519, .ecdsa] {
        var settings = server.settings
        settings.knownHostsFile = try server.writeKnownHosts(["\(server.knownHostsName) \(try server.hostKey(type))"], name: "only_\(type)")
        let wanted = try await runProcess(["ssh-keygen", "-lf", "\(server.folder.path)/host_\(type).pub"])
        #expect(wanted.text.contains(try await tryConnecting(settings).fingerprint))
      }
      var settings = server.settings
      settings.knownHostsFile = try await server.hashedKnownHosts()
      _ = try await tryConnecting(settings)
    }
  }

  @Test(arguments: Library.allCases) func serverWithOnlyAnRSAKey(library: Library) async throws {
    try await LoopbackSSHD.with(keyTypes: [.rsa], extraConfiguration: ["HostKeyAlgorithms +ssh-rsa"]) { server in
      _ = try await tryConnecting(server.settings, by: library)
    }
  }

  @Test func unknownHostIsRefusedWithTheWayToAddIt() async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.knownHostsFile = try server.writeKnownHosts(["# nobody"], name: "nobody")
      let failure = try #require(await failureOfConnecting(settings))
      #expect(failure.kind == .hostKey)
      #expect(!failure.retry)
      let fingerprint = try await tryConnecting(server.settings).fingerprint
      #expect(failure.message.contains(fingerprint))
      #expect(failure.hint.contains("ssh-keyscan -t ed25519 -p \(server.port) 127.0.0.1 >> \(settings.knownHostsFile)"))
      // The command does what it says.
      let command = try #require(failure.hint.range(of: "ssh-keyscan"))
      let added = try await runProcess(["sh", "-c", String(failure.hint[command.lowerBound...])])
      #expect(added.status == 0)
      _ = try await tryConnecting(settings)
      settings.knownHostsFile = "\(server.folder.path)/missing"
      #expect(await failureOfConnecting(settings)?.kind == .hostKey)
    }
  }

  @Test(arguments: Library.allCases) func changedAndRevokedKeysAreRefused(library: Library) async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.knownHostsFile = try server.writeKnownHosts(
        ["\(server.knownHostsName) \(try server.hostKey(.ed25519))", "@revoked * \(try server.hostKey(.ed25519))"], name: "revoked")
      let revoked = try #require(await failureOfConnecting(settings, by: library))
      #expect(revoked.kind == .hostKey)
      #expect(revoked.message.contains("line 2"))
      try await server.restartWithOtherHostKeys()
      let changed = try #require(await failureOfConnecting(server.settings, by: library))
      #expect(changed.kind == .hostKey)
      #expect(changed.message.contains("line 1 of \(server.knownHostsFile)"))
    }
  }

  @Test(arguments: Library.allCases) func wrongUserKey(library: Library) async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.keyFile = try await server.makeUserKey(.ed25519, name: "stranger", authorised: false)
      let failure = try #require(await failureOfConnecting(settings, by: library))
      #expect(failure.kind == .auth)
      #expect(!failure.retry)
      settings = server.settings
      settings.user = "no-such-user"
      #expect(await failureOfConnecting(settings, by: library)?.kind == .auth)
    }
  }

  @Test func keyFilesThatCannotServe() async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.keyFile = try await server.makeUserKey(.ecdsa, name: "ecdsa key")
      _ = try await tryConnecting(settings)

      let openKey = try #require(settings.keyFile)
      chmod(openKey, 0o644)
      let mode = try #require(await failureOfConnecting(settings))
      #expect(mode.kind == .misconfigured)
      #expect(mode.message.contains("0644"))
      #expect(mode.hint.contains("chmod 600"))

      settings.keyFile = "\(server.folder.path)/missing"
      #expect(await failureOfConnecting(settings)?.kind == .misconfigured)

      settings.keyFile = try await server.makeUserKey(.ed25519, name: "locked", passphrase: "secret")
      let locked = try #require(await failureOfConnecting(settings))
      #expect(locked.kind == .misconfigured)
      #expect(locked.hint.contains("ssh-add"))

      settings.keyFile = try server.folder.write("not a key\n", to: "nonsense", mode: 0o600)
      #expect(await failureOfConnecting(settings)?.kind == .misconfigured)

      let publicHalf = "\(server.folder.path)/public"
      try FileManager.default.copyItem(atPath: server.keyFile + ".pub", toPath: publicHalf)
      chmod(publicHalf, 0o600)
      settings.keyFile = publicHalf
      #expect(await failureOfConnecting(settings)?.hint.contains("without .pub") == true)

      settings.keyFile = nil
      #expect(await failureOfConnecting(settings)?.kind == .misconfigured)
    }
  }

  @Test func rsaUserKeyWorks() async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.keyFile = try await server.makeUserKey(.rsa, name: "rsa_key")
      _ = try await tryConnecting(settings)
    }
  }

  /// libssh2 before 1.11 cannot sign as current servers want it; from then on such a key simply works.
  @Test func rsaUserKeyBesideAnAgentWorksOrSaysWhy() async throws {
    try await LoopbackSSHD.with { server in
      var settings = server.settings
      settings.keyFile = try await server.makeUserKey(.rsa, name: "rsa_key")
      let outcome = await failureOfConnecting(settings, by: .libssh2)
      if LibSSH2Session.isAtLeast(0x010b00) {
        #expect(outcome == nil)
        return
      }
      let failure = try #require(outcome)
      #expect(failure.kind == .auth)
      #expect(failure.message.contains("RSA"))
      #expect(failure.hint.contains("ed25519"))
    }
  }

  @Test func serverThatWantsPasswords() async throws {
    let configuration = ["PubkeyAuthentication no", "PasswordAuthentication yes"]
    try await LoopbackSSHD.with(extraConfiguration: configuration) { server in
      let failure = try #require(await failureOfConnecting(server.settings))
      #expect(failure.kind == .auth)
      #expect(failure.message.contains("password"))
    }
  }

  @Test func logsInWithAnAgent() async throws {
    try await LoopbackSSHD.with { server in
      let socket = "\(server.folder.path)/agent"
      let agent = try ChildProcess(["ssh-agent", "-D", "-a", socket])
      defer { kill(agent.id, SIGKILL) }
      var settings = server.settings
      settings.keyFile = nil
      settings.useAgent = true
      for _ in 0..<200 where !FileManager.default.fileExists(atPath: socket) { try await Task.sleep(for: .milliseconds(10)) }
      #expect(await failureOfConnecting(settings, agentSocket: socket)?.message.contains("holds no key") == true)

      let stranger = try await server.makeUserKey(.ecdsa, name: "stranger", authorised: false)
      let rsa = try await server.makeUserKey(.rsa, name: "rsa_key")
      for key in [stranger, rsa] {
        #expect(try await runProcess(["ssh-add", "-q", key], environment: ["SSH_AUTH_SOCK": socket, "PATH": "/usr/bin"]).status == 0)
      }
      if !LibSSH2Session.isAtLeast(0x010b00) { #expect(await failureOfConnecting(settings, agentSocket: socket)?.kind == .auth) }
      // A key file locked with a passphrase names the agent's key.
      #expect(
        try await runProcess(["ssh-add", "-q", server.keyFile], environment: ["SSH_AUTH_SOCK": socket, "PATH": "/usr/bin"]).status == 0)
      _ = try await tryConnecting(settings, agentSocket: socket)
      #expect(try await runProcess(["ssh-keygen", "-q", "-p", "-P", "", "-N", "locked", "-f", server.keyFile]).status == 0)
      settings.keyFile = server.keyFile
      _ = try await tryConnecting(settings, agentSocket: socket)

      // An agent that hangs does not hold anybody up.
      kill(agent.id, SIGSTOP)
      settings.connectTimeout = .milliseconds(600)
      #expect(await failureOfConnecting(settings, agentSocket: socket)?.kind == .auth)
      kill(agent.id, SIGCONT)
      kill(agent.id, SIGTERM)
      _ = await agent.exitStatus()
      #expect(await failureOfConnecting(settings, agentSocket: socket)?.kind == .auth)
    }
  }

  @Test func deadPortAndUnknownName() async throws {
    try await LoopbackSSHD.with { server in
      try await server.stop()
      #expect(await failureOfConnecting(server.settings)?.kind == .network)
      var settings = server.settings
      settings.host = "nas.invalid"
      #expect(await failureOfConnecting(settings)?.kind == .network)
    }
  }

  /// Wherever the far side goes away before the keys are exchanged, that is the network's fault and no disagreement about algorithms.
  @Test(arguments: Library.allCases) func aConnectionThatEndsBeforeTheKeysAreExchangedIsNoDisagreement(library: Library) async throws {
    try await LoopbackSSHD.with { server in
      let file = "\(server.folder.path)/opening"
      // What the real server says first: its name, and what it offers.
      let ask = "exec 3<>/dev/tcp/127.0.0.1/\(server.port); printf 'SSH-2.0-probe\\r\\n' >&3; timeout 2 cat <&3 >'\(file)'"
      _ = try await runProcess(["bash", "-c", ask])
      let opening = try [UInt8](Data(contentsOf: URL(filePath: file)))
      #expect(opening.count > 500)
      for reads in [true, false] {
        for count in [0, 7, 60, opening.count - 1, opening.count] {
          let failure = try await RawHTTPServer.with({ connection in
            connection.send(Array(opening.prefix(count)))
            // Where something is left unread the system resets the connection; else it ends it in order.
            usleep(300_000)
            if reads { _ = connection.read(65_536) }
          }) { cut in
            var settings = server.settings
            settings.port = cut.port
            return await failureOfConnecting(settings, by: library)
          }
          #expect(failure?.kind == .network, "\(reads) \(count): \(String(describing: failure))")
        }
      }
    }
  }

  @Test(arguments: [true, false], Library.allCases) func aCutAnywhereInALogInIsTheNetworksFault(
    ofUpload: Bool, library: Library
  ) async throws {
    try await expectCutsToBeTheNetworksFault(ofUpload: ofUpload, every: ofUpload ? 23 : 67, atLeast: 20) {
      await failureOfConnecting($0, by: library)
    }
  }

  /// The server's last word comes while its answer is waited for: it is a refusal, and nobody waits on.
  @Test(arguments: Library.allCases) func aServerThatEndsTheConnectionAtARefusedKey(library: Library) async throws {
    try await LoopbackSSHD.with(extraConfiguration: ["MaxAuthTries 1"]) { server in
      var settings = server.settings
      settings.connectTimeout = .seconds(10)
      settings.keyFile = try await server.makeUserKey(.ed25519, name: "stranger", authorised: false)
      let failure = try #require(await failureOfConnecting(settings, by: library))
      #expect(failure.kind == .auth, "\(failure)")
    }
  }

  /// Lines before its name are a server's right; without an end they would be listened to for ever.
  @Test(arguments: Library.allCases) func aServerThatNeverComesToItsNameEndsAtTheDeadline(library: Library) async throws {
    try await LoopbackSSHD.with { server in
      let end = try await RawHTTPServer.with({ $0.sendForEver(Array("patience\r\n".utf8)) }) { chatterer in
        var settings = server.settings
        settings.port = chatterer.port
        settings.connectTimeout = .milliseconds(700)
        return try await timedEndOfConnecting(settings, interrupter: Interrupter(), by: library)
      }
      #expect(end.finished - end.started < .seconds(3))
    }
  }

  /// A service that runs for months makes many connections.
  @Test(arguments: Library.allCases) func aClosedConnectionLeavesNoDescriptor(library: Library) async throws {
    try await LoopbackSSHD.with { server in
      for _ in 0..<20 { _ = try await tryConnecting(server.settings, by: library) }
      var left = 0
      for _ in 0..<50 {
        left = try deadSockets()
        if left < 10 { break }
        try await Task.sleep(for: .milliseconds(100))
      }
      // Tests beside this one have some for a moment.
      #expect(left < 10)
    }
  }

  /// How many descriptors of this process are TCP sockets without a connection.
  private func deadSockets() throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").compactMap { Int32($0) }.count { descriptor in
      var info = tcp_info()
      var length = socklen_t(MemoryLayout<tcp_info>.size)
      return getsockopt(descriptor, Int32(SOL_TCP), TCP_INFO, &info, &length) == 0 && info.tcpi_state == UInt8(TCP_CLOSE)
    }
  }

  @Test(arguments: Library.allCases) func silenceEndsAtTheDeadline(library: Library) async throws {
    try await LoopbackSSHD.with { server in
      try await SilentListener.with { port in
        var settings = server.settings
        settings.port = UInt16(port)
        settings.connectTimeout = .milliseconds(500)
        let end = try await timedEndOfConnecting(settings, interrupter: Interrupter(), by: library)
        #expect(end.failure.kind == .timeout)
        #expect(end.finished - end.started < .seconds(1.5))
      }
    }
  }

  @Test(arguments: Library.allCases) func interruptEndsConnectingAtOnce(library: Library) async throws {
    try await LoopbackSSHD.with { server in
      try await SilentListener.with { port in
        var settings = server.settings
        settings.port = UInt16(port)
        let interrupter = Interrupter()
        async let end = timedEndOfConnecting(settings, interrupter: interrupter, by: library)
        try await Task.sleep(for: .milliseconds(200))
        let interrupted = ContinuousClock.now
        interrupter.interrupt()
        #expect(try await end.failure.kind == .interrupted)
        #expect(try await end.finished - interrupted < .seconds(1))
      }
    }
  }

  /// How connecting failed and when, measured on the thread that did it: a busy machine may resume the test much later.
  private func timedEndOfConnecting(
    _ settings: SFTPSettings, interrupter: Interrupter, by library: Library
  ) async throws -> (failure: SyncFailure, started: ContinuousClock.Instant, finished: ContinuousClock.Instant) {
    try await onThread { () throws(TransportError) in
      let started = ContinuousClock.now
      do throws(TransportError) {
        _ = try library.connect(settings, interrupter)
      } catch {
        return (error.failure, started, ContinuousClock.now)
      }
      throw .unsupported("fail")
    }
  }
}

/// A listening socket behind which nobody ever answers.
enum SilentListener {
  static func with(_ body: (Int) async throws -> Void) async throws {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 16) == 0 ? getsockname(descriptor, $0, &length) : -1
      }
    }
    try #require(status == 0)
    try await body(Int(UInt16(bigEndian: address.sin_port)))
  }
}
