import CLibSSH
import Executors
import Glibc
import SyncModel
import Transport

/// An SSH connection made by libssh: TCP, handshake, host key checked, logged in with a key file.
///
/// Not `Sendable`: it belongs to the actor that made it.
package final class LibSSHConnection: SSHConnection {
  private let session: LibSSHSession
  private let settings: SFTPSettings
  private weak var openedChannel: LibSSHChannel?
  private var isClosed = false
  package let carrier = "libssh \(LibSSHSession.version)"
  package let isLoggedIn = true
  package let serverIdentification: String
  package let hostKeyFingerprint: String

  /// Blocks the calling thread for at most the settings' `connectTimeout`, and no longer than until the interrupter fires.
  package init(settings: SFTPSettings, interrupter: Interrupter) throws(TransportError) {
    let deadline = Deadline(after: settings.connectTimeout)
    // What is wrong on this machine is said before the NAS is bothered.
    let policy = try HostKeyPolicy(settings: settings)
    let login = try LibSSHLogin(settings: settings)
    let name = displayText("\(settings.host):\(settings.port)")
    let socket = try TCPConnector.connect(to: settings.host, port: settings.port, deadline: deadline, interrupter: interrupter)
    let session = try LibSSHSession(socket: socket, interrupter: interrupter)
    try Self.choose(session, settings, policy)
    try session.finish("beginning an SSH connection with \(name)", by: deadline) { session.connect() }
    serverIdentification = ssh_get_serverbanner(session.raw).map { displayText(String(cString: $0)) } ?? ""
    let key = try Self.hostKey(of: session, name)
    hostKeyFingerprint = key.fingerprint
    try policy.check(key)
    try login.perform(session, name: name, deadline: deadline)
    self.session = session
    self.settings = settings
  }

  private static func hostKey(of session: LibSSHSession, _ name: String) throws(TransportError) -> SSHKeyBlob {
    var key: ssh_key?
    var text: UnsafeMutablePointer<CChar>?
    if ssh_get_server_publickey(session.raw, &key) == SSH_OK, let key {
      defer { ssh_key_free(key) }
      if ssh_pki_export_pubkey_base64(key, &text) == SSH_OK, let text {
        defer { ssh_string_free_char(text) }
        if let blob = SSHKeyBlob(base64: Array(String(cString: text).utf8)[...]) { return blob }
      }
    }
    throw .lostConnection(.protocol, "\(name) showed no host key", hint: "Update the NAS's SSH server.")
  }

  /// AES-GCM first where the processor has instructions for AES, ChaCha20 where it has not. No CBC, MD5, nor SHA-1 but for the host key signature
  /// of servers that have nothing else.
  static func ciphers(hasAES: Bool) -> String {
    let aes = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"]
    let chacha = ["chacha20-poly1305@openssh.com"]
    return ((hasAES ? aes + chacha : chacha + aes) + ["aes128-ctr", "aes256-ctr", "aes192-ctr"]).joined(separator: ",")
  }

  private static let exchanges = [
    "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512",
    "diffie-hellman-group-exchange-sha256",
  ]
  private static let codes = [
    "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512",
  ]
  private static let hostKeys = [
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256", "ssh-rsa",
  ]

  private static func choose(_ session: LibSSHSession, _ settings: SFTPSettings, _ policy: HostKeyPolicy) throws(TransportError) {
    // Nothing of this machine's own: neither its ssh configuration nor anybody's home. Whose key it is, is checked here and not by libssh.
    try session.set(SSH_OPTIONS_PROCESS_CONFIG, 0)
    try session.set(SSH_OPTIONS_SSH_DIR, "/")
    try session.set(SSH_OPTIONS_KNOWNHOSTS, "/dev/null")
    try session.set(SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null")
    // libssh looks for it in those files; the connection is made already.
    try session.set(SSH_OPTIONS_HOST, "nas")
    try session.set(SSH_OPTIONS_USER, settings.user)
    try session.set(SSH_OPTIONS_HOSTKEYS, policy.algorithms(supported: hostKeys).joined(separator: ","))
    let ciphers = ciphers(hasAES: OpenSSHCiphers.hasAES)
    try session.set(SSH_OPTIONS_CIPHERS_C_S, ciphers)
    try session.set(SSH_OPTIONS_CIPHERS_S_C, ciphers)
    try session.set(SSH_OPTIONS_HMAC_C_S, codes.joined(separator: ","))
    try session.set(SSH_OPTIONS_HMAC_S_C, codes.joined(separator: ","))
    try session.set(SSH_OPTIONS_KEY_EXCHANGE, exchanges.joined(separator: ","))
    try session.set(SSH_OPTIONS_COMPRESSION, "no")
  }

  package func openChannel(_ purpose: SSHChannelPurpose) throws(TransportError) -> any SSHChannel {
    guard !isClosed, openedChannel == nil else {
      throw .lostConnection(.protocol, "a connection carries one channel at a time", hint: "Close the other one first.")
    }
    let deadline = Deadline(after: settings.connectTimeout)
    let name = displayText(settings.host)
    guard let raw = ssh_channel_new(session.raw) else {
      throw .lostConnection(.local, "no memory while opening a channel to \(name)", hint: "Free memory on this machine.")
    }
    // Frees it, too, where something throws.
    let channel = LibSSHChannel(raw: raw, session: session, settings: settings)
    try session.finish("opening a channel to \(name)", by: deadline) {
      let code = ssh_channel_open_session(raw)
      return code == SSH_ERROR && session.isRefusal ? .done : LibSSHSession.step(code)
    }
    guard ssh_channel_is_open(raw) != 0 else {
      throw .lostConnection(
        .network, "the NAS refused a channel while opening one to \(name) (\(session.words))",
        hint: "Lower `connections` in the equipment profile or raise MaxSessions on the NAS.")
    }
    channel.isBound = true
    let what = purpose == .sftp ? "sftp" : "a command"
    var isDenied = false
    try session.finish("starting \(what) on \(name)", by: deadline) {
      let code =
        switch purpose {
        case .sftp: ssh_channel_request_subsystem(raw, "sftp")
        case .exec(let command): ssh_channel_request_exec(raw, command)
        }
      isDenied = code == SSH_ERROR && session.isRefusal
      return isDenied ? .done : LibSSHSession.step(code)
    }
    if isDenied {
      channel.close()
      switch purpose {
      case .sftp:
        throw .lostConnection(
          .misconfigured, "\(name) offers no SFTP to the user \(displayText(settings.user))",
          hint: "Switch SFTP on in the NAS's settings and allow it for this user.")
      case .exec: throw .unsupported("run commands for the user \(displayText(settings.user))")
      }
    }
    openedChannel = channel
    return channel
  }

  /// Says good-bye if that does not block, and closes the socket. A channel that is still open is dead afterwards.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    openedChannel?.abandon()
    if !session.hasUnsent { session.disconnect() }
    shutdown(session.socket.number, Int32(SHUT_RDWR))
  }

  package func abort() {
    session.socket.resetOnClose()
    close()
  }

  deinit { close() }
}

/// How a connection is made inside this process.
package enum BuiltinConnection {
  /// By libssh with a key file, by libssh2 with an agent: libssh's own client of an agent waits for it without an end, and takes no other.
  /// - Parameter agentSocket: The ssh-agent's socket; nil takes `SSH_AUTH_SOCK` from the environment.
  package static func connector(agentSocket: String? = nil) -> SSHConnector {
    { (settings, interrupter) throws(TransportError) in
      settings.useAgent
        ? try LibSSH2Connection(settings: settings, agentSocket: agentSocket, interrupter: interrupter)
        : try LibSSHConnection(settings: settings, interrupter: interrupter)
    }
  }
}
