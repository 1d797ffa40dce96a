import Foundation
import Synchronization

/// A small asset service and the store that its URLs lead to, on one loopback port, as `Specs/assets.md` describes them. The store takes a
/// `PUT` whose query carries the right signature; the service finishes an asset whose components are all there with the right sizes.
public final class AssetServer: Sendable {
  /// A request, read whole.
  public struct Request: Sendable {
    /// `PUT`.
    public let method: String
    /// Percent-decoded, without the query.
    public let path: String
    /// After the `?`, as it came.
    public let query: String
    /// Names in lower case.
    public let headers: [String: String]
    /// All of it.
    public let body: [UInt8]

    /// The body as JSON; empty where it is none.
    public var json: [String: Any] {
      let value = try? JSONSerialization.jsonObject(with: Data(body))  // a test that sends no JSON gets none
      return value as? [String: Any] ?? [:]
    }
  }

  /// An answer.
  public struct Reply: Sendable {
    /// HTTP's.
    public var status: Int
    /// Whole lines.
    public var headers: [String]
    /// Text, or empty.
    public var body: String

    /// An answer.
    public init(_ status: Int, _ body: String = "", headers: [String] = []) {
      self.status = status
      self.body = body
      self.headers = headers
    }
  }

  /// An asset as the service knows it.
  public struct Asset: Sendable {
    /// The service's name of it.
    public var id: String
    /// As registered.
    public var type: String
    /// `pending`, `ready`, `abandoned`.
    public var state = "pending"
    /// Names and sizes of the registration.
    public var components: [String: Int] = [:]
    /// SHA-256 of the registration, where it was given.
    public var registered: [String: String] = [:]
    /// SHA-256 of the finalization.
    public var digests: [String: String] = [:]
    /// What the store has.
    public var objects: [String: [UInt8]] = [:]
    /// How often each was put.
    public var puts: [String: Int] = [:]
    /// How often it was finalized.
    public var finalized = 0
    /// How often somebody asked to finalize it.
    public var finalizations = 0
  }

  private struct State {
    var assets: [String: Asset] = [:]
    var keys: [String: String] = [:]
    var registrations = 0
    var renewals = 0
    var oldest = 1
    var newest = 1
    var requests: [Request] = []
    var bodyBytes = 0
  }

  private let state = Mutex(State())
  private let answer = Mutex<@Sendable (Request) -> Reply?>({ _ in nil })
  private let place = Mutex<(@Sendable (String, String) -> [String: Any])?>(nil)
  private let ports = Mutex<UInt16>(0)

  /// What a right signature is; nothing that the program prints or keeps may contain it.
  public let secret = "S1gnature\(UInt64.random(in: 0 ... .max))"
  /// What the bearer token must be.
  public let token = "T0ken\(UInt64.random(in: 0 ... .max))"
  /// The port it listens on.
  public var port: UInt16 { ports.withLock { $0 } }
  /// The service's address.
  public var url: String { "http://127.0.0.1:\(port)/api" }

  /// Runs a server for as long as a body runs.
  public static func with<Result>(
    isolation: isolated (any Actor)? = #isolation, _ body: (AssetServer) async throws -> Result
  ) async throws -> Result {
    let server = AssetServer()
    return try await RawHTTPServer.with({ server.serve($0) }) { raw in
      server.ports.withLock { $0 = raw.port }
      return try await body(server)
    }
  }

  private init() {}

  // MARK: What a test sees and says

  /// By id.
  public var assets: [Asset] { state.withLock { $0.assets.values.sorted { $0.id < $1.id } } }
  /// How often somebody registered.
  public var registrations: Int { state.withLock { $0.registrations } }
  /// How often somebody asked for new URLs.
  public var renewals: Int { state.withLock { $0.renewals } }
  /// All, in order.
  public var requests: [Request] { state.withLock { $0.requests } }

  /// Bytes of bodies that have come in so far, also of requests that were never read to their end.
  public var bodyBytes: Int { state.withLock { $0.bodyBytes } }

