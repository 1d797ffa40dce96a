import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportHTTP

/// Files in parts, to a store that loses, forgets and lies.
@Suite struct S3PartFaultTests {
  typealias Answer = RawHTTPServer.Answer
  typealias Request = RawHTTPServer.Request

  /// A store that keeps parts, and what it makes of them.
  final class Store: Sendable {
    struct State {
      var parts: [Int: [UInt8]] = [:]
      var isOpen = false
      /// The size of the object.
      var object: Int?
      var completions = 0
      var aborts = 0
      var begun = 0
      var inFlight = 0
      var mostInFlight = 0
      var seen: [Int] = []
    }

    let state = Mutex(State())
    /// Does something else with a request; nil where it is answered decently.
    let script: @Sendable (Request, Store) -> Answer?

    init(_ script: @escaping @Sendable (Request, Store) -> Answer? = { _, _ in nil }) { self.script = script }

    static func etag(_ number: Int) -> String { String(repeating: "0", count: 31) + String(number, radix: 16) }

    func answer(_ request: Request) -> Answer { script(request, self) ?? decent(request) }

    func decent(_ request: Request) -> Answer {
      guard request.path == "/lab/p/large" else { return S3FaultTests.decent(request) }
      if request.method == "PUT", let number = request.value("partNumber").flatMap({ Int($0) }) {
        state.withLock {
          $0.parts[number] = request.body
          $0.seen.append(number)
        }
        return .reply(200, headers: ["ETag: \"\(Self.etag(number))\""])
      }
      return state.withLock { state in
        switch request.method {
        case "POST" where request.asks("uploads"):
          state.isOpen = true
          state.begun += 1
          state.parts = [:]
          return .reply(200, body: "<InitiateMultipartUploadResult><UploadId>u\(state.begun)</UploadId></InitiateMultipartUploadResult>")
        case "GET" where request.asks("uploadId"):
          guard state.isOpen, request.value("uploadId") == "u\(state.begun)" else { return S3FaultTests.error(404, "NoSuchUpload") }
          // Pages of two.
          let marker = request.value("part-number-marker").flatMap { Int($0) } ?? 0
          let rest = state.parts.keys.sorted().filter { $0 > marker }
          let page = rest.prefix(2).map {
            "<Part><PartNumber>\($0)</PartNumber><ETag>\"\(Self.etag($0))\"</ETag><Size>\(state.parts[$0]?.count ?? 0)</Size></Part>"
          }
          return .reply(
            200, body: "<ListPartsResult><IsTruncated>\(rest.count > 2)</IsTruncated>\(page.joined())</ListPartsResult>")
        case "POST" where request.asks("uploadId"):
          state.completions += 1
          guard state.isOpen else { return S3FaultTests.error(404, "NoSuchUpload") }
          state.isOpen = false
          state.object = state.parts.values.reduce(0) { $0 + $1.count }
          return .reply(200, body: "  \n<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
        case "DELETE" where request.asks("uploadId"):
          state.isOpen = false
          state.aborts += 1
          return .reply(204)
        case "HEAD":
          guard let size = state.object else { return .reply(404) }
          return .reply(200, headers: ["Content-Length: \(size)", "ETag: \"opaque-\(state.parts.count)\""])
        default: return S3FaultTests.decent(request)
        }
      }
    }
  }

  private static let size: UInt64 = (5 << 20) + 7

  private func with(
    _ store: Store, buffers: S3Buffers = S3Buffers(capacity: 8 << 20), _ body: (any TransportSession, RemotePath) async throws -> Void
  ) async throws {
    try await RawHTTPServer.answering({ store.answer($0) }) { server in
      var settings = S3FaultTests.settings(server)
      settings.buffers = buffers
      let session = try await S3Driver(settings: settings).connect()
      do { try await body(session, try S3FaultTests.path("large")) } catch {
        await session.close()
        throw error
      }
      await session.close()
    }
  }

