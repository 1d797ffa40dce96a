import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportHTTP

@testable import NASSync

/// Sessions and hashers outlive the keys that they logged in with.
@Suite struct SessionPoolTests {
  private struct Keys {
    /// What the store lets in.
    var valid = "KEY1"
    /// What the configuration's reference holds.
    var configured = "KEY1"
    var resolved = 0
    var refused = 0
  }

  /// A pool of sessions with a store that knows one key at a time.
  private func with(
    limit: Int = 2, _ wrap: (any TransportDriver) -> any TransportDriver = { $0 }, _ body: (SessionPool, Shared) async throws -> Void
  ) async throws {
    let keys = Shared(Keys())
    let hash = String(repeating: "ab", count: 32)
    try await RawHTTPServer.answering({ request in
      let isValid = keys.value.withLock { keys in
        let isValid = request.headers["authorization"]?.contains("Credential=\(keys.valid)/") == true
        if !isValid { keys.refused += 1 }
        return isValid
      }
      guard isValid else { return .reply(403, body: "<Error><Code>InvalidAccessKeyId</Code></Error>") }
      if request.method == "PUT" {
        // Of [2], while [1] is sent.
        let isForged = request.headers["x-amz-content-sha256"]?.hasPrefix("dbc1b4") == true
        return isForged ? .reply(400, body: "<Error><Code>XAmzContentSHA256Mismatch</Code></Error>") : .reply(200)
      }
      switch request.method {
      case "HEAD" where request.path.hasSuffix("/file"):
        return .reply(200, headers: ["Content-Length: 5", "x-amz-meta-nassync-sha256: \(hash)", "x-amz-meta-nassync-size: 5"])
      case "HEAD": return .reply(404)
      case "DELETE": return .reply(204)
      case "GET" where request.asks("uploads"): return .reply(200, body: "<ListMultipartUploadsResult/>")
      default: return .reply(200, body: "<ListBucketResult/>")
      }
    }) { server in
      let http = HTTPSettings(
        origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: server.port), allowsPlainHTTP: true, connections: 2)
      let settings = S3Settings(http: http, bucket: "lab", prefix: "p") { () throws(SyncFailure) in
        let key = keys.value.withLock { keys in
          keys.resolved += 1
          return keys.configured
        }
        return S3Credentials(accessKeyID: key, secretAccessKey: "s", sessionToken: nil)
      }
      let pool = SessionPool(driver: wrap(S3Driver(settings: settings)), limit: limit, clock: SystemClock())
      do { try await body(pool, keys) } catch {
        await pool.close()
        throw error
      }
      await pool.close()
    }
  }

  private final class Shared: Sendable {
    let value: Mutex<Keys>
    init(_ keys: sending Keys) { value = Mutex(keys) }
  }

  private let file = RemotePath(root: "/p")

  private func size(_ pool: SessionPool, _ width: Int = 1) async throws -> UInt64? {
    let path = file.appending(try RelativePath("file"))
    return try await pool.withSession(width: width) { (session) throws(TransportError) in try await session.entry(at: path)?.size }
  }

  @Test func aSessionWithAKeyThatWasReplacedLogsInAnew() async throws {
    try await with { pool, keys in
      // Two of them, one idle and one in use.
      let held = try await pool.acquire(width: 2)
      #expect(try await size(pool, 2) == 5)
      keys.value.withLock { ($0.valid, $0.configured) = ("KEY2", "KEY2") }
      #expect(try await size(pool) == 5)
      let refused = keys.value.withLock { $0.refused }
      #expect(try await size(pool, 2) == 5)
      // None of the old ones is handed out again.
      #expect(keys.value.withLock { $0.refused } == refused)
      await pool.refused(held)
      #expect(try await size(pool) == 5)
      #expect(keys.value.withLock { $0.refused } == refused)
    }
  }

  @Test func aHasherWithAKeyThatWasReplacedLogsInAnew() async throws {
    try await with { pool, keys in
      let path = file.appending(try RelativePath("file"))
      let hasher = try #require(try await pool.hasher())
      #expect(try await hasher.digests(of: [path]) { _ in }.count == 1)
      keys.value.withLock { ($0.valid, $0.configured) = ("KEY2", "KEY2") }
      #expect(try await hasher.digests(of: [path]) { _ in }.count == 1)
      let again = try #require(try await pool.hasher())
      #expect(again === hasher)
      #expect(try await again.digests(of: [path]) { _ in }.count == 1)
    }
  }

  /// What ended a session may have ended the hasher's connection, too: it is asked over another one, and nobody waits for an answer that cannot
  /// come.
  @Test func aHasherIsNotAskedOverAConnectionThatIsAsOldAsABrokenOne() async throws {
    try await with { pool, keys in
      let path = file.appending(try RelativePath("file"))
      let hasher = try #require(try await pool.hasher())
      #expect(try await hasher.digests(of: [path]) { _ in }.count == 1)
      let session = try await pool.acquire(width: 1)
      let before = keys.value.withLock { $0.resolved }
      await pool.release(session, broken: true)
      #expect(keys.value.withLock { $0.resolved } == before)
      // Many at once log in once.
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<8 { group.addTask { try await hasher.digests(of: [path]) { _ in }.count } }
        for try await count in group { #expect(count == 1) }
      }
      #expect(keys.value.withLock { $0.resolved } == before + 1)
      let again = try #require(try await pool.hasher())
      #expect(again === hasher)
    }
  }

  /// A key that is wrong stays wrong: it is fetched once more, and then said.
  @Test func aKeyThatIsGoneFails() async throws {
    try await with { pool, keys in
      let hasher = try #require(try await pool.hasher())
      #expect(try await size(pool) == 5)
      let resolved = keys.value.withLock { keys in
        keys.valid = "KEY2"
        return keys.resolved
      }
      for _ in 0..<2 {
        do {
          _ = try await size(pool)
          Issue.record("a wrong key was let in")
        } catch let error as TransportError { #expect(error.failure.kind == .auth) }
      }
      do {
        _ = try await hasher.digests(of: [file.appending(try RelativePath("file"))]) { _ in }
        Issue.record("a wrong key was let in")
      } catch let error as TransportError { #expect(error.failure.kind == .auth) }
      #expect(keys.value.withLock { $0.resolved } <= resolved + 3)
    }
  }

  /// A destination a long way off, as far as log-ins go.
  private struct DistantDriver: TransportDriver {
    let base: any TransportDriver
    let logins: Logins
    var address: String { base.address }
    func connect() async throws(TransportError) -> any TransportSession {
      logins.count.withLock { $0 += 1 }
      do { try await Task.sleep(for: logins.time) } catch {
        throw .failure(SyncFailure(.interrupted, "told to stop", hint: "None."), sessionLost: true)
      }
      return try await base.connect()
    }
    func makeHasher() async throws(TransportError) -> (any RemoteHasher)? { try await base.makeHasher() }
    func probe() async throws(TransportError) -> DestinationProbe { try await base.probe() }
  }

  private final class Logins: Sendable {
    let time: Duration
    let count = Mutex(0)
    init(_ time: Duration) { self.time = time }
  }

  /// Who only asks does not keep a session from those who send.
  @Test func aVisitorLeavesTheSessionToOthers() async throws {
    let logins = Logins(.zero)
    try await with({ DistantDriver(base: $0, logins: logins) }) { pool, _ in
      let visited = try await pool.acquire(width: 1, isVisit: true)
      let used = try await pool.acquire(width: 2)
      #expect(visited === used && logins.count.withLock { $0 } == 1)
      // Now it is in use, and work that is worth two opens another.
      let other = try await pool.acquire(width: 2)
      #expect(other !== used && logins.count.withLock { $0 } == 2)
      await pool.release(visited, broken: false, isVisit: true)
      await pool.release(used, broken: false)
      #expect(try await pool.acquire(width: 2) === used)
      await pool.release(used, broken: false)
      await pool.release(other, broken: false)
    }
  }

  /// Over a long way further sessions log in before anybody wants them; whoever needs one alone waits for it.
  @Test func sessionsAreWarmedOverALongWay() async throws {
    let logins = Logins(.milliseconds(300))
    try await with(limit: 3, { DistantDriver(base: $0, logins: logins) }) { pool, _ in
      await pool.warm(width: 3)
      // Nothing is known of the way yet.
      #expect(logins.count.withLock { $0 } == 0)
      let first = try await pool.acquire(width: 3)
      await pool.warm(width: 3)
      await pool.warm(width: 3)
      let second = try await pool.acquire(width: 3, isAlone: true)
      let third = try await pool.acquire(width: 3, isAlone: true)
      #expect(first !== second && second !== third && first !== third)
      #expect(logins.count.withLock { $0 } == 3)
      for session in [first, second, third] { await pool.release(session, broken: false) }
    }
    // One that is being opened when all are closed is closed as well, and the pool goes on to be of use.
    let quick = Logins(.milliseconds(300))
    try await with({ DistantDriver(base: $0, logins: quick) }) { pool, _ in
      let first = try await pool.acquire(width: 1)
      await pool.warm(width: 2)
      await pool.release(first, broken: false)
      await pool.close()
      #expect(try await size(pool) == 5)
    }
  }
}
