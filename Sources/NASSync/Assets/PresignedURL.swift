import Configuration
import SyncModel
import TransportHTTP

/// A presigned URL, taken apart and checked before anything is opened. Its query is a secret; `description` leaves it out.
struct PresignedURL: Sendable, CustomStringConvertible {
  let origin: HTTPOrigin
  /// Path and query, byte for byte: the signature covers them.
  let target: String

  /// The longest that is taken, bytes.
  static let limit = 16 * 1024

  /// Which places may be written to.
  struct Rules: Sendable {
    /// Whether plain `http` may be spoken, with this machine and `insecureHost`.
    var insecure = false
    var insecureHost: String?
    /// Hosts that may be written to; nil allows any.
    var hosts: Set<String>?
  }

  /// - Parameter component: For the message.
  /// - Throws: `SyncFailure`: `protocol` where it is no address of a `PUT`, `misconfigured` where `rules` forbid it.
  init(_ text: String, component: String, rules: Rules) throws(SyncFailure) {
    let subject = "the URL for \(displayText(component))"
    let bytes = text.utf8
    // What is not printable ASCII is no URL, and a line end would end the request's first line.
    guard bytes.count <= Self.limit, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x5c && $0 != 0x23 }) else {
      throw Self.refused("\(subject) is too long or has characters that no URL has")
    }
    guard let colon = text.firstRange(of: "://"), ["http", "https"].contains(text[..<colon.lowerBound].lowercased()) else {
      throw Self.refused("\(subject) is no `https` address")
    }
    let scheme = text[..<colon.lowerBound].lowercased()
    let authority = text[colon.upperBound...].prefix { !"/?".contains($0) }
    guard !authority.utf8.contains(UInt8(ascii: "@")) else { throw Self.refused("\(subject) has an account in it") }
    guard let address = WebAddress("\(scheme)://\(authority)") else { throw Self.refused("\(subject) names no host") }
    let rest = text[authority.endIndex...]
    origin = HTTPOrigin(scheme: address.isEncrypted ? .https : .http, host: address.host, port: address.port)
    target = rest.hasPrefix("/") ? String(rest) : "/" + rest
    try Self.check(address, subject, rules)
  }

  private static func check(_ address: WebAddress, _ subject: String, _ rules: Rules) throws(SyncFailure) {
    let host = displayText(address.host)
    if !address.isEncrypted, !(rules.insecure && (address.isLoopback || rules.insecureHost == address.host)) {
      throw SyncFailure(
        .misconfigured, "\(subject) is plain `http` to \(host): everybody on the way could read and change the data",
        hint: "Have the service give `https` URLs; `insecure` allows this machine, and with `insecure_host` one host by its name.")
    }
    if let hosts = rules.hosts, !hosts.contains(address.host.lowercased()) {
      throw SyncFailure(
        .misconfigured, "\(subject) leads to \(host), which is not among the hosts that may be written to",
        hint: "Add the host to the allowed ones where it is right; else look at who answers in the service's place.")
    }
  }

  private static func refused(_ what: String) -> SyncFailure {
    SyncFailure(
      .protocol, what, hint: "Nothing was sent. Look at what the service gives out, and whether it is the right one.", retry: false)
  }

  /// Scheme, host and path.
  var description: String { "\(origin)\(displayText(of: target.utf8.prefix { $0 != 0x3f }))" }

  /// A URL without its query and account, for people; any text will do.
  static func shown(_ url: String) -> String {
    let bare = url.prefix { $0 != "?" && $0 != "#" }
    guard let colon = bare.firstRange(of: "://") else { return "(no URL)" }
    let authority = bare[colon.upperBound...].prefix { $0 != "/" }
    let host = authority.split(separator: "@", omittingEmptySubsequences: false).last ?? ""
    return displayText("\(bare[..<colon.upperBound])\(host)\(bare[authority.endIndex...])")
  }

  /// A text with everything cut off that could be the query of a URL: what a service or a library says in an error may quote one.
  static func scrubbed(_ text: String) -> String {
    text.split(separator: " ", omittingEmptySubsequences: false)
      .map { word in
        guard let mark = word.firstIndex(of: "?"), word[mark...].contains("=") else { return word }
        return word[..<mark] + "?…"
      }
      .joined(separator: " ")
  }
}

extension SyncFailure {
  /// The same without the queries of URLs.
  var scrubbed: SyncFailure {
    SyncFailure(kind, PresignedURL.scrubbed(message), hint: PresignedURL.scrubbed(hint), retry: retry)
  }
}

/// The headers that a service may ask for beside a `PUT`.
enum SignedHeaders {
  /// What belongs to the connection, or would be a credential: these are ours to say or nobody's.
  private static let forbidden: Set<String> = [
    "host", "content-length", "transfer-encoding", "connection", "expect", "te", "trailer", "upgrade", "keep-alive", "authorization",
    "cookie", "proxy-authorization", "proxy-connection", "accept-encoding", "content-encoding",
  ]

  /// - Throws: `SyncFailure` of kind `protocol` for headers that could change what the request is.
  static func check(_ headers: [(name: String, value: String)], component: String) throws(SyncFailure) {
    var names: Set<String> = []
    var size = 0
    for (name, value) in headers {
      size += name.utf8.count + value.utf8.count
      let lower = name.lowercased()
      let isToken =
        !name.isEmpty
        && name.utf8.allSatisfy {
          (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x5f || $0 == 0x2e
        }
      guard isToken, value.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }), !forbidden.contains(lower), names.insert(lower).inserted,
        names.count <= 32, size <= 8 * 1024
      else {
        throw SyncFailure(
          .protocol,
          "the service asks for the header \(displayText(of: name.utf8.prefix(60))) with \(displayText(component)): it is not sent",
          hint: "Only headers of the object itself, such as x-amz-content-sha256, are: once each, on one line.",
          retry: false)
      }
    }
  }

  /// The SHA-256 that the URL's signature binds the body to; nil where it binds it to none.
  static func sealedDigest(_ headers: [(name: String, value: String)]) -> ContentDigest? {
    headers.first { $0.name.lowercased() == "x-amz-content-sha256" }.flatMap { ContentDigest(hex: $0.value) }
  }
}
