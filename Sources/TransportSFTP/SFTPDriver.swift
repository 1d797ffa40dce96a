import Executors
import SyncModel
import Transport

/// The SFTP destination of one equipment: opens sessions and says what the server can do.
package final class SFTPDriver: TransportDriver {
  package let settings: SFTPSettings
  private let connector: SSHConnector
  private let gate: HandshakeGate

  package init(settings: SFTPSettings, connector: @escaping SSHConnector) {
    self.settings = settings
    self.connector = connector
    gate = HandshakeGate(settings.handshakesAtOnce)
  }

  package var address: String { settings.address }

  package func connect() async throws(TransportError) -> any TransportSession { try await session() }

  /// `connect()`, with what only SFTP knows.
  package func session() async throws(TransportError) -> SFTPSession {
    try await gate.enter()
    let interrupter = Interrupter()
    let client = SFTPClient(settings: settings, interrupter: interrupter)
    let opened: Result<SFTPSession, TransportError> = await withTaskCancellationHandler {
      do throws(TransportError) {
        try await client.open(connector)
        return .success(await SFTPSession(client))
      } catch {
        return .failure(error)
      }
    } onCancel: {
      interrupter.interrupt()
    }
    await gate.leave()
    return try opened.get()
  }

  package func makeHasher() async throws(TransportError) -> (any RemoteHasher)? { nil }

  package func probe() async throws(TransportError) -> DestinationProbe {
    let session = try await session()
    return DestinationProbe(capabilities: session.capabilities, evidence: .readback, freeSpace: nil, lines: [])
  }
}
