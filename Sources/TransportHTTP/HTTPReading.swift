import SyncModel
import Synchronization
import Transport

extension HTTPClient {
  /// Reads what a GET gives from an offset to its end, and passes successive pieces on.
  /// - Returns: The answer. 416: nothing is from there on.
  /// - Throws: what `body` throws; `protocol` where another part comes than was asked for.
  nonisolated func read(
    _ request: HTTPRequest, of path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) -> HTTPResponse {
    var request = request
    if offset > 0 { request.headers.append(("Range", "bytes=\(offset)-")) }
    // A server may ignore the range and send everything.
    let toSkip = Mutex<UInt64?>(nil)
    let place = failures
    return try await download(request) { (head, chunk) async throws(SyncFailure) in
      if head.status == 206, toSkip.withLock({ $0 == nil }), head.header("Content-Range")?.hasPrefix("bytes \(offset)-") != true {
        throw place.violated("another part of \(path) than was asked for").failure
      }
      let skipped = toSkip.withLock { left in
        let wanted = left ?? (head.status == 206 ? 0 : offset)
        let count = min(wanted, UInt64(chunk.count))
        left = wanted - count
        return Int(count)
      }
      if skipped == 0 { try await body(chunk) } else if skipped < chunk.count { try await body(Array(chunk[skipped...])) }
    }
  }
}
