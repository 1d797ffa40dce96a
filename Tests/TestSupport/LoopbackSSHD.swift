import Foundation
import Glibc

/// A real, private `sshd` on a free port of 127.0.0.1: own temporary folder, own host keys, own user key; it logs in the current user.
///
///     try await LoopbackSSHD.with(.chroot) { server in … }
///
/// Everything is stopped by process id and removed when the body returns or throws.
public actor LoopbackSSHD: StoppableServer {
  /// What kind of account the server offers.
  public enum Style: String, Sendable, CaseIterable {
    /// A normal account: SFTP and shell see the same paths.
    case shell
    /// `ForceCommand internal-sftp`: no shell, same paths.
    case sftpOnly
    /// `ForceCommand internal-sftp` with `ChrootDirectory`: no shell, SFTP sees its own root. Needs root.
    case chroot
    /// SFTP sees its own root, the shell sees the machine's, as on many NAS: one file, two paths. Needs root.
    case otherRoot
    /// A shell account whose `PATH` holds no hashing program.
    case noHashTool
  }

  /// Kinds of host key.
  public enum KeyType: String, Sendable, CaseIterable { case ed25519, ecdsa, rsa }

  /// As asked for.
  public nonisolated let style: Style
  /// The server's own folder: keys, configuration, log.
  public nonisolated let folder: TemporaryFolder
  /// Where it listens.
  public nonisolated let host = "127.0.0.1"
  /// The port it listens on.
  public nonisolated let port: Int
  /// Who logs in: the current user.
  public nonisolated let user: String
  /// The folder on this machine's disk that `remoteRoot` names. Exists, empty.
  public nonisolated let rootFolder: String
  /// What to configure as `remote_root`.
  public nonisolated let remoteRoot: String
  /// The user's private key (ed25519, mode 0600); its public half, with `.pub` appended, is authorised.
  public nonisolated let keyFile: String
  /// A file with the server's true keys, plain.
  public nonisolated let knownHostsFile: String
  /// What the server logs.
  public nonisolated let logFile: String

  private let keyTypes: [KeyType]
  private let configurationFile: String
  private var process: ServerProcess?

  /// Starts a server, runs the body, stops the server and all its sessions, removes its folders.
  /// - Parameters:
  ///   - keyTypes: Its host keys; an RSA key takes a while to make, so there is none unless it is asked for.
  ///   - extraConfiguration: Lines of `sshd_config` put before ours: of each keyword the first one counts.
  public static func with<Result>(
    _ style: Style = .shell, keyTypes: [KeyType] = [.ed25519, .ecdsa], extraConfiguration: [String] = [],
    isolation: isolated (any Actor)? = #isolation, _ body: (LoopbackSSHD) async throws -> Result
  ) async throws -> Result {
    if style == .chroot || style == .otherRoot, geteuid() != 0 {
      throw TemporaryFolder.Failure("an sshd of style \(style.rawValue) needs root: run the tests as root")
    }
    // sshd wants a chroot folder to be root's all the way up, which nothing below /tmp is.
    return try await TemporaryFolder.with(in: style == .chroot ? "/var/lib" : "/tmp") { folder in
      try await started(style, in: folder, keyTypes: keyTypes, extraConfiguration: extraConfiguration).using(body)
    }
  }

  private static func started(
    _ style: Style, in folder: TemporaryFolder, keyTypes: [KeyType], extraConfiguration: [String]
  ) async throws -> LoopbackSSHD {
    // Another test may take the port between our looking and sshd's binding.
    for attempt in 1... {
      let server = try LoopbackSSHD(style, in: folder, port: try freePort(), keyTypes: keyTypes)
      try await server.prepare(extraConfiguration: extraConfiguration)
      do {
        try await server.start()
        return server
      } catch {
        if attempt == 5 { throw error }
      }
    }
    throw TemporaryFolder.Failure("unreachable")
  }

  private init(_ style: Style, in folder: TemporaryFolder, port: Int, keyTypes: [KeyType]) throws {
    guard let account = getpwuid(geteuid()) else { throw TemporaryFolder.Failure("the current user has no account") }
    self.style = style
    self.folder = folder
    self.port = port
    self.keyTypes = keyTypes
    user = String(cString: account.pointee.pw_name)
    keyFile = "\(folder.path)/user_key"
    knownHostsFile = "\(folder.path)/known_hosts"
    logFile = "\(folder.path)/sshd.log"
    configurationFile = "\(folder.path)/sshd_config"
    switch style {
    case .shell, .sftpOnly, .noHashTool:
      rootFolder = "\(folder.path)/root"
      remoteRoot = rootFolder
    case .chroot, .otherRoot:
      rootFolder = "\(folder.path)/volume1/lab"
      remoteRoot = "/lab"
    }
  }

  /// The folder that SFTP shows as `/`, in the styles that have one.
  private nonisolated var jail: String { "\(folder.path)/volume1" }

  // MARK: Setting up

  private func prepare(extraConfiguration: [String]) async throws {
    try FileManager.default.createDirectory(atPath: rootFolder, withIntermediateDirectories: true)
    if geteuid() == 0, mkdir("/run/sshd", 0o755) != 0, errno != EEXIST {
      throw TemporaryFolder.Failure("/run/sshd: \(String(cString: strerror(errno)))")
    }
    if !FileManager.default.fileExists(atPath: keyFile) {
      try await makeKey(keyFile, type: .ed25519)
      try await makeHostKeys()
      try FileManager.default.copyItem(atPath: keyFile + ".pub", toPath: "\(folder.path)/authorized_keys")
    }
    try writeKnownHosts()
    var lines = extraConfiguration
    lines += [
      "ListenAddress 127.0.0.1", "Port \(port)", "PidFile none", "LogLevel VERBOSE", "UsePAM no", "StrictModes no", "PermitRootLogin yes",
      "AuthorizedKeysFile \(folder.path)/authorized_keys", "PasswordAuthentication no", "KbdInteractiveAuthentication no", "UseDNS no",
      "PrintMotd no", "PrintLastLog no", "MaxStartups 200", "MaxSessions 10",
    ]
    lines += keyTypes.map { "HostKey \(hostKeyFile($0))" }
    switch style {
    case .shell: lines += ["Subsystem sftp internal-sftp"]
    case .sftpOnly: lines += ["Subsystem sftp internal-sftp", "ForceCommand internal-sftp"]
    case .chroot:
      lines += ["Subsystem sftp internal-sftp", "ForceCommand internal-sftp", "ChrootDirectory \(jail)"]
      for folder in [folder.path, jail] { try setMode(folder, 0o755) }
    case .otherRoot: lines += ["Subsystem sftp \(try await makeJail())"]
    case .noHashTool: lines += ["Subsystem sftp internal-sftp", "SetEnv SHLVL=5 PATH=\(try makePoorPath())"]
    }
    // So deep down, bash reads none of this machine's own profile, which may take longer than all the rest. Only the first such line counts.
    lines += ["SetEnv SHLVL=5"]
    // A second Subsystem line is an error.
    let ownSubsystem = extraConfiguration.contains { $0.hasPrefix("Subsystem ") }
    let kept = lines.enumerated().filter { $0.offset < extraConfiguration.count || !ownSubsystem || !$0.element.hasPrefix("Subsystem ") }
    try folder.write(kept.map(\.element).joined(separator: "\n") + "\n", to: "sshd_config")
  }

  private func makeKey(_ file: String, type: KeyType) async throws {
    let bits = type == .rsa ? ["-b", "2048"] : []
    let result = try await runProcess(["ssh-keygen", "-q", "-t", type.rawValue, "-N", "", "-C", "test", "-f", file] + bits)
    guard result.status == 0 else { throw TemporaryFolder.Failure("ssh-keygen: \(result.errorText)") }
  }

  private func makeHostKeys() async throws {
    for type in keyTypes {
      let file = hostKeyFile(type)
      for old in [file, file + ".pub"] where FileManager.default.fileExists(atPath: old) { try FileManager.default.removeItem(atPath: old) }
      try await makeKey(file, type: type)
    }
  }

  private nonisolated func hostKeyFile(_ type: KeyType) -> String { "\(folder.path)/host_\(type.rawValue)" }

  private func setMode(_ path: String, _ mode: mode_t) throws {
    guard chmod(path, mode) == 0 else { throw TemporaryFolder.Failure("chmod \(path): \(String(cString: strerror(errno)))") }
  }

  /// Puts sftp-server with the libraries it loads into the jail, so that it runs there after a plain `chroot`, without mounts.
  private func makeJail() async throws -> String {
    let program = "/usr/lib/openssh/sftp-server"
    let listing = try await runProcess(["ldd", program])
    let libraries = listing.text.split(whereSeparator: { " \t\n".contains($0) }).filter { $0.hasPrefix("/") }.map(String.init)
    for file in libraries + [program] {
      let target = file == program ? "\(jail)/sftp-server" : jail + file
      if FileManager.default.fileExists(atPath: target) { continue }
      try FileManager.default.createDirectory(
        at: URL(fileURLWithPath: target).deletingLastPathComponent(), withIntermediateDirectories: true)
      let copied = try await runProcess(["cp", "-L", file, target])
      guard copied.status == 0 else { throw TemporaryFolder.Failure("cp \(file): \(copied.errorText)") }
    }
    try TemporaryFolder(existing: jail).write([], to: "dev/null", mode: 0o666)
    try TemporaryFolder(existing: jail).write("\(user):x:\(geteuid()):\(getegid())::/:/bin/sh\n", to: "etc/passwd")
    return "/usr/sbin/chroot \(jail) /sftp-server"
  }

  /// A folder of links to the few programs a shell needs, none of which hashes.
  private func makePoorPath() throws -> String {
    let bin = "\(folder.path)/bin"
    try FileManager.default.createDirectory(atPath: bin, withIntermediateDirectories: true)
    for name in ["sh", "cat", "xargs", "sync", "ls", "dd", "tr", "head"] where !FileManager.default.fileExists(atPath: "\(bin)/\(name)") {
      try FileManager.default.createSymbolicLink(atPath: "\(bin)/\(name)", withDestinationPath: "/usr/bin/\(name)")
    }
    return bin
  }

  // MARK: Starting and stopping

  /// Starts the server (again) on the same port; returns once it listens.
  public func start() async throws {
    guard process == nil else { return }
    try folder.write([], to: "sshd.log")
    let ready = "Server listening on 127.0.0.1 port \(port)."
    process = try await ServerProcess.start(
      "sshd", ["/usr/sbin/sshd", "-D", "-f", configurationFile, "-E", logFile], environment: ["PATH": "/usr/bin:/bin"], folder: folder,
      until: { [self] in log.contains(ready) }, log: { [self] in log })
  }

  /// Stops the server and every session of it, by process id. Idempotent.
  public func stop() async throws {
    guard let process else { return }
    self.process = nil
    try await process.stop()
  }

  /// Stops the server and starts it with newly made host keys. `knownHostsFile` keeps the old ones.
  public func restartWithOtherHostKeys() async throws {
    try await stop()
    try await makeHostKeys()
    try await start()
  }

  /// Processes of the sessions that run now.
  public var sessionProcesses: [pid_t] { process?.descendants ?? [] }

  /// Freezes every session (`SIGSTOP`): connections stay open and nothing answers.
  public func pauseSessions() { for pid in sessionProcesses { Glibc.kill(pid, SIGSTOP) } }

  /// Thaws what `pauseSessions` froze.
  public func resumeSessions() { for pid in sessionProcesses { Glibc.kill(pid, SIGCONT) } }

  /// Kills every session; the server goes on listening.
  public func killSessions() async throws { try await ProcessTree.kill(sessionProcesses) }

  /// Kills the programs of that name that sessions run.
  /// - Returns: How many there were.
  public func killPrograms(named name: String) async throws -> Int {
    let found = programs(named: name)
    try await ProcessTree.kill(found)
    return found.count
  }

  /// The programs of that name that sessions run.
  public func programs(named name: String) -> [pid_t] {
    sessionProcesses.filter { pid in
      (try? String(contentsOfFile: "/proc/\(pid)/comm", encoding: .utf8)) == name + "\n"  // it may be gone by now
    }
  }

  /// What the server has logged since it was started.
  public nonisolated var log: String {
    (try? String(contentsOfFile: logFile, encoding: .utf8)) ?? ""  // nothing logged yet
  }

  // MARK: Keys and known_hosts

  /// The public half of a host key, as `TYPE BASE64`.
  public nonisolated func hostKey(_ type: KeyType) throws -> String {
    let text = try String(contentsOfFile: hostKeyFile(type) + ".pub", encoding: .utf8)
    return text.split(separator: " ").prefix(2).joined(separator: " ")
  }

  /// The host as known_hosts names it: `[127.0.0.1]:PORT`.
  public nonisolated var knownHostsName: String { "[\(host)]:\(port)" }

  private func writeKnownHosts() throws {
    let lines = try keyTypes.map { "\(knownHostsName) \(try hostKey($0))\n" }
    try folder.write(lines.joined(), to: "known_hosts", mode: 0o600)
  }

  /// Writes another known_hosts file below `folder`.
  /// - Returns: Its path.
  public nonisolated func writeKnownHosts(_ lines: [String], name: String) throws -> String {
    try folder.write(lines.map { $0 + "\n" }.joined(), to: name, mode: 0o600)
  }

  /// A copy of `knownHostsFile` hashed by `ssh-keygen -H`.
  public nonisolated func hashedKnownHosts() async throws -> String {
    let copy = "\(folder.path)/known_hosts_hashed"
    try FileManager.default.copyItem(atPath: knownHostsFile, toPath: copy)
    let result = try await runProcess(["ssh-keygen", "-q", "-H", "-f", copy])
    guard result.status == 0 else { throw TemporaryFolder.Failure("ssh-keygen -H: \(result.errorText)") }
    return copy
  }

  /// A new key pair below `folder`, authorised on the server or not.
  /// - Returns: The private key's path (mode 0600).
  public nonisolated func makeUserKey(
    _ type: KeyType, name: String, passphrase: String = "", authorised: Bool = true
  ) async throws -> String {
    let file = "\(folder.path)/\(name)"
    let bits = type == .rsa ? ["-b", "2048"] : []
    let result = try await runProcess(["ssh-keygen", "-q", "-t", type.rawValue, "-N", passphrase, "-C", "test", "-f", file] + bits)
    guard result.status == 0 else { throw TemporaryFolder.Failure("ssh-keygen: \(result.errorText)") }
    if authorised {
      let keys = "\(folder.path)/authorized_keys"
      let all = try String(contentsOfFile: keys, encoding: .utf8) + String(contentsOfFile: file + ".pub", encoding: .utf8)
      try folder.write(all, to: "authorized_keys")
    }
    return file
  }
}
