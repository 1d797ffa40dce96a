import CLibSSH
import SyncModel
import Transport

/// Logs a user in by key file with libssh. There is no password anywhere.
struct LibSSHLogin {
  private let settings: SFTPSettings
  private let key: PrivateKeyFile

  /// Reads the key file, so that its faults are known before connecting.
  /// - Throws: `misconfigured`.
  init(settings: SFTPSettings) throws(TransportError) {
    self.settings = settings
    guard let path = settings.keyFile else {
      throw .lostConnection(
        .misconfigured, "there is neither a key file nor an agent to log in with", hint: "Set `key_file` in the equipment profile.")
    }
    key = try PrivateKeyFile(path: path)
    try key.requireUsable(useAgent: false)
  }

  func perform(_ session: LibSSHSession, name: String, deadline: Deadline) throws(TransportError) {
    let user = displayText(settings.user)
    let action = "logging in to \(name) as \(user)"
    let pair = try parse()
    defer { ssh_key_free(pair) }
    let shown = displayText(key.path)
    // At once, without asking what is offered: that would be a round trip. The refusal says it.
    switch try asked(session, action, deadline, withKey: true, { ssh_userauth_publickey(session.raw, nil, pair) }) {
    case .success: return
    case .partial:
      throw .lostConnection(
        .auth, "\(name) takes the key \(shown) of \(user) and wants more: \(Self.methods(ssh_userauth_list(session.raw, nil)))",
        hint: "Let a key be enough for this user on the NAS (AuthenticationMethods publickey).")
    case .denied:
      let offered = ssh_userauth_list(session.raw, nil)
      if !session.isOver, offered != 0, offered & Int32(bitPattern: SSH_AUTH_METHOD_PUBLICKEY) == 0 {
        // A server that asks nothing lets everybody in: that is its own affair.
        if try asked(session, action, deadline, { ssh_userauth_none(session.raw, nil) }) == .success { return }
        throw .lostConnection(
          .auth, "\(name) does not take keys from the user \(user), only: \(Self.methods(offered))",
          hint: "Allow public-key login in the NAS's SSH settings and add the key there: nassync never uses passwords.")
      }
      throw .lostConnection(
        .auth, "\(name) refused the user \(user) with the key \(shown)",
        hint: "Check `user`, and that the key's .pub is in that user's authorized_keys on the NAS (and the folder closed to others).")
    }
  }

  private enum Answer { case success, denied, partial }

  /// Drives one attempt to its end.
  private func asked(
    _ session: LibSSHSession, _ action: String, _ deadline: Deadline, withKey: Bool = false, _ attempt: () -> Int32
  ) throws(TransportError) -> Answer {
    while true {
      switch attempt() {
      case SSH_AUTH_SUCCESS.rawValue: return .success
      case SSH_AUTH_AGAIN.rawValue:
        if withKey, session.isOver, Self.refuses(session.words) { return .denied }
        try session.waitForSocket(action, by: deadline)
      case SSH_AUTH_PARTIAL.rawValue: return .partial
      case SSH_AUTH_DENIED.rawValue:
        // A connection that is cut while the answer is awaited is no refusal, and no reason to give up.
        if session.isCut { throw session.failure(while: action) }
        return .denied
      default:
        if withKey, Self.refuses(session.words) { return .denied }
        throw session.failure(while: action)
      }
    }
  }

  /// Whether a server ended the connection because it lets nobody try any more: a refusal, and none that becomes better by trying.
  private static func refuses(_ words: String) -> Bool {
    words.contains("SSH_MSG_DISCONNECT") && (words.contains("authentication failures") || words.contains(": 14:"))
  }

  private func parse() throws(TransportError) -> ssh_key {
    var pair: ssh_key?
    let code = key.withBytes { bytes in
      bytes.baseAddress.map { ssh_pki_import_privkey_base64($0, nil, nil, nil, &pair) } ?? SSH_ERROR
    }
    guard code == SSH_OK, let pair else {
      throw .lostConnection(
        .misconfigured, "the key file \(displayText(key.path)) is not understood by libssh \(LibSSHSession.version)",
        hint: "Make one in OpenSSH's own format: ssh-keygen -t ed25519. Or set `ssh: openssh` in the equipment profile.")
    }
    return pair
  }

  /// The names of what a server offers.
  private static func methods(_ bits: Int32) -> String {
    let known: [(UInt32, String)] = [
      (SSH_AUTH_METHOD_PUBLICKEY, "publickey"), (SSH_AUTH_METHOD_PASSWORD, "password"),
      (SSH_AUTH_METHOD_INTERACTIVE, "keyboard-interactive"),
      (SSH_AUTH_METHOD_HOSTBASED, "hostbased"), (SSH_AUTH_METHOD_GSSAPI_MIC, "gssapi-with-mic"),
    ]
    let found = known.filter { UInt32(bitPattern: bits) & $0.0 != 0 }.map(\.1)
    return found.isEmpty ? "nothing that is known here" : found.joined(separator: ", ")
  }
}
