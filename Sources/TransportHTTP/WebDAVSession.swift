import Executors
import SyncModel
import Synchronization
import Transport

/// A session with a WebDAV server (RFC 4918): `TransportSession` over an `HTTPClient`. Dropping the last reference ends its connections and
/// thread.
///
/// What WebDAV cannot do is said by the capabilities: a file that was cut off is sent whole (a partial PUT is refused by some servers and
/// silently misunderstood by others; Nextcloud takes chunks), nothing is forced to the NAS's disk, there are no symbolic links and no permission bits.
package final class WebDAVSession: TransportSession {
  /// A file being sent.
  struct Upload: Sendable {
    let body: HTTPUpload
    let path: RemotePath
    /// Bytes handed over.
    var position: UInt64 = 0
  }

  let settings: WebDAVSettings
  let http: HTTPClient
  let findings: WebDAVFindings
  package let capabilities: TransportCapabilities
  /// Folders known to be there, so that thousands of files ask once.
  let knownFolders = Mutex<Set<RemotePath>>([])
  /// Folders being made now, and who waits for each: two requests for one folder at once are refused by some servers.
  let making = Mutex<[RemotePath: [CheckedContinuation<Void, Never>]]>([:])
  let uploads = Mutex<[UInt64: Upload]>([:])
  /// Files that go in chunks, and how many there were.
  let chunked = Mutex<(count: UInt64, uploads: [UInt64: ChunkedUpload])>((0, [:]))

  /// Takes over a client that is open.
  init(settings: WebDAVSettings, http: HTTPClient, server: String, findings: WebDAVFindings, reportsFreeSpace: Bool) {
    self.settings = settings
    self.http = http
    self.findings = findings
    capabilities = TransportCapabilities(
      server: server, atomicPublish: findings.refusesToOverwrite != false, atomicReplace: true, resumesFiles: findings.takesChunks,
      durableFlush: false,
      reportsFreeSpace: reportsFreeSpace, symlinks: false, keepsTimes: findings.keepsTimes, keepsModes: false,
      preferredWriteSize: 256 * 1024)
  }

  var failures: HTTPFailures { http.failures }

  /// A request about a path of ours.
  func ask(
    _ method: String, _ path: RemotePath, folder: Bool, headers: [(name: String, value: String)] = [], body: HTTPRequest.Body = .none,
    patience: Int = 1
  ) async throws(TransportError) -> HTTPResponse {
    try await http.perform(
      HTTPRequest(method, WebDAVPaths.target(path, folder: folder), headers: headers, body: body, patience: patience))
  }

  /// A path as an address, for the `Destination` header: Apache takes no bare path.
  func address(of path: RemotePath, folder: Bool) -> String { settings.http.origin.text + WebDAVPaths.target(path, folder: folder) }

  package func makeSymlink(at path: RemotePath, target: [UInt8]) async throws(TransportError) {
    throw .unsupported("make the symbolic link \(path): WebDAV has none")
  }

  package func symlinkTarget(of path: RemotePath) async throws(TransportError) -> [UInt8] {
    throw .unsupported("read the symbolic link \(path): WebDAV has none")
  }

  package func interrupt() { http.interrupt() }

  package func close() async { await http.close() }
}
