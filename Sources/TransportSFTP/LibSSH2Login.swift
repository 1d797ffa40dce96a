import CLibSSH2
import Executors
import Glibc
import SyncModel
import Transport

/// Logs a user in by key file or agent. There is no password anywhere.
struct LibSSH2Login {
  private let settings: SFTPSettings
  private let key: PrivateKeyFile?
  private let agentSocket: String?

  /// Reads the key file, so that its faults are known before connecting.
  /// - Throws: `misconfigured`.
  init(settings: SFTPSettings, agentSocket: String?) throws(TransportError) {
    self.settings = settings
    self.agentSocket = settings.useAgent ? (agentSocket ?? getenv("SSH_AUTH_SOCK").map { String(cString: $0) }) : nil
    key = try settings.keyFile.map { (path) throws(TransportError) in try PrivateKeyFile(path: path) }
    guard key != nil || settings.useAgent else {
      throw .lostConnection(
        .misconfigured, "there is neither a key file nor an agent to log in with", hint: "Set `key_file` in the equipment profile.")
    }
    if settings.useAgent, self.agentSocket?.isEmpty ?? true, key == nil {
      throw .lostConnection(
        .misconfigured, "an ssh-agent is wanted but SSH_AUTH_SOCK is not set",
        hint: "Start ssh-agent where nassync runs, or set `key_file`.")
    }
    try key?.requireUsable(useAgent: settings.useAgent)
  }

  /// rsa-sha2 came with libssh2 1.11; current servers refuse the SHA-1 signatures that older ones make.
  private static var canUseRSA: Bool { LibSSH2Session.isAtLeast(0x010b00) }

  func perform(_ session: LibSSH2Session, name: String, deadline: Deadline) throws(TransportError) {
    let user = settings.user
    let shownUser = displayText(user)
    let action = "logging in to \(name) as \(shownUser)"
    let methods = try offeredMethods(session, action, deadline)
    // A server that asks nothing lets everybody in: that is its own affair.
    guard let methods else { return }
    guard methods.contains("publickey") else {
      throw .lostConnection(
        .auth, "\(name) does not take keys from the user \(shownUser), only: \(displayText(methods.joined(separator: ", ")))",
        hint: "Allow public-key login in the NAS's SSH settings and add the key there: nassync never uses passwords.")
    }
    var refused: [String] = []
    if let key, !key.isEncrypted {
      if try accepted(by: session, action, deadline, { tryKey(key, session) }) { return }
      refused.append("the key \(displayText(key.path))")
    }
    if let agentSocket, !agentSocket.isEmpty {
      let agent = try SSHAgent(path: agentSocket, deadline: deadline, interrupter: session.interrupter)
      let identities = try agent.identities()
      for identity in choose(from: identities) {
        let signer = AgentSigner(agent: agent, key: identity.key)
        let passed = try accepted(by: session, action, deadline) { tryAgent(signer, session) }
        if let failure = signer.failure { throw failure }
        if passed { return }
        refused.append("the agent's key “\(identity.comment)”")
      }
      if identities.isEmpty {
        throw .lostConnection(.auth, "the ssh-agent holds no key", hint: "Add one: ssh-add")
      }
    }
    throw refusal(refused, name, shownUser)
  }

  private func refusal(_ refused: [String], _ name: String, _ user: String) -> TransportError {
    if let key, key.kind == .rsa, !LibSSH2Login.canUseRSA {
      return .lostConnection(
        .auth,
        "\(name) refused \(user)'s RSA key \(displayText(key.path)): libssh2 \(LibSSH2Session.version) signs with SHA-1, which servers no longer take",
        hint: PrivateKeyFile.newKey + " Or set `ssh: openssh` in the equipment profile.")
    }
    guard !refused.isEmpty else {
      return .lostConnection(
        .auth, "the ssh-agent holds no key that can be used for \(user) at \(name): RSA keys and hardware keys cannot",
        hint: PrivateKeyFile.newKey + " Or set `ssh: openssh` in the equipment profile.")
    }
    return .lostConnection(
      .auth, "\(name) refused the user \(user) with \(refused.joined(separator: ", "))",
      hint: "Check `user`, and that the key's .pub is in that user's authorized_keys on the NAS (and the folder closed to others).")
  }

