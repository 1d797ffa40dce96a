import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import TransportSFTP

/// What a server must not do, and what is made of it.
@Suite struct LyingServerTests {
  typealias Server = ScriptedServer

  private func expectLoss(_ server: Server, _ body: (SFTPSession) async throws -> Void) async throws {
    let session = try await server.session()
    let error = await failure { try await body(session) }
    #expect(error?.failure.kind == .protocol)
    #expect(error?.sessionLost == true)
    #expect(await failure { _ = try await session.entry(at: RemotePath(root: "/")) } == error)
  }

  private let path: RemotePath
  init() throws { path = RemotePath(root: "/root").appending(try RelativePath("f")) }

  @Test func answersToWhatWasNotAsked() async throws {
    try await expectLoss(Server { _, id, _ in Server.status(id &+ 1, 0) }) { _ = try await $0.entry(at: path) }
  }

  @Test func answersTwice() async throws {
    let server = Server { _, id, _ in Server.status(id, 2) + Server.status(id, 2) }
    let session = try await server.session()
    _ = await failure { _ = try await session.entry(at: path) }
    let error = await failure { _ = try await session.entry(at: path) }
    #expect(error?.failure.kind == .protocol)
  }

  @Test func answersWithTheWrongType() async throws {
    try await expectLoss(Server { _, id, _ in Server.packet(102, id, Server.string("handle")) }) { _ = try await $0.entry(at: path) }
    try await expectLoss(Server { _, id, _ in Server.packet(103, id, Server.string("data")) }) { try await $0.removeFile(path) }
    try await expectLoss(Server { _, id, _ in Server.status(id, 0) }) { _ = try await $0.symlinkTarget(of: path) }
    try await expectLoss(Server { _, id, _ in Server.status(id, 0) }) {
      _ = try await $0.put([1], at: path, modified: nil, mode: nil, durable: false)
    }
  }

  @Test func sendsAPacketOfFourGibibytes() async throws {
    try await expectLoss(Server { _, _, _ in [0xff, 0xff, 0xff, 0xff, 101] }) { _ = try await $0.entry(at: path) }
    try await expectLoss(Server { _, _, _ in [0, 0, 0, 0] }) { _ = try await $0.entry(at: path) }
  }

  @Test func sendsText() async throws {
    let error = await failure {
      _ = try await Server(answer: { _, _, _ in [] }, opening: Array("Welcome to the NAS\u{1b}[2J\n".utf8)).session()
    }
    #expect(error?.failure.kind == .protocol)
    #expect(error?.failure.message.contains("Welcome to the NAS\\u{1b}") == true)
  }

  @Test func speaksAnotherVersion() async throws {
    for opening in [Server.packet(2, 2), Server.packet(2, 6), Server.packet(101, 3), Server.packet(2)] {
      let error = await failure { _ = try await Server(answer: { _, _, _ in [] }, opening: opening).session() }
      #expect(error?.failure.kind == .protocol)
    }
  }

  private func listing(_ name: [UInt8], _ entry: [UInt8]? = nil) -> Server {
    Server { type, id, _ in
      switch type {
      case 7, 17: Server.packet(105, id, Server.number(4) + Server.number(0o040755))
      case 11: Server.packet(102, id, Server.string("h"))
      case 12: Server.packet(104, id, entry ?? (Server.number(1) + Server.string(name) + Server.string("-rw") + Server.number(0)))
      default: Server.status(id, 0)
      }
    }
  }

  @Test func listsNamesThatClimb() async throws {
    for name in ["../x", "a/b", "", "/", "a\0b", String(repeating: "x", count: 5000)] {
      try await expectLoss(listing(Array(name.utf8))) { _ = try await $0.list(path) }
    }
    // No size, a count that the packet cannot hold, nothing at all and no end.
    try await expectLoss(listing(Array("f".utf8))) { _ = try await $0.list(path) }
    try await expectLoss(listing([], Server.number(0xffff_ffff))) { _ = try await $0.list(path) }
    try await expectLoss(listing([], Server.number(0))) { _ = try await $0.list(path) }
  }

  @Test func listsWithoutEnd() async throws {
    let many = (0..<2000).reduce(into: Server.number(2000)) { bytes, _ in
      bytes += Server.string("n") + Server.string("d") + Server.number(0)
    }
    let session = try await listing([], many).session { $0.listingLimit = 50_000 }
    let error = await failure { _ = try await session.list(path) }
    #expect(error?.sessionLost == false)
    #expect(error?.failure.kind == .protocol)
  }

