import Foundation
import Synchronization

/// A small WebDAV server in memory that is polite until it is told what to do to which requests: then it does that, whatever it is.
public final class HostileWebDAV: Sendable {
  /// A request as far as a behaviour needs it.
  public struct Request: Sendable {
    /// `PUT`.
    public let method: String
    /// As it came, percent-encoded, without a `/` at the end.
    public let target: String
    /// All header lines.
    public let head: String

    /// A header's value.
    public func header(_ name: String) -> String? {
      for line in head.split(separator: "\r\n").dropFirst() {
        let parts = line.split(separator: ":", maxSplits: 1)
        if parts.count == 2, parts[0].lowercased() == name.lowercased() { return parts[1].trimmingCharacters(in: .whitespaces) }
      }
      return nil
    }
  }

  /// Answers a request whose body was not read yet; the connection ends afterwards.
  public typealias Answer = @Sendable (RawHTTPServer.Connection, Request) -> Void

  /// What is done to which requests.
  public struct Trap: Sendable {
    let methods: Set<String>
    let part: String
    let answer: Answer
    /// - Parameters:
    ///   - methods: Which requests.
    ///   - part: A part of their address.
    public init(_ methods: Set<String>, at part: String = "", _ answer: @escaping Answer) {
      self.methods = methods
      self.part = part
      self.answer = answer
    }
  }

  /// The port it listens on.
  public var port: UInt16 { server.withLock { $0?.port ?? 0 } }
  private let server = Mutex<RawHTTPServer?>(nil)
  private enum Node {
    case folder
    case file([UInt8])
    var bytes: [UInt8]? { if case .file(let bytes) = self { bytes } else { nil } }
  }
  private let tree = Mutex<[String: Node]>(["/dav": .folder, "/dav/lab": .folder])
  private let traps = Mutex<[Trap]>([])
  private let heads = Mutex<[String]>([])

  /// The folder that exists from the beginning.
  public static let root = "/dav/lab"

  /// Runs a server for as long as a body runs.
  public static func with<Result>(
    _ traps: [Trap] = [], isolation: isolated (any Actor)? = #isolation, _ body: (HostileWebDAV) async throws -> Result
  ) async throws -> Result {
    let hostile = HostileWebDAV()
    hostile.traps.withLock { $0 = traps }
    return try await RawHTTPServer.with({ hostile.serve($0) }) { server in
      hostile.server.withLock { $0 = server }
      // The server's script holds this, so this must not hold the server for ever.
      defer { hostile.server.withLock { $0 = nil } }
      return try await body(hostile)
    }
  }

  /// From now on.
  public func arm(_ new: [Trap]) { traps.withLock { $0 = new } }

  /// The names of everything that is stored.
  public var names: [String] { tree.withLock { $0.keys.sorted() } }

  /// The heads of all requests.
  public var requests: [String] { heads.withLock { $0 } }

  private func serve(_ connection: RawHTTPServer.Connection) {
    while let head = connection.readHead() {
      heads.withLock { if $0.count < 10_000 { $0.append(head) } }
      let words = head.prefix { $0 != "\r" && $0 != "\r\n" }.split(separator: " ")
      guard words.count == 3 else { return }
      var target = String(words[1])
      while target.count > 1, target.hasSuffix("/") { target.removeLast() }
      let request = Request(method: String(words[0]), target: target, head: head)
      if let trap = traps.withLock({
        $0.first { $0.methods.contains(request.method) && ($0.part.isEmpty || request.target.contains($0.part)) }
      }) {
        return trap.answer(connection, request)
      }
      guard let body = Self.body(of: request, connection) else { return }
      answer(request, body, connection)
    }
  }

  /// Reads a request's body as a decent server does.
  /// - Returns: Nil where the client has gone.
  public static func body(of request: Request, _ connection: RawHTTPServer.Connection) -> [UInt8]? {
    if request.header("Expect")?.lowercased() == "100-continue" { connection.send("HTTP/1.1 100 Continue\r\n\r\n") }
    var left = request.header("Content-Length").flatMap { Int($0) } ?? 0
    var bytes: [UInt8] = []
    while left > 0 {
      guard let more = connection.read(min(left, 1 << 20)) else { return nil }
      bytes += more
      left -= more.count
    }
    return bytes
  }

  private func parent(_ path: String) -> String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }

  private func answer(_ request: Request, _ body: [UInt8], _ connection: RawHTTPServer.Connection) {
    let path = request.target
    var (status, content, headers) = (200, [UInt8](), "")
    tree.withLock { tree in
      let exists = tree.keys.contains(path)
      let parentExists = tree[parent(path)].map { $0.bytes == nil } ?? false
      switch request.method {
      case "MKCOL":
        status = exists ? 405 : parentExists ? 201 : 409
        if status == 201 { tree[path] = .folder }
      case "PUT":
        status = parentExists ? (exists ? 204 : 201) : 409
        if parentExists { tree[path] = .file(body) }
      case "GET":
        if let found = tree[path]?.bytes { content = found } else { status = 404 }
        if let range = request.header("Range"), let start = Int(range.dropFirst(6).dropLast()), start < content.count {
          status = 206
          headers = "Content-Range: bytes \(start)-\(content.count - 1)/\(content.count)\r\n"
          content = Array(content[start...])
        }
      case "DELETE":
        status = exists ? 204 : 404
        for key in tree.keys where key == path || key.hasPrefix(path + "/") { tree[key] = nil }
      case "MOVE":
        let target = request.header("Destination").map { Self.path(of: $0) } ?? ""
        if !exists {
          status = 404
        } else if tree.keys.contains(target), request.header("Overwrite") == "F" {
          status = 412
        } else {
          for (key, value) in tree where key == path || key.hasPrefix(path + "/") {
            tree[key] = nil
            tree[target + key.dropFirst(path.count)] = value
          }
          status = 201
        }
      case "PROPFIND":
        if !exists {
          status = 404
        } else {
          status = 207
          let shown = tree.filter { $0.key == path || (request.header("Depth") == "1" && parent($0.key) == path) }
          content = Array(Self.multistatus(shown.map { ($0.key, $0.value.bytes?.count) }).utf8)
        }
      default: status = 405
      }
    }
    let reason = "HTTP/1.1 \(status) Whatever\r\n\(headers)Content-Length: \(content.count)\r\n\r\n"
    connection.send(status == 204 ? "HTTP/1.1 204 No Content\r\n\r\n" : reason)
    connection.send(content)
  }

  private static func path(of address: String) -> String {
    var path = address.firstRange(of: "://").map { String(address[$0.upperBound...].drop { $0 != "/" }) } ?? address
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    return path
  }

  /// One resource; a folder where there is no size.
  public static func response(_ href: String, size: Int?) -> String {
    let kind = size == nil ? "<D:collection/>" : ""
    return "<D:response><D:href>\(href)\(size == nil ? "/" : "")</D:href><D:propstat><D:prop><D:resourcetype>\(kind)</D:resourcetype>"
      + (size.map { "<D:getcontentlength>\($0)</D:getcontentlength>" } ?? "")
      + "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
  }

  /// A whole answer to a `PROPFIND`.
  public static func multistatus(_ entries: [(String, Int?)]) -> String {
    "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">" + entries.map { response($0, size: $1) }.joined() + "</D:multistatus>"
  }
}
