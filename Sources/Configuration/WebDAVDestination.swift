import SyncModel

/// A folder on a WebDAV server and who logs in there.
public struct WebDAVDestination: Hashable, Sendable {
  /// How the log-in is made.
  public enum Login: String, Hashable, Sendable, CaseIterable {
    /// User and password with every request; over TLS only, unless `insecure` allows otherwise.
    case basic
    /// The password itself does not travel.
    case digest
    /// A token with every request.
    case bearer
    /// Nobody logs in.
    case none
  }

  /// The folder's address: `https://nas01.lab.example/dav/lab`, names percent-encoded where they need it; no user, no password, no query.
  public var url: String
  /// The account; nil with a token, or where nobody logs in.
  public var user: String?
  /// Where the password is.
  public var password: SecretReference?
  /// Where the token is.
  public var token: SecretReference?
  /// How the log-in is made.
  public var login: Login
  /// A PEM file of the authorities that are trusted in place of the system's.
  public var caFile: String?
  /// `sha256//BASE64` of the server's public key, several joined by `;`: asked for beside a certificate that holds.
  public var pin: String?
  /// Whether plain `http` may be spoken.
  public var insecure: Bool
  /// The host that `insecure` is meant for, where that is not this machine.
  public var insecureHost: String?
  /// Connections at once: 1…16.
  public var connections: Int
  /// Seconds for connecting, TLS included.
  public var connectTimeout: Double
  /// Seconds without any progress after which a request counts as dead.
  public var progressTimeout: Double

  /// A destination built in code. `ServiceConfiguration.validate()` checks it.
  public init(
    url: String, user: String? = nil, password: SecretReference? = nil, token: SecretReference? = nil, login: Login = .basic,
    caFile: String? = nil, pin: String? = nil, insecure: Bool = false, insecureHost: String? = nil, connections: Int = 4,
    connectTimeout: Double = 15, progressTimeout: Double = 60
  ) {
    self.url = url
    self.user = user
    self.password = password
    self.token = token
    self.login = login
    self.caFile = caFile
    self.pin = pin
    self.insecure = insecure
    self.insecureHost = insecureHost
    self.connections = connections
    self.connectTimeout = connectTimeout
    self.progressTimeout = progressTimeout
  }

  /// The parts of `url`; nil where it is no address of a folder.
  public var address: WebAddress? { WebAddress(url) }
}

/// An `http` or `https` address of a folder, taken apart.
public struct WebAddress: Hashable, Sendable {
  /// Whether it is `https`.
  public let isEncrypted: Bool
  /// A name or an address, an IPv6 address without its brackets.
  public let host: String
  /// Nil where the scheme's own is meant.
  public let port: UInt16?
  /// Decoded, without a trailing `/`; empty for the server's root.
  public let path: String

  /// Nil for any other text, one with a user, a query or a path that climbs among them.
  public init?(_ text: String) {
    let rest: Substring
    if text.hasPrefix("https://") {
      (isEncrypted, rest) = (true, text.dropFirst(8))
    } else if text.hasPrefix("http://") {
      (isEncrypted, rest) = (false, text.dropFirst(7))
    } else {
      return nil
    }
    guard !rest.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f || $0 == 0x3f || $0 == 0x23 }) else { return nil }
    let authority = rest.prefix { $0 != "/" }
    let name: Substring
    var number: Substring?
    if authority.hasPrefix("[") {
      guard let end = authority.firstIndex(of: "]") else { return nil }
      name = authority[authority.index(after: authority.startIndex)..<end]
      let after = authority[authority.index(after: end)...]
      guard after.isEmpty || after.hasPrefix(":") else { return nil }
      if !after.isEmpty { number = after.dropFirst() }
    } else {
      let parts = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      name = parts[0]
      if parts.count == 2 { number = parts[1] }
      guard !name.contains(":") else { return nil }
    }
    guard SettingRules.isHost(String(name)) else { return nil }
    host = String(name)
    if let number {
      guard let port = UInt16(number), port > 0 else { return nil }
      self.port = port
    } else {
      port = nil
    }
    guard let path = Self.decodedPath(rest.dropFirst(authority.count)) else { return nil }
    self.path = path
  }

  private static func decodedPath(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      let digits = rest.prefix(2)
      guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16), value != 0, value != 0x2f else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    guard let path = String(validating: bytes, as: UTF8.self) else { return nil }
    let segments = path.split(separator: "/")
    guard !segments.contains("."), !segments.contains("..") else { return nil }
    return segments.map { "/" + $0 }.joined()
  }

  /// Whether the host is this machine.
  public var isLoopback: Bool {
    host == "localhost" || host == "::1" || (host.hasPrefix("127.") && host.split(separator: ".").count == 4)
  }
}

