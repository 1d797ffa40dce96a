import Configuration
import Foundation
import SyncModel
import Transport
import TransportHTTP

/// An asset service over HTTP and JSON, as `Specs/assets.md` and `Specs/schemas/asset-service.schema.json` describe it:
///
/// | | |
/// |---|---|
/// | `POST {url}/assets` with `Idempotency-Key` | registers |
/// | `POST {url}/assets/{id}/urls` | new URLs |
/// | `POST {url}/assets/{id}/finalize` | makes it ready |
/// | `GET {url}/assets/{id}` | what is there, asked where `finalize` says 409 |
public actor HTTPAssetService: AssetService {
  /// How the service is reached.
  public struct Settings: Hashable, Sendable {
    /// Below which `assets` lies: `https://assets.lab.example/api`.
    public var url: String
    /// Where the bearer token is; nil sends none.
    public var token: SecretReference?
    /// A PEM file of the authorities that are trusted in place of the system's.
    public var caFile: String?
    /// `sha256//BASE64` of the service's public key, several joined by `;`: asked for beside a certificate that holds.
    public var pin: String?
    /// Whether plain `http` may be spoken, with this machine and with `insecureHost`.
    public var insecure: Bool
    /// The host that `insecure` is meant for, where that is not this machine.
    public var insecureHost: String?
    /// Whether each component's SHA-256 goes with the registration.
    public var signsDigests: Bool
    /// Seconds for connecting, TLS included.
    public var connectTimeout: Double
    /// Seconds without any progress after which a request counts as dead.
    public var progressTimeout: Double

    /// The defaults suit a service on the Internet.
    public init(
      url: String, token: SecretReference? = nil, caFile: String? = nil, pin: String? = nil, insecure: Bool = false,
      insecureHost: String? = nil,
      signsDigests: Bool = false, connectTimeout: Double = 15, progressTimeout: Double = 60
    ) {
      self.url = url
      self.token = token
      self.caFile = caFile
      self.pin = pin
      self.insecure = insecure
      self.insecureHost = insecureHost
      self.signsDigests = signsDigests
      self.connectTimeout = connectTimeout
      self.progressTimeout = progressTimeout
    }
  }

  /// Its address, without a trailing `/`.
  public nonisolated let name: String
  /// As set.
  public nonisolated let signsDigests: Bool
  /// The longest answer that is taken, bytes: 4,096 URLs of 2 KiB.
  static let answerLimit = 8 << 20

  private let settings: Settings
  private let root: String
  private let http: HTTPSettings
  private var client: HTTPClient?

  /// Connects nowhere yet.
  /// - Throws: `SyncFailure` of kind `misconfigured` for an address that is none, or plain `http` that was not allowed.
  public init(_ settings: Settings) throws(SyncFailure) {
    guard let address = WebAddress(settings.url) else {
      throw SyncFailure(
        .misconfigured, "\(PresignedURL.shown(settings.url)) is no address of a service",
        hint: "Write it like https://assets.lab.example/api, without account and query.")
    }
    guard address.isEncrypted || (settings.insecure && (address.isLoopback || settings.insecureHost == address.host)) else {
      throw SyncFailure(
        .misconfigured, "\(PresignedURL.shown(settings.url)) is plain `http`: everybody on the way could read the token and the URLs",
        hint: "Write https; `insecure` allows this machine, and with `insecureHost` one host by its name.")
    }
    self.settings = settings
    let origin = HTTPOrigin(scheme: address.isEncrypted ? .https : .http, host: address.host, port: address.port)
    root = PercentEncoding.path(address.path.utf8)
    name = origin.text + root
    signsDigests = settings.signsDigests
    let token = settings.token
    http = HTTPSettings(
      origin: origin, user: token == nil ? nil : "the token", caFile: settings.caFile, pin: settings.pin,
      allowsPlainHTTP: !address.isEncrypted, connections: 2, connectTimeout: .seconds(settings.connectTimeout),
      progressTimeout: .seconds(settings.progressTimeout),
      credentials: { () throws(SyncFailure) in try Self.credentials(token) })
  }

  private static func credentials(_ token: SecretReference?) throws(SyncFailure) -> HTTPCredentials {
    guard let token else { return .none }
    do throws(SecretReference.Failure) {
      return .bearer(token: try token.resolve(environment: ProcessInfo.processInfo.environment))
    } catch {
      throw SyncFailure(.misconfigured, displayText("\(error)"), hint: "The token of the asset service is kept there.")
    }
  }

  /// Ends its connections. A later call opens new ones.
  public func close() async {
    await client?.close()
    client = nil
  }

  /// Whether the service answers and takes the token: it is asked for an asset that it does not have. Nothing is changed there.
  /// - Throws: `SyncFailure`, as the other calls.
  public func check() async throws(SyncFailure) {
    let answer = try await ask(
      "GET", path("nassync-check-\(UUID().uuidString.lowercased())"), Message.Nothing?.none, key: nil, limit: 1 << 20)
    switch answer.status {
    case 404, 410: return
    case 200..<300:
      throw SyncFailure(
        .misconfigured, "the service at \(http.origin) shows an asset that does not exist", hint: "Look whether `url` leads to the service."
      )
    default: throw refusal(answer, "say whether it has an asset")
    }
  }

  // MARK: - The calls

  /// `POST {url}/assets`.
  public func register(_ registration: AssetRegistration) async throws(SyncFailure) -> AssetGrant {
    let body = Message.Registration(
      asset_type: registration.assetType,
      components: registration.components.map {
        .init(name: $0.name, size: $0.size, content_type: $0.contentType, sha256: $0.sha256?.hex)
      })
    let answer = try await ask("POST", "/assets", body, key: registration.idempotencyKey, limit: Self.answerLimit)
    guard answer.isSuccess else { throw refusal(answer, "register the asset") }
    return try Self.grant(answer, asset: nil)
  }

  /// `POST {url}/assets/{id}/urls`.
  public func renew(asset: String, components: [String]) async throws(SyncFailure) -> AssetGrant {
    let answer = try await ask(
      "POST", path(asset) + "/urls", Message.Renewal(components: components), key: nil, limit: Self.answerLimit)
    if answer.status == 410 { return AssetGrant(asset: asset, state: .abandoned, uploads: []) }
    // Why there are none any more: the asset says.
    if answer.status == 409 {
      let record = try await record(of: asset)
      if record.state != .pending { return AssetGrant(asset: record.asset, state: record.state, uploads: []) }
    }
    guard answer.isSuccess else { throw refusal(answer, "give new URLs for \(displayText(asset))") }
    return try Self.grant(answer, asset: asset)
  }

  /// `POST {url}/assets/{id}/finalize`, and where that says 409 a look at what is there.
  public func finalize(asset: String, components: [SentComponent]) async throws(SyncFailure) -> AssetRecord {
    let body = Message.Finalization(
      components: components.map { .init(name: $0.name, size: $0.size, sha256: $0.sha256.hex, etag: $0.etag) })
    let answer = try await ask("POST", path(asset) + "/finalize", body, key: nil, limit: Self.answerLimit)
    if answer.status == 410 { return AssetRecord(asset: asset, state: .abandoned) }
    if answer.status == 409 {
      let record = try await record(of: asset)
      guard record.state != .pending else { throw refusal(answer, "finalize \(displayText(asset))") }
      guard record.state != .ready || record.components != nil else {
        throw SyncFailure(
          .remoteConflict, "the service says that \(displayText(asset)) is ready already, and not with which components",
          hint: "Look at the asset there: whether it is what was sent from here cannot be seen.")
      }
      return record
    }
    guard answer.isSuccess else { throw refusal(answer, "finalize \(displayText(asset))") }
    return try Self.record(answer, asset: asset)
  }

  private func record(of asset: String) async throws(SyncFailure) -> AssetRecord {
    let answer = try await ask("GET", path(asset), Message.Nothing?.none, key: nil, limit: Self.answerLimit)
    if answer.status == 410 { return AssetRecord(asset: asset, state: .abandoned) }
    guard answer.isSuccess else { throw refusal(answer, "show \(displayText(asset))") }
    return try Self.record(answer, asset: asset)
  }

  private func path(_ asset: String) -> String { "/assets/" + PercentEncoding.segment(asset.utf8) }

  // MARK: - HTTP

  private func ask(
    _ method: String, _ path: String, _ body: (some Encodable & Sendable)?, key: String?, limit: Int
  ) async throws(SyncFailure) -> HTTPResponse {
    var headers: [(name: String, value: String)] = [("Accept", "application/json")]
    if let key { headers.append(("Idempotency-Key", key)) }
    var content = HTTPRequest.Body.none
    if let body {
      headers.append(("Content-Type", "application/json"))
      do { content = .bytes(Array(try JSONEncoder().encode(body))) } catch {
        throw SyncFailure(.local, "the request to \(name) cannot be written: \(error)", hint: "Report this.", retry: false)
      }
    }
    let request = HTTPRequest(method, root + path, headers: headers, body: content, bodyLimit: limit)
    let client = client ?? HTTPClient(settings: http)
    let isNew = self.client == nil
    self.client = client
    let result = await withTaskCancellationHandler { () async -> Result<HTTPResponse, TransportError> in
      do throws(TransportError) {
        // Who comes meanwhile finds the client; it works in the order of its calls, so it is open by then.
        if isNew { try await client.open() }
        return .success(try await client.perform(request))
      } catch { return .failure(error) }
    } onCancel: {
      client.interrupt()
    }
    switch result {
    case .success(let response): return response
    case .failure(let error):
      if error.sessionLost, self.client === client { self.client = nil }
      throw error.assetFailure("the service")
    }
  }

  private func refusal(_ answer: HTTPResponse, _ action: String) -> SyncFailure {
    let words = "the service at \(http.origin) would not \(action) (HTTP \(answer.status))\(Self.reason(answer))"
    switch answer.status {
    case 401, 403: return SyncFailure(.auth, words, hint: "Look at the token and what it is allowed to do.")
    case 404, 405:
      return SyncFailure(
        .misconfigured, words, hint: "Look at the service's `url`; an asset that was removed there is sent anew after `abandon`.")
    case 409: return SyncFailure(.remoteConflict, words, hint: "Look at the asset at the service.")
    case 408, 429, 500...599: return SyncFailure(.network, words, hint: "It is tried again; look at the service's log.")
    case 300..<400:
      return SyncFailure(.misconfigured, words, hint: "No redirection is followed: write the address that answers as `url`.")
    case 400..<500: return SyncFailure(.misconfigured, words, hint: "Look at the service's log.")
    default: return SyncFailure(.protocol, words, hint: "It is tried again; look at the service's log.")
    }
  }

  /// The service's own words, as far as they are short.
  private static func reason(_ answer: HTTPResponse) -> String {
    guard answer.body.count <= 16 * 1024,
      let message = try? JSONDecoder().decode(Message.Refusal.self, from: Data(answer.body)),  // no reason then
      let text = message.message ?? message.detail ?? message.error, !text.isEmpty
    else { return "" }
    return ": " + PresignedURL.scrubbed(displayText(of: text.utf8.prefix(200)))
  }

  // MARK: - JSON

  private static func grant(_ answer: HTTPResponse, asset: String?) throws(SyncFailure) -> AssetGrant {
    let message = try decode(Message.Grant.self, answer)
    let common = try moment(message.expires_at)
    var uploads: [(component: String, target: UploadTarget)] = []
    for upload in message.uploads ?? [] {
      let headers = (upload.headers ?? [:]).sorted { $0.key < $1.key }.map { (name: $0.key, value: $0.value) }
      uploads.append(
        (upload.name, UploadTarget(url: upload.url, headers: headers, expiresAt: try moment(upload.expires_at) ?? common)))
    }
    return AssetGrant(asset: message.asset_id, state: message.state ?? .pending, uploads: uploads)
  }

  private static func record(_ answer: HTTPResponse, asset: String) throws(SyncFailure) -> AssetRecord {
    let message = try decode(Message.Record.self, answer)
    var components: [AssetRecord.Component]?
    if let listed = message.components {
      var known: [AssetRecord.Component] = []
      for component in listed {
        let digest = component.sha256.flatMap { ContentDigest(hex: $0) }
        guard (component.sha256 == nil) == (digest == nil) else { throw nonsense("a SHA-256 that is none") }
        known.append(AssetRecord.Component(name: component.name, size: component.size, sha256: digest))
      }
      components = known
    }
    return AssetRecord(asset: message.asset_id, state: message.state, components: components)
  }

  private static func decode<Value: Decodable>(_ type: Value.Type, _ answer: HTTPResponse) throws(SyncFailure) -> Value {
    // What the decoder says is not shown: it quotes the answer, and URLs are in it.
    do { return try JSONDecoder().decode(type, from: Data(answer.body)) } catch {
      throw nonsense("an answer that is not what was asked for")
    }
  }

  private static func moment(_ text: String?) throws(SyncFailure) -> Date? {
    guard let text else { return nil }
    for fractional in [false, true] {
      let style = Date.ISO8601FormatStyle(includingFractionalSeconds: fractional)
      if let date = try? style.parse(text) { return date }  // the other form is tried
    }
    throw nonsense("a time that is not of ISO 8601")
  }

  private static func nonsense(_ what: String) -> SyncFailure {
    SyncFailure(
      .protocol, "the service gave \(what)", hint: "Compare it with Specs/schemas/asset-service.schema.json; it is tried again.")
  }

  /// The bodies, with the keys as they are on the wire.
  private enum Message {
    struct Nothing: Encodable {}

    struct Registration: Encodable {
      struct Component: Encodable {
        let name: String
        let size: UInt64
        let content_type: String
        let sha256: String?
      }
      let asset_type: String
      let components: [Component]
    }

    struct Renewal: Encodable { let components: [String] }

    struct Finalization: Encodable {
      struct Component: Encodable {
        let name: String
        let size: UInt64
        let sha256: String
        let etag: String?
      }
      let components: [Component]
    }

    struct Grant: Decodable {
      struct Upload: Decodable {
        let name: String
        let url: String
        let headers: [String: String]?
        let expires_at: String?
      }
      let asset_id: String
      let state: AssetState?
      let expires_at: String?
      let uploads: [Upload]?
    }

    struct Record: Decodable {
      struct Component: Decodable {
        let name: String
        let size: UInt64?
        let sha256: String?
      }
      let asset_id: String
      let state: AssetState
      let components: [Component]?
    }

    struct Refusal: Decodable {
      let message: String?
      let detail: String?
      let error: String?
    }
  }
}
