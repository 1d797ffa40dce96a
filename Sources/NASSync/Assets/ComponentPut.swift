import Bandwidth
import Executors
import JobQueue
import SyncModel
import Transport
import TransportHTTP

/// One component on its way to the store: read once, hashed while it is sent.
struct ComponentPut: Sendable {
  let clients: StoreClients
  let bandwidth: BandwidthScheduler
  let readers: ReaderThreads
  let targets: UploadTargets
  let rules: PresignedURL.Rules

  /// Files up to this size are sent in one piece.
  static let pieceSize = 255 * 1024
  /// Bytes of a store's answer that are looked at.
  private static let answerLimit = 16 * 1024

  /// What the store has, as far as it says.
  struct Stored: Sendable {
    let digest: ContentDigest
    let etag: String?
    let origin: HTTPOrigin
    /// Whether the URL's signature binds the body to the digest.
    let isSealed: Bool
  }

  /// Sends the file. A URL that the store does not accept is asked for anew, once.
  /// - Throws: `SyncFailure`; nothing of the URL but its host and path is in it.
  func send(_ row: AssetUploadComponentRow) async throws(SyncFailure) -> Stored {
    let first = try await targets.issue(for: row.name)
    let (answer, stored) = try await attempt(row, first.target)
    if let stored { return stored }
    let second = try await targets.issue(for: row.name, after: first)
    let (again, storedThen) = try await attempt(row, second.target)
    if let storedThen { return storedThen }
    let code = (again ?? answer).map { " (\($0))" } ?? ""
    throw SyncFailure(
      .auth, "the store refuses the URL for \(displayText(row.name)), a new one too\(code): \(second.target)",
      hint: "Compare the clocks of this machine, the service and the store, and look at the service's rights on the store.")
  }

  /// - Returns: What was stored, or the code with which the URL was refused.
  private func attempt(
    _ row: AssetUploadComponentRow, _ target: UploadTarget
  ) async throws(SyncFailure) -> (code: String?, stored: Stored?) {
    let url = try PresignedURL(target.url, component: row.name, rules: rules)
    try SignedHeaders.check(target.headers, component: row.name)
    let sealed = SignedHeaders.sealedDigest(target.headers)
    if let sealed, let known = row.digest, sealed != known { throw Self.signedOther(row) }
    let (response, digest) = try await put(row, url, target)
    switch StoreAnswer(response, place: url.description, component: row.name) {
    case .refusedURL(let code): return (code, nil)
    case .failed(let failure): throw failure
    case .stored(let etag):
      guard let digest else {
        throw SyncFailure(
          .protocol, "\(url) said success before the whole of \(displayText(row.name)) had come", hint: "It is sent again.")
      }
      if let sealed, sealed != digest { throw Self.signedOther(row) }
      return (nil, Stored(digest: digest, etag: etag, origin: url.origin, isSealed: sealed != nil))
    }
  }

  private static func signedOther(_ row: AssetUploadComponentRow) -> SyncFailure {
    SyncFailure(
      .protocol, "the service signed another content than that of \(displayText(row.name))",
      hint: "Look at what the service was told of the file, and whether it answers for this asset.", retry: false)
  }

  /// - Returns: The answer, and the digest where the whole file was sent.
  private func put(
    _ row: AssetUploadComponentRow, _ url: PresignedURL, _ target: UploadTarget
  ) async throws(SyncFailure) -> (HTTPResponse, ContentDigest?) {
    let stream = try await AssetFile.open(row, on: readers.next())
    do throws(TransportError) {
      return try await clients.with(url.origin) { (http) throws(TransportError) in
        row.fingerprint.size <= UInt64(Self.pieceSize)
          ? try await putSmall(row, stream, http, url, target) : try await putLarge(row, stream, http, url, target)
      }
    } catch { throw error.assetFailure("the store") }
  }

  static func request(_ url: PresignedURL, _ target: UploadTarget, contentType: String, body: HTTPRequest.Body) -> HTTPRequest {
    var headers = target.headers
    if !headers.contains(where: { $0.name.lowercased() == "content-type" }) { headers.append(("Content-Type", contentType)) }
    return HTTPRequest("PUT", url.target, headers: headers, body: body, bodyLimit: answerLimit)
  }

