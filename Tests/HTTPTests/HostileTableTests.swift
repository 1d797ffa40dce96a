import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import TransportHTTP

/// Every hostile behaviour against every operation of the WebDAV driver: each ends in time, as what it is, and nothing false is believed.
@Suite struct HostileTableTests {
  /// An operation of the driver, and the requests that make it.
  private enum Operation: String, CaseIterable {
    case entry, list, makeFolder, put, upload, download, downloadFrom, publish, replace, removeFile, removeTree, freeSpace, setModified,
      connect

    var methods: Set<String> {
      switch self {
      case .entry, .list, .freeSpace, .setModified: ["PROPFIND"]
      case .makeFolder: ["MKCOL"]
      case .put, .upload: ["PUT"]
      case .download, .downloadFrom: ["GET"]
      case .publish, .replace: ["MOVE"]
      case .removeFile, .removeTree: ["DELETE"]
      case .connect: ["PROPFIND", "MKCOL", "PUT", "MOVE", "DELETE", "GET"]
      }
    }

    /// Whether what it reads must make sense, beside the status.
    var reads: Bool { methods == ["PROPFIND"] || self == .connect }
  }

  private struct Outcome: Sendable {
    let operation: Operation
    let error: TransportError?
    let seconds: Double
    /// What was downloaded in full, where it was.
    var bytes: [UInt8]?
  }

  private static let stored: [UInt8] = Array("what was stored".utf8)
  private static let token = "s3cret-token-of-the-lab"
  /// Of one request; removals and renames have ten times as much, listings twice.
  private static let progress = Duration.milliseconds(300) * Patience.factor

