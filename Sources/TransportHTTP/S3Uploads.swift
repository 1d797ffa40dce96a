import Foundation
import SyncModel
import Transport

extension S3Token {
  /// Nil for any text that this program did not write.
  init?(_ text: String) {
    guard text.utf8.count <= 1 << 20 else { return nil }
    let data = Data(text.utf8)
    guard let read = try? JSONDecoder().decode(S3Token.self, from: data) else { return nil }  // it is no mark then: the file is sent whole
    guard !read.upload.isEmpty, read.upload.utf8.count <= 1024, read.etags.count <= S3Parts.most else { return nil }
    self = read
  }

  /// JSON.
  var text: String? {
    let data = try? JSONEncoder().encode(self)  // three plain values cannot fail; without text it is no mark
    return data.map { String(decoding: $0, as: UTF8.self) }
  }
}

extension S3Session {
  func tooLarge(_ path: RemotePath) -> TransportError {
    let largest = UInt64(settings.buffers.largestPart)
    return .failure(
      SyncFailure(
        .misconfigured,
        "\(path) is too large: \(S3Parts.limit(largest: largest)) are the most, \(S3Parts.most) parts of \(largest >> 20) MiB",
        hint: "Send it over SFTP or WebDAV, or let the instrument write smaller files."), sessionLost: false)
  }

  private static func withoutMark(_ path: RemotePath) -> TransportError {
    .unsupported("go on inside \(path) without the mark of its upload")
  }

  package func beginUpload(_ path: RemotePath, resumingAt offset: UInt64) async throws(TransportError) -> UploadHandle {
    guard offset == 0 else { throw Self.withoutMark(path) }
    return try await begin(path, size: nil, modified: nil, kept: nil)
  }

  package func beginUpload(
    _ path: RemotePath, resumingAt offset: UInt64, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    guard offset == 0 else { throw Self.withoutMark(path) }
    return try await begin(path, size: size, modified: modified, kept: nil)
  }

  package func beginUpload(
    _ path: RemotePath, resumingAt mark: UploadMark, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    guard let token = mark.token.flatMap(S3Token.init) else {
      return try await begin(path, size: size, modified: modified, kept: nil)
    }
    return try await begin(path, size: size, modified: modified, kept: try await present(token, mark.bytes, path, size: size))
  }

  /// What of a mark the store still has; nil where nothing can be gone on with.
  private func present(_ token: S3Token, _ bytes: UInt64, _ path: RemotePath, size: UInt64) async throws(TransportError) -> S3Token? {
    let key = try key(path)
    guard let found = try await parts(of: token.upload, key, path) else { return nil }
    common.lives(token.upload)
    // Cut for another file, or beyond the memory there is now.
    let fits = token.partSize >= 1 << 20 && token.partSize <= UInt64(settings.buffers.largestPart)
    guard fits, size > token.partSize, (size - 1) / token.partSize < UInt64(S3Parts.most) else {
      try await abortUpload(key, token.upload, path)
      return nil
    }
    var kept = token
    kept.etags = []
    for (index, etag) in token.etags.enumerated() {
      let start = UInt64(index) * token.partSize
      guard start < min(bytes, size), let part = found[index + 1], part.etag == etag, part.size == min(token.partSize, size - start) else {
        break
      }
      kept.etags.append(etag)
    }
    // What arrived after the mark was written down is there, too, however the program ended then. Like every part it is read back in the end.
    while kept.etags.count >= token.etags.count {
      let start = UInt64(kept.etags.count) * token.partSize
      guard start < size, let part = found[kept.etags.count + 1], part.size == min(token.partSize, size - start),
        let etag = try? checkedETag(part.etag, path)  // a part without one is sent again
      else { break }
      kept.etags.append(etag)
    }
    return kept
  }

  private func begin(
    _ path: RemotePath, size: UInt64?, modified: Int64?, kept: S3Token?
  ) async throws(TransportError) -> UploadHandle {
    try await http.check()
    let key = try key(path)
    if knownFolders.withLock({ $0.contains(path) }) { throw .alreadyExists(path) }
    let largest = UInt64(settings.buffers.largestPart)
    guard let partSize = kept?.partSize ?? S3Parts.size(for: size ?? 0, least: min(settings.partSize, largest), largest: largest) else {
      throw tooLarge(path)
    }
    let offset = kept.map { min(UInt64($0.etags.count) * partSize, size ?? .max) } ?? 0
    let upload = S3Upload(
      self, path, key: key, size: size, modified: modified, partSize: partSize, kept: kept, position: offset)
    let id = nextUpload.add(1, ordering: .relaxed).newValue
    uploads.withLock { $0[id] = upload }
    return UploadHandle(id: id, path: path, offset: offset)
  }

  private func find(_ handle: UploadHandle) async throws(TransportError) -> S3Upload {
    try await http.check()
    guard let upload = uploads.withLock({ $0[handle.id] }) else { throw S3Upload.closed(handle.path) }
    return upload
  }

  /// The parts that are acknowledged without a gap.
  package func mark(of handle: UploadHandle) async throws(TransportError) -> UploadMark? { try await find(handle).mark }

  package func write(_ chunk: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError) {
    try await find(handle).write(chunk, at: offset)
  }

  /// Waits for every whole part; what does not fill one yet cannot be sent yet, and `mark(of:)` does not count it.
  package func flush(_ handle: UploadHandle, durable: Bool) async throws(TransportError) { try await find(handle).flush() }

  package func finishUpload(_ handle: UploadHandle, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    let upload = try await find(handle)
    try await upload.finish(modified: modified)
    uploads.withLock { $0[handle.id] = nil }
  }

  package func abandonUpload(_ handle: UploadHandle) async {
    await uploads.withLock { $0.removeValue(forKey: handle.id) }?.abandon()
  }
}
