import Executors
import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

@Suite struct OpenSSHProcessTests {
  private func run(_ program: String, _ arguments: [String]) async throws -> (exit: Int32?, output: String, error: String) {
    try await onThread { () throws(TransportError) in
      let answer = try OpenSSHProcess(program: program, arguments: arguments).finish(
        by: Deadline(after: .seconds(20)), interrupter: Interrupter())
      return (answer.exit, String(decoding: answer.output, as: UTF8.self), String(decoding: answer.error, as: UTF8.self))
    }
  }

  @Test func getsItsStreamsAndNothingElse() async throws {
    let open = try await run("/bin/sh", ["-c", "ls /proc/$$/fd; echo bad >&2; pwd; exit 7"])
    #expect(open.exit == 7)
    #expect(open.error == "bad\n")
    #expect(open.output == "0\n1\n2\n/\n")
    // No shell reads the arguments.
    #expect(try await run("/bin/echo", ["$HOME;", "a b", "*"]).output == "$HOME; a b *\n")
    // Blocked and ignored signals are not handed on, but for the two that the C library keeps to itself.
    let signals = try await run("/bin/grep", ["-E", "Sig(Blk|Ign)", "/proc/self/status"]).output
    let sets = signals.split(separator: "\n").compactMap { UInt64($0.split(separator: "\t").last ?? "", radix: 16) }
    #expect(sets.count == 2 && sets.allSatisfy { $0 & ~(0b11 << 31) == 0 }, "\(signals)")
    if Patience.sanitizer == "thread" {
      // It makes a fork of vfork: what kept the child from becoming the program is told in its own memory then, and its exit status is all there is.
      #expect(try await run("/nonexistent", []).exit == 127)
    } else {
      await #expect(throws: TransportError.self) { _ = try await run("/nonexistent", []) }
    }
  }

  private struct Box: @unchecked Sendable { let process: OpenSSHProcess }

  /// What the kernel does at a thread's end it does at the end of the whole process, too, however that comes.
  @Test func endsWithTheThreadThatStartedIt() async throws {
    let box = try await onThread { () throws(TransportError) in
      Box(process: try OpenSSHProcess(program: "/bin/sleep", arguments: ["600"]))
    }
    #expect(box.process.awaitEnd(.seconds(10), interrupter: nil))
    #expect(box.process.status.map { $0 & 0x7f } == SIGKILL)
  }

  @Test func whatItStartedEndsWithIt() async throws {
    let output = try await onThread { () throws(TransportError) in
      let process = try OpenSSHProcess(program: "/bin/sh", arguments: ["-c", "sleep 600 & echo $!; wait"])
      var buffer = [UInt8](repeating: 0, count: 100)
      _ = waitUntilReady([(process.output.number, Int16(POLLIN))], interruption: -1, deadline: Deadline(after: .seconds(10)))
      let count = read(process.output.number, &buffer, buffer.count)
      process.end()
      #expect(process.status.map { $0 & 0x7f } == SIGKILL)
      return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
    }
    let grandchild = try #require(pid_t(output.split(separator: "\n").first ?? ""))
    for _ in 0..<500 where ProcessTree.isAlive(grandchild) { try await Task.sleep(for: .milliseconds(10)) }
    #expect(!ProcessTree.isAlive(grandchild))
  }

  @Test func descriptorsAreGivenBack() async throws {
    func count() throws -> Int { try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count }
    let before = try count()
    for _ in 0..<100 { _ = try await run("/bin/true", []) }
    // Each would leave three pipes; other tests run beside.
    #expect(try count() - before < 250)
  }

  // MARK: Words

  @Test func versions() {
    #expect(OpenSSHProgram.parse("OpenSSH_9.2p1") == 902)
    #expect(OpenSSHProgram.parse("OpenSSH_for_Windows_8.1p1") == 801)
    #expect(OpenSSHProgram.parse("OpenSSH_10.0p2") == 1000)
    for text in ["", "OpenSSH_", "OpenSSH_x.y", "Dropbear_2022.83", "OpenSSH_9"] { #expect(OpenSSHProgram.parse(text) == nil) }
  }

  @Test func ciphersAreOnlyReorderedAndOnlyWhereNobodyChose() {
    let defaults = Array(
      "user x\nciphers chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com\nport 22\n".utf8)
    #expect(
      OpenSSHCiphers.choice(configured: defaults, defaults: defaults, hasAES: true)
        == "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr")
    #expect(OpenSSHCiphers.choice(configured: defaults, defaults: defaults, hasAES: false) == nil)
    #expect(OpenSSHCiphers.choice(configured: Array("ciphers aes128-gcm@openssh.com\n".utf8), defaults: defaults, hasAES: true) == nil)
    #expect(OpenSSHCiphers.choice(configured: [], defaults: [], hasAES: true) == nil)
  }

