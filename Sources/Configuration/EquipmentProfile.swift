import SyncModel

/// One instrument: where its runs lie, how a finished one is known, and where they go.
public struct EquipmentProfile: Hashable, Sendable {
  /// How a finished run is told from one that still grows.
  public enum Completeness: Hashable, Sendable {
    /// A file of this name, relative to the run, is there.
    case sentinel(file: String)
    /// A list of the run's files, relative to the run, is there and holds; nil is the run's own `checksums.sha256`.
    case manifest(file: String?)
    /// Nothing in the run has changed for so many seconds.
    case quiet(seconds: Double)
    /// Only a person or another program says so, by `enqueue`.
    case manual
  }

  /// `^[A-Z][A-Z0-9_]{0,31}$`: also the name of the folder below `localRoot`.
  public var id: String
  /// For people.
  public var label: String
  /// The folder that holds `<id>/<project>/Runs/…`.
  public var localRoot: String
  /// How a finished run is known.
  public var completeness: Completeness
  /// Patterns of names that are not sent, listed in the receipt and never deleted.
  public var exclude: [String]
  /// Where the runs go.
  public var transport: TransportSettings
  /// How fast.
  public var bandwidth: BandwidthProfile

  /// An instrument built in code. `ServiceConfiguration.validate()` checks it.
  public init(
    id: String, label: String? = nil, localRoot: String, completeness: Completeness = .manual, exclude: [String] = [],
    transport: TransportSettings, bandwidth: BandwidthProfile = .unlimited
  ) {
    self.id = id
    self.label = label ?? id
    self.localRoot = localRoot
    self.completeness = completeness
    self.exclude = exclude
    self.transport = transport
    self.bandwidth = bandwidth
  }

  /// Whether a text is an instrument's id: a capital letter, then at most 31 capital letters, digits and underscores.
  public static func isValid(id: String) -> Bool {
    let bytes = Array(id.utf8)
    guard (1...32).contains(bytes.count), (0x41...0x5a).contains(bytes[0]) else { return false }
    return bytes.allSatisfy { (0x41...0x5a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
  }
}

/// The driver and what it needs.
public enum TransportSettings: Hashable, Sendable {
  /// SFTP over SSH.
  case sftp(SFTPDestination)
  /// WebDAV over HTTPS.
  case webdav(WebDAVDestination)
  /// An object store.
  case s3(S3Destination)
}

/// An account on an SFTP server and the folder there.
public struct SFTPDestination: Hashable, Sendable {
  /// Who speaks SSH.
  public enum SSHProgram: String, Hashable, Sendable, CaseIterable {
    /// libssh in this process; libssh2 where an agent logs in.
    case builtin
    /// The system's `ssh` program and its configuration.
    case openssh
  }

  /// A name or an address, without brackets.
  public var host: String
  /// 1…65535.
  public var port: Int
  /// The account.
  public var user: String
  /// A private key, mode 0600; nil where only the agent has one, or ssh's configuration names one.
  public var keyFile: String?
  /// Whether the keys of the SSH agent (`SSH_AUTH_SOCK`) are offered.
  public var agent: Bool
  /// The host keys that are trusted; no other is. Empty with `SSHProgram.openssh`: those that its configuration names.
  public var knownHosts: String
  /// The folder on the server: absolute, or relative to where the server puts the user.
  public var remoteRoot: String
  /// Connections at once: 1…16.
  public var connections: Int
  /// Who speaks SSH.
  public var ssh: SSHProgram
  /// A configuration for `SSHProgram.openssh`, read instead of the user's and the system's; nil reads those.
  public var sshConfig: String?
  /// Seconds for connecting and logging in.
  public var connectTimeout: Double
  /// Seconds without any progress after which a connection counts as dead.
  public var progressTimeout: Double
  /// Seconds between two keepalive messages.
  public var keepalive: Double

  /// A destination built in code. `ServiceConfiguration.validate()` checks it.
  public init(
    host: String, port: Int = 22, user: String, keyFile: String? = nil, agent: Bool = false, knownHosts: String, remoteRoot: String,
    connections: Int = 4, ssh: SSHProgram = .builtin, sshConfig: String? = nil, connectTimeout: Double = 15, progressTimeout: Double = 60,
    keepalive: Double = 15
  ) {
    self.host = host
    self.port = port
    self.user = user
    self.keyFile = keyFile
    self.agent = agent
    self.knownHosts = knownHosts
    self.remoteRoot = remoteRoot
    self.connections = connections
    self.ssh = ssh
    self.sshConfig = sshConfig
    self.connectTimeout = connectTimeout
    self.progressTimeout = progressTimeout
    self.keepalive = keepalive
  }
}
