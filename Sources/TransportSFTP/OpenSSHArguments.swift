import SyncModel
import Transport

/// What `ssh` is told. Pure. The command line comes before every configuration file, so what stands here cannot be undone by one.
struct OpenSSHArguments: Sendable {
  /// As `ssh -V` says: 902 for 9.2.
  let version: Int
  /// Ciphers to ask for; nil leaves them to the configuration.
  private(set) var ciphers: String?
  /// The host's true name and port, as the configuration has them; nil where it was not asked.
  private(set) var place: (host: String, port: UInt16)?
  private let settings: SFTPSettings
  private let configurationFile: String?

  /// - Parameters:
  ///   - configurationFile: Read instead of the user's and the system's.
  /// - Throws: `misconfigured`, where a setting could be read as something else than what it is.
  init(settings: SFTPSettings, configurationFile: String?, version: Int) throws(TransportError) {
    self.settings = settings
    self.configurationFile = configurationFile
    self.version = version
    try Self.checkHost(settings.host)
    try Self.checkUser(settings.user)
    for (key, path) in [("key_file", settings.keyFile), ("known_hosts", settings.knownHostsFile), ("ssh_config", configurationFile)] {
      if let path { try Self.checkPath(path, key) }
    }
  }

  /// Letters, digits and what addresses hold: the name goes into ProxyCommands, which a shell reads.
  private static func checkHost(_ host: String) throws(TransportError) {
    let isName = host.utf8.allSatisfy { byte in
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x3a, 0x5f, 0x25: true
      default: false
      }
    }
    guard isName, !host.isEmpty, host.utf8.first != 0x2d else {
      throw .lostConnection(
        .misconfigured, "“\(displayText(host))” is no host name that the ssh program can be given",
        hint: "Write the name or the address alone into `host`.")
    }
  }

  /// As ssh itself does since 9.6: a name can reach a shell by `%r` in the configuration.
  private static func checkUser(_ user: String) throws(TransportError) {
    let bytes = Array(user.utf8)
    let isPlain = bytes.allSatisfy { $0 > 0x20 && $0 != 0x7f && !Array("'`\";&<>|(){}".utf8).contains($0) }
    guard isPlain, !bytes.isEmpty, bytes.first != 0x2d, bytes.last != 0x5c else {
      throw .lostConnection(
        .misconfigured, "“\(displayText(user))” is no account name that the ssh program can be given",
        hint: "Correct `user`, or set `ssh: builtin`.")
    }
  }

  private static func checkPath(_ path: String, _ key: String) throws(TransportError) {
    let isPlain = path.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f && $0 != 0x22 && $0 != 0x5c }
    guard isPlain, !path.contains("${") else {
      throw .lostConnection(
        .misconfigured, "the ssh program cannot be given the path \(displayText(path)) (`\(key)`)",
        hint: "Use a path without quotation marks, backslashes, control characters and “${”.")
    }
  }

  private var configuration: [String] { configurationFile.map { ["-F", $0] } ?? [] }

  /// A path as a value of the configuration's language: in quotation marks, `%` doubled.
  private static func quoted(_ path: String) -> String {
    "\"\(path.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "%%"))\""
  }

  private static func seconds(_ duration: Duration) -> Int64 {
    max(1, duration.components.seconds + (duration.components.attoseconds > 0 ? 1 : 0))
  }

  private var target: [String] {
    var result = ["-l", settings.user]
    // 22 is also what is meant where nothing is said, and then the configuration may know better.
    if settings.port != 22 { result += ["-p", "\(settings.port)"] }
    return result
  }

  /// Prints what the configuration says of the host.
  var query: [String] { configuration + target + ["-G", "--", settings.host] }

  /// Prints what holds where no configuration says anything.
  static let defaults = ["-F", "none", "-G", "--", "localhost"]

  /// Takes over what the configuration says of the host.
  mutating func learn(_ configured: [UInt8], defaults: [UInt8]) {
    ciphers = OpenSSHCiphers.choice(configured: configured, defaults: defaults)
    let host = Self.value(of: "hostname", in: configured)
    let port = Self.value(of: "port", in: configured).flatMap { UInt16($0) }
    if let host, let port { place = (host, port) }
  }

  /// What `ssh -G` says of a keyword.
  static func value(of keyword: String, in output: [UInt8]) -> String? {
    output.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
      .first { $0.hasPrefix(keyword + " ") }.map { String($0.dropFirst(keyword.count + 1)) }
  }

  /// Opens a channel.
  func session(_ purpose: SSHChannelPurpose) -> [String] {
    var options = [
      // Asks nobody anything.
      "BatchMode=yes", "PasswordAuthentication=no", "KbdInteractiveAuthentication=no", "NumberOfPasswordPrompts=0",
      // Only what is known is trusted, and nothing is ever added.
      "StrictHostKeyChecking=yes", "VerifyHostKeyDNS=no", "NoHostAuthenticationForLocalhost=no", "UpdateHostKeys=no",
      // Its own connection, and nothing on it but this channel.
      "ControlMaster=no", "ControlPath=none", "ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no", "ClearAllForwardings=yes",
      "Tunnel=no", "RemoteCommand=none", "RequestTTY=no", "EscapeChar=none", "AddKeysToAgent=no", "Compression=no",
      "ConnectionAttempts=1", "ConnectTimeout=\(Self.seconds(settings.connectTimeout))",
      "ServerAliveInterval=\(max(1, settings.keepAliveSeconds))", "ServerAliveCountMax=3", "TCPKeepAlive=yes",
      // Says who the server is and how far it came; these lines can be told from all others.
      "LogLevel=DEBUG1",
    ]
    if version >= 807 { options += ["StdinNull=no", "ForkAfterAuthentication=no"] }
    // `-s` is a session type itself, and two are refused.
    if version >= 807, purpose != .sftp { options.append("SessionType=default") }
    if !settings.knownHostsFile.isEmpty {
      options += ["UserKnownHostsFile=\(Self.quoted(settings.knownHostsFile))", "GlobalKnownHostsFile=/dev/null"]
      if version >= 805 { options.append("KnownHostsCommand=none") }
    }
    if let ciphers { options.append("Ciphers=\(ciphers)") }
    if let keyFile = settings.keyFile {
      // Not `-i`, which looks for the file under its escaped name.
      options.append("IdentityFile=\(Self.quoted(keyFile))")
      if !settings.useAgent { options.append("IdentitiesOnly=yes") }
    }
    let result = configuration + options.map { "-o\($0)" } + ["-T"] + target
    // Behind `--` nothing is an option any more, neither the host nor the command.
    switch purpose {
    case .sftp: return result + ["-s", "--", settings.host, "sftp"]
    case .exec(let command): return result + ["--", settings.host, command]
    }
  }
}
