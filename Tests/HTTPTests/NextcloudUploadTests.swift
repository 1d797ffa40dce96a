import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportHTTP

/// Nextcloud's chunked upload, against a model of the protocol that is as strict as its documentation.
@Suite struct NextcloudUploadTests {
  private static let chunk: UInt64 = 5 << 20

  private func driver(_ server: LoopbackNextcloud) -> WebDAVDriver {
    let (user, password) = (server.user, server.password)
    let http = HTTPSettings(
      origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(server.port)), user: user,
      allowsPlainHTTP: true, progressTimeout: .seconds(20),
      credentials: { () throws(SyncFailure) in .basic(user: user, password: password) })
    return WebDAVDriver(settings: WebDAVSettings(http: http, root: server.rootPath, chunkSize: Self.chunk))
  }

  /// A model, and a session with it.
  private func with(_ body: @Sendable (LoopbackNextcloud, WebDAVDriver, WebDAVSession) async throws -> Void) async throws {
    try await LoopbackNextcloud.with { server in
      let driver = driver(server)
      let session = try await driver.session()
      do { try await body(server, driver, session) } catch {
        await session.close()
        throw error
      }
      await session.close()
    }
  }

  private static let noise: [UInt8] = {
    var generator = SeededGenerator(seed: 7)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(13 << 20)
    while bytes.count < 13 << 20 { withUnsafeBytes(of: generator.next()) { bytes.append(contentsOf: $0) } }
    return bytes
  }()

  private func content(_ count: Int) -> [UInt8] { Array(Self.noise.prefix(count)) }

  private func send(_ content: [UInt8], from start: Int, to end: Int, _ session: WebDAVSession, _ handle: UploadHandle) async throws {
    var offset = start
    while offset < end {
      let next = min(offset + 777_777, end)
      try await session.write(Array(content[offset..<next]), at: UInt64(offset), to: handle)
      offset = next
    }
  }

  private func stored(_ server: LoopbackNextcloud, _ name: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: "\(server.rootFolder)/\(name)")))
  }

  private func unfinished(_ server: LoopbackNextcloud) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: server.uploadsFolder)
  }

  private func place(_ name: String, _ server: LoopbackNextcloud) throws -> RemotePath {
    RemotePath(root: server.rootPath, relative: try RelativePath(name))
  }

  /// Sends 11 MiB of a file of 12.
  private func interrupted(
    _ content: [UInt8], _ name: String, _ server: LoopbackNextcloud, _ session: WebDAVSession
  ) async throws -> UploadMark {
    let handle = try await session.beginUpload(
      try place(name, server), resumingAt: UploadMark(bytes: 0), size: UInt64(content.count), modified: nil)
    try await send(content, from: 0, to: 11 << 20, session, handle)
    try await session.flush(handle, durable: true)
    let mark = try #require(try await session.mark(of: handle))
    await session.abandonUpload(handle)
    await #expect(throws: TransportError.self) { try await session.write([1], at: 11 << 20, to: handle) }
    #expect(mark.bytes == 10 << 20 && (mark.token?.utf8.count ?? 0) < 400)
    return mark
  }

  @Test func aLargeFileGoesInChunksAndASmallOneWhole() async throws {
    try await with { server, driver, session in
      #expect(session.capabilities.resumesFiles && session.capabilities.keepsTimes)
      #expect(try unfinished(server) == [])
      #expect(try FileManager.default.contentsOfDirectory(atPath: server.rootFolder) == [])
      for size in [Int(Self.chunk), Int(Self.chunk) + 1, 12 << 20] {
        let content = content(size)
        let path = try place("größe \(size) %41.bin", server)
        let handle = try await session.beginUpload(path, resumingAt: 0, size: UInt64(size), modified: 1_234_567_890)
        try await send(content, from: 0, to: size, session, handle)
        try await session.finishUpload(handle, modified: 1_234_567_890, mode: nil, durable: true)
        #expect(try stored(server, "größe \(size) %41.bin") == content)
        #expect(try await session.entry(at: path)?.modified == 1_234_567_890)
      }
      let chunks = try server.requests().filter { $0.hasPrefix("PUT /remote.php/dav/uploads/") && !$0.contains("-probe-") }
      // One at the trying, then two and three.
      #expect(chunks.count == 6 && chunks.allSatisfy { $0.hasSuffix(" 201") }, "\(chunks)")
      #expect(try unfinished(server) == [])
      let lines = try await driver.probe().lines
      #expect(lines.contains { $0.name == "resume" && $0.grade == .good })
      #expect(lines.last?.name == "evidence" && lines.last?.detail.contains("only of what it was sent") == true)
    }
  }

  @Test func anotherSessionGoesOnWithTheMissingChunk() async throws {
    try await with { server, driver, session in
      let content = content(12 << 20)
      let mark = try await interrupted(content, "f", server, session)
      let later = try await driver.session()
      let handle = try await later.beginUpload(try place("f", server), resumingAt: mark, size: 12 << 20, modified: nil)
      #expect(handle.offset == 10 << 20)
      await #expect(throws: TransportError.self) { try await later.write([1], at: 0, to: handle) }
      try await send(content, from: 10 << 20, to: 12 << 20, later, handle)
      await #expect(throws: TransportError.self) { try await later.write([1], at: 12 << 20, to: handle) }
      try await later.finishUpload(handle, modified: nil, mode: nil, durable: true)
      #expect(try stored(server, "f") == content)
      let first = try server.requests().filter { $0.contains("/00001 ") && !$0.contains(" 0") }
      // That of the trying is the other one.
      #expect(first.count == 2, "\(first)")
      await later.close()
    }
  }

  /// What a mark says is no more than a hint: what is there decides, and anything odd is sent anew.
  @Test(arguments: ["gone", "shorter", "hole", "stray", "renamed", "other size", "other file", "nonsense", "beyond", "less"])
  func aMarkThatIsNotTrue(_ what: String) async throws {
    try await with { server, driver, session in
      let content = content(12 << 20)
      var mark = try await interrupted(content, "f", server, session)
      let folder = server.uploadsFolder + "/" + (try #require(try unfinished(server).first))
      var (name, size, expected) = ("f", 12 << 20, 0)
      switch what {
      case "gone": try FileManager.default.removeItem(atPath: folder)
      case "shorter":
        try Data(content[..<5_000_000]).write(to: URL(fileURLWithPath: folder + "/00002"))
        expected = 5 << 20
      case "hole":
        try FileManager.default.removeItem(atPath: folder + "/00001")
      case "stray": try Data([1]).write(to: URL(fileURLWithPath: folder + "/00004"))
      case "renamed": try FileManager.default.moveItem(atPath: folder, toPath: folder + "0")
      case "other size": size = 13 << 20
      case "other file": name = "g"
      case "nonsense": mark.token = "nextcloud-chunks ../../files/labuser/lab 5242880 12582912"
      case "beyond":
        mark.bytes = 1 << 40
        expected = 10 << 20
      default:
        mark.bytes = (5 << 20) + 1
        expected = 5 << 20
      }
      let whole = self.content(size)
      let later = try await driver.session()
      let handle = try await later.beginUpload(try place(name, server), resumingAt: mark, size: UInt64(size), modified: nil)
      #expect(handle.offset == UInt64(expected))
      try await send(whole, from: expected, to: size, later, handle)
      try await later.finishUpload(handle, modified: nil, mode: nil, durable: true)
      #expect(try stored(server, name) == whole)
      await later.close()
    }
  }

  /// Refusals of a right request: a kind, a session that goes on, and a next attempt that succeeds from where it can.
  @Test(arguments: [
    ("PUT", "/00002", 423, SyncFailure.Kind.permission, 5 << 20), ("PUT", "/00002", 507, .remoteFull, 5 << 20),
    ("PUT", "/00002", 503, .network, 5 << 20), ("PUT", "/00002", 0, .network, 5 << 20), ("PUT", "/00002", 404, .protocol, 0),
    ("PUT", "/00002", 412, .protocol, 0), ("PUT", "/00002", 401, .auth, 5 << 20), ("MOVE", "/.file", 423, .permission, 12 << 20),
    ("MOVE", "/.file", 507, .remoteFull, 12 << 20), ("MOVE", "/.file", 504, .network, 12 << 20), ("MOVE", "/.file", 400, .protocol, 0),
  ])
  func refusals(method: String, part: String, status: Int, kind: SyncFailure.Kind, kept: Int) async throws {
    try await with { server, _, session in
      let content = content(12 << 20)
      let path = try place("f", server)
      try server.inject([LoopbackNextcloud.Fault(method, part, status: status)])
      let handle = try await session.beginUpload(path, resumingAt: 0, size: 12 << 20, modified: nil)
      let error = await #expect(throws: TransportError.self) {
        try await send(content, from: 0, to: 12 << 20, session, handle)
        try await session.finishUpload(handle, modified: nil, mode: nil, durable: true)
      }
      #expect(error?.failure.kind == kind && error?.sessionLost == false, "\(String(describing: error))")
      #expect("\(String(describing: error))".contains(server.password) == false)
      let mark = try #require(try await session.mark(of: handle))
      await session.abandonUpload(handle)
      let second = try await session.beginUpload(path, resumingAt: mark, size: 12 << 20, modified: nil)
      #expect(second.offset == UInt64(kept))
      try await send(content, from: kept, to: 12 << 20, session, second)
      try await session.finishUpload(second, modified: nil, mode: nil, durable: true)
      #expect(try stored(server, "f") == content)
    }
  }

  @Test func whatWasLeftIsRemovedAndNothingElse() async throws {
    try await with { server, _, session in
      let content = content(12 << 20)
      for folder in ["job1", "job1/deep", "job2"] {
        try await session.makeFolder(try place(folder, server))
      }
      let kept = try await interrupted(content, "job1/f", server, session)
      let lost = try await interrupted(content, "job1/deep/f", server, session)
      let other = try await interrupted(content, "job2/f", server, session)
      for foreign in ["web-upload-1", "nassync-0011223344556677-", "nassync-x"] {
        try FileManager.default.createDirectory(atPath: server.uploadsFolder + "/" + foreign, withIntermediateDirectories: false)
      }
      try await session.discardUploads(under: try place("job1", server), except: [kept])
      let left = try unfinished(server)
      #expect(left.count == 5 && !left.contains { lost.token?.contains($0) == true }, "\(left)")
      try await session.discardUploads(under: RemotePath(root: server.rootPath), except: [other])
      #expect(try unfinished(server).count == 4)
      try await session.discardUploads(under: try place("job2/f", server), except: [])
      #expect(try unfinished(server).sorted() == ["nassync-0011223344556677-", "nassync-x", "web-upload-1"])
    }
  }

  /// A server of that address that takes no chunks, for whatever reason: files go whole, and nothing is left.
  @Test(arguments: [("MKCOL", 404), ("MKCOL", 403), ("PUT", 400), ("MOVE", 501)])
  func whereChunksAreNotTakenFilesGoWhole(method: String, status: Int) async throws {
    try await LoopbackNextcloud.with { server in
      try server.inject([LoopbackNextcloud.Fault(method, "/dav/uploads/", status: status)])
      let session = try await driver(server).session()
      #expect(!session.capabilities.resumesFiles)
      #expect(try unfinished(server) == [])
      let content = content(12 << 20)
      let handle = try await session.beginUpload(
        try place("f", server), resumingAt: UploadMark(bytes: 5 << 20, token: "x"), size: 12 << 20, modified: nil)
      #expect(handle.offset == 0)
      try await send(content, from: 0, to: content.count, session, handle)
      #expect(try await session.mark(of: handle) == UploadMark(bytes: 0))
      try await session.finishUpload(handle, modified: nil, mode: nil, durable: true)
      #expect(try stored(server, "f") == content)
      await session.close()
    }
  }

  @Test func plansKeepToTheProtocolsNumbers() throws {
    let path = RemotePath(root: "/remote.php/dav/files/u/lab", relative: try RelativePath((0..<30).map { "d\($0)" }.joined(separator: "/")))
    for size: UInt64 in [1, 5 << 20, (5 << 20) + 1, 1 << 30, 1 << 40, 40_000_000_000_000] {
      for wanted: UInt64 in [1, 5 << 20, 32 << 20, .max] {
        let plan = try WebDAVChunkPlan(path, size: size, chunkSize: wanted)
        #expect((1...10_000).contains(plan.count) && (5 << 20...5_000_000_000).contains(plan.chunkSize))
        #expect((plan.count - 1) * plan.chunkSize + plan.length(of: plan.count) == size && plan.length(of: plan.count) > 0)
        #expect(plan.name.bytes.count <= 255 && WebDAVChunkPlan.chunkName(plan.count).utf8.count == 5)
        #expect(WebDAVChunkPlan(token: plan.token, path: path, size: size) == plan)
        #expect(WebDAVChunkPlan(token: plan.token, path: path, size: size + 1) == nil)
        #expect(WebDAVChunkPlan.isOurs(plan.name, under: RemotePath(root: "/remote.php/dav/files/u/lab")))
      }
    }
    for (root, folder) in [
      ("/remote.php/dav/files/u/lab", "/remote.php/dav/uploads/u"),
      ("/cloud/remote.php/dav/files/a b@c/x/y", "/cloud/remote.php/dav/uploads/a b@c"),
      ("/remote.php/webdav/lab", nil), ("/remote.php/dav/files", nil), ("", nil),
    ] as [(String, String?)] {
      #expect(WebDAVUploadsFolder(besides: RemotePath(root: root))?.folder == folder.map { RemotePath(root: $0) })
    }
  }
}