  /// Sends the file from where the handle says.
  private func send(_ session: any TransportSession, _ path: RemotePath, from mark: UploadMark = UploadMark(bytes: 0)) async throws {
    let handle = try await session.beginUpload(path, resumingAt: mark, size: Self.size, modified: 1)
    do {
      var offset = handle.offset ?? mark.bytes
      while offset < Self.size {
        let count = min(700_000, Self.size - offset)
        try await session.write([UInt8](repeating: 1, count: Int(count)), at: offset, to: handle)
        offset += count
      }
      try await session.finishUpload(handle, modified: 1, mode: nil, durable: true)
    } catch {
      await session.abandonUpload(handle)
      throw error
    }
  }

  /// The mark after three parts.
  private func marked(_ session: any TransportSession, _ path: RemotePath) async throws -> UploadMark {
    let handle = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: Self.size, modified: 1)
    try await session.write([UInt8](repeating: 1, count: 3_500_000), at: 0, to: handle)
    try await session.flush(handle, durable: true)
    let mark = try #require(try await session.mark(of: handle))
    #expect(mark.bytes == 3 << 20)
    await session.abandonUpload(handle)
    return mark
  }

  @Test func aDecentOne() async throws {
    let store = Store()
    try await with(store) { session, path in
      try await send(session, path)
      let mark = try await marked(session, path)
      store.state.withLock { $0.seen = [] }
      try await send(session, path, from: mark)
    }
    store.state.withLock { state in
      #expect(state.object == Int(Self.size) && state.completions == 2 && state.aborts == 0)
      #expect(state.seen.sorted() == [4, 5, 6])
    }
  }

  /// The object is there although nobody said so.
  @Test func aLostAnswerOfTheCompletion() async throws {
    let store = Store { request, store in
      guard request.method == "POST", request.asks("uploadId") else { return nil }
      _ = store.decent(request)
      return .hangUp
    }
    try await with(store) { session, path in try await send(session, path) }
    #expect(store.state.withLock { $0.object } == Int(Self.size))
  }

  /// The answer was lost on the way there: nothing was done, and nothing is claimed.
  @Test func aLostRequestForTheCompletion() async throws {
    let store = Store { request, _ in request.method == "POST" && request.asks("uploadId") ? .hangUp : nil }
    try await with(store) { session, path in
      let error = await S3FaultTests.failure { try await send(session, path) }
      #expect(error?.failure.kind == .network && error?.sessionLost == false, "\(String(describing: error))")
    }
    #expect(store.state.withLock { $0.isOpen && $0.aborts == 0 })
  }

  /// Another object of the same size stood there before: it is not taken for the one that was sent.
  @Test func anOldObjectIsNotTheNewOne() async throws {
    let store = Store { request, store in
      if request.method == "HEAD", request.path == "/lab/p/large" {
        return .reply(200, headers: ["Content-Length: \(Self.size)", "ETag: \"0123456789abcdef0123456789abcdef\""])
      }
      return request.method == "POST" && request.asks("uploadId") ? .hangUp : nil
    }
    try await with(store) { session, path in
      let error = await S3FaultTests.failure { try await send(session, path) }
      #expect(error?.failure.kind == .network)
    }
  }

  @Test(arguments: ["InternalError", "InvalidPart"]) func successThatIsAnError(_ code: String) async throws {
    let store = Store { request, _ in
      request.method == "POST" && request.asks("uploadId")
        ? .reply(200, body: "\n\n<?xml version=\"1.0\"?>".dropFirst(2) + "<Error><Code>\(code)</Code></Error>") : nil
    }
    try await with(store) { session, path in
      let error = await S3FaultTests.failure { try await send(session, path) }
      #expect(error?.failure.kind == (code == "InvalidPart" ? .protocol : .network), "\(String(describing: error))")
    }
    // What cannot be put together is not gone on with.
    #expect(store.state.withLock { $0.aborts } == (code == "InvalidPart" ? 1 : 0))
  }

