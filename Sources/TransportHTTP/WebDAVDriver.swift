import SyncModel
import Synchronization
import Transport

/// The WebDAV destination of one equipment: opens sessions, finds out what the server does, and says so.
package final class WebDAVDriver: TransportDriver {
  /// As given.
  package let settings: WebDAVSettings
  /// What was tried once in the driver's life.
  private let known = Mutex<WebDAVFindings?>(nil)

  package init(settings: WebDAVSettings) { self.settings = settings }

  package var address: String { settings.address }

  /// RFC 4918 knows none.
  package let holdsSymlinks: Bool? = false

  /// Not asked for: Apache is often behind others, and whoever tries it out has done the harm.
  package let withheldNames = [
    WithheldName(
      ".htaccess", reason: "is read by Apache as its own instructions, and from then on nobody reaches anything beside it any more")
  ]

  /// The folder below which everything goes.
  package var root: RemotePath { RemotePath(root: settings.root) }

  package func connect() async throws(TransportError) -> any TransportSession {
    let session = try await session()
    guard session.findings.refusesToOverwrite != false else {
      await session.close()
      throw WebDAVFindings.ignoresOverwrite(settings)
    }
    return session
  }

  /// `connect()`, also to a server that cannot be used: for the probe.
  package func session() async throws(TransportError) -> WebDAVSession {
    try await HTTPClient.session(settings.http) { (http) throws(TransportError) in try await open(http) }
  }

  private func open(_ http: HTTPClient) async throws(TransportError) -> WebDAVSession {
    let found = try await http.properties(root, folder: true, depth: 0, quota: true, limit: 16)
    let status = found.response.status
    guard status == 207 || status == 404 else {
      if [200, 204, 400, 405, 501].contains(status) {
        throw .failure(
          SyncFailure(
            .misconfigured, "\(settings.http.origin) does not speak WebDAV at \(root) (HTTP \(status))",
            hint: "Look at `url` in the equipment profile, and switch WebDAV on in the NAS's settings."), sessionLost: false)
      }
      throw http.failures.failure(found.response, "list", root.description)
    }
    if let entries = found.entries {
      let wanted = WebDAVPaths.segments(of: root)
      guard let own = entries.first(where: { WebDAVPaths.segments(of: $0.href) == wanted }) else {
        throw http.failures.violated("properties of something else than \(root)")
      }
      guard own.isCollection else { throw WebDAVSession.notAFolder(root) }
    }
    let server = displayText(of: (found.response.header("Server") ?? "a WebDAV server").utf8.prefix(80))
    let hasQuota = found.entries?.first?.quotaAvailable != nil
    let make = { (findings: WebDAVFindings) in
      WebDAVSession(settings: self.settings, http: http, server: server, findings: findings, reportsFreeSpace: hasQuota)
    }
    if let findings = known.withLock({ $0 }) { return make(findings) }
    // Nothing can be tried where nothing can be made; then nothing can be published either, and the next session tries again.
    guard status == 207, let findings = try await make(.unknown).tryOut() else { return make(.unknown) }
    known.withLock { $0 = findings }
    return make(findings)
  }

  /// No WebDAV server hashes what it stored and says so: what Nextcloud keeps is the checksum that it was sent. So there is no hasher, and
  /// files are read back.
  package func makeHasher() async throws(TransportError) -> (any RemoteHasher)? { nil }

  package func probe() async throws(TransportError) -> DestinationProbe {
    let session = try await session()
    let asked: Result<DestinationProbe, TransportError>
    do throws(TransportError) {
      var probe = WebDAVProbe(settings: settings, session: session)
      asked = .success(try await probe.ask())
    } catch {
      asked = .failure(error)
    }
    await session.close()
    return try asked.get()
  }
}