  /// What the server offers, or nil where it let the user in without asking.
  private func offeredMethods(_ session: LibSSH2Session, _ action: String, _ deadline: Deadline) throws(TransportError) -> [String]? {
    while true {
      let user = settings.user
      if let list = libssh2_userauth_list(session.raw, user, UInt32(user.utf8.count)) {
        return String(cString: list).split(separator: ",").map(String.init)
      }
      if libssh2_userauth_authenticated(session.raw) != 0 { return nil }
      let code = libssh2_session_last_errno(session.raw)
      guard code == LIBSSH2_ERROR_EAGAIN else { throw session.failure(code, while: action) }
      try session.waitForSocket(action, by: deadline)
    }
  }

  /// Drives one attempt to its end: true for logged in, false for refused.
  private func accepted(
    by session: LibSSH2Session, _ action: String, _ deadline: Deadline, _ attempt: () -> Int32
  ) throws(TransportError) -> Bool {
    while true {
      let code = attempt()
      switch code {
      case 0: return true
      case LIBSSH2_ERROR_EAGAIN: try session.waitForSocket(action, by: deadline)
      // FILE: libssh2 could not read the key; RSA keys come back like this too.
      case LIBSSH2_ERROR_AUTHENTICATION_FAILED, LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED, LIBSSH2_ERROR_KEYFILE_AUTH_FAILED, LIBSSH2_ERROR_FILE:
        // A connection that is cut while the answer is awaited comes back like this, too: no refusal, and no reason to give up.
        if session.isCut { throw session.failure(code, while: action) }
        return false
      default: throw session.failure(code, while: action)
      }
    }
  }

  private func tryKey(_ key: PrivateKeyFile, _ session: LibSSH2Session) -> Int32 {
    let user = settings.user
    return key.withBytes { bytes in
      libssh2_userauth_publickey_frommemory(session.raw, user, user.utf8.count, nil, 0, bytes.baseAddress, bytes.count, nil)
    }
  }

  /// The configured key's other half first. A server counts every key offered; after six it usually ends the connection.
  private func choose(from identities: [SSHAgent.Identity]) -> [SSHAgent.Identity] {
    let usable = identities.filter { identity in
      switch identity.key.type {
      case "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521": true
      case "ssh-rsa": LibSSH2Login.canUseRSA
      default: false
      }
    }
    let wanted = usable.filter { $0.key == key?.publicBlob }
    return Array((wanted + usable.filter { $0.key != key?.publicBlob }).prefix(5))
  }

  private func tryAgent(_ signer: AgentSigner, _ session: LibSSH2Session) -> Int32 {
    let user = settings.user
    var abstract: UnsafeMutableRawPointer? = Unmanaged.passUnretained(signer).toOpaque()
    let blob = signer.key.bytes
    return withExtendedLifetime(signer) {
      libssh2_userauth_publickey(
        session.raw, user, blob, blob.count,
        { _, signature, length, data, dataLength, abstract in
          guard let object = abstract?.pointee, let signature, let length, let data else { return -1 }
          let signer = Unmanaged<AgentSigner>.fromOpaque(object).takeUnretainedValue()
          guard let bytes = signer.sign(Array(UnsafeBufferPointer(start: data, count: dataLength))) else { return -1 }
          // libssh2 frees it with the session's allocator, which is malloc's.
          guard let copy = malloc(max(bytes.count, 1)) else { return -1 }
          copy.copyMemory(from: bytes, byteCount: bytes.count)
          signature.pointee = copy.assumingMemoryBound(to: UInt8.self)
          length.pointee = bytes.count
          return 0
        }, &abstract)
    }
  }
}

/// Signs for libssh2's callback and keeps what went wrong, which a C callback cannot throw.
private final class AgentSigner {
  let agent: SSHAgent
  let key: SSHKeyBlob
  private(set) var failure: TransportError?

  init(agent: SSHAgent, key: SSHKeyBlob) {
    self.agent = agent
    self.key = key
  }

  /// Nil where the agent refuses or fails.
  func sign(_ data: [UInt8]) -> [UInt8]? {
    do throws(TransportError) {
      return try agent.sign(data, with: key)
    } catch {
      failure = error
      return nil
    }
  }
}