  @Test func copiesThatAreErrors() async throws {
    try await S3FaultTests.with({ request in
      if request.method == "HEAD" { return request.path == "/lab/p/new" ? .reply(200, headers: ["Content-Length: 1"]) : nil }
      return request.method == "PUT" ? .reply(200, body: "<Error><Code>InternalError</Code></Error>") : nil
    }) { session, _ in
      let error = await S3FaultTests.failure { try await session.publish(try S3FaultTests.path("new"), as: try S3FaultTests.path("old")) }
      #expect(error?.failure.kind == .network, "\(String(describing: error))")
    }
    // Success, and no copy: the source stays.
    let removed = Mutex(0)
    try await S3FaultTests.with({ request in
      if request.method == "HEAD" { return request.path == "/lab/p/new" ? .reply(200, headers: ["Content-Length: 1"]) : nil }
      if request.method == "DELETE" { removed.withLock { $0 += 1 } }
      return request.method == "PUT" ? .reply(200, body: "<CopyObjectResult/>") : nil
    }) { session, _ in
      let error = await S3FaultTests.failure { try await session.publish(try S3FaultTests.path("new"), as: try S3FaultTests.path("old")) }
      #expect(error?.failure.kind == .protocol)
    }
    #expect(removed.withLock { $0 } == 0)
  }

  // MARK: Marks

  enum Loss: CaseIterable { case secondPart, size, etag, upload, everything }

  @Test(arguments: Loss.allCases) func whatIsGoneIsSentAgain(_ loss: Loss) async throws {
    let lost = Mutex(false)
    let store = Store { request, store in
      guard loss == .etag, lost.withLock({ $0 }), request.method == "GET", request.asks("uploadId") else { return nil }
      guard case .reply(let status, let headers, let body) = store.decent(request) else { return nil }
      return .reply(status, headers: headers, body: body.replacingOccurrences(of: Store.etag(2), with: Store.etag(9)))
    }
    try await with(store) { session, path in
      let mark = try await marked(session, path)
      lost.withLock { $0 = true }
      store.state.withLock { state in
        state.seen = []
        switch loss {
        case .secondPart: state.parts[2] = nil
        case .size: state.parts[2] = [1]
        case .etag: break
        case .upload: state.isOpen = false
        case .everything: state.parts = [:]
        }
      }
      let handle = try await session.beginUpload(path, resumingAt: mark, size: Self.size, modified: 1)
      #expect(handle.offset == ([.upload, .everything].contains(loss) ? 0 : 1 << 20))
      await session.abandonUpload(handle)
      try await send(session, path, from: mark)
    }
    store.state.withLock { state in
      #expect(state.object == Int(Self.size))
      #expect(state.seen.sorted() == ([.upload, .everything].contains(loss) ? [1, 2, 3, 4, 5, 6] : [2, 3, 4, 5, 6]))
    }
  }