  /// Answers in the server's place; nil leaves it to the server.
  public func override(_ body: @escaping @Sendable (Request) -> Reply?) { answer.withLock { $0 = body } }

  /// Makes the entry of `uploads` for a component in the server's place.
  public func placeUploads(_ body: @escaping @Sendable (_ asset: String, _ component: String) -> [String: Any]) {
    place.withLock { $0 = body }
  }

  /// No URL given out so far works any more.
  public func expireURLs() { state.withLock { $0.oldest = $0.newest + 1 } }

  /// Changes an asset behind the client's back.
  public func change(_ id: String, _ body: (inout Asset) -> Void) {
    state.withLock { state in
      guard var asset = state.assets[id] else { return }
      body(&asset)
      state.assets[id] = asset
    }
  }

  // MARK: HTTP

  private func serve(_ connection: RawHTTPServer.Connection) {
    while let head = connection.readHead() {
      let lines = head.components(separatedBy: "\r\n")
      let words = (lines.first ?? "").split(separator: " ").map(String.init)
      guard words.count == 3 else { return }
      var headers: [String: String] = [:]
      for line in lines.dropFirst() {
        guard let colon = line.firstIndex(of: ":") else { continue }
        headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
      }
      if headers["expect"] != nil { connection.send("HTTP/1.1 100 Continue\r\n\r\n") }
      var body: [UInt8] = []
      let length = headers["content-length"].flatMap { Int($0) } ?? 0
      while body.count < length {
        guard let bytes = connection.read(min(1 << 20, length - body.count)) else { return }
        body += bytes
        state.withLock { $0.bodyBytes += bytes.count }
      }
      let parts = words[1].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      let request = Request(
        method: words[0], path: parts[0].removingPercentEncoding ?? parts[0], query: parts.count > 1 ? parts[1] : "", headers: headers,
        body: body)
      state.withLock { $0.requests.append(request) }
      let reply = answer.withLock { $0 }(request) ?? route(request)
      let lead = ["HTTP/1.1 \(reply.status) X", "Content-Length: \(reply.body.utf8.count)"] + reply.headers
      guard connection.send(lead.joined(separator: "\r\n") + "\r\n\r\n" + reply.body) else { return }
    }
  }