  private func putSmall(
    _ row: AssetUploadComponentRow, _ stream: FileStream, _ http: HTTPClient, _ url: PresignedURL, _ target: UploadTarget
  ) async throws(TransportError) -> (HTTPResponse, ContentDigest?) {
    let (content, digest) = try await whole(row, stream)
    try await awaitBandwidth(content.count)
    let response = try await http.perform(Self.request(url, target, contentType: row.contentType, body: .bytes(content)))
    return (response, digest)
  }

  private func whole(_ row: AssetUploadComponentRow, _ stream: FileStream) async throws(TransportError) -> ([UInt8], ContentDigest) {
    var content: [UInt8] = []
    while true {
      let chunk = try await next(stream, row)
      if chunk.isEmpty { break }
      content += chunk
    }
    let digest = try await finish(stream, row)
    return (content, digest)
  }

  /// A small file's bytes, after a look that they are what was registered. Their sending has been granted by the time this returns.
  func content(of row: AssetUploadComponentRow) async throws(SyncFailure) -> [UInt8] {
    let stream = try await AssetFile.open(row, on: readers.next())
    do throws(TransportError) {
      let content = try await whole(row, stream).0
      try await awaitBandwidth(content.count)
      return content
    } catch { throw error.failure }
  }

  private func putLarge(
    _ row: AssetUploadComponentRow, _ stream: FileStream, _ http: HTTPClient, _ url: PresignedURL, _ target: UploadTarget
  ) async throws(TransportError) -> (HTTPResponse, ContentDigest?) {
    let upload = try await http.upload(Self.request(url, target, contentType: row.contentType, body: .stream(length: row.fingerprint.size)))
    do throws(TransportError) {
      var held = try await next(stream, row)
      while true {
        let following = try await next(stream, row)
        if following.isEmpty { break }
        try await awaitBandwidth(held.count)
        // Returns while 1 MiB at most is on its way: the next piece is read and hashed meanwhile.
        if let early = try await http.write(held, to: upload) { return await ended(http, upload, early) }
        held = following
      }
      // The last piece is held back until the file is known to be what it was: a store never gets the whole of one that changed.
      let digest = try await finish(stream, row)
      try await awaitBandwidth(held.count)
      if let early = try await http.write(held, to: upload) { return await ended(http, upload, early) }
      let answer = try await http.finish(upload)
      return (answer, digest)
    } catch {
      await http.abandon(upload)
      throw error
    }
  }

  /// The store answered before it had everything.
  private func ended(_ http: HTTPClient, _ upload: HTTPUpload, _ answer: HTTPResponse) async -> (HTTPResponse, ContentDigest?) {
    await http.abandon(upload)
    return (answer, nil)
  }

  private func next(_ stream: FileStream, _ row: AssetUploadComponentRow) async throws(TransportError) -> [UInt8] {
    if Task.isCancelled { throw .failure(AssetUploadRun.stopped, sessionLost: false) }
    let piece = max(1_024, min(await bandwidth.preferredPiece(for: AssetUploadRun.lane), Self.pieceSize))
    do { return try await stream.next(piece) } catch { throw .failure(AssetFile.named(error, row.name), sessionLost: false) }
  }

  private func finish(_ stream: FileStream, _ row: AssetUploadComponentRow) async throws(TransportError) -> ContentDigest {
    let digest: ContentDigest
    do { digest = try await stream.finish() } catch { throw .failure(AssetFile.named(error, row.name), sessionLost: false) }
    if let known = row.digest, known != digest {
      throw .failure(
        AssetFile.named(SyncFailure(.localChanged, "its content is another than when it was registered", hint: ""), row.name),
        sessionLost: false)
    }
    return digest
  }

  private func awaitBandwidth(_ bytes: Int) async throws(TransportError) {
    do { try await bandwidth.acquire(bytes: bytes, equipment: AssetUploadRun.lane) } catch {
      throw .failure(AssetUploadRun.stopped, sessionLost: false)
    }
  }
}
