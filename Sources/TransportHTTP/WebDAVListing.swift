import SyncModel
import Synchronization
import Transport

/// What a `PROPFIND` answered.
struct WebDAVProperties: Sendable {
  let response: HTTPResponse
  /// Nil where the answer was no `207 Multi-Status`.
  let entries: [MultistatusEntry]?
}

/// The parser, for the pieces of one answer, which come in order.
private actor ListingReader {
  private let parser: MultistatusParser

  init(limit: Int) { parser = MultistatusParser(entryLimit: limit) }

  func feed(_ chunk: [UInt8]) throws(SyncFailure) {
    do throws(MultistatusMalformed) { try parser.feed(chunk) } catch { throw Self.failure(error) }
  }

  func finish() throws(SyncFailure) -> [MultistatusEntry] {
    do throws(MultistatusMalformed) { return try parser.finish() } catch { throw Self.failure(error) }
  }

  private static func failure(_ error: MultistatusMalformed) -> SyncFailure {
    SyncFailure(
      .protocol, "the NAS answered a listing with \(error.reason)",
      hint: "Look whether a name in that folder breaks the server's XML; update the server if it repeats.")
  }
}

extension HTTPClient {
  private static let properties = Array(
    "<?xml version=\"1.0\" encoding=\"utf-8\"?><propfind xmlns=\"DAV:\"><prop><resourcetype/><getcontentlength/><getlastmodified/></prop></propfind>"
      .utf8)
  private static let quota = Array(
    "<?xml version=\"1.0\" encoding=\"utf-8\"?><propfind xmlns=\"DAV:\"><prop><resourcetype/><quota-available-bytes/></prop></propfind>"
      .utf8)

  /// Asks for the properties of a resource, or of a folder's entries.
  nonisolated func properties(
    _ path: RemotePath, folder: Bool, depth: Int, quota: Bool = false, limit: Int
  ) async throws(TransportError) -> WebDAVProperties {
    var request = HTTPRequest(
      "PROPFIND", WebDAVPaths.target(path, folder: folder),
      headers: [("Depth", String(depth)), ("Content-Type", "application/xml; charset=utf-8")],
      body: .bytes(quota ? Self.quota : Self.properties), patience: 2)
    request.streamed = [207]
    let reader = ListingReader(limit: limit)
    let response = try await download(request) { (_, chunk) async throws(SyncFailure) in try await reader.feed(chunk) }
    guard response.status == 207 else { return WebDAVProperties(response: response, entries: nil) }
    do throws(SyncFailure) {
      return WebDAVProperties(response: response, entries: try await reader.finish())
    } catch { throw .failure(error, sessionLost: false) }
  }
}

extension WebDAVSession {
  package func entry(at path: RemotePath) async throws(TransportError) -> RemoteEntry? {
    let isRoot = path.relative == nil
    var found = try await http.properties(path, folder: isRoot, depth: 0, limit: 16)
    if !isRoot, isSentToItsFolder(found.response, path) { found = try await http.properties(path, folder: true, depth: 0, limit: 16) }
    if found.response.status == 404 || found.response.status == 410 { return nil }
    guard let entries = found.entries else { throw failures.failure(found.response, "look at", path.description) }
    let wanted = WebDAVPaths.segments(of: path)
    guard let own = entries.first(where: { WebDAVPaths.segments(of: $0.href) == wanted }) else {
      throw failures.violated("properties of something else than \(path)")
    }
    let name: RelativePath
    do { name = try WebDAVPaths.name(of: path) } catch { throw failures.violated("a name that is none for \(path)") }
    return try entry(name, own, path)
  }

  /// Some servers send the name of a folder without its `/` on to the one with it. That is no redirection: the same host, the same name.
  private func isSentToItsFolder(_ response: HTTPResponse, _ path: RemotePath) -> Bool {
    guard [301, 302, 307, 308].contains(response.status), let location = response.header("Location") else { return false }
    let own = settings.http.origin.text
    guard location.hasPrefix("/") && !location.hasPrefix("//") || location.hasPrefix(own + "/") else { return false }
    return location.hasSuffix("/") && WebDAVPaths.segments(of: Array(location.utf8)) == WebDAVPaths.segments(of: path)
  }

  private func entry(_ name: RelativePath, _ found: MultistatusEntry, _ path: RemotePath) throws(TransportError) -> RemoteEntry? {
    if let status = found.status, status == 404 || status == 410 { return nil }
    guard found.status ?? 200 == 200, found.propertyStatuses.contains(200) else {
      throw failures.violated("no properties of \(path)")
    }
    if found.isCollection { return RemoteEntry(name: name, kind: .folder, size: 0, modified: found.lastModified) }
    guard let size = found.contentLength else { throw failures.violated("no size for the file \(path)") }
    return RemoteEntry(name: name, kind: .file, size: size, modified: found.lastModified)
  }

  package func list(_ folder: RemotePath) async throws(TransportError) -> [RemoteEntry] {
    let found = try await http.properties(folder, folder: true, depth: 1, limit: settings.listingLimit)
    guard let entries = found.entries else {
      if found.response.status == 404 || found.response.status == 410 {
        // A file under that name is not found either, with the `/` that folders have.
        if try await entry(at: folder) == nil { throw .notFound(folder) }
        throw Self.notAFolder(folder)
      }
      throw failures.failure(found.response, "list", folder.description)
    }
    let base = WebDAVPaths.segments(of: folder)
    var listed: [RemoteEntry] = []
    listed.reserveCapacity(entries.count)
    var names: Set<RelativePath> = []
    var sawItself = false
    for found in entries {
      guard let segments = WebDAVPaths.segments(of: found.href), segments.starts(with: base), segments.count <= base.count + 1 else {
        throw failures.violated("“\(displayText(of: found.href.prefix(200)))” in a listing of \(folder)")
      }
      guard segments.count == base.count + 1, let last = segments.last else {
        guard found.isCollection else { throw Self.notAFolder(folder) }
        sawItself = true
        continue
      }
      let name: RelativePath
      do { name = try RelativePath(bytes: last) } catch {
        throw failures.violated("the name “\(displayText(of: last.prefix(80)))” in \(folder)")
      }
      guard names.insert(name).inserted else { throw failures.violated("two entries \(name) in \(folder)") }
      if let entry = try entry(name, found, folder.appending(name)) { listed.append(entry) }
    }
    // A listing names the folder itself (RFC 4918, 9.1). One that does not is of something else, and its emptiness says nothing.
    guard sawItself else { throw failures.violated("a listing without \(folder) itself") }
    if !findings.listsDotNames, !names.contains(settings.metadataFolder),
      let hidden = try await entry(at: folder.appending(settings.metadataFolder))
    {
      listed.append(hidden)
    }
    return listed
  }

  static func notAFolder(_ path: RemotePath) -> TransportError {
    .failure(SyncFailure(.protocol, "\(path) is not a folder", hint: "Look what stands there on the NAS."), sessionLost: false)
  }

  package func freeSpace(at path: RemotePath) async throws(TransportError) -> UInt64? {
    let found = try await http.properties(path, folder: true, depth: 0, quota: true, limit: 16)
    return found.entries?.first?.quotaAvailable
  }
}
