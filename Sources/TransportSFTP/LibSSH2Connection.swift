import CLibSSH2
import Executors
import Glibc
import SyncModel
import Transport

/// An SSH connection made by libssh2: TCP, handshake, host key checked, logged in.
///
/// Not `Sendable`: it belongs to the actor that made it.
package final class LibSSH2Connection: SSHConnection {
  private let session: LibSSH2Session
  private let settings: SFTPSettings
  private weak var openedChannel: LibSSH2Channel?
  private var isClosed = false
  package let carrier = "libssh2 \(LibSSH2Session.version)"
  package let isLoggedIn = true
  package let serverIdentification: String
  package let hostKeyFingerprint: String

  /// Makes connections with libssh2.
  /// - Parameter agentSocket: The ssh-agent's socket; nil takes `SSH_AUTH_SOCK` from the environment.
  package static func connector(agentSocket: String? = nil) -> SSHConnector {
    { (settings, interrupter) throws(TransportError) in
      try LibSSH2Connection(settings: settings, agentSocket: agentSocket, interrupter: interrupter)
    }
  }

  /// Blocks the calling thread for at most the settings' `connectTimeout`, and no longer than until the interrupter fires.
  package init(settings: SFTPSettings, agentSocket: String? = nil, interrupter: Interrupter) throws(TransportError) {
    let deadline = Deadline(after: settings.connectTimeout)
    // What is wrong on this machine is said before the NAS is bothered.
    let policy = try HostKeyPolicy(settings: settings)
    let login = try LibSSH2Login(settings: settings, agentSocket: agentSocket)
    let name = displayText("\(settings.host):\(settings.port)")
    let socket = try TCPConnector.connect(to: settings.host, port: settings.port, deadline: deadline, interrupter: interrupter)
    let session = try LibSSH2Session(socket: socket, interrupter: interrupter)
    try LibSSH2Connection.chooseAlgorithms(session, policy)
    _ = try session.finish("beginning an SSH connection with \(name)", by: deadline) {
      libssh2_session_handshake(session.raw, socket.number)
    }
    serverIdentification = libssh2_session_banner_get(session.raw).map { displayText(String(cString: $0)) } ?? ""
    let key = try LibSSH2Connection.hostKey(of: session, name)
    hostKeyFingerprint = key.fingerprint
    try policy.check(key)
    try login.perform(session, name: name, deadline: deadline)
    // When to ask is decided by `LivenessWatch`; libssh2 only refuses to ask more often than this, by the wall clock.
    libssh2_keepalive_config(session.raw, 1, LivenessWatch.shortestInterval)
    self.session = session
    self.settings = settings
  }

  private static func hostKey(of session: LibSSH2Session, _ name: String) throws(TransportError) -> SSHKeyBlob {
    var length = 0
    var type: Int32 = 0
    guard let start = libssh2_session_hostkey(session.raw, &length, &type),
      let key = SSHKeyBlob(UnsafeBufferPointer(start: start, count: length).map { UInt8(bitPattern: $0) })
    else {
      throw .lostConnection(.protocol, "\(name) showed no host key", hint: "Update the NAS's SSH server.")
    }
    return key
  }

  /// No CBC, RC4, MD5, nor SHA-1 but for the host key signature of servers that have nothing else. Fastest first: everything listed is strong enough.
  private static func chooseAlgorithms(_ session: LibSSH2Session, _ policy: HostKeyPolicy) throws(TransportError) {
    let ciphers = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes256-ctr", "aes192-ctr"]
    let macs = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-512"]
    let exchanges = [
      "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521",
      "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512",
      "diffie-hellman-group-exchange-sha256",
    ]
    try session.prefer(policy.algorithms(supported: session.supported(LIBSSH2_METHOD_HOSTKEY)), for: LIBSSH2_METHOD_HOSTKEY)
    for (method, wanted) in [
      (LIBSSH2_METHOD_KEX, exchanges), (LIBSSH2_METHOD_CRYPT_CS, ciphers), (LIBSSH2_METHOD_CRYPT_SC, ciphers),
      (LIBSSH2_METHOD_MAC_CS, macs), (LIBSSH2_METHOD_MAC_SC, macs),
    ] {
      let supported = session.supported(method)
      try session.prefer(wanted.filter(supported.contains), for: method)
    }
  }

  package func openChannel(_ purpose: SSHChannelPurpose) throws(TransportError) -> any SSHChannel {
    guard !isClosed, openedChannel == nil else {
      throw .lostConnection(.protocol, "a connection carries one channel at a time", hint: "Close the other one first.")
    }
    let deadline = Deadline(after: settings.connectTimeout)
    let name = displayText(settings.host)
    let raw = try session.make("opening a channel to \(name)", by: deadline) {
      libssh2_channel_open_ex(session.raw, "session", 7, 2 << 20, 32 * 1024, nil, 0)
    }
    let channel = LibSSH2Channel(raw: raw, session: session, settings: settings)
    let (request, message) =
      switch purpose {
      case .sftp: ("subsystem", "sftp")
      case .exec(let command): ("exec", command)
      }
    while true {
      let code = libssh2_channel_process_startup(raw, request, UInt32(request.utf8.count), message, UInt32(message.utf8.count))
      if code == 0 { break }
      if code == LIBSSH2_ERROR_EAGAIN {
        try session.waitForSocket("starting \(request) on \(name)", by: deadline)
        continue
      }
      if code == LIBSSH2_ERROR_CHANNEL_REQUEST_DENIED {
        channel.close()
        switch purpose {
        case .sftp:
          throw .lostConnection(
            .misconfigured, "\(name) offers no SFTP to the user \(displayText(settings.user))",
            hint: "Switch SFTP on in the NAS's settings and allow it for this user.")
        case .exec: throw .unsupported("run commands for the user \(displayText(settings.user))")
        }
      }
      throw session.failure(code, while: "starting \(request) on \(name)")
    }
    openedChannel = channel
    return channel
  }

  /// Says good-bye if that does not block, and closes the socket. A channel that is still open is dead afterwards.
  package func close() {
    guard !isClosed else { return }
    isClosed = true
    openedChannel?.abandon()
    if session.hasRoom { libssh2_session_disconnect_ex(session.raw, SSH_DISCONNECT_BY_APPLICATION, "done", "") }
    shutdown(session.socket.number, Int32(SHUT_RDWR))
  }

  package func abort() {
    session.socket.resetOnClose()
    close()
  }

  deinit { close() }
}
