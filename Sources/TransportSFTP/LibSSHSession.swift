import CLibSSH
import Executors
import Glibc
import SyncModel
import Transport

/// Owns an `ssh_session` of libssh and its socket; knows how to drive a non-blocking call to its end.
///
/// libssh's own time-outs are not used: every wait is a `poll(2)` here. It has no way to be told of a socket without taking it over, so it gets
/// a descriptor of its own. Used on one thread at a time.
final class LibSSHSession {
  let raw: OpaquePointer
  let socket: FileDescriptor
  let interrupter: Interrupter
  /// Fired from the start: what to poll where data waits inside libssh and the socket is silent.
  let alwaysReady = Interrupter()
  /// libssh's own descriptor of the socket. It takes it over when it begins to connect.
  private let own: Int32
  private var isTakenOver = false
  /// What has gone over the socket; libssh writes to it.
  private let counters: UnsafeMutablePointer<ssh_counter_struct>

  private static let initialised: Int32 = ssh_init()

  /// The linked library's version, as `0.10.6`.
  static var version: String {
    ssh_version(0).map { String(cString: $0).split(separator: "/").first.map(String.init) ?? "" } ?? ""
  }

  /// - Parameter socket: Connected.
  init(socket: FileDescriptor, interrupter: Interrupter) throws(TransportError) {
    own = fcntl(socket.number, F_DUPFD_CLOEXEC, 0)
    // libssh keeps 16 bits of the number.
    guard LibSSHSession.initialised == 0, (0...0xffff).contains(own), let session = ssh_new() else {
      if own >= 0 { Glibc.close(own) }
      throw .lostConnection(.local, "libssh cannot be started", hint: "Free memory on this machine, and raise the limit on open files.")
    }
    raw = session
    self.socket = socket
    self.interrupter = interrupter
    counters = .allocate(capacity: 1)
    counters.initialize(to: ssh_counter_struct())
    alwaysReady.interrupt()
    ssh_set_blocking(session, 0)
    ssh_set_counters(session, counters, nil)
    // What a server asks of a client is refused; libssh would keep all of it for somebody to look at.
    ssh_set_message_callback(session, { _, _, _ in 1 }, nil)
    nassync_ssh_option_socket(session, own)
  }

  deinit {
    // Nothing inside libssh can wait once the socket is shut down. The descriptor that it took over goes with it.
    shutdown(socket.number, Int32(SHUT_RDWR))
    ssh_free(raw)
    if !isTakenOver { Glibc.close(own) }
    counters.deinitialize(count: 1)
    counters.deallocate()
  }

  // MARK: Options

  /// - Throws: `local` where libssh takes it not.
  func set(_ option: ssh_options_e, _ text: String) throws(TransportError) {
    guard nassync_ssh_option_text(raw, option, text) == 0 else { throw refused(option) }
  }

  func set(_ option: ssh_options_e, _ number: Int32) throws(TransportError) {
    guard nassync_ssh_option_number(raw, option, number) == 0 else { throw refused(option) }
  }

  private func refused(_ option: ssh_options_e) -> TransportError {
    .lostConnection(
      .local, "libssh \(Self.version) refuses option \(option.rawValue): \(words)",
      hint: "Update libssh, or set `ssh: openssh` in the equipment profile.")
  }

  // MARK: Calls

  /// What came of one call.
  enum Step {
    case done
    case again
    case failed
  }

  /// Repeats a call until it no longer asks for that.
  func finish(_ action: String, by deadline: Deadline, _ call: () -> Step) throws(TransportError) {
    while true {
      switch call() {
      case .done: return
      case .again: try waitForSocket(action, by: deadline)
      case .failed: throw failure(while: action)
      }
    }
  }

  static func step(_ code: Int32) -> Step {
    switch code {
    case SSH_OK: .done
    case SSH_AGAIN: .again
    default: .failed
    }
  }

  /// One step of connecting and exchanging keys.
  func connect() -> Step {
    isTakenOver = true
    let code = ssh_connect(raw)
    keepFromBlocking()
    return Self.step(code)
  }

  /// Says good-bye. All channels are gone afterwards.
  func disconnect() {
    // It forgets a descriptor that it was given, and does not close it.
    let descriptor = ssh_get_fd(raw)
    ssh_disconnect(raw)
    if descriptor >= 0 { Glibc.close(descriptor) }
  }

  /// Whether the session has come to its end: some calls ask to be repeated for ever then.
  var isOver: Bool { ssh_get_status(raw) & (SSH_CLOSED | SSH_CLOSED_ERROR) != 0 }