  @Test func sendsMoreThanWasAskedFor() async throws {
    for data in [[UInt8](repeating: 1, count: 40_000), []] {
      let server = Server { type, id, _ in
        switch type {
        case 3: Server.packet(102, id, Server.string("h"))
        case 5: Server.packet(103, id, Server.string(data))
        case 8: Server.packet(105, id, Server.number(1) + [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
        default: Server.status(id, 0)
        }
      }
      try await expectLoss(server) { try await $0.download(path, from: 0) { _ in } }
    }
  }

  /// Short answers, and a size that is a lie, still give every byte once and in order.
  @Test func answersShort() async throws {
    let content = noise(100_000)
    for size in [UInt8(0), 0xff] {
      let server = Server { type, id, body in
        switch type {
        case 3: return Server.packet(102, id, Server.string("h"))
        case 5:
          let offset = body[5..<13].reduce(0) { $0 << 8 | Int($1) }
          let length = body[13..<17].reduce(0) { $0 << 8 | Int($1) }
          let part = content.dropFirst(offset).prefix(min(length, 777 + offset % 1000))
          return part.isEmpty ? Server.status(id, 1) : Server.packet(103, id, Server.string(Array(part)))
        case 8: return Server.packet(105, id, Server.number(1) + [UInt8](repeating: size, count: 8))
        default: return Server.status(id, 0)
        }
      }
      let session = try await server.session()
      let read = Mutex<[UInt8]>([])
      try await session.download(path, from: 3) { chunk in read.withLock { $0 += chunk } }
      #expect(read.withLock { $0 } == Array(content.dropFirst(3)))
    }
  }

  @Test func refusals() async throws {
    let kinds: [(UInt32, String, SyncFailure.Kind)] = [
      (3, "", .permission), (4, "Disk quota exceeded", .remoteFull), (4, "No space left on device", .remoteFull), (14, "", .remoteFull),
      (15, "", .remoteFull), (12, "", .permission), (4, "bad\u{1b}[2Jthing", .protocol), (9999, "", .protocol), (8, "", .misconfigured),
      (11, "", .remoteConflict), (2, "", .protocol), (7, "", .network),
    ]
    for (code, text, kind) in kinds {
      let session = try await Server { type, id, _ in type == 9 ? Server.status(id, code, text) : Server.status(id, 2) }.session()
      let error = await failure { try await session.setModified(path, to: 1) }
      #expect(error?.failure.kind == kind)
      #expect(error?.failure.message.contains("\u{1b}") == false)
      #expect(error?.sessionLost == (code == 7))
    }
    // ProFTPD says 11 of a name that is taken.
    let session = try await Server { type, id, _ in
      type == 17 ? Server.packet(105, id, Server.number(4) + Server.number(0o040755)) : Server.status(id, 11)
    }.session()
    try await session.makeFolder(path)
  }

  /// A NAS that keeps the permission bits for itself: the times are set alone.
  @Test func permissionBitsAreGivenUpBeforeTheTimes() async throws {
    let set = Mutex<[[UInt8]]>([])
    let server = Server { type, id, body in
      switch type {
      case 3: return Server.packet(102, id, Server.string("h"))
      case 10: return Server.status(id, 3)
      case 9:
        set.withLock { $0.append(body) }
        return Server.status(id, 0)
      default: return Server.status(id, 0)
      }
    }
    let session = try await server.session()
    try await session.put([1], at: path, modified: 7, mode: 0o600, durable: false)
    let upload = try await session.beginUpload(path, resumingAt: 0)
    try await session.finishUpload(upload, modified: 7, mode: 0o600, durable: false)
    let alone = Server.string(path.bytes) + Server.number(8) + Server.number(7) + Server.number(7)
    #expect(set.withLock { $0 } == [alone, alone])
  }

  @Test func hugeLimitsAreNotBelieved() async throws {
    let huge = [UInt8](repeating: 0xff, count: 32)
    let seen = Mutex(0)
    let server = Server(extensions: [("limits@openssh.com", "1"), ("statvfs@openssh.com", "2")]) { type, id, body in
      switch type {
      case 200 where body.starts(with: Server.string("limits@openssh.com")): return Server.packet(201, id, huge)
      case 200: return Server.packet(201, id, [UInt8](repeating: 0xff, count: 88))
      case 3: return Server.packet(102, id, Server.string("h"))
      case 6:
        seen.withLock { $0 = max($0, body.count) }
        return Server.status(id, 0)
      default: return Server.status(id, 0)
      }
    }
    let session = try await server.session()
    try await session.put(noise(2 << 20), at: path, modified: -5, mode: 0xffff_ffff, durable: true)
    #expect(seen.withLock { $0 } <= 256 * 1024)
    #expect(try await session.freeSpace(at: path) == .max)
    let broken = Server(extensions: [("limits@openssh.com", "1")]) { _, id, _ in Server.packet(201, id, [1, 2, 3]) }
    #expect(await failure { _ = try await broken.session() }?.failure.kind == .protocol)
  }
}
