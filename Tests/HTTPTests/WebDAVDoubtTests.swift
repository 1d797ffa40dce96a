import Foundation
import Glibc
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import TransportHTTP

/// What a server says on a bad day does not show that it keeps what is there.
@Suite struct WebDAVDoubtTests {
  @Test(arguments: [(503, SyncFailure.Kind.network), (500, .protocol), (429, .network), (403, .permission), (423, .permission)])
  func aBadMomentIsNoProof(_ status: Int, _ kind: SyncFailure.Kind) async throws {
    let trap = HostileWebDAV.Trap(["MOVE"]) { connection, request in
      _ = HostileWebDAV.body(of: request, connection)
      connection.send("HTTP/1.1 \(status) Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }
    try await HostileWebDAV.with([trap]) { server in
      let http = HTTPSettings(
        origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: server.port), allowsPlainHTTP: true, connections: 2)
      let driver = WebDAVDriver(settings: WebDAVSettings(http: http, root: HostileWebDAV.root))
      let error = await HostileServerTests.failure { await (try driver.connect()).close() }
      #expect(error?.failure.kind == kind && error?.sessionLost == false, "\(String(describing: error))")
      // Nothing of the trial is left, and once the server is well it is tried again.
      server.arm([])
      #expect(server.names == ["/dav", HostileWebDAV.root])
      let session = try await driver.session()
      #expect(session.findings.refusesToOverwrite == true)
      await session.close()
    }
  }

  /// A request on a kept connection that ends without an answer is sent again, and meets what it did itself the first time. Here that is done on the
  /// server's disk right before the request comes there.
  @Test(arguments: [".nassync-probe-", ".hidden", "a", "b", "c"]) func whatALostRequestHasDoneIsNoRefusal(_ name: String) async throws {
    try await LoopbackWebDAV.with(.nginx) { server in
      let (user, password) = (server.user, server.password)
      let done = Mutex(0)
      @Sendable func onDisk(_ path: String) -> String {
        server.rootFolder + "/" + path.split(separator: "/").dropFirst(2).joined(separator: "/")
      }
      try await HTTPRelay.with(
        to: server.port,
        deciding: { request in
          let path = onDisk(request.path)
          let leaf = path.split(separator: "/").last ?? ""
          if request.method == "MKCOL", leaf == name || name.hasSuffix("-") && leaf.hasPrefix(name) {
            // The second time it is a question, whether the server tells that there is something.
            if done.withLock({ $0 == 0 }) { done.withLock { $0 += mkdir(path, 0o777) == 0 ? 1 : 0 } }
          } else if request.method == "MOVE", name == "c", request.head.contains("/c/") {
            done.withLock { $0 += rename(path, path.dropLast() + "c") == 0 ? 1 : 0 }
          }
          return .pass
        }
      ) { relay in
        let http = HTTPSettings(
          origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(relay.port)), user: user, allowsPlainHTTP: true,
          credentials: { () throws(SyncFailure) in .basic(user: user, password: password) })
        let session = try await WebDAVDriver(settings: WebDAVSettings(http: http, root: server.rootPath)).session()
        #expect(session.findings.refusesToOverwrite == true && session.findings.tellsExistingFolders)
        await session.close()
        #expect(done.withLock { $0 } == 1)
      }
    }
  }

