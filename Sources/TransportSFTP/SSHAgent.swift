import CLinux
import Executors
import Glibc
import SyncModel
import Transport

/// Talks to a running ssh-agent (draft-miller-ssh-agent): which keys it holds, and signing with one.
///
/// libssh2's own agent client blocks for as long as the agent pleases; this one keeps a deadline and can be interrupted.
final class SSHAgent {
  /// One key that the agent holds.
  struct Identity: Sendable {
    let key: SSHKeyBlob
    /// What the agent calls it.
    let comment: String
  }

  private enum Message {
    static let requestIdentities: UInt8 = 11
    static let identitiesAnswer: UInt8 = 12
    static let signRequest: UInt8 = 13
    static let signResponse: UInt8 = 14
  }

  private let descriptor: FileDescriptor
  private let deadline: Deadline
  private let interrupter: Interrupter

  /// - Parameter path: The agent's socket.
  init(path: String, deadline: Deadline, interrupter: Interrupter) throws(TransportError) {
    self.deadline = deadline
    self.interrupter = interrupter
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let fits = withUnsafeMutableBytes(of: &address.sun_path) { space in
      guard bytes.count < space.count else { return false }
      space.copyBytes(from: bytes)
      return true
    }
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let number = fits ? socket(AF_UNIX, type, 0) : -1
    guard number >= 0 else { throw SSHAgent.unreachable(path, fits ? String(cString: strerror(errno)) : "the path is too long") }
    descriptor = FileDescriptor(number)
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    guard status == 0 else { throw SSHAgent.unreachable(path, String(cString: strerror(errno))) }
  }

  private static func unreachable(_ path: String, _ reason: String) -> TransportError {
    .lostConnection(
      .auth, "no ssh-agent answers at \(displayText(path)): \(reason)",
      hint: "Start ssh-agent, add the key with ssh-add, and see that SSH_AUTH_SOCK names its socket where nassync runs.")
  }

  /// The keys, in the agent's order.
  func identities() throws(TransportError) -> [Identity] {
    let answer = try ask([Message.requestIdentities])
    var reader = SSHWireReader(answer)
    guard reader.byte() == Message.identitiesAnswer, let count = reader.number(), count <= 2048 else { throw SSHAgent.malformed }
    var found: [Identity] = []
    for _ in 0..<count {
      guard let bytes = reader.string(), let comment = reader.string() else { throw SSHAgent.malformed }
      // A key of a kind not known here is no reason to refuse the others.
      if let key = SSHKeyBlob(Array(bytes)) { found.append(Identity(key: key, comment: displayText(of: comment))) }
    }
    return found
  }

  /// Signs data; nil where the agent refuses (the key is gone, or its user did not confirm).
  /// - Returns: The signature without the name of its algorithm, as libssh2 wants it.
  func sign(_ data: [UInt8], with key: SSHKeyBlob) throws(TransportError) -> [UInt8]? {
    // RFC 8332: flag 4 asks for rsa-sha2-512. libssh2 before 1.11 cannot use that, and then RSA keys are not offered at all.
    let flags: UInt32 = key.type == "ssh-rsa" ? 4 : 0
    let answer = try ask([Message.signRequest] + sshString(key.bytes) + sshString(data) + bigEndian(flags))
    var reader = SSHWireReader(answer)
    guard reader.byte() == Message.signResponse else { return nil }
    guard let signature = reader.string() else { throw SSHAgent.malformed }
    var inner = SSHWireReader(signature)
    guard inner.string() != nil, let bytes = inner.string() else { throw SSHAgent.malformed }
    return Array(bytes)
  }

  private static let malformed = TransportError.lostConnection(
    .auth, "the ssh-agent's answer is not understood", hint: "Use OpenSSH's ssh-agent, or a key file.")

  private func ask(_ message: [UInt8]) throws(TransportError) -> [UInt8] {
    try send(sshString(message))
    var reader = SSHWireReader(try receive(4))
    // OpenSSH's own limit on an agent's message.
    guard let length = reader.number(), length >= 1, length <= 256 * 1024 else { throw SSHAgent.malformed }
    return try receive(Int(length))
  }

  private func send(_ bytes: [UInt8]) throws(TransportError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.send(descriptor.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      if count > 0 { rest = rest.dropFirst(count) } else { try wait(for: Int16(POLLOUT)) }
    }
  }

  private func receive(_ length: Int) throws(TransportError) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: length)
    var filled = 0
    while filled < length {
      let count = buffer.withUnsafeMutableBytes { recv(descriptor.number, $0.baseAddress.map { $0 + filled }, length - filled, 0) }
      if count > 0 {
        filled += count
      } else if count == 0 {
        throw .lostConnection(.auth, "the ssh-agent ended the connection", hint: "Look whether it still runs: ssh-add -l")
      } else {
        try wait(for: Int16(POLLIN))
      }
    }
    return buffer
  }

  /// After a call that failed: waits where it would block, throws otherwise.
  private func wait(for events: Int16) throws(TransportError) {
    guard errno == EAGAIN || errno == EINTR else {
      throw .lostConnection(
        .auth, "the ssh-agent cannot be asked: \(String(cString: strerror(errno)))", hint: "Look whether it still runs: ssh-add -l")
    }
    switch waitUntilReady([(descriptor.number, events)], interruption: interrupter.descriptor, deadline: deadline) {
    case .ready: return
    case .interrupted: throw .interruptedConnection
    case .timedOut:
      throw .lostConnection(
        .auth, "the ssh-agent does not answer", hint: "It may wait for somebody to confirm: look at its window, or use a key file.")
    }
  }
}
