import SyncModel
import Transport

/// A server: scheme, host and port. Everything that is asked of one client goes there.
package struct HTTPOrigin: Hashable, Sendable, CustomStringConvertible {
  /// The two schemes there are.
  package enum Scheme: String, Hashable, Sendable { case http, https }

  package let scheme: Scheme
  /// A name or an address, an IPv6 address without its brackets.
  package let host: String
  /// 1…65535.
  package let port: UInt16

  package init(scheme: Scheme, host: String, port: UInt16? = nil) {
    self.scheme = scheme
    self.host = host
    self.port = port ?? (scheme == .https ? 443 : 80)
  }

  /// `https://nas:8443`, without the port where it is the scheme's own: the form that servers compare a `Destination` header with.
  package var text: String {
    let name = host.contains(":") ? "[\(host)]" : host
    let usual: UInt16 = scheme == .https ? 443 : 80
    return "\(scheme.rawValue)://\(name)\(port == usual ? "" : ":\(port)")"
  }

  /// What stands in the `Host` header.
  package var authority: String { String(text.dropFirst(scheme.rawValue.utf8.count + 3)) }

  /// Safe to show.
  package var description: String { displayText(text) }

  /// Whether the host is this machine: the only place that plain HTTP reaches without crossing a network.
  package var isLoopback: Bool {
    host == "localhost" || host == "::1" || (host.hasPrefix("127.") && host.split(separator: ".").count == 4)
  }
}

/// Who logs in. Resolved from its reference when a session opens, held by libcurl only, never shown.
package enum HTTPCredentials: Sendable {
  case none
  /// Sent with every request.
  case basic(user: String, password: String)
  /// The password itself never travels; the first request of each connection takes a round trip more.
  case digest(user: String, password: String)
  /// RFC 6750.
  case bearer(token: String)
  /// Header lines for each request, made at the moment it is sent: a signature holds for some minutes only.
  case signed(by: @Sendable (HTTPRequest) -> [(name: String, value: String)])
}

/// How one HTTP server is reached. No secret is in it: `credentials` fetches it when it is needed.
package struct HTTPSettings: Sendable {
  package var origin: HTTPOrigin
  /// Called on the client's thread when it opens; may block on a small file.
  package var credentials: @Sendable () throws(SyncFailure) -> HTTPCredentials
  /// Who logs in, for messages; nil where nobody does.
  package var user: String?
  /// A PEM file of authorities that takes the place of the system's.
  package var caFile: String?
  /// `sha256//BASE64`, several joined by `;`: the server's public key must be one of them, beside a certificate that holds.
  package var pin: String?
  /// Plain HTTP is refused unless this is set.
  package var allowsPlainHTTP: Bool
  /// Connections at once; one more is used for short requests while all of these carry streams.
  package var connections: Int
  /// Limit on name resolution, TCP and TLS together.
  package var connectTimeout: Duration
  /// A request on which fewer than 1 KiB moves for this long is given up, and the client with it.
  package var progressTimeout: Duration

  /// The defaults suit a NAS in the same building.
  package init(
    origin: HTTPOrigin, user: String? = nil, caFile: String? = nil, pin: String? = nil, allowsPlainHTTP: Bool = false, connections: Int = 4,
    connectTimeout: Duration = .seconds(15), progressTimeout: Duration = .seconds(60),
    credentials: @escaping @Sendable () throws(SyncFailure) -> HTTPCredentials = { () throws(SyncFailure) in .none }
  ) {
    self.origin = origin
    self.user = user
    self.caFile = caFile
    self.pin = pin
    self.allowsPlainHTTP = allowsPlainHTTP
    self.connections = max(1, connections)
    self.connectTimeout = connectTimeout
    self.progressTimeout = progressTimeout
    self.credentials = credentials
  }
}

extension HTTPSettings {
  /// For `nassync check`, of a server that has answered.
  var encryptionLine: DestinationProbe.Line {
    guard origin.scheme == .https else {
      return DestinationProbe.Line(
        name: "encryption", grade: .limited,
        detail: "the connection is NOT encrypted, as `insecure` allows: names, data and log-in can be read on the way")
    }
    let pinned = pin == nil ? "" : ", and its public key is the pinned one"
    let whom = caFile.map { "the authorities in \(displayText($0))" } ?? "this system's authorities"
    return DestinationProbe.Line(name: "encryption", grade: .good, detail: "the certificate is vouched for by \(whom)\(pinned)")
  }
}
