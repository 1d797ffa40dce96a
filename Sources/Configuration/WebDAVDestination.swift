import SyncModel

/// A folder on a WebDAV server and who logs in there.
public struct WebDAVDestination: WebServerSettings, Hashable, Sendable {
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

extension WebDAVDestination {
  /// Everything that is wrong with the values, by key: for files and for code alike.
  var problems: [(key: String, message: String, hint: String)] {
    var found = serverProblems(
      "url", "this is no address of a folder",
      hint: "write it like https://nas01.lab.example/dav/lab; the account has keys of its own (`user`, `password`)")
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
    return found
  }
}
