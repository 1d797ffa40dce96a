import JobQueue
import SyncModel
import Transport
import TransportHTTP

/// Finds out which stores refuse a body that is not the one that was signed: a right digest, one wrong bit, and they must not take it.
///
/// A store that takes it has the wrong bytes until the component itself is sent, which follows at once; a crash between leaves the component
/// to be sent, and the asset unfinished.
struct StoreProbe: Sendable {
  let put: ComponentPut

  /// Larger components are not sent twice.
  static let limit: UInt64 = 1 << 20

  /// - Parameter pending: The components that are about to be sent.
  /// - Returns: The stores that compared. One that answers anything else is left out: it is no proof then, and no failure either.
  /// - Throws: `SyncFailure` where no answer came.
  func provenOrigins(_ pending: [AssetUploadComponentRow]) async throws(SyncFailure) -> Set<HTTPOrigin> {
    var tried: Set<HTTPOrigin> = []
    var proven: Set<HTTPOrigin> = []
    let candidates = pending.filter { (1...Self.limit).contains($0.fingerprint.size) }
    for row in candidates.sorted(by: { $0.fingerprint.size < $1.fingerprint.size }) {
      let target = try await put.targets.issue(for: row.name).target
      let url = try PresignedURL(target.url, component: row.name, rules: put.rules)
      try SignedHeaders.check(target.headers, component: row.name)
      guard let sealed = SignedHeaders.sealedDigest(target.headers), sealed == row.digest else { continue }
      guard tried.insert(url.origin).inserted else { continue }
      var content = try await put.content(of: row)
      content[0] ^= 1
      let request = ComponentPut.request(url, target, contentType: row.contentType, body: .bytes(content))
      let answer: HTTPResponse
      do throws(TransportError) {
        answer = try await put.clients.with(url.origin) { (http) throws(TransportError) in try await http.perform(request) }
      } catch {
        // The wrong body may still be on its way: the right one must not be sent close behind it.
        throw error.assetFailure("the store")
      }
      // Any other refusal is about the URL, the size, or the store's day. The right body follows: where it is refused, too, nothing is finished.
      if answer.refusesDigest { proven.insert(url.origin) }
    }
    return proven
  }
}
