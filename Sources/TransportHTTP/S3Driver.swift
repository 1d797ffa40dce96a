import SyncModel
import Synchronization
import Transport

/// The object store of one equipment: opens sessions, finds out what the store does, and says so.
package final class S3Driver: TransportDriver {
  /// As given.
  package let settings: S3Settings
  /// What was tried once in the driver's life.
  private let known = Mutex<S3Findings?>(nil)
  private let common: S3Common

  package init(settings: S3Settings) {
    self.settings = settings
    common = S3Common(settings.buffers)
  }

  package var address: String { settings.address }

  /// The folder below which everything goes.
  package var root: RemotePath { RemotePath(root: settings.root) }

  package func connect() async throws(TransportError) -> any TransportSession { try await session() }

  package func session() async throws(TransportError) -> S3Session {
    try await HTTPClient.session(settings.client) { (http) throws(TransportError) in try await open(http) }
  }

  private func open(_ http: HTTPClient) async throws(TransportError) -> S3Session {
    let plain = S3Session(settings: settings, http: http, server: "", findings: .unknown, common: common)
    let prefix = try plain.key(root, folder: true)
    let looked = try await plain.ask(
      "GET", [], query: [("list-type", Array("2".utf8)), ("max-keys", Array("1".utf8)), ("prefix", prefix)])
    let server = displayText(of: (looked.header("Server") ?? "an S3 store").utf8.prefix(80))
    let make = { (findings: S3Findings) in
      S3Session(settings: self.settings, http: http, server: server, findings: findings, common: self.common)
    }
    if let findings = known.withLock({ $0 }) {
      // Nothing more is asked: a store that is out, or refuses the key by now, must say so here.
      if !looked.isSuccess, ![404, 405, 501].contains(looked.status) { throw plain.failures.failure(looked, "list", root.description) }
      return make(findings)
    }
    // Without a bucket nothing can be tried; the first folder that is to be made says so. Every other refusal is thrown here.
    guard try await plain.isFolder(root), let findings = try await plain.tryOut(in: root) else { return make(.unknown) }
    // What a bad moment left open is asked again by the next session.
    if findings.isDecided { known.withLock { $0 = findings } }
    return make(findings)
  }

  package var hasherIsUndecided: Bool { known.withLock { $0 == nil } }

  package func makeHasher() async throws(TransportError) -> (any RemoteHasher)? {
    let session = try await session()
    if session.findings.refusesWrongHash == true { return S3Hasher(session, of: self) }
    await session.close()
    return nil
  }

  package func probe() async throws(TransportError) -> DestinationProbe {
    let session = try await session()
    let asked: Result<DestinationProbe, TransportError>
    do throws(TransportError) {
      var probe = S3Probe(settings: settings, session: session)
      asked = .success(try await probe.ask())
    } catch {
      asked = .failure(error)
    }
    await session.close()
    return try asked.get()
  }
}
