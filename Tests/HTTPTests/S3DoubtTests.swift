import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportHTTP

/// What a store says on a bad day is no finding about the store; and what one destination waits for is no other's business.
@Suite struct S3DoubtTests {
  typealias Answer = RawHTTPServer.Answer
  typealias Request = RawHTTPServer.Request

  /// Keeps what it takes and compares hashes as told.
  final class Store: Sendable {
    struct State {
      var objects: [String: Int] = [:]
      var seen = 0
      /// Says something else while it is set.
      var refusal: Answer?
      var refusesControl = false
    }
    let state = Mutex(State())

    enum Trial { case forged, conditional, control, other }

    static func trial(_ request: Request) -> Trial {
      guard request.method == "PUT" else { return .other }
      if request.headers["if-none-match"] != nil { return .conditional }
      if request.body == [1] {
        return request.headers["x-amz-content-sha256"]?.hasPrefix("dbc1b4") == true ? .forged : .control
      }
      return .other
    }

    func answer(_ request: Request, _ tried: Trial) -> Answer {
      state.withLock { state in
        let trial = Self.trial(request)
        if trial == tried, let refusal = state.refusal { return refusal }
        if request.method == "HEAD" {
          guard let size = state.objects[request.path] else { return .reply(404) }
          return .reply(200, headers: ["Content-Length: \(size)"])
        }
        if request.method == "DELETE" { state.objects[request.path] = nil }
        guard request.method == "PUT" else { return S3FaultTests.decent(request) }
        state.seen += 1
        if trial == .forged { return S3FaultTests.error(400, "XAmzContentSHA256Mismatch") }
        if trial == .control, state.refusesControl, state.seen > 2 { return S3FaultTests.error(400, "XAmzContentSHA256Mismatch") }
        if trial == .conditional, state.objects[request.path] != nil { return .reply(412) }
        state.objects[request.path] = request.body.count
        return .reply(200)
      }
    }
  }

  static let passing: [Answer] = [
    .reply(503), S3FaultTests.error(503, "SlowDown"), .reply(500), .reply(429), S3FaultTests.error(500, "InternalError"), .reply(502),
    .reply(408), S3FaultTests.error(503, "XAmzContentSHA256Mismatch"),
  ]

  /// A store that compares, and is out of sorts while it is tried: no proof, and asked again.
  @Test(arguments: passing.indices) func aBadMomentIsNoProof(_ index: Int) async throws {
    let store = Store()
    store.state.withLock { $0.refusal = Self.passing[index] }
    try await RawHTTPServer.answering({ store.answer($0, .forged) }) { server in
      let driver = S3Driver(settings: S3FaultTests.settings(server))
      let none = try await driver.makeHasher()
      #expect(none == nil)
      store.state.withLock { $0.refusal = nil }
      let some = try await driver.makeHasher()
      #expect(some != nil)
      await some?.close()
    }
  }

  /// Refused for something else, or refusing everything: no proof for good.
  @Test func aRefusalForAnotherReasonIsNoProof() async throws {
    for code in ["AccessDenied", "SignatureDoesNotMatch", "InvalidRequest", ""] {
      let store = Store()
      store.state.withLock { $0.refusal = code.isEmpty ? .reply(403) : S3FaultTests.error(403, code) }
      try await RawHTTPServer.answering({ store.answer($0, .forged) }) { server in
        let hasher = try await S3Driver(settings: S3FaultTests.settings(server)).makeHasher()
        #expect(hasher == nil, "\(code)")
      }
    }
    let store = Store()
    store.state.withLock { $0.refusesControl = true }
    try await RawHTTPServer.answering({ store.answer($0, .other) }) { server in
      let hasher = try await S3Driver(settings: S3FaultTests.settings(server)).makeHasher()
      #expect(hasher == nil)
    }
  }

  /// The condition is sent again once the store is well.
  @Test(arguments: [503, 429, 500, 409]) func aBadMomentDoesNotEndTheCondition(_ status: Int) async throws {
    let store = Store()
    let conditional = Mutex(0)
    store.state.withLock { $0.refusal = .reply(status) }
    try await RawHTTPServer.answering({ request in
      if request.path == "/lab/p/claim", request.headers["if-none-match"] != nil { conditional.withLock { $0 += 1 } }
      return store.answer(request, .conditional)
    }) { server in
      let driver = S3Driver(settings: S3FaultTests.settings(server))
      await (try driver.connect()).close()
      store.state.withLock { $0.refusal = nil }
      let session = try await driver.connect()
      try await session.putNew([1], at: try S3FaultTests.path("claim"))
      await session.close()
    }
    #expect(conditional.withLock { $0 } == 1)
  }