extension WebAddress {
  /// What is wrong with speaking to this address without encryption.
  /// - Parameter key: What the address itself is called in the profile.
  func problems(
    key: String, insecure: Bool, insecureHost: String?, pin: String?, caFile: String?
  ) -> [(key: String, message: String, hint: String)] {
    guard !isEncrypted else { return [] }
    var found: [(String, String, String)] = []
    if !insecure {
      found.append((key, "`http` is not encrypted: everybody on the way could read and change runs and log-in", "write https"))
    } else if !isLoopback, insecureHost != host {
      found.append(
        (
          "insecure_host", "plain `http` to another machine is meant for one named host only",
          "write https, or `insecure_host: \(host)` beside `insecure: true` where nobody else can listen"
        ))
    }
    if pin != nil || caFile != nil {
      found.append((pin == nil ? "ca_file" : "pin", "without TLS there is no certificate to check", "write https, or remove the key"))
    }
    return found
  }
}

extension WebDAVDestination {
  /// Everything that is wrong with the values, by key: for files and for code alike.
  var problems: [(key: String, message: String, hint: String)] {
    var found: [(String, String, String)] = []
    if let address {
      found += address.problems(key: "url", insecure: insecure, insecureHost: insecureHost, pin: pin, caFile: caFile)
    } else {
      found.append(
        (
          "url", "this is no address of a folder",
          "write it like https://nas01.lab.example/dav/lab; the account has keys of its own (`user`, `password`)"
        ))
    }
    if let user, !SettingRules.isUser(user) { found.append(("user", "this is no account name", "write the name alone")) }
    switch login {
    case .basic, .digest:
      if user == nil { found.append(("user", "there is no way to log in", "give `user` and `password`, or `token`, or `auth: none`")) }
      if password == nil {
        found.append(("password", "the password is missing", "name its place: `password: file:nas-password`, mode 0600"))
      }
      if token != nil { found.append(("token", "a token is for `auth: bearer`", "remove it, or write `auth: bearer`")) }
    case .bearer:
      if token == nil { found.append(("token", "the token is missing", "name its place: `token: file:nas-token`, mode 0600")) }
      if password != nil { found.append(("password", "a password is for `auth: basic` or `digest`", "remove it")) }
    case .none:
      if password != nil || token != nil { found.append(("auth", "`none` and a secret contradict each other", "remove one of them")) }
    }
    if let pin, !Self.isPin(pin) {
      found.append(("pin", Self.noPin, Self.pinHint))
    }
    return found
  }

  static let noPin = "this is no pin"
  static let pinHint = "write sha256//… as `openssl … | openssl dgst -sha256 -binary | base64` shows it; several joined by `;`"

  static func isPin(_ text: String) -> Bool {
    text.split(separator: ";", omittingEmptySubsequences: false).allSatisfy { part in
      // 32 bytes in Base64.
      part.hasPrefix("sha256//") && part.utf8.count == 52 && part.hasSuffix("=")
        && part.dropFirst(8).dropLast().utf8.allSatisfy {
          (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2b || $0 == 0x2f
        }
    }
  }
}