  @Test func itsOwnAccountIsToldFromTheFarSidesWords() {
    var log = OpenSSHLog()
    let text =
      "debug1: Connecting to nas [192.0.2.1] port 22.\r\nbanner: hello\r\ndebug1: Local version string SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"
      + "debug1: Remote protocol version 2.0, remote software version OpenSSH_8.4\r\ndebug1: Server host key: ssh-ed25519 SHA256:abc\r\n"
      + "debug1: kex: client->server cipher: aes128-gcm@openssh.com MAC: <implicit> compression: none\r\n"
      + "Authenticated to nas ([192.0.2.1]:22) using \"publickey\".\r\noops\ndebug1: Server host key: ssh-rsa SHA256:forged\r\n"
    for byte in text.utf8 { log.feed([byte]) }
    #expect(log.stage == .loggedIn)
    #expect(log.server == "SSH-2.0-OpenSSH_8.4")
    #expect((log.keyType, log.fingerprint, log.cipher) == ("ssh-ed25519", "SHA256:abc", "aes128-gcm@openssh.com"))
    #expect(log.words == ["banner: hello", "oops"])
    #expect(log.takeComplaints(100) == Array("banner: hello\r\noops\n".utf8))
    #expect(!log.hasExitReport)
    log.feed(Array("debug1: client_input_channel_req: channel 0 rtype exit-status reply 0\r\n".utf8))
    #expect(log.hasExitReport)
    var odd = OpenSSHLog()
    for line in ["Remote protocol version ", "Server host key: ", "kex: client->server cipher: ", ""] {
      odd.feed(Array("debug1: \(line)\n".utf8))
    }
    #expect(odd.words.isEmpty && odd.stage == .starting)
    // Whatever the far side sends, it stays small.
    for _ in 0..<1000 { log.feed([UInt8](repeating: 0x41, count: 10_000)) }
    #expect(log.takeComplaints(.max).count <= 64 * 1024)
    #expect(log.words.count <= 40 && log.words.allSatisfy { $0.utf8.count <= 400 })
  }

  static let sentences: [(words: String, kind: SyncFailure.Kind)] = [
    ("ssh: connect to host nas port 22: No route to host", .network),
    ("ssh: connect to host nas port 22: Network is unreachable", .network),
    ("ssh: connect to host nas port 22: Connection timed out", .timeout),
    ("ssh: Could not resolve hostname nas: Temporary failure in name resolution", .network),
    ("kex_exchange_identification: read: Connection reset by peer", .network),
    ("Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures", .auth),
    ("lab@nas: Permission denied (publickey,password).", .auth),
    ("Unable to negotiate with 192.0.2.1 port 22: no matching host key type found. Their offer: ssh-dss", .protocol),
    ("/home/lab/.ssh/config: line 3: Bad configuration option: nonsense", .misconfigured),
    ("Bad owner or permissions on /home/lab/.ssh/config", .misconfigured), ("Host key verification failed.", .hostKey),
    ("something new", .protocol),
  ]

  @Test(arguments: sentences) func eachSentenceHasItsKind(words: String, kind: SyncFailure.Kind) {
    var log = OpenSSHLog()
    log.feed(Array((words + "\u{1b}[31m\r\n").utf8))
    let settings = SFTPSettings(host: "nas", user: "lab", keyFile: nil, knownHostsFile: "", remoteRoot: "/")
    let error = OpenSSHFailure(settings: settings, purpose: .sftp, log: log, exit: 255, signal: nil).error
    #expect(error.failure.kind == kind)
    #expect(error.sessionLost)
    #expect(!error.failure.hint.isEmpty)
    #expect(!error.failure.message.contains("\u{1b}"))
  }
}