  /// Waits until the last call, which wants to be repeated, can go on.
  func waitForSocket(_ action: String, by deadline: Deadline) throws(TransportError) {
    if isOver { throw failure(while: action) }
    // A server that always says something, and never what is waited for, would be listened to for ever.
    if deadline.hasPassed { throw Self.late(action) }
    switch waitUntilReady([(socket.number, blockedEvents)], interruption: interrupter.descriptor, deadline: deadline) {
    case .ready: return
    case .interrupted: throw .interruptedConnection
    case .timedOut: throw Self.late(action)
    }
  }

  private static func late(_ action: String) -> TransportError {
    .lostConnection(.timeout, "no answer while \(action)", hint: "Check that the NAS is up and not overloaded; it is tried again.")
  }

  private var blockedEvents: Int16 {
    var events = Int16(POLLIN)
    if ssh_get_poll_flags(raw) & SSH_WRITE_PENDING != 0 { events |= Int16(POLLOUT) }
    return events
  }

  /// libssh makes its socket a blocking one when it finds it connected; a send that does not fit would then hold its thread for as long as the
  /// other side likes.
  private func keepFromBlocking() {
    let flags = fcntl(socket.number, F_GETFL)
    if flags >= 0, flags & O_NONBLOCK == 0 { _ = fcntl(socket.number, F_SETFL, flags | O_NONBLOCK) }
  }

  /// Whether bytes wait inside libssh for the socket to take them. Offers them to it first.
  var hasUnsent: Bool { ssh_blocking_flush(raw, 0) == SSH_AGAIN }

  /// Bytes that the socket has taken.
  var bytesOut: UInt64 { counters.pointee.out_bytes }
  /// Bytes that the socket has given.
  var bytesIn: UInt64 { counters.pointee.in_bytes }

  /// Milliseconds since the kernel last received data for this connection.
  var silence: UInt32? { millisecondsSinceData(on: socket) }

  // MARK: Failures

  /// libssh's own words of what went wrong last, escaped for display.
  var words: String {
    guard let text = nassync_ssh_error(raw) else { return "" }
    return displayText(String(String(cString: text).prefix(300)))
  }

  /// Whether the last failure was the other side's "no", with the connection as good as before.
  var isRefusal: Bool { nassync_ssh_error_code(raw) == Int32(SSH_REQUEST_DENIED.rawValue) }

  /// What a call failed of; taken before the next one overwrites it.
  /// - Parameter action: What was being done, as “logging in to HOST”.
  func failure(while action: String) -> TransportError { LibSSHFailure(words: words, isCut: isCut).error(while: action) }

  /// Whether the connection has ended: whoever refuses says so before.
  var isCut: Bool {
    var byte: UInt8 = 0
    let count = recv(socket.number, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    return count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)
  }
}

/// Milliseconds since the kernel last received data on a TCP socket; nil where it does not say.
func millisecondsSinceData(on socket: FileDescriptor) -> UInt32? {
  var info = tcp_info()
  var length = socklen_t(MemoryLayout<tcp_info>.size)
  guard getsockopt(socket.number, Int32(SOL_TCP), TCP_INFO, &info, &length) == 0 else { return nil }
  return info.tcpi_last_data_recv
}

/// What libssh said about a connection that is of no more use. It has no codes, only sentences: this is the one place that reads them.
struct LibSSHFailure {
  /// Escaped for display.
  let words: String
  /// Whether the connection has ended.
  let isCut: Bool

  func error(while action: String) -> TransportError {
    if words.contains("no match for method") {
      return .lostConnection(
        .protocol, "no common way of encrypting was found while \(action) (\(words))",
        hint: "Let the NAS offer an ed25519 or ecdsa host key and current algorithms, or set `ssh: openssh` in the equipment profile.")
    }
    if words.contains("SSH_MSG_DISCONNECT") {
      return .lostConnection(
        .network, "the NAS ended the connection while \(action) (\(words))", hint: "Check the NAS and the network; it is tried again.")
    }
    for sign in ["HMAC error", "Packet len", "Decryption", "Packet too short"] where words.contains(sign) {
      return .lostConnection(
        .network, "the data was damaged on its way while \(action) (\(words))", hint: "Check the network; it is tried again.")
    }
    if words.contains("banner") {
      return .lostConnection(
        .network, "the other side does not say that it speaks SSH, while \(action) (\(words))",
        hint: "Check that `port` is the SSH port, that the NAS does not block this machine's address, and that it has connections to spare."
      )
    }
    if isCut || words.hasPrefix("Socket error") || words.contains("closed") {
      return .lostConnection(
        .network, "the connection was closed while \(action)", hint: "Check the NAS and the network; it is tried again.")
    }
    return .lostConnection(
      .protocol, "the SSH connection failed while \(action) (\(words.isEmpty ? "libssh gives no reason" : words))",
      hint: "It is tried again; if it repeats, update the NAS's SSH server or set `ssh: openssh` in the equipment profile.")
  }
}
