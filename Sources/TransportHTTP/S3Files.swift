import SyncModel
import Transport

extension S3Session {
  static func metadata(modified: Int64?) -> [(name: String, value: String)] {
    modified.map { [(S3Metadata.modified, String($0))] } ?? []
  }

  package func put(
    _ content: [UInt8], at path: RemotePath, modified: Int64?, mode: UInt32?, durable: Bool
  ) async throws(TransportError) {
    try await putWhole(content, at: path, modified: modified)
  }

  /// One signed PUT. What the store keeps beside the bytes says which SHA-256 it compared them with while they came.
  func putWhole(_ content: [UInt8], at path: RemotePath, modified: Int64?) async throws(TransportError) {
    let key = try key(path)
    if knownFolders.withLock({ $0.contains(path) }) { throw .alreadyExists(path) }
    let hash = try Self.hash(content)
    let headers = Self.metadata(modified: modified) + [(S3Metadata.sha256, hash), (S3Metadata.size, String(content.count))]
    let answer = try await ask("PUT", key, headers: headers, body: content, hash: hash)
    guard answer.isSuccess else { throw failures.failure(answer, "write", path.description) }
  }

  // MARK: One of several

  package func putNew(_ content: [UInt8], at path: RemotePath) async throws(TransportError) {
    let key = try key(path)
    let isConditional = findings.honoursIfNoneMatch == true
    // A request that had to be repeated on a new connection finds its own first try: the number tells whose the object is.
    let writer = String(UInt64.random(in: .min ... .max), radix: 16) + String(UInt64.random(in: .min ... .max), radix: 16)
    let hash = try Self.hash(content)
    if try await isFolder(path) { throw .alreadyExists(path) }
    if !isConditional, try await head(key, path) != nil { throw .alreadyExists(path) }
    let headers: [(name: String, value: String)] = [
      (S3Metadata.sha256, hash), (S3Metadata.size, String(content.count)), (S3Metadata.writer, writer),
    ]
    let answer: HTTPResponse
    do throws(TransportError) {
      answer = try await ask("PUT", key, headers: headers + (isConditional ? [("If-None-Match", "*")] : []), body: content, hash: hash)
    } catch {
      if !error.sessionLost, let object = try await head(key, path), object.writer == writer { return }
      throw error
    }
    guard answer.isSuccess || answer.status == 412 else { throw failures.failure(answer, "write", path.description) }
    // Without the condition the last of several wins: each looks whose it is.
    if answer.isSuccess, isConditional { return }
    guard let object = try await head(key, path) else { throw failures.violated("success for \(path), which is not there") }
    guard object.writer == writer else { throw .alreadyExists(path) }
  }

  // MARK: Reading

  package func download(
    _ path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) {
    let answer = try await http.read(try request("GET", try key(path)), of: path, from: offset, body)
    switch answer.status {
    case 200, 206: return
    // Nothing from there on.
    case 416 where offset > 0: return
    default:
      let refusal = S3Failures.refusal(answer)
      if refusal.code == "NoSuchKey" || (answer.status == 404 && refusal.code.isEmpty) { throw .notFound(path) }
      throw failures.failure(refusal, answer, "read", path.description)
    }
  }
}