  /// A session through a relay that looks at every request once the session is there.
  private func examine(
    _ decide: @escaping @Sendable (HTTPRelay.Request) -> HTTPRelay.Fate, _ body: (HTTPRelay, WebDAVSession) async throws -> Void
  ) async throws {
    try await LoopbackWebDAV.with(.apache) { server in
      let (user, password) = (server.user, server.password)
      try await HTTPRelay.with(to: server.port, deciding: decide) { relay in
        let http = HTTPSettings(
          origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(relay.port)), user: user, allowsPlainHTTP: true, connections: 4,
          credentials: { () throws(SyncFailure) in .basic(user: user, password: password) })
        let session = try await WebDAVDriver(settings: WebDAVSettings(http: http, root: server.rootPath)).session()
        try await body(relay, session)
        await session.close()
      }
    }
  }

  /// Each further question would take as long as a deadline, and its silence would pass for a refusal of a name.
  @Test(arguments: ["n3", "l255", "/p", "/q"]) func aServerThatIsGoneIsAskedNoMoreAboutNames(_ from: String) async throws {
    let gone = Mutex((count: 0, isBack: false))
    try await examine({ request in
      gone.withLock { gone in
        let isTurn = ["PUT", "MKCOL"].contains(request.method) && request.target.contains(from)
        guard !gone.isBack, gone.count > 0 || isTurn else { return .pass }
        gone.count += 1
        return .cutBefore
      }
    }) { relay, session in
      let root = RemotePath(root: "/dav/lab")
      let error = await HostileServerTests.failure { _ = try await session.examineNames(in: root) }
      // The session is others' too, and may be used once the server is there again.
      #expect(error?.failure.kind == .network && error?.sessionLost == false, "\(String(describing: error))")
      // What was on its way, and one question.
      #expect((2...5).contains(gone.withLock { $0.count }), "\(gone.withLock { $0.count })")
      gone.withLock { $0.isBack = true }
      let left = try await session.list(root).map(\.name.description)
      #expect(left.count == 1 && left.allSatisfy { $0.hasPrefix(".nassync-probe-") }, "\(left)")
      relay.forget()
      let names = try await session.examineNames(in: root)
      #expect(names?.maxNameBytes == 255)
      var entries = try await session.list(root)
      if !entries.isEmpty {
        // Apache has been seen to remove a part of such a tree (207): a removal that failed is no reason for a probe to fail, and the next one
        // does it again. One that was answered by a success is another matter.
        let removal = relay.requests.prefix { $0.method != "PUT" }
        #expect(removal.contains { $0.method == "DELETE" && ![200, 204].contains($0.status) }, "left: \(entries), after \(removal)")
        print("left: \(entries), after \(removal)")
        _ = try await session.examineNames(in: root)
        entries = try await session.list(root)
      }
      #expect(entries == [])
    }
  }

  /// A destination that was gone when a connection's trial should have been removed is rid of it by the next question about names.
  @Test func whatATrialLeftIsRemovedLater() async throws {
    try await LoopbackWebDAV.with(.apache) { server in
      let (user, password) = (server.user, server.password)
      let isGone = Mutex<Bool?>(nil)
      try await HTTPRelay.with(
        to: server.port,
        deciding: { request in
          isGone.withLock { isGone in
            if isGone == nil, request.method == "PUT" { isGone = true }
            return isGone == true ? .cutBefore : .pass
          }
        }
      ) { relay in
        let http = HTTPSettings(
          origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(relay.port)), user: user, allowsPlainHTTP: true,
          credentials: { () throws(SyncFailure) in .basic(user: user, password: password) })
        let driver = WebDAVDriver(settings: WebDAVSettings(http: http, root: server.rootPath))
        let error = await HostileServerTests.failure { await (try driver.connect()).close() }
        #expect(error?.failure.kind == .network)
        let left = try FileManager.default.contentsOfDirectory(atPath: server.rootFolder)
        #expect(left.count == 1, "\(left)")
        isGone.withLock { $0 = false }
        let session = try await driver.session()
        _ = try await session.examineNames(in: RemotePath(root: server.rootPath))
        await session.close()
        #expect(try FileManager.default.contentsOfDirectory(atPath: server.rootFolder) == [])
      }
    }
  }

  /// Some end the connection where an address is too long for them.
  @Test func aConnectionThatEndsForALongPathIsARefusal() async throws {
    try await examine({ $0.method == "MKCOL" && $0.target.utf8.count > 900 ? .cutBefore : .pass }) { relay, session in
      let names = try #require(try await session.examineNames(in: RemotePath(root: "/dav/lab")))
      #expect((200..<900).contains(names.maxPathBytes ?? .max), "\(names)")
      #expect(!relay.requests.isEmpty)
    }
  }

  /// Of a server that was restarted meanwhile, or a proxy that had nobody behind it for a moment, nothing is learnt about names.
  @Test(arguments: ["", "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"])
  func aMomentWithoutAServerIsNoRefusal(_ answer: String) async throws {
    let seen = Mutex<Set<String>>([])
    let struck = Atomic<Int>(0)
    try await examine({ request in
      let isAsked = ["/n3", "/l255", "/p", "/q"].contains(where: request.target.contains)
      guard isAsked, ["PUT", "MKCOL"].contains(request.method) else { return .pass }
      // Each the first time.
      guard seen.withLock({ $0.insert(request.target).inserted }) else { return .pass }
      struck.add(1, ordering: .relaxed)
      return answer.isEmpty ? .cutBefore : .answer(answer)
    }) { _, session in
      let names = try #require(try await session.examineNames(in: RemotePath(root: "/dav/lab")))
      #expect(struck.load(ordering: .relaxed) > 2)
      #expect(names.maxNameBytes == 255 && !names.refused.contains { NameTrait.asked.firstIndex(of: $0) == 3 }, "\(names)")
      #expect((names.maxPathBytes ?? .max) > 1_000, "\(names)")
    }
  }
}