  private func driver(_ server: HostileWebDAV) -> WebDAVDriver {
    let http = HTTPSettings(
      origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: server.port), allowsPlainHTTP: true, connections: 2,
      connectTimeout: .seconds(10), progressTimeout: Self.progress,
      credentials: { () throws(SyncFailure) in .bearer(token: Self.token) })
    return WebDAVDriver(settings: WebDAVSettings(http: http, root: HostileWebDAV.root, listingLimit: 20_000))
  }

  private func place(_ name: String) throws -> RemotePath {
    RemotePath(root: HostileWebDAV.root, relative: try RelativePath(name))
  }

  private func perform(_ operation: Operation, _ session: any TransportSession) async throws -> [UInt8]? {
    switch operation {
    case .entry: _ = try await session.entry(at: try place("file"))
    case .list: _ = try await session.list(RemotePath(root: HostileWebDAV.root))
    case .makeFolder: try await session.makeFolder(try place("new"))
    case .put: try await session.put([1, 2, 3], at: try place("small"), modified: 1, mode: nil, durable: true)
    case .upload:
      let handle = try await session.beginUpload(try place("large"), resumingAt: 0, size: 3 << 20, modified: nil)
      for part in 0..<3 { try await session.write([UInt8](repeating: 7, count: 1 << 20), at: UInt64(part) << 20, to: handle) }
      try await session.finishUpload(handle, modified: nil, mode: nil, durable: true)
    case .download, .downloadFrom:
      let read = Mutex<[UInt8]>([])
      try await session.download(try place("file"), from: operation == .download ? 0 : 5) { (chunk) throws(SyncFailure) in
        let count = read.withLock { bytes in
          bytes += chunk
          return bytes.count
        }
        if count > 4 << 20 { throw SyncFailure(.localChanged, "more than there is", hint: "-") }
      }
      return read.withLock { $0 }
    case .publish: try await session.publish(try place("folder"), as: try place("final"))
    case .replace: try await session.replace(try place("file"), over: try place("other"))
    case .removeFile: try await session.removeFile(try place("file"))
    case .removeTree: try await session.removeTree(try place("folder"))
    case .freeSpace: _ = try await session.freeSpace(at: RemotePath(root: HostileWebDAV.root))
    case .setModified: try await session.setModified(try place("file"), to: 1)
    case .connect: break
    }
    return nil
  }

  /// A session, with what the operations need. The deadline is short, and the machine may be busy.
  private func prepared(_ driver: WebDAVDriver) async throws -> any TransportSession {
    for attempt in 1... {
      do {
        let session = try await driver.connect()
        try await session.put(Self.stored, at: try place("file"), modified: nil, mode: nil, durable: true)
        try await session.makeFolder(try place("folder"))
        return session
      } catch { if attempt == 20 { throw error } }
    }
    throw CancellationError()
  }

  private func outcome(_ operation: Operation, _ behaviour: HostileBehaviour) async throws -> Outcome {
    try await HostileWebDAV.with { server in
      let driver = driver(server)
      var session: (any TransportSession)?
      if operation != .connect {
        session = try await prepared(driver)
      }
      server.arm([HostileWebDAV.Trap(operation.methods, behaviour.answer)])
      let start = ContinuousClock.now
      var outcome: Outcome
      func seconds() -> Double { (ContinuousClock.now - start) / .seconds(1) }
      do {
        if let session {
          let bytes = try await perform(operation, session)
          outcome = Outcome(operation: operation, error: nil, seconds: seconds(), bytes: bytes)
        } else {
          session = try await driver.connect()
          outcome = Outcome(operation: operation, error: nil, seconds: seconds())
        }
      } catch let error as TransportError {
        outcome = Outcome(operation: operation, error: error, seconds: seconds())
      }
      await session?.close()
      return outcome
    }
  }

  private func check(_ behaviour: HostileBehaviour) async throws {
    let outcomes = try await withThrowingTaskGroup(of: Outcome.self) { group in
      for operation in Operation.allCases { group.addTask { try await outcome(operation, behaviour) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    for outcome in outcomes {
      let words = "\(behaviour): \(outcome.operation.rawValue): \(outcome.error.map { "\($0)" } ?? "success") after \(outcome.seconds) s"
      // Ten times the deadline of a request, and then some for a machine that is busy.
      #expect(outcome.seconds < 15 * Patience.factor, "\(words)")
      // A free space that cannot be told is none.
      let mustFail =
        switch behaviour.verdict {
        case .failure: outcome.operation != .freeSpace
        case .unreadable: outcome.operation.reads && outcome.operation != .freeSpace
        case .any: false
        }
      if mustFail { #expect(outcome.error != nil, "\(words)") }
      // Nothing false is believed: what was read is what was stored, or whoever hashes it sees that it is not.
      if let bytes = outcome.bytes, outcome.operation == .download, behaviour.verdict == .failure {
        #expect(bytes == Self.stored, "\(words)")
      }
      for secret in [Self.token, "secret@", "/steal", "root:x:"] { #expect(!"\(words)".contains(secret), "\(words)") }
      #expect(!words.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x202e }, "\(words.debugDescription)")
    }
    let slowest = outcomes.map(\.seconds).max() ?? 0
    let kinds = Set(outcomes.map { $0.error?.failure.kind.rawValue ?? "success" }).sorted().joined(separator: " ")
    print("hostile: \(behaviour): \(outcomes.count) operations, slowest \(Int(slowest * 1000)) ms: \(kinds)")
  }

  @Test(.serialized, arguments: HostileBehaviour.framing) func framing(_ behaviour: HostileBehaviour) async throws {
    try await check(behaviour)
  }
  @Test(.serialized, arguments: HostileBehaviour.answers) func answers(_ behaviour: HostileBehaviour) async throws {
    try await check(behaviour)
  }
  @Test(.serialized, arguments: HostileBehaviour.listings) func listings(_ behaviour: HostileBehaviour) async throws {
    try await check(behaviour)
  }

  @Test func noRedirectionIsFollowed() async throws {
    let asked = Mutex<[String]>([])
    try await RawHTTPServer.with({ connection in
      asked.withLock { $0.append(connection.readHead() ?? "a connection") }
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    }) { thief in
      for behaviour in HostileBehaviour.redirections(thief: thief.port) { try await check(behaviour) }
    }
    #expect(asked.withLock { $0 } == [])
  }

  @Test func theTableIsLong() {
    let names = (HostileBehaviour.all + HostileBehaviour.redirections(thief: 1)).map(\.name)
    #expect(names.count >= 90 && Set(names).count == names.count, "\(names.count)")
    print("hostile: \(names.count) behaviours, \(Operation.allCases.count) operations")
  }

  /// Folders in folders without end: neither followed for ever nor taken for a run.
  @Test func aTreeWithoutEndIsNotFollowed() async throws {
    let endless: HostileWebDAV.Answer = { connection, request in
      guard HostileWebDAV.body(of: request, connection) != nil else { return }
      // A trap ends its connection; unsaid, now and then five reuses in a row meet a dead one, and that is what would be reported.
      if request.method == "DELETE" { return _ = connection.send("HTTP/1.1 409 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n") }
      let body = HostileWebDAV.multistatus(
        request.header("Depth") == "1" ? [(request.target, nil), (request.target + "/d", nil)] : [(request.target, nil)])
      connection.send("HTTP/1.1 207 Multi\r\nConnection: close\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)")
    }
    try await HostileWebDAV.with { server in
      let session = try await driver(server).connect()
      server.arm([HostileWebDAV.Trap(["PROPFIND", "DELETE"], endless)])
      let error = await #expect(throws: TransportError.self) { try await session.removeTree(try place("folder")) }
      #expect(error?.failure.kind == .protocol && error?.failure.message.contains("without end") == true, "\(String(describing: error))")
      await session.close()
    }
  }
}