  // MARK: Bounds

  /// New names under new tokens, for ever: a removal does not follow them.
  @Test func aRemovalWithoutEndIsStopped() async throws {
    let pages = Mutex(0)
    try await RawHTTPServer.answering({ request in
      if request.method == "POST", request.asks("delete") { return .reply(200, body: "<DeleteResult/>") }
      guard request.method == "GET", request.path == "/lab", request.value("prefix") == "p%2Ff%2F" else {
        return S3FaultTests.decent(request)
      }
      let page = pages.withLock {
        $0 += 1
        return $0
      }
      let names = (0..<100).map { S3FaultTests.object("p/f/\(page)-\($0)") }.joined()
      // A driver without a limit ends here.
      let more = page < 200 ? "<IsTruncated>true</IsTruncated><NextContinuationToken>\(page)</NextContinuationToken>" : ""
      return S3FaultTests.listing(names + more)
    }) { server in
      var settings = S3FaultTests.settings(server)
      settings.removalLimit = 1000
      let session = try await S3Driver(settings: settings).connect()
      let error = await S3FaultTests.failure { try await session.removeTree(try S3FaultTests.path("f")) }
      #expect(error?.failure.kind == .protocol && pages.withLock { $0 } == 11, "\(String(describing: error))")
      await session.close()
    }
  }

  // MARK: Patience

  /// A copy has no body: the store may work on it for longer than the short deadline.
  @Test func anEmptyBodyWaitsForTheStoresWork() async throws {
    let copied = Mutex(false)
    try await S3FaultTests.with(
      progress: .seconds(1),
      { request in
        if request.method == "HEAD" {
          let isThere = request.path == "/lab/p/new" || (request.path == "/lab/p/old" && copied.withLock { $0 })
          return isThere ? .reply(200, headers: ["Content-Length: 1"]) : nil
        }
        guard request.method == "PUT", request.path == "/lab/p/old" else { return nil }
        usleep(2_500_000)
        copied.withLock { $0 = true }
        return .reply(200, body: "<CopyObjectResult/>")
      }
    ) { session, _ in
      let error = await S3FaultTests.failure { try await session.publish(try S3FaultTests.path("new"), as: try S3FaultTests.path("old")) }
      #expect(error == nil, "\(String(describing: error))")
    }
  }

  // MARK: Uploads that cannot be listed

  @Test(arguments: ["AccessDenied", "NotImplemented", ""]) func whoMayNotListUploadsWorksAllTheSame(_ code: String) async throws {
    let answer: @Sendable (Request) -> Answer? = { request in
      guard request.method == "GET", request.asks("uploads") else { return nil }
      return code.isEmpty ? .reply(501) : S3FaultTests.error(code == "AccessDenied" ? 403 : 501, code)
    }
    try await RawHTTPServer.answering({ answer($0) ?? S3FaultTests.decent($0) }) { server in
      let driver = S3Driver(settings: S3FaultTests.settings(server))
      let session = try await driver.connect()
      let error = await S3FaultTests.failure { try await session.discardUploads(under: try S3FaultTests.path("run"), except: []) }
      #expect(error == nil, "\(String(describing: error))")
      await session.close()
      let probe = try await driver.probe()
      let line = try #require(probe.lines.first { $0.name == "uploads" })
      #expect(line.grade == .limited && line.detail.contains("room"), "\(line.detail)")
    }
  }

  // MARK: Old uploads

