import SyncModel
import Transport

extension S3Session {
  /// Removals kept in flight where each needs a request.
  private static let removalsAtOnce = 16

  // MARK: Making

  package func makeFolder(_ path: RemotePath) async throws(TransportError) {
    if knownFolders.withLock({ $0.contains(path) }) { return try await http.check() }
    guard let parent = path.parent else { return try await checkRoot(path) }
    let marker = try key(path, folder: true)
    try await makeFolder(parent)
    if try await head(try key(path), path) != nil { throw .alreadyExists(path) }
    // One that is there is written once more, with the same nothing.
    let made = try await ask("PUT", marker, headers: [("Content-Type", "application/x-directory")], body: [])
    guard made.isSuccess else { throw failures.failure(made, "make the folder", path.description) }
    knownFolders.withLock { _ = $0.insert(path) }
  }

  func checkRoot(_ root: RemotePath) async throws(TransportError) {
    guard try await isFolder(root) else {
      let bucket = displayText(settings.bucket)
      throw .failure(
        SyncFailure(
          .misconfigured, "there is no bucket \(bucket) in the store", hint: "Make it there, or correct `bucket` and `endpoint`."),
        sessionLost: false)
    }
    knownFolders.withLock { _ = $0.insert(root) }
  }

  func forgetFolders(under path: RemotePath) {
    knownFolders.withLock { known in
      guard let relative = path.relative else { return known.removeAll() }
      known = known.filter { known in known.relative.map { !$0.isWithin(relative) } ?? true }
    }
  }

  // MARK: Copying

  package func publish(_ path: RemotePath, as final: RemotePath) async throws(TransportError) {
    let source = try await copySource(path, final)
    if try await entry(at: final) != nil { throw .alreadyExists(final) }
    try await move(source, path, to: final)
  }

  package func replace(_ path: RemotePath, over final: RemotePath) async throws(TransportError) {
    let source = try await copySource(path, final)
    if try await isFolder(final) { throw .alreadyExists(final) }
    try await move(source, path, to: final)
  }

  private func copySource(_ path: RemotePath, _ final: RemotePath) async throws(TransportError) -> S3Object {
    _ = try key(final)
    if let object = try await head(try key(path), path) { return object }
    if try await isFolder(path) { throw .unsupported("rename the folder \(path): an object store has no rename") }
    throw .notFound(path)
  }

  /// Two steps: what is interrupted between them leaves both names.
  private func move(_ source: S3Object, _ path: RemotePath, to final: RemotePath) async throws(TransportError) {
    if source.size > settings.copyLimit {
      try await copyParts(source, path, to: final)
    } else {
      // The SHA-256 beside the source does not go along: the store did not compare it with what it copied.
      let copied = try await ask(
        "PUT", try key(final),
        headers: copyHeaders(source, try key(path)) + Self.metadata(modified: source.modified) + [("x-amz-metadata-directive", "REPLACE")],
        body: [], patience: 10)
      if copied.status == 404 { throw .notFound(path) }
      _ = try document(copied, "CopyObjectResult", "copy", path.description)
    }
    guard let copy = try await head(try key(final), final), copy.size == source.size else {
      throw failures.violated("success for a copy of \(path) that is not there")
    }
    try await delete(try key(path), path)
  }

  private func copyHeaders(_ source: S3Object, _ key: [UInt8]) -> [(name: String, value: String)] {
    let place = "/\(PercentEncoding.segment(settings.bucket.utf8))/\(PercentEncoding.path(key))"
    let condition = source.etag.isEmpty ? [] : [(name: "x-amz-copy-source-if-match", value: "\"\(source.etag)\"")]
    return [("x-amz-copy-source", place)] + condition
  }

  private func copyParts(_ source: S3Object, _ path: RemotePath, to final: RemotePath) async throws(TransportError) {
    let key = try key(final)
    let upload = try await createUpload(key, final, modified: source.modified)
    let size = max(settings.copyLimit / 5, source.size / 9000 + 1, 5 << 20)
    do throws(TransportError) {
      var etags: [String] = []
      var start: UInt64 = 0
      while start < source.size {
        let end = min(start + size, source.size)
        let copied = try await ask(
          "PUT", key, query: [("partNumber", Array(String(etags.count + 1).utf8)), ("uploadId", Array(upload.utf8))],
          headers: copyHeaders(source, try self.key(path)) + [("x-amz-copy-source-range", "bytes=\(start)-\(end - 1)")], body: [],
          patience: 10)
        let result = try document(copied, "CopyPartResult", "copy", path.description)
        etags.append(try checkedETag(result.text("ETag"), final))
        start = end
      }
      try await completeUpload(key, upload, etags: etags, size: source.size, final)
    } catch {
      if !error.sessionLost { try? await abortUpload(key, upload, final) }  // what stopped the copy is reported; age ends the upload, too
      throw error
    }
  }

