import SyncModel
import Synchronization
import Transport

/// Nextcloud's chunked upload, version 2: a folder collects numbered chunks, and moving its `.file` puts them together at the file's place. What
/// arrived stays there for a day after the last chunk, so that an upload goes on with the chunk that was cut off.
///
/// Each request names the `Destination`: where Nextcloud keeps its files in an object store, the chunks go straight there.
extension WebDAVSession {
  /// A file on its way in chunks.
  struct ChunkedUpload: Sendable {
    let plan: WebDAVChunkPlan
    let path: RemotePath
    /// Bytes handed over, those of an earlier session included.
    var position: UInt64
    /// Bytes of chunks that the server has acknowledged.
    var done: UInt64
    /// The chunk in flight.
    var body: HTTPUpload?
  }

  /// Where chunks are sent; nil where the server takes none.
  private var chunksFolder: RemotePath? {
    findings.takesChunks ? WebDAVUploadsFolder(besides: RemotePath(root: settings.root))?.folder : nil
  }

  /// Whether a file of a size goes in chunks.
  func goesInChunks(_ size: UInt64?) -> Bool { findings.takesChunks && (size ?? 0) > settings.chunkSize }

  private static let none = TransportError.unsupported("take files in chunks")

  private func place(_ plan: WebDAVChunkPlan) throws(TransportError) -> RemotePath {
    guard let chunksFolder else { throw Self.none }
    return chunksFolder.appending(plan.name)
  }

  private func headers(_ plan: WebDAVChunkPlan, _ path: RemotePath) -> [(name: String, value: String)] {
    [("Destination", address(of: path, folder: false)), ("OC-Total-Length", String(plan.size))]
  }

  // MARK: Trying

  /// Sends a file of one chunk.
  func tryChunks(_ path: RemotePath) async throws(TransportError) -> Bool {
    guard let folder = WebDAVUploadsFolder(besides: RemotePath(root: settings.root))?.folder else { return false }
    let plan = try WebDAVChunkPlan(path, size: 3, chunkSize: WebDAVChunkPlan.smallest)
    let place = folder.appending(plan.name)
    guard try await makeNew(place, headers: headers(plan, path)).isMade else { return false }
    let chunk = try Self.below(place, WebDAVChunkPlan.chunkName(1))
    var works = try await ask("PUT", chunk, folder: false, headers: headers(plan, path), body: .bytes([1, 2, 3])).isSuccess
    if works { works = try await ask("MOVE", try Self.below(place, ".file"), folder: false, headers: headers(plan, path)).isSuccess }
    if works { works = try await entry(at: path)?.size == 3 }
    if !works { _ = try await ask("DELETE", place, folder: true, headers: [("Depth", "infinity")]) }
    return works
  }

  // MARK: Sending

  /// Begins an upload, or goes on with one.
  func beginChunks(_ path: RemotePath, _ mark: UploadMark, size: UInt64, modified: Int64?) async throws(TransportError) -> UploadHandle {
    try requireListed(path)
    if mark.bytes > 0, let plan = mark.token.flatMap({ WebDAVChunkPlan(token: $0, path: path, size: size) }) {
      let marked = mark.bytes >= size ? size : mark.bytes / plan.chunkSize * plan.chunkSize
      let kept = min(try await wholeChunks(of: plan), marked)
      if kept > 0 { return keep(ChunkedUpload(plan: plan, path: path, position: kept, done: kept)) }
      try await discard(plan)
    }
    let plan = try WebDAVChunkPlan(path, size: size, chunkSize: settings.chunkSize)
    let place = try place(plan)
    let made = try await makeNew(place, headers: headers(plan, path))
    guard made.isMade else { throw failures.failure(made.answer, "begin the upload of", path.description) }
    return keep(ChunkedUpload(plan: plan, path: path, position: 0, done: 0))
  }

  private func keep(_ upload: ChunkedUpload) -> UploadHandle {
    let id = chunked.withLock { open in
      open.count += 1
      // Apart from the numbers of files that go whole.
      let id = 1 << 63 | open.count
      open.uploads[id] = upload
      return id
    }
    return UploadHandle(id: id, path: upload.path, offset: upload.position)
  }

  /// Bytes at the beginning of the file that lie there in chunks of the right size; 0 where anything is not as it must be.
  private func wholeChunks(of plan: WebDAVChunkPlan) async throws(TransportError) -> UInt64 {
    let entries: [RemoteEntry]
    do throws(TransportError) { entries = try await list(try place(plan)) } catch {
      if case .notFound = error { return 0 }
      // What cannot be understood is not gone on with; the file is sent from its start.
      if !error.sessionLost, error.failure.kind == .protocol { return 0 }
      throw error
    }
    var sizes: [UInt64: UInt64] = [:]
    for entry in entries where entry.kind == .file {
      guard let name = entry.name.string, name.allSatisfy(\.isNumber), let number = UInt64(name) else { continue }
      guard number >= 1, number <= plan.count, WebDAVChunkPlan.chunkName(number) == name else { return 0 }
      sizes[number] = entry.size
    }
    var bytes: UInt64 = 0
    var number: UInt64 = 1
    while let size = sizes[number], size == plan.length(of: number) {
      bytes += size
      number += 1
    }
    return bytes
  }

  private func find(_ handle: UploadHandle) throws(TransportError) -> ChunkedUpload {
    guard let upload = chunked.withLock({ $0.uploads[handle.id] }) else {
      throw .failure(SyncFailure(.protocol, "\(handle.path) is not open for writing", hint: "Begin the upload again."), sessionLost: false)
    }
    return upload
  }