  /// Begun long ago, and parts arrived yesterday: somebody is still at it.
  @Test func anUploadThatStillGetsPartsIsNotEnded() async throws {
    let ended = Mutex<[String]>([])
    let part = "<Part><PartNumber>1</PartNumber><ETag>\"0\"</ETag><Size>1</Size>"
    try await RawHTTPServer.answering({ request in
      if request.method == "GET", request.asks("uploads") {
        let uploads = ["live", "dead", "bare"].map {
          "<Upload><Key>p/\($0)</Key><UploadId>\($0)</UploadId><Initiated>2026-10-01T00:00:00.000Z</Initiated></Upload>"
        }
        return .reply(
          200, headers: ["Date: Sat, 21 Nov 2026 12:00:00 GMT"],
          body: "<ListMultipartUploadsResult>\(uploads.joined())</ListMultipartUploadsResult>")
      }
      if request.method == "GET", let id = request.value("uploadId") {
        let time = ["live": "2026-11-20T12:00:00.000Z", "dead": "2026-10-02T12:00:00.000Z"][id]
        let parts = time.map { "\(part)<LastModified>\($0)</LastModified></Part>" } ?? ""
        return .reply(200, body: "<ListPartsResult>\(parts)</ListPartsResult>")
      }
      if request.method == "DELETE", let id = request.value("uploadId") { ended.withLock { $0.append(id) } }
      return S3FaultTests.decent(request)
    }) { server in
      await (try S3Driver(settings: S3FaultTests.settings(server)).connect()).close()
    }
    #expect(ended.withLock { $0.sorted() } == ["bare", "dead"])
  }

  // MARK: Room

  /// One destination has taken all the room there is and gets nothing more to send; the other one goes on.
  @Test func aStarvedPartBlocksNoOtherDestination() async throws {
    let buffers = S3Buffers(capacity: 3 << 20)
    let (slow, fast) = (S3PartFaultTests.Store(), S3PartFaultTests.Store())
    try await RawHTTPServer.answering({ slow.answer($0) }) { first in
      try await RawHTTPServer.answering({ fast.answer($0) }) { second in
        func session(_ server: RawHTTPServer) async throws -> any TransportSession {
          var settings = S3FaultTests.settings(server)
          settings.buffers = buffers
          return try await S3Driver(settings: settings).connect()
        }
        let (starved, other) = (try await session(first), try await session(second))
        // Half a part in each of three files: whoever sends them waits for bandwidth now.
        for name in ["a", "b", "c"] {
          let handle = try await starved.beginUpload(
            try S3FaultTests.path(name), resumingAt: UploadMark(bytes: 0), size: 5 << 20, modified: nil)
          try await starved.write([UInt8](repeating: 1, count: 1 << 19), at: 0, to: handle)
        }
        let path = try S3FaultTests.path("large")
        let sending = Task {
          let handle = try await other.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: 5 << 20, modified: nil)
          for index in 0..<5 { try await other.write([UInt8](repeating: 1, count: 1 << 20), at: UInt64(index) << 20, to: handle) }
          try await other.finishUpload(handle, modified: nil, mode: nil, durable: true)
        }
        let watchdog = Task {
          try await Task.sleep(for: .seconds(10))
          other.interrupt()
        }
        await #expect(throws: Never.self) { try await sending.value }
        watchdog.cancel()
        #expect(fast.state.withLock { $0.object } == 5 << 20)
        #expect(buffers.peak <= 4 << 20)
        await starved.close()
        await other.close()
      }
    }
  }

  /// A store that was gone when the objects of a trial, or of the question about names, should have been removed is rid of them by the next one.
  @Test(arguments: [1, 12]) func whatATrialLeftIsRemovedLater(_ puts: Int) async throws {
    try await LoopbackS3.with(.ceph) { store in
      let isGone = Mutex<(puts: Int, isGone: Bool)>((0, false))
      try await HTTPRelay.with(
        to: store.port,
        deciding: { request in
          isGone.withLock { state in
            if request.method == "PUT" { state.puts += 1 }
            if state.puts == puts + 1 { state.isGone = true }
            return state.isGone ? .cutBefore : .pass
          }
        }
      ) { relay in
        var settings = S3StoreTests.settings(store)
        settings.http = HTTPSettings(
          origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(relay.port)), allowsPlainHTTP: true)
        let driver = S3Driver(settings: settings)
        let error = await HostileServerTests.failure {
          let session = try await driver.connect()
          _ = try await session.examineNames(in: driver.root)
        }
        #expect(error?.failure.kind == .network, "\(String(describing: error))")
        let left = try await store.keys()
        #expect(!left.isEmpty && left.allSatisfy { $0.contains("/.nassync-probe-") }, "\(left)")
        isGone.withLock { $0 = (1000, false) }
        let probe = try await driver.probe()
        #expect(probe.failure == nil)
        let keys = try await store.keys()
        #expect(keys == [])
      }
    }
  }
}
