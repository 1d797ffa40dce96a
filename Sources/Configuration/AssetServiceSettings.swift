import SyncModel

/// One of `asset_services` in `nassync.yaml`: a service that hands out presigned URLs, and what is allowed with the stores behind them.
public struct AssetServiceSettings: WebServerSettings, Hashable, Sendable {
  /// How the log-in at the service is made. At the stores nobody logs in: a URL's own query is all there is.
  public enum Login: String, Hashable, Sendable, CaseIterable {
    /// A token with every request.
    case bearer
    /// Nobody logs in.
    case none
  }

  /// The stores that URLs lead to.
  public struct Stores: Hashable, Sendable {
    /// Hosts that URLs may lead to; nil allows any that a trusted certificate vouches for.
    public var hosts: [String]?
    /// A PEM file of the authorities that are trusted in place of the system's.
    public var caFile: String?
    /// `sha256//BASE64` of the stores' public key, several joined by `;`: asked for beside a certificate that holds.
    public var pin: String?
    /// Whether URLs may be plain `http`, to this machine and to `insecureHost`.
    public var insecure: Bool
    /// The host that `insecure` is meant for, where that is not this machine.
    public var insecureHost: String?
    /// Whether stores are tried with a wrong body first, see `PresignedUploader.Options.provesStores`.
    public var prove: Bool

    /// The defaults allow `https` to any host.
    public init(
      hosts: [String]? = nil, caFile: String? = nil, pin: String? = nil, insecure: Bool = false, insecureHost: String? = nil,
      prove: Bool = false
    ) {
      self.hosts = hosts
      self.caFile = caFile
      self.pin = pin
      self.insecure = insecure
      self.insecureHost = insecureHost
      self.prove = prove
    }
  }

  /// What the configuration and the command line call it.
  public var name: String
  /// Below which `assets` lies: `https://assets.lab.example/api`.
  public var url: String
  /// How the log-in is made.
  public var login: Login
  /// Where the token is.
  public var token: SecretReference?
  /// A PEM file of the authorities that are trusted in place of the system's.
  public var caFile: String?
  /// `sha256//BASE64` of the service's public key, several joined by `;`: asked for beside a certificate that holds.
  public var pin: String?
  /// Whether plain `http` may be spoken.
  public var insecure: Bool
  /// The host that `insecure` is meant for, where that is not this machine.
  public var insecureHost: String?
  /// Whether each component's SHA-256 goes with the registration; files are read twice then.
  public var signsDigests: Bool
  /// Components on their way at once: 1…16.
  public var connections: Int
  /// Seconds for connecting, TLS included; of the service and of the stores.
  public var connectTimeout: Double
  /// Seconds without any progress after which a request counts as dead; of the service and of the stores.
  public var progressTimeout: Double
  /// Where the URLs may lead.
  public var stores: Stores

  /// A service built in code. `ServiceConfiguration.validate()` checks it.
  public init(
    name: String, url: String, login: Login = .bearer, token: SecretReference? = nil, caFile: String? = nil, pin: String? = nil,
    insecure: Bool = false, insecureHost: String? = nil, signsDigests: Bool = false, connections: Int = 4, connectTimeout: Double = 15,
    progressTimeout: Double = 60, stores: Stores = Stores()
  ) {
    self.name = name
    self.url = url
    self.login = login
    self.token = token
    self.caFile = caFile
    self.pin = pin
    self.insecure = insecure
    self.insecureHost = insecureHost
    self.signsDigests = signsDigests
    self.connections = connections
    self.connectTimeout = connectTimeout
    self.progressTimeout = progressTimeout
    self.stores = stores
  }

  /// The parts of `url`; nil where it is no address of a service.
  public var address: WebAddress? { WebAddress(url) }
}

extension AssetServiceSettings {
  /// Everything that is wrong with the values, by key: for files and for code alike.
  var problems: [(key: String, message: String, hint: String)] {
    var found = serverProblems(
      "url", "this is no address of a service",
      hint: "write it like https://assets.lab.example/api; the token has a key of its own (`token`)")
    switch login {
    case .bearer:
      if token == nil {
        found.append(("token", "the token is missing", "name its place: `token: file:assets-token`, mode 0600; or write `auth: none`"))
      }
    case .none:
      if token != nil { found.append(("auth", "`none` and a token contradict each other", "remove one of them")) }
    }
    if let problem = PublicKeyPin.problem(stores.pin, "stores.pin") { found.append(problem) }
    if let hosts = stores.hosts {
      if hosts.isEmpty {
        found.append(("stores.hosts", "no host at all may be written to", "name the stores' hosts, or remove the line for any"))
      }
      for (index, host) in hosts.enumerated() where !SettingRules.isHost(host) {
        found.append(("stores.hosts[\(index)]", "this is no host name and no address", "write the name alone, without `https://` and port"))
      }
    }
    if let host = stores.insecureHost, !stores.insecure {
      found.append(
        ("stores.insecure_host", "`\(host)` is named, and plain `http` is not allowed", "write `insecure: true` beside it, or remove it"))
    }
    if stores.prove, !signsDigests {
      found.append(
        ("stores.prove", "a store can be tried only where URLs are bound to a SHA-256", "write `signs_digests: true`, or remove the line"))
    }
    return found
  }

  /// What a service may be called: it is typed on the command line.
  static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count) && text.utf8.first != 0x2d
      && text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x5f
      }
  }

  static let noName = "this is no name of an asset service"
  static let nameHint = "letters, digits, `-` and `_`, at most 64"

  /// Two services of one address could not be told apart in the queue file.
  static func sameAddress(_ services: [AssetServiceSettings]) -> (index: Int, other: String)? {
    for (index, service) in services.enumerated() {
      guard let address = service.address else { continue }
      for earlier in services[..<index] where earlier.address?.isSame(as: address) == true { return (index, earlier.name) }
    }
    return nil
  }
}
