import Foundation
import Glibc
import Synchronization

/// Stands between a client and a real web server on 127.0.0.1, sees every request, and ends connections where a test wants it to: before the
/// server has heard of a request, or after it has carried it out and before the client hears of that.
///
/// Each connection carries one request. Bytes pass as they are but for `Connection` and `Expect`, which no signature covers.
public final class HTTPRelay: Sendable {
  /// A request that came.
  public struct Request: Sendable, CustomStringConvertible {
    /// Counted from 1, in the order in which the requests came.
    public let number: Int
    /// `PUT`.
    public let method: String
    /// With the query, as it came.
    public let target: String
    /// The whole head.
    public let head: String
    /// What the server answered; nil where nothing was answered, or nothing yet.
    public var status: Int?

    /// The path, decoded.
    public var path: String { String(target.prefix { $0 != "?" }).removingPercentEncoding ?? target }
    /// The query, as it came.
    public var query: String { String(target.drop { $0 != "?" }.dropFirst()) }
    /// Whether it writes or removes anything.
    public var changes: Bool { !["GET", "HEAD", "PROPFIND", "OPTIONS"].contains(method) }
    /// For a failing test.
    public var description: String { "\(number) \(method) \(target) \(status.map(String.init) ?? "-")" }
  }

  /// What becomes of a request.
  public enum Fate: Sendable {
    case pass
    /// The connection ends; the server never hears of it.
    case cutBefore
    /// The server carries it out; the connection ends without its answer.
    case cutAfter
    /// These bytes are answered in the server's place.
    case answer(String)
  }

  /// Where it listens.
  public var port: Int { Int(server.port) }
  private let server: RawHTTPServer
  private let seen: Log

  /// Everything that came so far.
  public var requests: [Request] { seen.requests.withLock { $0 } }
  /// Forgets what came so far.
  public func forget() { seen.requests.withLock { $0 = [] } }

  private final class Log: Sendable {
    let requests = Mutex<[Request]>([])
    let count = Atomic<Int>(0)
  }

  /// Runs a relay for as long as a body runs.
  /// - Parameters:
  ///   - target: The server's port.
  ///   - decide: Asked about each request on the connection's own thread; may block.
  public static func with<Result>(
    to target: Int, deciding decide: @escaping @Sendable (Request) -> Fate = { _ in .pass }, isolation: isolated (any Actor)? = #isolation,
    _ body: (HTTPRelay) async throws -> Result
  ) async throws -> Result {
    let log = Log()
    return try await RawHTTPServer.with({ relay($0, to: target, decide, log) }) { server in
      try await body(HTTPRelay(server, log))
    }
  }

  private init(_ server: RawHTTPServer, _ log: Log) {
    self.server = server
    seen = log
  }

  private static func relay(_ client: RawHTTPServer.Connection, to target: Int, _ decide: (Request) -> Fate, _ log: Log) {
    guard let head = client.readHead() else { return }
    var lines = head.components(separatedBy: "\r\n")
    let words = lines[0].split(separator: " ")
    guard words.count == 3 else { return }
    let number = log.count.add(1, ordering: .relaxed).newValue
    let request = Request(number: number, method: String(words[0]), target: String(words[1]), head: head)
    log.requests.withLock { $0.append(request) }
    let fate = decide(request)
    switch fate {
    case .cutBefore: return
    case .answer(let text): return answer(text, to: client, lines)
    case .pass, .cutAfter: break
    }
    guard let server = Socket(to: target) else { return }
    if lines.contains(where: { $0.lowercased() == "expect: 100-continue" }) { client.send("HTTP/1.1 100 Continue\r\n\r\n") }
    lines.removeAll { $0.lowercased().hasPrefix("connection:") || $0.lowercased().hasPrefix("expect:") }
    lines.insert("Connection: close", at: 1)
    guard server.send(Array(lines.joined(separator: "\r\n").utf8)) else { return }
    // Ends with the connection, which this thread ends.
    Thread.detachNewThread {
      while let bytes = client.read(64 << 10), server.send(bytes) {}
      server.endSending()
    }
    var isFirst = true
    while let bytes = server.read() {
      if isFirst {
        let status = String(decoding: bytes.prefix(32), as: UTF8.self).split(separator: " ").dropFirst().first.flatMap { Int($0) }
        log.requests.withLock { requests in
          if let index = requests.firstIndex(where: { $0.number == number }) { requests[index].status = status }
        }
        isFirst = false
      }
      if case .cutAfter = fate { continue }
      guard client.send(bytes) else { break }
    }
  }

  private static func answer(_ text: String, to client: RawHTTPServer.Connection, _ lines: [String]) {
    let length = lines.first { $0.lowercased().hasPrefix("content-length:") }.flatMap { Int($0.drop { $0 != " " }.dropFirst()) } ?? 0
    var got = 0
    while got < length, let bytes = client.read(min(64 << 10, length - got)) { got += bytes.count }
    client.send(text)
  }

  /// A connection to the server. All methods block.
  private final class Socket: Sendable {
    private let descriptor: Int32

    init?(to port: Int) {
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      let descriptor = descriptor
      let status = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
      }
      if status != 0 { return nil }
    }

    func read() -> [UInt8]? {
      var bytes = [UInt8](repeating: 0, count: 64 << 10)
      let got = recv(descriptor, &bytes, bytes.count, 0)
      return got > 0 ? Array(bytes.prefix(got)) : nil
    }

    func send(_ bytes: [UInt8]) -> Bool {
      var rest = bytes[...]
      while !rest.isEmpty {
        let sent = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard sent > 0 else { return false }
        rest = rest.dropFirst(sent)
      }
      return true
    }

    func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }
    deinit { close(descriptor) }
  }
}
