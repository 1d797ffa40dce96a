import SyncModel
import Transport

/// Says what an object store compared while it wrote: the SHA-256 beside an object went over the wire in the same signed request as its
/// bytes, and a probe showed that this store refuses bytes of another one. Objects sent in parts or by somebody else have no such digest and
/// get no entry: they are read back.
package final class S3Hasher: RemoteHasher {
  private static let asksAtOnce = 32

  private let session: S3Session
  package let evidence = Evidence.store

  init(_ session: S3Session) { self.session = session }

  package func digests(
    of paths: [RemotePath], progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    var digests: [RemotePath: ContentDigest] = [:]
    var start = 0
    while start < paths.count {
      let some = paths[start..<min(start + Self.asksAtOnce, paths.count)]
      start = some.endIndex
      let answers = await withTaskGroup(of: (RemotePath, Result<ContentDigest?, TransportError>).self) { group in
        for path in some {
          group.addTask {
            do throws(TransportError) { return (path, .success(try await self.digest(of: path))) } catch { return (path, .failure(error)) }
          }
        }
        return await group.reduce(into: []) { $0.append($1) }
      }
      for (path, answer) in answers { digests[path] = try answer.get() }
      progress(start)
    }
    return digests
  }

  private func digest(of path: RemotePath) async throws(TransportError) -> ContentDigest? {
    guard let object = try await session.head(try session.key(path), path), let text = object.sha256 else { return nil }
    // Sent in parts: then the store compared each part with a hash of its own, never the whole.
    if object.etag.contains("-") { return nil }
    return ContentDigest(hex: text)
  }

  package func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool { false }

  package func interrupt() { session.interrupt() }

  package func close() async { await session.close() }
}