  func isChunked(_ handle: UploadHandle) -> Bool { handle.id >> 63 == 1 }

  func writeChunks(_ bytes: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError) {
    var upload = try find(handle)
    guard upload.position == offset, UInt64(bytes.count) <= upload.plan.size - min(offset, upload.plan.size) else {
      throw .failure(
        SyncFailure(.protocol, "\(upload.path) can be written from its start to its end only", hint: "Begin the upload again."),
        sessionLost: false)
    }
    var rest = bytes[...]
    while !rest.isEmpty {
      let number = upload.position / upload.plan.chunkSize + 1
      let end = (number - 1) * upload.plan.chunkSize + upload.plan.length(of: number)
      let body: HTTPUpload
      if let open = upload.body {
        body = open
      } else {
        let chunk = try Self.below(try place(upload.plan), WebDAVChunkPlan.chunkName(number))
        body = try await http.upload(
          HTTPRequest(
            "PUT", WebDAVPaths.target(chunk, folder: false), headers: headers(upload.plan, upload.path),
            body: .stream(length: upload.plan.length(of: number))))
        upload.body = body
      }
      let piece = rest.prefix(Int(min(UInt64(rest.count), end - upload.position)))
      rest = rest.dropFirst(piece.count)
      let early = try await http.write(Array(piece), to: body)
      if let early {
        guard early.isSuccess else { throw try await refusal(early, upload) }
        throw failures.violated("success before the whole chunk of \(upload.path) had come")
      }
      upload.position += UInt64(piece.count)
      if upload.position == end {
        upload.body = nil
        let answer = try await http.finish(body)
        guard answer.isSuccess else { throw try await refusal(answer, upload) }
        upload.done = end
      }
      chunked.withLock { if $0.uploads[handle.id] != nil { $0.uploads[handle.id] = upload } }
    }
  }

  /// What a refused chunk or assembly means. What cannot be gone on with is removed, so that the next attempt begins anew instead of meeting
  /// the same refusal.
  private func refusal(_ answer: HTTPResponse, _ upload: ChunkedUpload) async throws(TransportError) -> TransportError {
    guard [400, 404, 409, 410, 412].contains(answer.status) else { return failures.failure(answer, "write", upload.path.description) }
    try await discard(upload.plan)
    if let parent = upload.path.parent, try await entry(at: parent) == nil {
      forgetFolders(under: nil)
      return .notFound(upload.path)
    }
    return .failure(
      SyncFailure(
        .protocol, "the NAS has not kept the chunks of \(upload.path) (HTTP \(answer.status))",
        hint: "The file is sent again from its start; Nextcloud keeps the chunks of an unfinished upload for a day."), sessionLost: false)
  }

  private func discard(_ plan: WebDAVChunkPlan) async throws(TransportError) {
    let removed = try await ask("DELETE", try place(plan), folder: true, headers: [("Depth", "infinity")], patience: 10)
    guard [200, 204, 404, 410].contains(removed.status) else {
      throw failures.failure(removed, "remove the chunks", plan.name.description)
    }
  }

  /// Chunks that are whole count; nobody acknowledges a part of one.
  func markOfChunks(_ handle: UploadHandle) throws(TransportError) -> UploadMark {
    let upload = try find(handle)
    return UploadMark(bytes: upload.done, token: upload.plan.token)
  }

  func finishChunks(_ handle: UploadHandle, modified: Int64?) async throws(TransportError) {
    let upload = try find(handle)
    guard upload.done == upload.plan.size else {
      throw .failure(SyncFailure(.protocol, "\(upload.path) ended early", hint: "It is sent again."), sessionLost: false)
    }
    var lines = headers(upload.plan, upload.path)
    if let modified, capabilities.keepsTimes { lines.append(("X-OC-Mtime", String(modified))) }
    // The server copies the whole file now.
    let slowest = upload.plan.size / HTTPExchange.copyingRate / max(1, settings.http.progressTimeout.nanoseconds / 1_000_000_000)
    let moved = try await ask(
      "MOVE", try Self.below(try place(upload.plan), ".file"), folder: false, headers: lines, patience: 10 + Int(clamping: slowest))
    guard moved.status == 201 || moved.status == 204 else { throw try await refusal(moved, upload) }
    chunked.withLock { $0.uploads[handle.id] = nil }
  }

  func abandonChunks(_ handle: UploadHandle) async {
    guard let upload = chunked.withLock({ $0.uploads.removeValue(forKey: handle.id) }), let body = upload.body else { return }
    await http.abandon(body)
  }

  // MARK: What was left

  package func discardUploads(under path: RemotePath, except kept: [UploadMark]) async throws(TransportError) {
    guard let chunksFolder else { return }
    let names = Set(kept.compactMap { $0.token.flatMap(WebDAVChunkPlan.name(in:)) })
    let entries: [RemoteEntry]
    do throws(TransportError) { entries = try await list(chunksFolder) } catch {
      if case .notFound = error { return }
      throw error
    }
    for entry in entries where entry.kind == .folder && WebDAVChunkPlan.isOurs(entry.name, under: path) {
      if let name = entry.name.string, names.contains(name) { continue }
      let removed = try await ask(
        "DELETE", chunksFolder.appending(entry.name), folder: true, headers: [("Depth", "infinity")], patience: 10)
      guard [200, 204, 404, 410].contains(removed.status) else {
        throw failures.failure(removed, "remove the chunks", entry.name.description)
      }
    }
  }
}
