import SyncModel
import Synchronization
import Testing
import Transport
import TransportSFTP

/// What a flush waits for.
@Suite struct FlushTests {
  typealias Server = ScriptedServer

  /// A file is made durable while its sessions write on: what they write meanwhile is not waited for, or it would never end. The server answers out of
  /// order, and always owes one answer.
  @Test func whatFollowsIsNotWaitedFor() async throws {
    let path = RemotePath(root: "/root").appending(try RelativePath("f"))
    let owed = Mutex<[UInt32]>([])
    let server = Server { type, id, _ in
      switch type {
      case 3: return Server.packet(102, id, Server.string("handle"))
      case 6:
        return owed.withLock { owed in
          owed.append(id)
          // Two are answered when a third is there, the later one first.
          guard owed.count > 2 else { return [] }
          let answers = owed.dropLast().reversed().flatMap { Server.status($0, 0) }
          owed.removeFirst(owed.count - 1)
          return answers
        }
      default: return Server.status(id, 0)
      }
    }
    let session = try await server.session()
    let handle = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: 1 << 30, modified: nil)
    for number in 0..<2 { try await session.write([1], at: UInt64(number), to: handle) }
    let isFlushed = Mutex(false)
    let flushing = Task {
      try await session.flush(handle, durable: true)
      isFlushed.withLock { $0 = true }
    }
    var number: UInt64 = 2
    while !isFlushed.withLock({ $0 }), number < 3_000 {
      try await session.write([1], at: number, to: handle)
      number += 1
      try await Task.sleep(for: .milliseconds(5))
    }
    #expect(number < 3_000)
    try await flushing.value
    await session.close()
  }

  /// Two are waited for, one after the other, and a refusal is told by both.
  @Test func aRefusalIsTold() async throws {
    let path = RemotePath(root: "/root").appending(try RelativePath("f"))
    let server = Server { type, id, _ in
      switch type {
      case 3: Server.packet(102, id, Server.string("handle"))
      case 6: Server.status(id, 4, "No space left")
      default: Server.status(id, 0)
      }
    }
    let session = try await server.session()
    let handle = try await session.beginUpload(path, resumingAt: UploadMark(bytes: 0), size: 1 << 30, modified: nil)
    do { try await session.write([1], at: 0, to: handle) } catch {
      // By chance it is told here already.
    }
    for _ in 0..<2 {
      let error = await failure { try await session.flush(handle, durable: true) }
      #expect(error != nil && error?.sessionLost == false)
    }
    await session.close()
  }
}
