import CLinux
import Executors
import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// The same client over the system's `ssh`, against real servers. The machine's own configuration of ssh plays no part.
@Suite struct OpenSSHTests {
  /// Opens a session and hands it to a body.
  @discardableResult
  static func session<Answer>(
    _ settings: SFTPSettings, configuration: String = "/dev/null", searchPath: String? = nil,
    _ body: (SFTPSession) async throws -> Answer
  ) async throws -> Answer {
    let connector = OpenSSHConnection.connector(configurationFile: configuration, searchPath: searchPath)
    let session = try await SFTPDriver(settings: settings, connector: connector).session()
    do {
      let answer = try await body(session)
      await session.close()
      return answer
    } catch {
      await session.close()
      throw error
    }
  }

  /// How opening a session failed; nil where it did not.
  static func failure(_ settings: SFTPSettings, configuration: String = "/dev/null", searchPath: String? = nil) async throws -> SyncFailure?
  {
    do {
      try await session(settings, configuration: configuration, searchPath: searchPath) { _ in }
      return nil
    } catch let error as TransportError { return error.failure }
  }

  /// The `ssh` processes that this process started for a port.
  static func carriers(_ port: Int) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { pid in
      guard let status = FileManager.default.contents(atPath: "/proc/\(pid)/stat"),
        let command = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline")
      else { return false }
      let fields = String(decoding: status, as: UTF8.self).split(separator: ")").last?.split(separator: " ") ?? []
      let words = command.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      return fields.count > 1 && fields[1] == "\(getpid())" && words.first?.hasSuffix("/ssh") == true && words.contains("\(port)")
    }
  }

  // MARK: Logging in

  @Test(arguments: [LoopbackSSHD.Style.shell, .chroot]) func saysWhoIsWho(style: LoopbackSSHD.Style) async throws {
    try await LoopbackSSHD.with(style) { server in
      let fingerprints = try await runProcess(["ssh-keygen", "-lf", "\(server.folder.path)/host_ed25519.pub"]).text
      try await Self.session(server.settings) { session in
        #expect(session.capabilities.server.hasPrefix("SSH-2.0-OpenSSH_"))
        #expect(session.hostKeyFingerprint.hasPrefix("SHA256:"))
        #expect(fingerprints.contains(session.hostKeyFingerprint))
        #expect(session.carrier.contains("/ssh (OpenSSH_"))
        #expect(session.limits != nil)
        let running = try Self.carriers(server.port)
        #expect(running.count == 1)
        await session.close()
        #expect(running.allSatisfy { kill($0, 0) != 0 })
      }
    }
  }

  @Test func theCheckNamesTheCarrier() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let driver = SFTPDriver(settings: server.settings, connector: OpenSSHConnection.connector(configurationFile: "/dev/null"))
      let probe = try await driver.probe()
      #expect(probe.lines.first { $0.name == "ssh" }?.detail.contains("OpenSSH_") == true)
      #expect(probe.evidence == .server)
      #expect(try Self.carriers(server.port).isEmpty)
    }
  }

  @Test func wrongKeyAndKeyFilesThatCannotServe() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      var settings = server.settings
      settings.keyFile = try await server.makeUserKey(.ed25519, name: "a stranger 100%", authorised: false)
      let refused = try #require(await Self.failure(settings))
      #expect(refused.kind == .auth)
      #expect(!refused.retry)
      #expect(refused.message.contains("Permission denied (publickey)"))
      settings.keyFile = "\(server.folder.path)/missing"
      #expect(try await Self.failure(settings)?.kind == .misconfigured)
      settings.keyFile = try await server.makeUserKey(.ecdsa, name: "open")
      chmod("\(server.folder.path)/open", 0o644)
      let open = try #require(await Self.failure(settings))
      #expect(open.kind == .misconfigured)
      #expect(open.hint.contains("chmod 600"))
      chmod("\(server.folder.path)/open", 0o600)
      #expect(try await Self.failure(settings) == nil)
      settings.keyFile = try server.folder.write("not a key\n", to: "nonsense", mode: 0o600)
      #expect(try await Self.failure(settings)?.kind == .misconfigured)
      // Where libssh2 may fail, ssh does not.
      settings.keyFile = try await server.makeUserKey(.rsa, name: "rsa_key")
      #expect(try await Self.failure(settings) == nil)
    }
  }

  @Test func serverThatWantsPasswords() async throws {
    try await LoopbackSSHD.with(
      keyTypes: [.ed25519], extraConfiguration: ["PubkeyAuthentication no", "PasswordAuthentication yes"]
    ) { server in
      let failure = try #require(await Self.failure(server.settings))
      #expect(failure.kind == .auth)
      #expect(failure.hint.contains("never uses passwords"))
    }
  }

  @Test func unknownChangedAndRevokedHostKeys() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      var settings = server.settings
      settings.knownHostsFile = try server.writeKnownHosts(["# nobody"], name: "nobody of them")
      let unknown = try #require(await Self.failure(settings))
      #expect(unknown.kind == .hostKey)
      #expect(!unknown.retry)
      #expect(unknown.message.contains("SHA256:"))
      #expect(unknown.hint.contains("ssh-keyscan -t ed25519 -p \(server.port) 127.0.0.1 >> '\(settings.knownHostsFile)'"))
      // Nothing is learnt.
      #expect(try await Self.failure(settings)?.kind == .hostKey)
      let command = try #require(unknown.hint.range(of: "ssh-keyscan"))
      #expect(try await runProcess(["sh", "-c", String(unknown.hint[command.lowerBound...])]).status == 0)
      #expect(try await Self.failure(settings) == nil)
      settings.knownHostsFile = "\(server.folder.path)/missing"
      #expect(try await Self.failure(settings)?.kind == .hostKey)
      settings.knownHostsFile = try server.writeKnownHosts(
        ["\(server.knownHostsName) \(try server.hostKey(.ed25519))", "@revoked * \(try server.hostKey(.ed25519))"], name: "revoked")
      let revoked = try #require(await Self.failure(settings))
      #expect(revoked.kind == .hostKey)
      #expect(revoked.message.contains("revokes"))
      try await server.restartWithOtherHostKeys()
      let changed = try #require(await Self.failure(server.settings))
      #expect(changed.kind == .hostKey)
      #expect(changed.message.contains("line 1 of \(server.knownHostsFile)"))
      #expect(changed.hint.contains("ssh-keyscan"))
    }
  }

  /// What a configuration file says cannot loosen what this program promises.
  @Test func aLaxConfigurationChangesNothing() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let pwned = "\(server.folder.path)/pwned"
      let lax = try server.folder.write(
        """
        Host *
          StrictHostKeyChecking no
          LogLevel QUIET
          ControlMaster auto
          ControlPath \(server.folder.path)/control-%r
          ControlPersist 60
          ForwardAgent yes
          PermitLocalCommand yes
          LocalCommand touch \(pwned)
          RemoteCommand touch \(pwned)
          RequestTTY force
          LocalForward 127.0.0.1:\(try freePort()) 127.0.0.1:22
          StdinNull yes
          ForkAfterAuthentication yes
          SessionType none
          Compression yes
          BatchMode no

        """, to: "lax")
      #expect(try await Self.failure(server.settings, configuration: lax) == nil)
      let driver = SFTPDriver(settings: server.settings, connector: OpenSSHConnection.connector(configurationFile: lax))
      #expect(try await driver.probe().evidence == .server)
      var settings = server.settings
      settings.knownHostsFile = try server.writeKnownHosts(["# nobody"], name: "nobody")
      #expect(try await Self.failure(settings, configuration: lax)?.kind == .hostKey)
      #expect(!FileManager.default.fileExists(atPath: pwned))
      #expect(try String(contentsOfFile: settings.knownHostsFile, encoding: .utf8) == "# nobody\n")
      #expect(try !FileManager.default.contentsOfDirectory(atPath: server.folder.path).contains { $0.hasPrefix("control-") })
    }
  }

  // MARK: Reaching the server

  @Test(arguments: [true, false]) func aCutAnywhereInALogInIsTheNetworksFault(ofUpload: Bool) async throws {
    try await expectCutsToBeTheNetworksFault(ofUpload: ofUpload, every: ofUpload ? 190 : 230, atLeast: 10) { try await Self.failure($0) }
  }

  @Test func deadPortAndUnknownName() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      try await server.stop()
      let refused = try #require(await Self.failure(server.settings))
      #expect(refused.kind == .network)
      #expect(refused.message.contains("Connection refused"))
      var settings = server.settings
      settings.host = "nas.invalid"
      let unknown = try #require(await Self.failure(settings))
      #expect(unknown.kind == .network)
      #expect(unknown.message.contains("no host named nas.invalid"))
    }
  }

  /// How connecting failed and how long that took, measured on the thread that did it: a busy machine may resume the test much later.
  private func timedEnd(
    _ settings: SFTPSettings, _ interrupter: Interrupter
  ) async throws -> (failure: SyncFailure, started: ContinuousClock.Instant, finished: ContinuousClock.Instant) {
    try await onThread { () throws(TransportError) in
      let connector = OpenSSHConnection.connector(configurationFile: "/dev/null")
      var started = ContinuousClock.now
      do throws(TransportError) {
        let connection = try connector(settings, interrupter)
        started = ContinuousClock.now
        _ = try connection.openChannel(.sftp)
      } catch {
        return (error.failure, started, ContinuousClock.now)
      }
      throw .unsupported("fail")
    }
  }

  @Test func silenceEndsAtTheDeadlineAndAnInterruptAtOnce() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      try await SilentListener.with { port in
        var settings = server.settings
        settings.port = UInt16(port)
        settings.connectTimeout = .seconds(3)
        let late = try await timedEnd(settings, Interrupter())
        #expect(late.failure.kind == .timeout)
        #expect(late.finished - late.started < .seconds(6))
        settings.connectTimeout = .seconds(60)
        let interrupter = Interrupter()
        async let end = timedEnd(settings, interrupter)
        while try Self.carriers(port).isEmpty { try await Task.sleep(for: .milliseconds(20)) }
        let interrupted = ContinuousClock.now
        interrupter.interrupt()
        #expect(try await end.failure.kind == .interrupted)
        #expect(try await end.finished - interrupted < .seconds(5))
        #expect(try Self.carriers(port).isEmpty)
      }
    }
  }

  @Test func aServerWithoutSFTP() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: ["Subsystem another /bin/false"]) { server in
      let failure = try #require(await Self.failure(server.settings))
      #expect(failure.kind == .misconfigured)
      #expect(failure.message.contains("offers no SFTP"))
    }
    try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: ["Subsystem sftp /bin/false"]) { server in
      let failure = try #require(await Self.failure(server.settings))
      #expect(failure.kind == .network)
      #expect(failure.message.contains("ended the SFTP session"))
    }
  }

  @Test func brokenConfigurationAndMissingProgram() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let broken = try server.folder.write("Nonsense yes\n", to: "broken")
      let option = try #require(await Self.failure(server.settings, configuration: broken))
      #expect(option.kind == .misconfigured)
      #expect(option.message.contains("Bad configuration option"))
      #expect(try await Self.failure(server.settings, configuration: "/nonexistent/config")?.kind == .misconfigured)
      let empty = try #require(await Self.failure(server.settings, searchPath: "/nonexistent:relative"))
      #expect(empty.kind == .misconfigured)
      #expect(empty.hint.contains("openssh-client"))
      try server.folder.write("#!/bin/sh\necho Dropbear v2022.83 >&2\n", to: "ssh", mode: 0o755)
      // An update that is under way is waited for: the kernel starts no program that is open for writing.
      let writing = open("\(server.folder.path)/ssh", O_WRONLY | O_CLOEXEC)
      let updating = Task.detached {
        usleep(200_000)
        close(writing)
      }
      let other = try #require(await Self.failure(server.settings, searchPath: server.folder.path))
      await updating.value
      #expect(other.kind == .misconfigured)
      #expect(other.message.contains("Dropbear v2022.83"))
    }
  }

  @Test func namesCannotBecomeOptionsOrCommands() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let pwned = "\(server.folder.path)/pwned"
      for host in ["-oProxyCommand=touch \(pwned)", "x;touch \(pwned)", "$(touch)", "", "a b", "u@h"] {
        var settings = server.settings
        settings.host = host
        let kind = try await Self.failure(settings)?.kind
        #expect(kind == .misconfigured, "\(host)")
      }
      for user in ["-oProxyCommand=x", "a;touch \(pwned)", "`touch`", "a b", "", "x\\"] {
        var settings = server.settings
        settings.user = user
        let kind = try await Self.failure(settings)?.kind
        #expect(kind == .misconfigured, "\(user)")
      }
      for user in ["LAB\\nobody", "nobody@lab.example", "NAS$"] {
        var settings = server.settings
        settings.user = user
        let kind = try await Self.failure(settings)?.kind
        #expect(kind == .auth, "\(user)")
      }
      #expect(!FileManager.default.fileExists(atPath: pwned))
    }
  }

  // MARK: On the way

  @Test func jumpsOverAnotherHost() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { nas in
      try await LoopbackSSHD.with(keyTypes: [.ed25519]) { gate in
        func configuration(_ name: String, gateKnownHosts: String, gateKey: String? = nil) throws -> String {
          try nas.folder.write(
            """
            Host nas
              HostName 127.0.0.1
              Port \(nas.port)
              IdentityFile \(nas.keyFile)
              UserKnownHostsFile \(nas.knownHostsFile)
              ProxyJump gate
            Host gate
              HostName 127.0.0.1
              Port \(gate.port)
              User \(gate.user)
              IdentityFile \(gateKey ?? gate.keyFile)
              IdentitiesOnly yes
              UserKnownHostsFile \(gateKnownHosts)

            """, to: name, mode: 0o600)
        }
        let good = try configuration("jump", gateKnownHosts: gate.knownHostsFile)
        var settings = nas.settings
        (settings.host, settings.port, settings.keyFile, settings.knownHostsFile) = ("nas", 22, nil, "")
        let root = RemotePath(root: settings.remoteRoot)
        try await Self.session(settings, configuration: good) { session in
          try await session.put([1, 2, 3], at: root.appending(try RelativePath("f")), modified: nil, mode: nil, durable: false)
        }
        #expect(FileManager.default.contents(atPath: nas.rootFolder + "/f") == Data([1, 2, 3]))
        #expect(gate.log.contains("Accepted publickey"))
        let driver = SFTPDriver(settings: settings, connector: OpenSSHConnection.connector(configurationFile: good))
        #expect(try await driver.probe().evidence == .server)
        // Both ends are checked.
        let stranger = try configuration("stranger", gateKnownHosts: "/dev/null")
        let failure = try #require(await Self.failure(settings, configuration: stranger))
        #expect(failure.kind == .hostKey)
        #expect(failure.message.contains("ProxyJump"))
        let locked = try configuration("locked", gateKnownHosts: gate.knownHostsFile, gateKey: nas.keyFile)
        let refused = try #require(await Self.failure(settings, configuration: locked))
        #expect(refused.kind == .auth)
        #expect(refused.message.contains("ProxyJump"))
        settings.knownHostsFile = "/dev/null"
        let unknown = try #require(await Self.failure(settings, configuration: good))
        #expect(unknown.message.contains("SHA256:"))
        #expect(unknown.hint.contains("ssh-keyscan -t ed25519 -p \(nas.port) 127.0.0.1"))
        try await gate.stop()
        settings.knownHostsFile = ""
        #expect(try await Self.failure(settings, configuration: good)?.kind == .network)
      }
    }
  }

  /// Sends until something ends it, and says what.
  private func upload(_ session: SFTPSession, _ path: RemotePath) -> Task<TransportError?, Never> {
    Task {
      do throws(TransportError) {
        let upload = try await session.beginUpload(path, resumingAt: 0)
        let chunk = [UInt8](repeating: 7, count: 1 << 20)
        for number in 0..<1_000_000 { try await session.write(chunk, at: UInt64(number % 64) << 20, to: upload) }
        return nil
      } catch { return error }
    }
  }

  @Test func killedInMidUpload() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let path = RemotePath(root: server.remoteRoot).appending(try RelativePath("f"))
      for victim in ["ssh", "sshd", "sshd's word"] {
        try await Self.session(server.settings) { session in
          let sending = upload(session, path)
          try await Task.sleep(for: .milliseconds(300))
          switch victim {
          case "ssh": for carrier in try Self.carriers(server.port) { kill(carrier, SIGKILL) }
          case "sshd": try await server.killSessions()
          default: for process in await server.sessionProcesses { kill(process, SIGTERM) }
          }
          let error = try #require(await sending.value)
          #expect(error.failure.kind == (victim == "ssh" ? .local : .network), "\(victim): \(error)")
          #expect(error.sessionLost && error.failure.retry)
        }
        #expect(try Self.carriers(server.port).isEmpty)
        #expect(try await Self.failure(server.settings) == nil)
      }
    }
  }

  @Test func aServerThatHangsIsNoticed() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      var settings = server.settings
      settings.keepAliveSeconds = 1
      let path = RemotePath(root: server.remoteRoot).appending(try RelativePath("f"))
      try await Self.session(settings) { session in
        let sending = upload(session, path)
        try await Task.sleep(for: .milliseconds(300))
        await server.pauseSessions()
        let error = try #require(await sending.value)
        #expect(error.failure.kind == .timeout)
        await server.resumeSessions()
      }
    }
  }
}
