import Synchronization

extension RawHTTPServer {
  /// A request as it came.
  public struct Request: Sendable {
    /// `PUT`.
    public let method: String
    /// With the query.
    public let target: String
    /// By name in lower case.
    public let headers: [String: String]
    /// Of the length that the head names.
    public let body: [UInt8]

    /// The path, as it came.
    public var path: String { String(target.prefix { $0 != "?" }) }
    /// Whether the query has that name.
    public func asks(_ name: String) -> Bool { query.contains { $0 == name || $0.hasPrefix(name + "=") } }
    /// The value in the query, as it came.
    public func value(_ name: String) -> String? {
      query.first { $0.hasPrefix(name + "=") }.map { String($0.dropFirst(name.utf8.count + 1)) }
    }
    private var query: [Substring] { target.drop { $0 != "?" }.dropFirst().split(separator: "&") }
  }

  /// What is answered: whole, or nothing and the end of the connection.
  public enum Answer: Sendable {
    case reply(Int, headers: [String] = [], body: String = "")
    /// The connection ends without an answer.
    case hangUp
    /// No answer, and the connection stays.
    case silence
  }

  /// Runs a server that answers whole requests, for as long as a body runs.
  public static func answering<Result>(
    _ answer: @escaping @Sendable (Request) -> Answer, isolation: isolated (any Actor)? = #isolation,
    _ body: (RawHTTPServer) async throws -> Result
  ) async throws -> Result {
    try await with(
      { connection in
        while let request = Self.read(connection) {
          switch answer(request) {
          case .hangUp: return
          case .silence: return connection.hang()
          case .reply(let status, let headers, let body):
            let isHead = request.method == "HEAD"
            let length = isHead ? [] : ["Content-Length: \(body.utf8.count)"]
            let lines = ["HTTP/1.1 \(status) -"] + headers + length + ["", ""]
            guard connection.send(lines.joined(separator: "\r\n") + (isHead ? "" : body)) else { return }
          }
        }
      }, body)
  }

  private static func read(_ connection: Connection) -> Request? {
    guard let head = connection.readHead() else { return nil }
    let lines = head.split(separator: "\r\n")
    let words = lines.first?.split(separator: " ") ?? []
    guard words.count == 3 else { return nil }
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2 { headers[parts[0].lowercased()] = String(parts[1].drop { $0 == " " }) }
    }
    var body: [UInt8] = []
    let length = headers["content-length"].flatMap { Int($0) } ?? 0
    while body.count < length {
      guard let more = connection.read(min(65_536, length - body.count)) else { return nil }
      body += more
    }
    return Request(method: String(words[0]), target: String(words[1]), headers: headers, body: body)
  }
}
