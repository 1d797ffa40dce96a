import Executors
import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

extension LoopbackSSHD {
  /// Settings that get in, unless a test changes them.
  nonisolated var settings: SFTPSettings {
    SFTPSettings(
      host: host, port: UInt16(port), user: user, keyFile: keyFile, knownHostsFile: knownHostsFile, remoteRoot: remoteRoot,
      connectTimeout: .seconds(20), progressTimeout: .seconds(20), keepAliveSeconds: 15)
  }
}

extension LoopbackSSHD {
  /// Looks for a shell as the driver does, with a probe file laid down by hand.
  nonisolated func lookForShell(
    _ settings: SFTPSettings? = nil, by connector: @escaping SSHConnector = BuiltinConnection.connector(),
    interrupter: Interrupter = Interrupter(), expectingCompanion: Bool = false
  ) async throws -> RemoteShellOutcome {
    let settings = settings ?? self.settings
    let content = (0..<32).map { _ in UInt8.random(in: 0...255) }
    let name = ".nassync-probe-\(UInt64.random(in: 0 ... .max))"
    try Data(content).write(to: URL(filePath: "\(rootFolder)/\(name)"))
    return try await RemoteShell.open(
      settings: settings, connector: connector, probe: RemotePath(root: settings.remoteRoot, relative: try RelativePath(name)),
      content: content, interrupter: interrupter, expectingCompanion: expectingCompanion)
  }

  /// The shell, where there has to be one.
  nonisolated func shell(
    _ settings: SFTPSettings? = nil, by connector: @escaping SSHConnector = BuiltinConnection.connector(),
    interrupter: Interrupter = Interrupter(), expectingCompanion: Bool = false
  ) async throws -> RemoteShell {
    let outcome = try await lookForShell(settings, by: connector, interrupter: interrupter, expectingCompanion: expectingCompanion)
    guard case .available(let shell, _) = outcome else { throw TemporaryFolder.Failure("no shell: \(outcome)") }
    return shell
  }
}

/// By the system's tool, not by the code that is tested.
func sha256(_ content: [UInt8]) async throws -> ContentDigest {
  let result = try await runProcess(["sha256sum"], input: content)
  return try #require(ContentDigest(hex: String(result.text.prefix(64))))
}

/// What a connection said of itself.
struct ConnectionFacts: Sendable {
  let fingerprint: String
  let server: String
}

/// Who makes connections inside the process.
enum Library: CaseIterable, CustomTestStringConvertible {
  case libssh, libssh2

  var testDescription: String { "\(self)" }

  /// Blocks until it is made.
  func connect(
    _ settings: SFTPSettings, agentSocket: String? = nil, _ interrupter: Interrupter
  ) throws(TransportError) -> any SSHConnection {
    switch self {
    case .libssh: try BuiltinConnection.connector(agentSocket: agentSocket)(settings, interrupter)
    case .libssh2: try LibSSH2Connection(settings: settings, agentSocket: agentSocket, interrupter: interrupter)
    }
  }
}

/// Connects on a thread of its own and closes again.
func tryConnecting(
  _ settings: SFTPSettings, agentSocket: String? = nil, interrupter: Interrupter = Interrupter(), by library: Library = .libssh
) async throws(TransportError) -> ConnectionFacts {
  try await onThread { () throws(TransportError) in
    let connection = try library.connect(settings, agentSocket: agentSocket, interrupter)
    defer { connection.close() }
    return ConnectionFacts(fingerprint: connection.hostKeyFingerprint, server: connection.serverIdentification)
  }
}

/// Runs a blocking body on a thread of its own.
func onThread<Result: Sendable>(
  _ body: @Sendable @escaping () throws(TransportError) -> Result
) async throws(TransportError) -> Result {
  let executor = ThreadExecutor(name: "test")
  defer { executor.shutdown() }
  return try await executor.run(body)
}

/// The failure of connecting; nil where it succeeds.
func failureOfConnecting(
  _ settings: SFTPSettings, agentSocket: String? = nil, interrupter: Interrupter = Interrupter(), by library: Library = .libssh
) async -> SyncFailure? {
  do throws(TransportError) {
    _ = try await tryConnecting(settings, agentSocket: agentSocket, interrupter: interrupter, by: library)
    return nil
  } catch {
    return error.failure
  }
}

/// A log-in that the network cuts, after every `step` bytes in one direction, is the network's fault and no refusal: that would end a job for good.
/// - Parameters:
///   - least: Cuts that there must be before a log-in comes to its end: through all of it.
///   - failure: How a log-in with such settings ends.
func expectCutsToBeTheNetworksFault(
  ofUpload: Bool, every step: Int, atLeast least: Int, _ failure: (SFTPSettings) async throws -> SyncFailure?
) async throws {
  try await LoopbackSSHD.with { server in
    var cuts = 0
    for bytes in stride(from: 0, to: 100_000, by: step) {
      let found = try await ByteRelay.with(to: Int(server.port), cut: .init(ofUpload: ofUpload, after: bytes)) { relay in
        var settings = server.settings
        settings.port = UInt16(relay.port)
        settings.knownHostsFile = try server.writeKnownHosts(
          ["[\(server.host)]:\(relay.port) \(try server.hostKey(.ed25519))"], name: "relayed")
        return try await failure(settings)
      }
      guard let found else { break }
      cuts += 1
      #expect(found.kind == .network, "after \(bytes) bytes: \(found)")
    }
    #expect(cuts >= least)
  }
}