  private func route(_ request: Request) -> Reply {
    let path = request.path.split(separator: "/").map(String.init)
    if path.first == "store", path.count >= 3 { return put(request, path[1], path[2...].joined(separator: "/")) }
    guard request.headers["authorization"] == "Bearer \(token)" else { return Reply(401, #"{"message": "who are you?"}"#) }
    switch (request.method, path.count, path.last) {
    case ("POST", 2, "assets"): return register(request)
    case ("GET", 3, _): return show(path[2])
    case ("POST", 4, "urls"): return renew(request, path[2])
    case ("POST", 4, "finalize"): return finalize(request, path[2])
    default: return Reply(404, #"{"message": "no such place"}"#)
    }
  }

  private func reply(_ status: Int, _ value: [String: Any]) -> Reply {
    let data = try? JSONSerialization.data(withJSONObject: value)  // a fixture's own values can be written
    return Reply(status, String(decoding: data ?? Data(), as: UTF8.self), headers: ["Content-Type: application/json"])
  }

  // MARK: The service

  private func uploads(_ id: String, _ names: [String], _ generation: Int) -> [[String: Any]] {
    names.map { name in
      if let place = place.withLock({ $0 }) { return place(id, name) }
      let path = name.addingPercentEncoding(withAllowedCharacters: .alphanumerics.union(CharacterSet(charactersIn: "/"))) ?? ""
      return ["name": name, "url": "http://127.0.0.1:\(port)/store/\(id)/\(path)?X-Signature=\(secret)&X-Generation=\(generation)"]
    }
  }

  private func register(_ request: Request) -> Reply {
    let components = request.json["components"] as? [[String: Any]] ?? []
    let (asset, generation) = state.withLock { state in
      state.registrations += 1
      state.newest = max(state.newest, state.oldest)
      let key = request.headers["idempotency-key"] ?? UUID().uuidString
      if let id = state.keys[key], let asset = state.assets[id] { return (asset, state.newest) }
      var asset = Asset(id: "asset-\(state.assets.count + 1)", type: request.json["asset_type"] as? String ?? "")
      for component in components {
        let name = component["name"] as? String ?? ""
        asset.components[name] = component["size"] as? Int
        asset.registered[name] = component["sha256"] as? String
      }
      state.keys[key] = asset.id
      state.assets[asset.id] = asset
      return (asset, state.newest)
    }
    return reply(
      201, ["asset_id": asset.id, "state": asset.state, "uploads": uploads(asset.id, asset.components.keys.sorted(), generation)])
  }

  private func renew(_ request: Request, _ id: String) -> Reply {
    let (asset, generation) = state.withLock { state in
      state.renewals += 1
      state.newest = max(state.newest, state.oldest)
      return (state.assets[id], state.newest)
    }
    guard let asset else { return Reply(404, #"{"message": "no such asset"}"#) }
    if asset.state == "abandoned" { return Reply(410) }
    if asset.state == "ready" { return Reply(409) }
    let names = request.json["components"] as? [String] ?? []
    return reply(200, ["asset_id": id, "uploads": uploads(id, names, generation)])
  }

  private func shown(_ asset: Asset) -> [String: Any] {
    let components = asset.components.keys.sorted().map { name -> [String: Any] in
      var entry: [String: Any] = ["name": name, "size": asset.components[name] ?? 0]
      entry["sha256"] = asset.digests[name]
      return entry
    }
    return ["asset_id": asset.id, "state": asset.state, "components": components]
  }

  private func show(_ id: String) -> Reply {
    guard let asset = state.withLock({ $0.assets[id] }) else { return Reply(404) }
    return asset.state == "abandoned" ? Reply(410) : reply(200, shown(asset))
  }

  private func finalize(_ request: Request, _ id: String) -> Reply {
    let components = request.json["components"] as? [[String: Any]] ?? []
    return state.withLock { state in
      guard var asset = state.assets[id] else { return Reply(404) }
      asset.finalizations += 1
      defer { state.assets[id] = asset }
      switch asset.state {
      case "ready": return Reply(409, #"{"message": "already ready"}"#)
      case "abandoned": return Reply(410)
      default: break
      }
      // Where the objects lie in another store, it is that store's to say.
      let isOwnStore = place.withLock { $0 == nil }
      for (name, size) in asset.components where isOwnStore && asset.objects[name]?.count != size {
        return Reply(422, #"{"message": "a component is missing"}"#)
      }
      guard components.count == asset.components.count else { return Reply(422) }
      for component in components { asset.digests[component["name"] as? String ?? ""] = component["sha256"] as? String }
      asset.state = "ready"
      asset.finalized += 1
      return reply(200, shown(asset))
    }
  }

  // MARK: The store

  private func put(_ request: Request, _ id: String, _ name: String) -> Reply {
    let refusal = Reply(403, "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Expired: \(secret)</Message></Error>")
    guard request.method == "PUT" else { return Reply(405) }
    return state.withLock { state in
      let fields = request.query.split(separator: "&").map(String.init)
      let generation = fields.first { $0.hasPrefix("X-Generation=") }.flatMap { Int($0.dropFirst(13)) } ?? 0
      guard fields.contains("X-Signature=\(secret)"), generation >= state.oldest, request.headers["authorization"] == nil,
        state.assets[id] != nil
      else { return refusal }
      state.assets[id]?.puts[name, default: 0] += 1
      // An asset that is ready is immutable.
      guard state.assets[id]?.state == "pending" else { return Reply(409) }
      state.assets[id]?.objects[name] = request.body
      return Reply(200, headers: ["ETag: \"\(request.body.count)-\(name.utf8.count)\""])
    }
  }
}
