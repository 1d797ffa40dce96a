import SyncModel
import Synchronization
import Transport

/// Says what an object store compared while it wrote: the SHA-256 beside an object went over the wire in the same signed request as its
/// bytes, and a probe showed that this store refuses bytes of another one. Objects sent in parts or by somebody else have no such digest and
/// get no entry: they are read back.
package final class S3Hasher: RemoteHasher {
  private static let asksAtOnce = 32

  private struct State {
    /// Nil while nobody has needed one since it was let go of.
    var session: S3Session?
    var opening: Task<Result<S3Session, TransportError>, Never>?
    var users = 0
    var isOver = false
  }

  private let driver: S3Driver
  private let state: Mutex<State>
  package let evidence = Evidence.store

  init(_ session: S3Session, of driver: S3Driver) {
    self.driver = driver
    state = Mutex(State(session: session))
  }

  package func digests(
    of paths: [RemotePath], progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    state.withLock { $0.users += 1 }
    defer { state.withLock { $0.users -= 1 } }
    let session = try await session()
    var digests: [RemotePath: ContentDigest] = [:]
    var start = 0
    while start < paths.count {
      let some = paths[start..<min(start + Self.asksAtOnce, paths.count)]
      start = some.endIndex
      let answers = await withTaskGroup(of: (RemotePath, Result<ContentDigest?, TransportError>).self) { group in
        for path in some {
          group.addTask {
            do throws(TransportError) {
              let digest = try await Self.digest(of: path, session)
              return (path, .success(digest))
            } catch { return (path, .failure(error)) }
          }
        }
        return await group.reduce(into: []) { $0.append($1) }
      }
      for (path, answer) in answers { digests[path] = try answer.get() }
      progress(start)
    }
    return digests
  }

  private static func digest(of path: RemotePath, _ session: S3Session) async throws(TransportError) -> ContentDigest? {
    guard let object = try await session.head(try session.key(path), path), let text = object.sha256 else { return nil }
    // Sent in parts: then the store compared each part with a hash of its own, never the whole.
    if object.etag.contains("-") { return nil }
    return ContentDigest(hex: text)
  }

  package func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool { false }

  /// The one that is kept, or another in its place.
  private func session() async throws(TransportError) -> S3Session {
    let (kept, opening) = state.withLock { state -> (S3Session?, Task<Result<S3Session, TransportError>, Never>?) in
      if state.isOver || state.session != nil { return (state.session, nil) }
      let task = state.opening ?? Task { await self.open() }
      state.opening = task
      return (nil, task)
    }
    if let kept { return kept }
    guard let opening else { throw Self.over }
    return try await opening.value.get()
  }

  private func open() async -> Result<S3Session, TransportError> {
    let opened: Result<S3Session, TransportError>
    do throws(TransportError) { opened = .success(try await driver.session()) } catch { opened = .failure(error) }
    let isOver = state.withLock { state in
      state.opening = nil
      if case .success(let session) = opened, !state.isOver { state.session = session }
      return state.isOver
    }
    guard isOver, case .success(let session) = opened else { return opened }
    await session.close()
    return .failure(Self.over)
  }

  private static let over = HTTPFailures.lost(.interrupted, "the session was closed", hint: "Open another one.")

  /// Lets go of the connection, where nobody uses it.
  package func rest() async {
    let idle = state.withLock { state in state.users == 0 ? state.session.take() : nil }
    await idle?.close()
  }

  package func interrupt() {
    let (session, opening) = state.withLock { state in
      state.isOver = true
      return (state.session, state.opening)
    }
    opening?.cancel()
    session?.interrupt()
  }

  package func close() async {
    let (session, opening) = state.withLock { state in
      state.isOver = true
      return (state.session.take(), state.opening)
    }
    opening?.cancel()
    await session?.close()
    _ = await opening?.value
  }
}
