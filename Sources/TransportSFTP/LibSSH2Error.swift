import CLibSSH2
import SyncModel
import Transport

extension TransportError {
  /// A failure after which the connection is of no more use.
  static func lostConnection(_ kind: SyncFailure.Kind, _ message: String, hint: String) -> TransportError {
    .failure(SyncFailure(kind, message, hint: hint), sessionLost: true)
  }

  static var interruptedConnection: TransportError {
    .lostConnection(.interrupted, "the connection was interrupted", hint: "It is made again when it is needed.")
  }
}

/// What libssh2 said about the last call on a session, taken before the next call overwrites it.
struct LibSSH2Error {
  let code: Int32
  /// libssh2's own words, escaped for display; empty where it has none.
  let text: String

  /// - Parameter code: What the call returned.
  init(code: Int32, session: OpaquePointer) {
    self.code = code
    var words: UnsafeMutablePointer<CChar>?
    var length: Int32 = 0
    let last = libssh2_session_last_error(session, &words, &length, 0)
    if last == code, let words, length > 0 {
      text = displayText(of: UnsafeBufferPointer(start: words, count: Int(length)).map { UInt8(bitPattern: $0) }.prefix(200))
    } else {
      text = ""
    }
  }

  /// The one place that turns libssh2's codes into kinds.
  /// - Parameter action: What was being done, as “logging in to HOST”.
  func failure(while action: String) -> TransportError {
    let said = text.isEmpty ? "libssh2 error \(code)" : text
    switch code {
    case LIBSSH2_ERROR_TIMEOUT, LIBSSH2_ERROR_SOCKET_TIMEOUT:
      return .lostConnection(.timeout, "no answer while \(action)", hint: "Check that the NAS is up and not overloaded; it is tried again.")
    case LIBSSH2_ERROR_BANNER_RECV, LIBSSH2_ERROR_BANNER_SEND:
      return .lostConnection(
        .network, "the other side closed the connection instead of saying it speaks SSH, while \(action)",
        hint: "Check that `port` is the SSH port, that the NAS does not block this machine's address, and that it has connections to spare."
      )
    case LIBSSH2_ERROR_SOCKET_DISCONNECT, LIBSSH2_ERROR_SOCKET_SEND, LIBSSH2_ERROR_SOCKET_RECV, LIBSSH2_ERROR_BAD_SOCKET,
      LIBSSH2_ERROR_SOCKET_NONE, LIBSSH2_ERROR_CHANNEL_CLOSED:
      return .lostConnection(
        .network, "the connection was closed while \(action)", hint: "Check the NAS and the network; it is tried again.")
    case LIBSSH2_ERROR_KEX_FAILURE, LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE, LIBSSH2_ERROR_METHOD_NONE, LIBSSH2_ERROR_HOSTKEY_INIT,
      LIBSSH2_ERROR_HOSTKEY_SIGN:
      return .lostConnection(
        .protocol, "no common way of encrypting was found while \(action) (\(said))",
        hint: "Let the NAS offer an ed25519 or ecdsa host key and current algorithms, or set `ssh: openssh` in the equipment profile.")
    case LIBSSH2_ERROR_AUTHENTICATION_FAILED, LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED, LIBSSH2_ERROR_KEYFILE_AUTH_FAILED:
      return .lostConnection(
        .auth, "the login was refused while \(action)", hint: "Check `user` and `key_file`, and the user's authorized_keys on the NAS.")
    case LIBSSH2_ERROR_ALLOC:
      return .lostConnection(.local, "no memory while \(action)", hint: "Free memory on this machine.")
    case LIBSSH2_ERROR_CHANNEL_FAILURE:
      return .failure(
        SyncFailure(
          .network, "the NAS refused a channel while \(action) (\(said))",
          hint: "Lower `connections` in the equipment profile or raise MaxSessions on the NAS."),
        sessionLost: true)
    case LIBSSH2_ERROR_INVALID_MAC, LIBSSH2_ERROR_DECRYPT, LIBSSH2_ERROR_ENCRYPT:
      return .lostConnection(
        .network, "the data was damaged on its way while \(action) (\(said))", hint: "Check the network; it is tried again.")
    default:
      return .lostConnection(
        .protocol, "the SSH connection failed while \(action) (\(said))",
        hint: "It is tried again; if it repeats, update the NAS's SSH server or set `ssh: openssh` in the equipment profile.")
    }
  }
}