  @Test(arguments: [
    "", "{}", "nonsense", "{\"upload\":\"\",\"part_size\":1,\"etags\":[]}", "{\"upload\":\"x\",\"part_size\":-1,\"etags\":[]}",
  ])
  func marksThatAreNone(_ token: String) async throws {
    try await with(Store()) { session, path in
      let handle = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 1 << 20, token: token), size: Self.size, modified: nil)
      #expect(handle.offset == 0)
      await session.abandonUpload(handle)
    }
  }

  @Test func aMarkOfAnotherCutIsGivenUp() async throws {
    let store = Store()
    try await with(store) { session, path in
      let mark = try await marked(session, path)
      // The file has become so small that it is no upload in parts.
      let handle = try await session.beginUpload(path, resumingAt: mark, size: 1000, modified: nil)
      #expect(handle.offset == 0)
      await session.abandonUpload(handle)
    }
    #expect(store.state.withLock { $0.aborts } == 1)
  }

  @Test func aListOfPartsWithoutEndIsStopped() async throws {
    let store = Store { request, _ in
      request.method == "GET" && request.asks("uploadId")
        ? .reply(
          200,
          body: "<ListPartsResult><IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber><Size>1</Size></Part></ListPartsResult>")
        : nil
    }
    try await with(store) { session, path in
      let mark = try await marked(session, path)
      let error = await S3FaultTests.failure { _ = try await session.beginUpload(path, resumingAt: mark, size: Self.size, modified: 1) }
      #expect(error?.failure.kind == .protocol)
    }
  }

  // MARK: Bounds

  @Test func aRefusedPartEndsTheUploadAndItsRoomIsFree() async throws {
    let buffers = S3Buffers(capacity: 4 << 20)
    let store = Store { request, _ in request.value("partNumber") == "2" ? S3FaultTests.error(503, "SlowDown") : nil }
    try await with(store, buffers: buffers) { session, path in
      for _ in 0..<4 {
        let error = await S3FaultTests.failure { try await send(session, path) }
        #expect(error?.failure.kind == .network)
      }
      // All of it can be had again.
      try await session.put([1], at: try S3FaultTests.path("f"), modified: nil, mode: nil, durable: false)
    }
    #expect(buffers.peak <= 4 << 20)
  }

  @Test func manyLargeFilesShareTheRoom() async throws {
    let buffers = S3Buffers(capacity: 3 << 20)
    let store = Store()
    try await with(store, buffers: buffers) { session, path in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<6 { group.addTask { try await send(session, path) } }
        try await group.waitForAll()
      }
    }
    #expect(buffers.peak == 3 << 20)
  }

  @Test func whoWaitsForRoomIsInterruptedAtOnce() async throws {
    let store = Store { request, _ in request.asks("partNumber") ? .silence : nil }
    try await with(store, buffers: S3Buffers(capacity: 2 << 20)) { session, path in
      let sending = (0..<3).map { _ in Task { await S3FaultTests.failure { try await send(session, path) } } }
      try await Task.sleep(for: .milliseconds(300))
      let start = ContinuousClock.now
      session.interrupt()
      for task in sending { #expect(await task.value?.failure.kind == .interrupted) }
      #expect(ContinuousClock.now - start < .seconds(5))
    }
  }

  @Test func largeFilesAreCutForTheMemoryThereIs() async throws {
    // 64 MiB at most, and 10,000 parts: larger files are refused before anything is sent.
    try await with(Store(), buffers: S3Buffers(capacity: 64 << 20)) { session, path in
      let error = await S3FaultTests.failure {
        _ = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: 700 << 30, modified: nil)
      }
      #expect(error?.failure.kind == .misconfigured)
      let handle = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: 600 << 30, modified: nil)
      await session.abandonUpload(handle)
    }
  }

  /// Two writers without a condition: who finds the other's object has lost.
  @Test func theOneWhoIsOverwrittenHasLost() async throws {
    try await S3FaultTests.with({ request in
      guard request.path == "/lab/p/claim" else { return nil }
      return nil
    }) { session, _ in
      // The store says that it was written and shows nothing.
      let error = await S3FaultTests.failure { try await session.putNew([1], at: try S3FaultTests.path("claim")) }
      #expect(error?.failure.kind == .protocol)
    }
    let wasPut = Mutex(false)
    try await S3FaultTests.with({ request in
      guard request.path == "/lab/p/claim" else { return nil }
      if request.method == "PUT" { wasPut.withLock { $0 = true } }
      guard request.method == "HEAD", wasPut.withLock({ $0 }) else { return nil }
      return .reply(200, headers: ["Content-Length: 1", "x-amz-meta-nassync-writer: somebody"])
    }) { session, _ in
      let path = try S3FaultTests.path("claim")
      let error = await S3FaultTests.failure { try await session.putNew([1], at: path) }
      #expect(error == .alreadyExists(path))
    }
  }
}
