import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportHTTP

/// What no decent store does, and what decent ones do on a bad day. Nothing of it may leak, hang, or be taken for a proof.
@Suite struct S3FaultTests {
  typealias Answer = RawHTTPServer.Answer
  typealias Request = RawHTTPServer.Request

  static let secret = "s3cret-that-stays"
  static let token = "t0ken-that-stays"

  static func settings(_ server: RawHTTPServer, progress: Duration = .seconds(20)) -> S3Settings {
    let http = HTTPSettings(
      origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: server.port), allowsPlainHTTP: true, connections: 4,
      connectTimeout: .seconds(10), progressTimeout: progress)
    let credentials = S3Credentials(accessKeyID: "KEY", secretAccessKey: secret, sessionToken: token)
    return S3Settings(http: http, bucket: "lab", prefix: "p", partSize: 1 << 20) { () throws(SyncFailure) in credentials }
  }

  static func error(_ status: Int, _ code: String, _ more: String = "") -> Answer {
    .reply(status, body: "<?xml version=\"1.0\"?><Error><Code>\(code)</Code>\(more)</Error>")
  }

  static func listing(_ rest: String) -> Answer { .reply(200, body: "<ListBucketResult>\(rest)</ListBucketResult>") }
  static let emptyListing = listing("<IsTruncated>false</IsTruncated>")

  /// A sound store as far as connecting goes: everything but the script's own answers.
  static func decent(_ request: Request) -> Answer {
    if request.method == "GET", request.asks("uploads") { return .reply(200, body: "<ListMultipartUploadsResult/>") }
    if request.method == "GET", request.path == "/lab" { return emptyListing }
    if request.method == "HEAD" { return .reply(404) }
    if request.method == "DELETE" { return .reply(204) }
    return .reply(200)
  }

  /// A session with a store that answers as told, and decently where nothing was told.
  static func with(
    progress: Duration = .seconds(20), _ script: @escaping @Sendable (Request) -> Answer?,
    _ body: (any TransportSession, S3Driver) async throws -> Void
  ) async throws {
    let isConnected = Mutex(false)
    try await RawHTTPServer.answering({ request in
      isConnected.withLock { $0 } ? script(request) ?? decent(request) : decent(request)
    }) { server in
      let driver = S3Driver(settings: settings(server, progress: progress))
      let session = try await driver.connect()
      isConnected.withLock { $0 = true }
      do { try await body(session, driver) } catch {
        await session.close()
        throw error
      }
      await session.close()
    }
  }

  static func path(_ name: String) throws -> RemotePath { RemotePath(root: "/p").appending(try RelativePath(name)) }

  static func failure(_ body: () async throws -> Void) async -> TransportError? { await HostileServerTests.failure(body) }

  // MARK: Refusals

  static let refusals: [(status: Int, code: String, kind: SyncFailure.Kind, word: String)] = [
    (403, "AccessDenied", .permission, "access key"), (403, "SignatureDoesNotMatch", .auth, "secret_access_key"),
    (403, "InvalidAccessKeyId", .auth, "access_key_id"), (400, "ExpiredToken", .auth, "session"),
    (403, "RequestTimeTooSkewed", .local, "clock"),
    (404, "NoSuchBucket", .misconfigured, "bucket"), (503, "SlowDown", .network, "busy"), (503, "", .network, "busy"),
    (500, "InternalError", .network, "busy"), (507, "", .remoteFull, "space"), (403, "QuotaExceeded", .remoteFull, "quota"),
    (400, "EntityTooLarge", .remoteFull, "large"), (400, "XAmzContentSHA256Mismatch", .hashMismatch, "sent again"),
    (400, "BadDigest", .hashMismatch, "sent again"), (301, "PermanentRedirect", .misconfigured, "endpoint"),
    (418, "Strange", .protocol, "Strange"),
  ]

  @Test(arguments: refusals.indices) func everyRefusalHasItsKind(_ index: Int) async throws {
    let (status, code, kind, word) = Self.refusals[index]
    try await Self.with({ request in
      guard request.method == "PUT" else { return nil }
      return code.isEmpty ? .reply(status) : Self.error(status, code, "<Message>\(Self.token) \(Self.secret)</Message>")
    }) { session, _ in
      let error = await Self.failure { try await session.put([1], at: try Self.path("f"), modified: nil, mode: nil, durable: false) }
      #expect(error?.failure.kind == kind && error?.sessionLost == false, "\(String(describing: error))")
      #expect(error?.description.contains(word) == true, "\(String(describing: error))")
      #expect(error?.description.contains(Self.token) == false && error?.description.contains(Self.secret) == false)
    }
  }

  @Test func anotherRegionIsNamedAndNobodyIsSentThere() async throws {
    let asked = Mutex<[Request]>([])
    try await RawHTTPServer.answering({ request in
      asked.withLock { $0.append(request) }
      return .reply(200)
    }) { thief in
      let place = "http://user:pw@localhost:\(thief.port)/steal?key=abc"
      try await Self.with({ request in
        request.method == "PUT"
          ? .reply(
            307, headers: ["Location: \(place)", "x-amz-bucket-region: eu-central-9"], body: "<Error><Code>TemporaryRedirect</Code></Error>"
          )
          : nil
      }) { session, _ in
        let error = await Self.failure { try await session.put([1], at: try Self.path("f"), modified: nil, mode: nil, durable: false) }
        #expect(error?.failure.kind == .misconfigured && error?.failure.hint.contains("eu-central-9") == true)
        for word in ["pw", "key=abc", Self.token, Self.secret] { #expect(error?.description.contains(word) == false) }
      }
    }
    #expect(asked.withLock { $0.isEmpty })
    try await RawHTTPServer.answering({ _ in Self.error(400, "AuthorizationHeaderMalformed", "<Region>eu-west-7</Region>") }) { server in
      let error = await Self.failure { _ = try await S3Driver(settings: Self.settings(server)).connect() }
      #expect(error?.failure.kind == .misconfigured && error?.failure.hint.contains("eu-west-7") == true, "\(String(describing: error))")
    }
  }

  /// What goes over the wire: the token only where it belongs, the secret nowhere, a body always with its hash.
  @Test func nothingLeaks() async throws {
    let heads = Mutex<[Request]>([])
    try await Self.with({ request in
      heads.withLock { $0.append(request) }
      return nil
    }) { session, driver in
      try await session.put([1, 2], at: try Self.path("f"), modified: 5, mode: nil, durable: false)
      #expect(!driver.address.contains(Self.secret) && driver.address.hasPrefix("s3://127.0.0.1"))
    }
    let request = try #require(heads.withLock { $0 }.first { $0.method == "PUT" })
    #expect(!"\(request)".contains(Self.secret))
    #expect(request.headers["x-amz-security-token"] == Self.token)
    #expect(request.headers["x-amz-content-sha256"] == "a12871fee210fb8619291eaea194581cbd2531e4b23759d225f6806923f63222")
    #expect(request.headers["x-amz-meta-mtime"] == "5")
    #expect(request.headers["authorization"]?.contains("x-amz-security-token") == true)
  }

  @Test func aStormOfRefusalsEndsEachCallAtOnce() async throws {
    let count = Mutex(0)
    try await Self.with({ _ in
      count.withLock { $0 += 1 }
      return Self.error(503, "SlowDown")
    }) { session, _ in
      let calls: [() async throws -> Void] = [
        { try await session.put([1], at: try Self.path("f"), modified: nil, mode: nil, durable: false) },
        { _ = try await session.list(try Self.path("f")) }, { _ = try await session.entry(at: try Self.path("f")) },
        { try await session.makeFolder(try Self.path("f")) }, { try await session.removeTree(try Self.path("f")) },
        { try await session.removeFile(try Self.path("f")) }, { try await session.putNew([1], at: try Self.path("f")) },
        { try await session.download(try Self.path("f"), from: 0) { _ in } },
        { try await session.publish(try Self.path("f"), as: try Self.path("g")) },
        { try await session.discardUploads(under: try Self.path("f"), except: []) },
      ]
      for call in calls {
        let error = await Self.failure(call)
        #expect(error?.failure.kind == .network && error?.sessionLost == false, "\(String(describing: error))")
      }
    }
    // Waiting and trying again is the queue's.
    #expect(count.withLock { $0 } < 25)
  }

  // MARK: Listings

  static func object(_ key: String, _ size: String = "1") -> String { "<Contents><Key>\(key)</Key><Size>\(size)</Size></Contents>" }

  static let lies: [String] = [
    // Outside the prefix, inside another folder, no names of files, twice, without a size, sizes that are none.
    object("q/f"), object("p/f/a/b"), object("p/f//"), object("p/f/.."), object("p/f/a") + object("p/f/a"), object("p/f/a", "-1"),
    object("p/f/a", "99999999999999999999"), object("p/f/\u{fffd}"), "<Contents><Size>1</Size></Contents>",
    "<EncodingType>url</EncodingType>" + object("p/f/%zz"), "<EncodingType>url</EncodingType>" + object("p/f/a%2Fb"),
    object("p/f/a") + "<CommonPrefixes><Prefix>p/f/a/</Prefix></CommonPrefixes>", "<CommonPrefixes><Prefix>p/f/a</Prefix></CommonPrefixes>",
    // Cut off without a word.
    "<IsTruncated>true</IsTruncated>",
  ]

  @Test(arguments: lies) func listingsThatLieAreNotTaken(_ lie: String) async throws {
    try await Self.with({ $0.method == "GET" && $0.path == "/lab" ? Self.listing(lie) : nil }) { session, _ in
      let error = await Self.failure { _ = try await session.list(try Self.path("f")) }
      #expect([.protocol, .remoteConflict].contains(error?.failure.kind) && error?.sessionLost == false, "\(String(describing: error))")
    }
  }

  static let endless: [@Sendable (Int) -> String] = [
    // The same token again, new tokens for nothing, the same names under new tokens.
    { _ in object("p/f/a") + "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>" },
    { "<IsTruncated>true</IsTruncated><NextContinuationToken>\($0)</NextContinuationToken>" },
    {
      "<CommonPrefixes><Prefix>p/f/a/</Prefix></CommonPrefixes><IsTruncated>true</IsTruncated><NextContinuationToken>\($0)</NextContinuationToken>"
    },
    { _ in "<IsTruncated>true</IsTruncated><NextMarker>p/f/a</NextMarker>" },
    { _ in object("p/f/" + String(repeating: "a", count: 70_000)) },
  ]

  @Test(arguments: endless.indices) func listingsWithoutEndAreStopped(_ index: Int) async throws {
    let pages = Mutex(0)
    try await Self.with({ request in
      guard request.method == "GET", request.path == "/lab" else { return nil }
      return Self.listing(
        Self.endless[index](
          pages.withLock {
            $0 += 1
            return $0
          }))
    }) { session, _ in
      let error = await Self.failure { _ = try await session.list(try Self.path("f")) }
      #expect(error?.failure.kind == .protocol, "\(String(describing: error))")
      #expect(pages.withLock { $0 } < 100)
    }
  }

  @Test func newNamesWithoutEndAreStoppedAtTheLimit() async throws {
    let pages = Mutex(0)
    try await RawHTTPServer.answering({ request in
      guard request.method == "GET", request.path == "/lab", request.asks("delimiter") else { return Self.decent(request) }
      let page = pages.withLock {
        $0 += 1
        return $0
      }
      let names = (0..<100).map { Self.object("p/f/\(page)-\($0)") }.joined()
      return Self.listing(names + "<IsTruncated>true</IsTruncated><NextContinuationToken>\(page)</NextContinuationToken>")
    }) { server in
      var settings = Self.settings(server)
      settings.listingLimit = 1000
      let session = try await S3Driver(settings: settings).connect()
      let error = await Self.failure { _ = try await session.list(try Self.path("f")) }
      #expect(error?.failure.kind == .protocol && pages.withLock { $0 } == 11)
      await session.close()
    }
  }

  /// The older listing, by a store that does not know the newer one, and by one that takes no notice of it.
  @Test(arguments: [true, false]) func olderListings(_ refuses: Bool) async throws {
    try await Self.with({ request in
      guard request.method == "GET", request.path == "/lab" else { return nil }
      if refuses, request.asks("list-type") { return Self.error(501, "NotImplemented") }
      if request.value("marker") == "p%2Ff%2Fa%2Bb" { return Self.listing(Self.object("p/f/c")) }
      // As it is, although it was asked for in URL encoding.
      return Self.listing(Self.object("p/f/") + Self.object("p/f/a+b") + "<IsTruncated>true</IsTruncated>")
    }) { session, _ in
      let listed = try await session.list(try Self.path("f"))
      #expect(listed.map(\.name.description) == ["a+b", "c"])
    }
  }

  @Test(arguments: [
    "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><ListBucketResult><Contents><Key>&a;</Key></Contents></ListBucketResult>",
    "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;\">]><ListBucketResult>&b;</ListBucketResult>",
    String(repeating: "<ListBucketResult>", count: 100),
    "<ListBucketResult>" + String(repeating: "<a/>", count: 50_000) + "</ListBucketResult>",
    "<ListBucketResult><Contents>", "<Other/>", "", "no XML",
    "<ListBucketResult><Contents><Key>p/f/\u{1}</Key></Contents></ListBucketResult>",
    "<Error><Code>InternalError</Code></Error>",
  ]) func hostileDocuments(_ document: String) async throws {
    try await Self.with({ $0.method == "GET" && $0.path == "/lab" ? .reply(200, body: document) : nil }) { session, _ in
      let error = await Self.failure { _ = try await session.list(try Self.path("f")) }
      #expect([.protocol, .network].contains(error?.failure.kind) && error?.sessionLost == false, "\(String(describing: error))")
    }
  }

  // MARK: Proof

  @Test func noHasherWhereWrongBytesAreKept() async throws {
    // The decent one takes whatever comes.
    try await Self.with({ _ in nil }) { _, driver in
      let hasher = try await driver.makeHasher()
      #expect(hasher == nil)
    }
    // One that refuses everything of that kind, and keeps it all the same.
    let stored = Mutex<Set<String>>([])
    try await RawHTTPServer.answering({ request in
      if request.method == "PUT" {
        let isNew = stored.withLock { $0.insert(request.path).inserted }
        return isNew && stored.withLock { $0.count } == 2 ? Self.error(400, "XAmzContentSHA256Mismatch") : .reply(200)
      }
      if request.method == "HEAD", stored.withLock({ $0.contains(request.path) }) { return .reply(200, headers: ["Content-Length: 1"]) }
      return Self.decent(request)
    }) { server in
      let hasher = try await S3Driver(settings: Self.settings(server)).makeHasher()
      #expect(hasher == nil)
    }
  }

  /// Which heads are evidence, where the store is one that compares.
  @Test func onlyWholeMetadataIsEvidence() async throws {
    let hash = String(repeating: "ab", count: 32)
    let heads: [String: [String]] = [
      "/lab/p/good": ["Content-Length: 5", "ETag: \"x\"", "x-amz-meta-nassync-sha256: \(hash)", "x-amz-meta-nassync-size: 5"],
      "/lab/p/size": ["Content-Length: 4", "ETag: \"x\"", "x-amz-meta-nassync-sha256: \(hash)", "x-amz-meta-nassync-size: 5"],
      "/lab/p/sizeless": ["Content-Length: 5", "ETag: \"x\"", "x-amz-meta-nassync-sha256: \(hash)"],
      "/lab/p/parts": ["Content-Length: 5", "ETag: \"x-2\"", "x-amz-meta-nassync-sha256: \(hash)", "x-amz-meta-nassync-size: 5"],
      "/lab/p/short": ["Content-Length: 5", "ETag: \"x\"", "x-amz-meta-nassync-sha256: abab", "x-amz-meta-nassync-size: 5"],
      "/lab/p/none": ["Content-Length: 5", "ETag: \"x\""],
    ]
    try await RawHTTPServer.answering({ request in
      if request.method == "PUT", request.body == [1], request.headers["x-amz-content-sha256"]?.hasPrefix("dbc1b4") == true {
        return Self.error(400, "XAmzContentSHA256Mismatch")
      }
      if request.method == "HEAD", let head = heads[request.path] { return .reply(200, headers: head) }
      return Self.decent(request)
    }) { server in
      let hasher = try #require(try await S3Driver(settings: Self.settings(server)).makeHasher())
      let paths = try (heads.keys.map { String($0.dropFirst(7)) } + ["gone"]).map { try Self.path($0) }
      let found = try await hasher.digests(of: paths) { _ in }
      let good = try Self.path("good")
      #expect(found.count == 1 && found[good]?.hex == hash)
      await hasher.close()
    }
  }
}
