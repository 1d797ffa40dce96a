import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportHTTP

/// What no decent server sends. Nothing of it may crash, hang, fill the memory, or be taken for an answer.
@Suite struct HostileServerTests {
  static func client(_ server: RawHTTPServer, progress: Duration = .seconds(20), token: String? = nil) async throws -> HTTPClient {
    let settings = HTTPSettings(
      origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: server.port), user: "labuser", allowsPlainHTTP: true, connections: 2,
      connectTimeout: .seconds(10), progressTimeout: progress,
      credentials: { () throws(SyncFailure) in token.map { .bearer(token: $0) } ?? .none })
    let client = HTTPClient(settings: settings)
    try await client.open()
    return client
  }

  static func failure(_ body: () async throws -> Void) async -> TransportError? {
    do { try await body() } catch { return error as? TransportError }
    return nil
  }

  /// Asks once, by a bounded request and by a download.
  private func answers(_ progress: Duration = .seconds(20), _ script: @escaping @Sendable (RawHTTPServer.Connection) -> Void) async throws
    -> [Result<HTTPResponse, TransportError>]
  {
    try await RawHTTPServer.with(script) { server in
      var results: [Result<HTTPResponse, TransportError>] = []
      for streams in [false, true] {
        let client = try await Self.client(server, progress: progress)
        do throws(TransportError) {
          let request = HTTPRequest("GET", "/a", bodyLimit: 100_000)
          let response = streams ? try await client.download(request) { _, _ in } : try await client.perform(request)
          results.append(.success(response))
        } catch { results.append(.failure(error)) }
        await client.close()
      }
      return results
    }
  }

  private func kinds(_ results: [Result<HTTPResponse, TransportError>]) -> [SyncFailure.Kind?] {
    results.map { if case .failure(let error) = $0 { error.failure.kind } else { nil } }
  }

  @Test func endlessHeadersAreCutOff() async throws {
    let results = try await answers { connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 200 OK\r\n")
      connection.sendForEver(Array("X-Padding: \(String(repeating: "a", count: 1000))\r\n".utf8))
    }
    #expect(kinds(results) == [.protocol, .protocol])
  }

  @Test func endlessInterimAnswersAreCutOff() async throws {
    let results = try await answers { connection in
      _ = connection.readHead()
      connection.sendForEver(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8))
    }
    #expect(kinds(results) == [.protocol, .protocol])
  }

  @Test func anEndlessLineIsCutOff() async throws {
    let results = try await answers { connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 200 OK\r\nX-Endless: ")
      connection.sendForEver([UInt8](repeating: 0x61, count: 10_000))
    }
    #expect(kinds(results).allSatisfy { $0 != nil })
  }

  @Test func anEndlessBodyIsBoundedWhereItIsKept() async throws {
    let results = try await RawHTTPServer.with({ connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
      connection.sendForEver(Array("1000\r\n\(String(repeating: "b", count: 4096))\r\n".utf8))
    }) { server in
      let client = try await Self.client(server)
      let kept = await Self.failure { _ = try await client.perform(HTTPRequest("GET", "/", bodyLimit: 50_000)) }
      // A stream goes on as long as its taker likes; and it is never far ahead of it.
      let taken = Mutex(0)
      let streamed = await Self.failure {
        _ = try await client.download(HTTPRequest("GET", "/")) { (_, chunk) throws(SyncFailure) in
          let total = taken.withLock {
            $0 += chunk.count
            return $0
          }
          #expect(chunk.count <= 2 << 20)
          if total > 8 << 20 { throw SyncFailure(.localChanged, "enough", hint: "-") }
        }
      }
      await client.close()
      return [kept?.failure.kind, streamed?.failure.kind]
    }
    #expect(results == [.protocol, .localChanged])
  }

  @Test func anEndlessErrorPageIsStillItsStatus() async throws {
    let results = try await answers { connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 507 Insufficient Storage\r\n\r\n")
      connection.sendForEver([UInt8](repeating: 0x63, count: 4096))
    }
    for result in results { #expect(try result.get().status == 507) }
  }

  @Test(arguments: [
    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
    "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", "",
    "HTTP/1.1",
    "SSH-2.0-OpenSSH_9.2\r\n", "HTTP/9.9 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
  ]) func brokenAnswersAreFailures(_ answer: String) async throws {
    let results = try await answers(.seconds(3)) { connection in
      _ = connection.readHead()
      connection.send(answer)
    }
    for kind in kinds(results) { #expect(kind == .network || kind == .protocol || kind == .timeout, "\(String(describing: kind))") }
  }

  @Test(arguments: ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 100 Continue\r\n\r\n"])
  func aServerThatStallsIsGivenUp(_ beginning: String) async throws {
    let start = ContinuousClock.now
    let results = try await answers(.milliseconds(400)) { connection in
      _ = connection.readHead()
      connection.send(beginning)
      connection.hang()
    }
    #expect(kinds(results) == [.timeout, .timeout])
    for result in results { if case .failure(let error) = result { #expect(error.sessionLost) } }
    #expect(ContinuousClock.now - start < .seconds(20))
  }

  @Test func aTrickleIsNoProgress() async throws {
    let results = try await answers(.milliseconds(500)) { connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
      connection.sendForEver([0x64], every: 20_000)
    }
    #expect(kinds(results) == [.timeout, .timeout])
    let slowHeaders = try await answers(.milliseconds(500)) { connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 200 OK\r\n")
      connection.sendForEver(Array("X: y\r\n".utf8), every: 20_000)
    }
    #expect(kinds(slowHeaders) == [.timeout, .timeout])
  }

  @Test func noRedirectionIsFollowedAndNoSecretIsShown() async throws {
    let asked = Mutex<[String]>([])
    let thief = try await RawHTTPServer.with({ connection in
      if let head = connection.readHead() { asked.withLock { $0.append(head) } }
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }) { other in
      let place = "http://user:secret@localhost:\(other.port)/steal?key=abc"
      return try await RawHTTPServer.with({ connection in
        while connection.readHead() != nil {
          connection.send("HTTP/1.1 307 Temporary Redirect\r\nLocation: \(place)\r\nContent-Length: 0\r\n\r\n")
        }
      }) { server in
        let client = try await Self.client(server, token: "t0ken-that-stays")
        let response = try await client.perform(HTTPRequest("PUT", "/a", body: .bytes([1])))
        #expect(response.status == 307)
        let error = client.failures.failure(response, "write", "/a")
        await client.close()
        #expect(error.failure.kind == .misconfigured)
        #expect(error.failure.message.contains("localhost:\(other.port)"))
        return "\(error)"
      }
    }
    #expect(asked.withLock { $0.isEmpty })
    for word in ["secret", "t0ken", "key=abc", "user:"] { #expect(!thief.contains(word)) }
  }

  /// 401 and 507 before the body: a large one is not sent in vain.
  @Test func anEarlyRefusalEndsAnUpload() async throws {
    let received = Mutex(0)
    try await RawHTTPServer.with({ connection in
      guard let head = connection.readHead() else { return }
      #expect(head.contains("Expect: 100-continue"))
      connection.send("HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
      while let bytes = connection.read(65_536) { received.withLock { $0 += bytes.count } }
    }) { server in
      let client = try await Self.client(server)
      let upload = try await client.upload(HTTPRequest("PUT", "/large", body: .stream(length: 64 << 20)))
      var early: HTTPResponse?
      for _ in 0..<64 where early == nil { early = try await client.write([UInt8](repeating: 1, count: 1 << 20), to: upload) }
      #expect(early?.status == 507)
      #expect(received.withLock { $0 } < 8 << 20)
      await client.close()
    }
  }

  @Test func successBeforeTheBodyIsNone() async throws {
    try await RawHTTPServer.with({ connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
      connection.hang()
    }) { server in
      let client = try await Self.client(server, progress: .seconds(3))
      let upload = try await client.upload(HTTPRequest("PUT", "/large", body: .stream(length: 4 << 20)))
      let error = await Self.failure {
        for _ in 0..<4 { if try await client.write([UInt8](repeating: 1, count: 1 << 20), to: upload) != nil { throw CancellationError() } }
        _ = try await client.finish(upload)
      }
      // Every byte may have been handed to the kernel in time; then it is an answer like any other.
      if let error { #expect([.protocol, .network, .timeout].contains(error.failure.kind)) }
      await client.close()
    }
  }

  @Test func interruptingAnswersAtOnce() async throws {
    try await RawHTTPServer.with({ connection in
      _ = connection.readHead()
      connection.hang()
    }) { server in
      let client = try await Self.client(server)
      let waiting = (0..<20).map { number in
        Task { await Self.failure { _ = try await client.perform(HTTPRequest("GET", "/\(number)")) } }
      }
      try await Task.sleep(for: .milliseconds(100))
      let start = ContinuousClock.now
      client.interrupt()
      for task in waiting { #expect(await task.value?.failure.kind == .interrupted) }
      #expect(ContinuousClock.now - start < .seconds(5))
    }
  }

  /// Many requests and a NAS that has gone: the first connection that is not made says it for all that wait, not each one after the other.
  @Test func aServerThatTakesNoConnectionKeepsNobodyWaitingInLine() async throws {
    let full = try FullListener()
    defer { full.close() }
    let settings = HTTPSettings(
      origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: full.port), allowsPlainHTTP: true, connections: 2,
      connectTimeout: .seconds(1), progressTimeout: .seconds(20), credentials: { () throws(SyncFailure) in .none })
    let client = HTTPClient(settings: settings)
    try await client.open()
    let start = ContinuousClock.now
    let failures = await withTaskGroup(of: TransportError?.self) { group in
      for number in 0..<30 {
        group.addTask { await Self.failure { _ = try await client.perform(HTTPRequest("GET", "/\(number)")) } }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(failures.count == 30 && failures.allSatisfy { $0?.failure.kind == .timeout }, "\(failures)")
    // One after the other they would take 15 s.
    #expect(ContinuousClock.now - start < .seconds(7) * Patience.factor)
    await client.close()
  }

  @Test func plainHTTPIsRefusedUnlessAllowed() async throws {
    let client = HTTPClient(settings: HTTPSettings(origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: 9)))
    let error = await Self.failure { try await client.open() }
    #expect(error?.failure.kind == .misconfigured)
  }

  /// However many kept connections are closed in the moment of the next request: each is made anew.
  @Test func connectionsThatDieUnderTheNextRequestAreMadeAnew() async throws {
    let served = Mutex(0)
    try await RawHTTPServer.with({ connection in
      _ = connection.readHead()
      served.withLock { $0 += 1 }
      connection.send("HTTP/1.1 204 No Content\r\n\r\n")
      _ = connection.readHead()
    }) { server in
      let client = try await Self.client(server)
      for _ in 0..<20 { #expect(try await client.perform(HTTPRequest("GET", "/")).status == 204) }
      await client.close()
    }
    #expect(served.withLock { $0 } == 20)
  }

  /// A kept connection that the server closed is made anew without anybody noticing.
  @Test func closedConnectionsAreMadeAnew() async throws {
    try await RawHTTPServer.with({ connection in
      _ = connection.readHead()
      connection.send("HTTP/1.1 204 No Content\r\n\r\n")
    }) { server in
      let client = try await Self.client(server)
      for _ in 0..<20 { #expect(try await client.perform(HTTPRequest("GET", "/")).status == 204) }
      await client.close()
    }
  }
}
