import Executors
import SyncModel
import Transport
import TransportSFTP

/// A server that answers what a test tells it to: for what no honest server does.
struct ScriptedServer: Sendable {
  /// What follows VERSION, as name and value.
  var extensions: [(String, String)] = []
  /// Bytes sent for each packet after the first; type, id and body of the request are given.
  let answer: @Sendable (_ type: UInt8, _ id: UInt32, _ body: [UInt8]) -> [UInt8]
  /// Bytes sent for the opening packet; nil for a proper VERSION.
  var opening: [UInt8]?

  var connector: SSHConnector {
    { [self] (_, _) throws(TransportError) in ScriptedConnection(server: self) }
  }

  func session(_ adjust: (inout SFTPSettings) -> Void = { _ in }) async throws -> SFTPSession {
    var settings = SFTPSettings(host: "script", user: "test", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: "/root")
    settings.progressTimeout = .seconds(5)
    settings.connectTimeout = .seconds(5)
    adjust(&settings)
    return try await SFTPDriver(settings: settings, connector: connector).session()
  }

  /// A packet with its length.
  static func packet(_ type: UInt8, _ id: UInt32? = nil, _ body: [UInt8] = []) -> [UInt8] {
    let inner = [type] + (id.map { number($0) } ?? []) + body
    return number(UInt32(inner.count)) + inner
  }

  static func status(_ id: UInt32, _ code: UInt32, _ message: String = "") -> [UInt8] {
    packet(101, id, number(code) + string(message) + string(""))
  }

  static func number(_ value: UInt32) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
  static func string(_ text: String) -> [UInt8] { string(Array(text.utf8)) }
  static func string(_ bytes: [UInt8]) -> [UInt8] { number(UInt32(bytes.count)) + bytes }
}

private final class ScriptedConnection: SSHConnection {
  let server: ScriptedServer
  let carrier = "a pipe"
  let isLoggedIn = true
  let serverIdentification = "a script"
  let hostKeyFingerprint = "none"
  init(server: ScriptedServer) { self.server = server }
  func openChannel(_ purpose: SSHChannelPurpose) throws(TransportError) -> any SSHChannel { ScriptedChannel(server: server) }
  func close() {}
}

private final class ScriptedChannel: SSHChannel {
  private let server: ScriptedServer
  private var arrived: [UInt8] = []
  private var leaving: [UInt8] = []
  /// Always readable, so that the pump never waits while there is something to read.
  private let ready = Interrupter()

  init(server: ScriptedServer) { self.server = server }

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !leaving.isEmpty else { return .wouldBlock }
    let count = min(leaving.count, buffer.count)
    buffer.copyBytes(from: leaving.prefix(count))
    leaving.removeFirst(count)
    return .bytes(count)
  }

  func write(_ buffer: UnsafeRawBufferPointer) throws(TransportError) -> CarrierResult {
    arrived += Array(buffer)
    while arrived.count >= 4 {
      let length = arrived[..<4].reduce(0) { $0 << 8 | Int($1) }
      guard arrived.count >= 4 + length else { break }
      let packet = Array(arrived[4..<4 + length])
      arrived.removeFirst(4 + length)
      if packet[0] == 1 {
        leaving +=
          server.opening
          ?? ScriptedServer.packet(
            2, 3, server.extensions.flatMap { ScriptedServer.string($0.0) + ScriptedServer.string($0.1) })
      } else {
        leaving += server.answer(packet[0], packet[1..<5].reduce(0) { $0 << 8 | UInt32($1) }, Array(packet[5...]))
      }
    }
    return .bytes(buffer.count)
  }

  func readError(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult { .wouldBlock }
  func sendEndOfInput() throws(TransportError) -> CarrierResult { .bytes(0) }
  func exitStatus() -> Int32? { nil }
  func pollDescriptors(wantsWrite: Bool) -> [(descriptor: Int32, events: Int16)] { [(ready.descriptor, 1)] }
  func keepAlive() throws(TransportError) -> Int { 60_000 }
  func close() {}
}
