import SyncModel
import Synchronization
import Transport

extension WebDAVSession {
  private func headers(modified: Int64?) -> [(name: String, value: String)] {
    guard let modified, capabilities.keepsTimes else { return [] }
    return [("X-OC-Mtime", String(modified))]
  }

  package func put(
    _ content: [UInt8], at path: RemotePath, modified: Int64?, mode: UInt32?, durable: Bool
  ) async throws(TransportError) {
    try requireListed(path)
    let answer = try await ask("PUT", path, folder: false, headers: headers(modified: modified), body: .bytes(content))
    guard answer.isSuccess else { throw try await writeFailure(answer, path) }
  }

  /// Servers have many words for the same thing: what is there decides.
  private func writeFailure(_ answer: HTTPResponse, _ path: RemotePath) async throws(TransportError) -> TransportError {
    if [403, 404, 405, 409, 500].contains(answer.status) {
      if try await entry(at: path)?.kind == .folder { return .alreadyExists(path) }
      if let parent = path.parent, try await entry(at: parent) == nil {
        forgetFolders(under: nil)
        return .notFound(path)
      }
    }
    return failures.failure(answer, "write", path.description)
  }

  // MARK: Files sent piece by piece

  package func beginUpload(_ path: RemotePath, resumingAt offset: UInt64) async throws(TransportError) -> UploadHandle {
    try await begin(path, offset, size: nil, modified: nil)
  }

  package func beginUpload(
    _ path: RemotePath, resumingAt offset: UInt64, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    if offset == 0, goesInChunks(size) { return try await beginChunks(path, UploadMark(bytes: 0), size: size, modified: modified) }
    return try await begin(path, offset, size: size, modified: modified)
  }

  package func beginUpload(
    _ path: RemotePath, resumingAt mark: UploadMark, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    if goesInChunks(size) { return try await beginChunks(path, mark, size: size, modified: modified) }
    let handle = try await begin(path, 0, size: size, modified: modified)
    return UploadHandle(id: handle.id, path: path, offset: 0)
  }

  /// Of a file that goes whole, no part is kept.
  package func mark(of handle: UploadHandle) async throws(TransportError) -> UploadMark? {
    if isChunked(handle) { return try markOfChunks(handle) }
    return UploadMark(bytes: 0)
  }

  private func begin(_ path: RemotePath, _ offset: UInt64, size: UInt64?, modified: Int64?) async throws(TransportError) -> UploadHandle {
    guard offset == 0 else { throw .unsupported("go on inside \(path): files are sent whole over WebDAV") }
    try requireListed(path)
    let request = HTTPRequest(
      "PUT", WebDAVPaths.target(path, folder: false), headers: headers(modified: modified), body: .stream(length: size))
    let body = try await http.upload(request)
    uploads.withLock { $0[body.id] = Upload(body: body, path: path) }
    return UploadHandle(id: body.id, path: path)
  }

  private func find(_ handle: UploadHandle) throws(TransportError) -> Upload {
    guard let upload = uploads.withLock({ $0[handle.id] }) else {
      throw .failure(SyncFailure(.protocol, "\(handle.path) is not open for writing", hint: "Begin the upload again."), sessionLost: false)
    }
    return upload
  }

  package func write(_ chunk: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError) {
    try await http.check()
    if isChunked(handle) { return try await writeChunks(chunk, at: offset, to: handle) }
    let upload = try find(handle)
    guard upload.position == offset else {
      throw .failure(
        SyncFailure(.protocol, "\(upload.path) can be written from its start to its end only", hint: "Begin the upload again."),
        sessionLost: false)
    }
    if let answer = try await http.write(chunk, to: upload.body) {
      guard answer.isSuccess else { throw try await writeFailure(answer, upload.path) }
      throw failures.violated("success before the whole of \(upload.path) had come")
    }
    uploads.withLock { $0[handle.id]?.position += UInt64(chunk.count) }
  }

  /// HTTP acknowledges a body as a whole: nothing is known of it before `finishUpload`, or before the end of a chunk.
  package func flush(_ handle: UploadHandle, durable: Bool) async throws(TransportError) {
    try await http.check()
    if isChunked(handle) { _ = try markOfChunks(handle) } else { _ = try find(handle) }
  }

  package func finishUpload(_ handle: UploadHandle, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    try await http.check()
    if isChunked(handle) { return try await finishChunks(handle, modified: modified) }
    let upload = try find(handle)
    uploads.withLock { $0[handle.id] = nil }
    let answer = try await http.finish(upload.body)
    guard answer.isSuccess else { throw try await writeFailure(answer, upload.path) }
  }

  package func abandonUpload(_ handle: UploadHandle) async {
    if isChunked(handle) { return await abandonChunks(handle) }
    guard let upload = uploads.withLock({ $0.removeValue(forKey: handle.id) }) else { return }
    await http.abandon(upload.body)
  }

  // MARK: Reading

  package func download(
    _ path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) {
    let answer = try await http.read(HTTPRequest("GET", WebDAVPaths.target(path, folder: false)), of: path, from: offset, body)
    switch answer.status {
    case 200, 206: return
    // Nothing from there on.
    case 416 where offset > 0: return
    case 404, 410: throw .notFound(path)
    default: throw failures.failure(answer, "read", path.description)
    }
  }
}