  // MARK: Removing

  package func removeFile(_ path: RemotePath) async throws(TransportError) {
    switch try await entry(at: path)?.kind {
    case nil: return
    case .file?: try await delete(try key(path), path)
    default:
      throw .failure(
        SyncFailure(.protocol, "\(path) is a folder", hint: "Look what stands there in the store."), sessionLost: false)
    }
  }

  func delete(_ key: [UInt8], _ path: RemotePath) async throws(TransportError) {
    let removed = try await ask("DELETE", key)
    if removed.isSuccess || S3Failures.refusal(removed).code == "NoSuchKey" { return }
    throw failures.failure(removed, "remove", path.description)
  }

  package func removeTree(_ path: RemotePath) async throws(TransportError) {
    guard path.relative != nil else {
      throw .failure(SyncFailure(.protocol, "the whole destination is not removed", hint: "Report this."), sessionLost: false)
    }
    forgetFolders(under: path)
    var left = settings.removalLimit
    do throws(TransportError) {
      try await eachPage(try key(path, folder: true), delimited: false, path) { (page) throws(TransportError) in
        left -= page.files.count
        guard left >= 0 else { throw self.failures.violated("more than \(self.settings.removalLimit) objects below \(path)") }
        try await self.delete(page.files.map(\.key), path)
        return page.files.count
      }
    } catch {
      // No bucket, nothing below it.
      if case .notFound = error { return }
      throw error
    }
  }

  private func delete(_ keys: [[UInt8]], _ path: RemotePath) async throws(TransportError) {
    var singly = keys
    if keys.count > 1, !deletesSingly.load(ordering: .relaxed) {
      // A name that XML cannot carry goes by itself.
      singly = []
      var body = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>"
      var count = 0
      for key in keys {
        guard let name = S3Document.escaped(key) else {
          singly.append(key)
          continue
        }
        body += "<Object><Key>\(name)</Key></Object>"
        count += 1
      }
      body += "</Delete>"
      if count > 0, try await !deleteTogether(Array(body.utf8), path) { singly = keys }
    }
    var start = 0
    while start < singly.count {
      let some = singly[start..<min(start + Self.removalsAtOnce, singly.count)]
      start = some.endIndex
      let failed = await withTaskGroup(of: TransportError?.self) { group in
        for key in some {
          group.addTask {
            do throws(TransportError) { try await self.delete(key, path) } catch { return error }
            return nil
          }
        }
        return await group.reduce(into: TransportError?.none) { $0 = $0 ?? $1 }
      }
      if let failed { throw failed }
    }
  }

  /// - Returns: False where the store does not know the request.
  private func deleteTogether(_ body: [UInt8], _ path: RemotePath) async throws(TransportError) -> Bool {
    guard let md5 = Self.md5(body) else { return false }
    let answer = try await ask(
      "POST", [], query: [("delete", [])], headers: [("Content-MD5", Base64.encoded(md5)), ("Content-Type", "application/xml")], body: body,
      bodyLimit: 4 << 20, patience: 10)
    if [400, 405, 501].contains(answer.status) {
      deletesSingly.store(true, ordering: .relaxed)
      return false
    }
    let result = try document(answer, "DeleteResult", "remove", path.description)
    // One that is gone is fine.
    guard let error = result.all("Error").first(where: { $0.text("Code") != "NoSuchKey" }) else { return true }
    throw failures.failure(S3Failures.refusal(answer, error), answer, "remove", path.description)
  }
}

/// RFC 4648, section 4.
enum Base64 {
  static func encoded(_ bytes: [UInt8]) -> String {
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    for start in stride(from: 0, to: bytes.count, by: 3) {
      let some = Array(bytes[start..<min(start + 3, bytes.count)])
      let bits = UInt32(some[0]) << 16 | UInt32(some.count > 1 ? some[1] : 0) << 8 | UInt32(some.count > 2 ? some[2] : 0)
      for place in 0..<4 {
        text.append(place <= some.count ? letters[Int(bits >> UInt32(18 - 6 * place)) & 63] : UInt8(ascii: "="))
      }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
