import CLibSSH2
import Executors
import Glibc
import SyncModel
import Transport

/// Owns a `LIBSSH2_SESSION` and its socket; knows how to drive a non-blocking call to its end.
///
/// libssh2's own time-outs hang for ever by default and follow the wall clock, so sessions are non-blocking always and every wait is a
/// `poll(2)` here. Used on one thread at a time.
final class LibSSH2Session {
  let raw: OpaquePointer
  let socket: FileDescriptor
  let interrupter: Interrupter
  /// Fired from the start: what to poll where data waits inside libssh2 and the socket is silent.
  let alwaysReady = Interrupter()
  private let farewell = Farewell()

  private static let initialised: Int32 = libssh2_init(0)

  /// Whether the linked library is at least that version, given as 0xMMmmpp.
  static func isAtLeast(_ version: Int32) -> Bool { libssh2_version(version) != nil }

  /// The linked library's version, as `1.10.0`.
  static var version: String { libssh2_version(0).map { String(cString: $0) } ?? "" }

  init(socket: FileDescriptor, interrupter: Interrupter) throws(TransportError) {
    guard LibSSH2Session.initialised == 0, let session = libssh2_session_init_ex(nil, nil, nil, nil) else {
      throw .lostConnection(.local, "libssh2 cannot be started", hint: "Free memory on this machine.")
    }
    raw = session
    self.socket = socket
    self.interrupter = interrupter
    alwaysReady.interrupt()
    listenForFarewell()
    libssh2_session_set_blocking(session, 0)
  }

  deinit {
    // Once the socket is shut down nothing inside libssh2 can wait; EAGAIN then only means "once more".
    shutdown(socket.number, Int32(SHUT_RDWR))
    var tries = 0
    while libssh2_session_free(raw) == LIBSSH2_ERROR_EAGAIN, tries < 1000 { tries += 1 }
  }

  /// Repeats a call until it no longer says EAGAIN.
  /// - Returns: What it returned at last, 0 or more.
  func finish(_ action: String, by deadline: Deadline, _ call: () -> Int32) throws(TransportError) -> Int32 {
    farewell.deadline = deadline
    defer { farewell.deadline = nil }
    while true {
      let code = call()
      if code >= 0 { return code }
      guard code == LIBSSH2_ERROR_EAGAIN else { throw failure(code, while: action) }
      try waitForSocket(action, by: deadline)
    }
  }

  /// Repeats a call that makes something until it has made it or fails.
  func make(_ action: String, by deadline: Deadline, _ call: () -> OpaquePointer?) throws(TransportError) -> OpaquePointer {
    farewell.deadline = deadline
    defer { farewell.deadline = nil }
    while true {
      if let made = call() { return made }
      let code = libssh2_session_last_errno(raw)
      guard code == LIBSSH2_ERROR_EAGAIN else { throw failure(code, while: action) }
      try waitForSocket(action, by: deadline)
    }
  }

  /// What a call failed of.
  /// - Parameter code: What it returned.
  func failure(_ code: Int32, while action: String) -> TransportError {
    LibSSH2Error(code: Self.blamesOthers(code) && isCut ? LIBSSH2_ERROR_SOCKET_DISCONNECT : code, session: raw).failure(while: action)
  }

  /// libssh2 calls it a failed exchange of keys, or a refused key, where the connection ends in the midst of either. That the sides did not agree on
  /// algorithms, for one, is another code, and said by libssh2 itself.
  private static func blamesOthers(_ code: Int32) -> Bool {
    switch code {
    case LIBSSH2_ERROR_TIMEOUT, LIBSSH2_ERROR_SOCKET_TIMEOUT, LIBSSH2_ERROR_BANNER_RECV, LIBSSH2_ERROR_BANNER_SEND,
      LIBSSH2_ERROR_KEX_FAILURE, LIBSSH2_ERROR_METHOD_NONE, LIBSSH2_ERROR_HOSTKEY_INIT, LIBSSH2_ERROR_HOSTKEY_SIGN, LIBSSH2_ERROR_ALLOC,
      LIBSSH2_ERROR_INVALID_MAC, LIBSSH2_ERROR_DECRYPT, LIBSSH2_ERROR_ENCRYPT:
      false
    default: true
    }
  }

  /// Whether the connection ended without a word of the other side: whoever refuses says so before.
  var isCut: Bool {
    var byte: UInt8 = 0
    let count = recv(socket.number, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    // Its end, or a reset that came after libssh2 had looked.
    let isOver = count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)
    return isOver && !farewell.said
  }

  /// What libssh2 tells and asks from within a call.
  private final class Farewell {
    /// Whether the other side has said that it ends the connection (SSH_MSG_DISCONNECT).
    var said = false
    /// From then on nothing more is read in this call: libssh2 comes back only when nothing is there, and a server can see to it that there always is.
    var deadline: Deadline?
  }

  private func listenForFarewell() {
    let heard:
      @convention(c) (
        OpaquePointer?, Int32, UnsafePointer<CChar>?, Int32, UnsafePointer<CChar>?, Int32, UnsafeMutablePointer<UnsafeMutableRawPointer?>?
      ) -> Void = {
        _, _, _, _, _, _, abstract in
        guard let object = abstract?.pointee else { return }
        Unmanaged<Farewell>.fromOpaque(object).takeUnretainedValue().said = true
      }
    libssh2_session_abstract(raw)?.pointee = Unmanaged.passUnretained(farewell).toOpaque()
    libssh2_session_callback_set(raw, LIBSSH2_CALLBACK_DISCONNECT, unsafeBitCast(heard, to: UnsafeMutableRawPointer.self))
    let receive: @convention(c) (Int32, UnsafeMutableRawPointer?, Int, Int32, UnsafeMutablePointer<UnsafeMutableRawPointer?>?) -> Int = {
      socket, buffer, length, flags, abstract in
      if let object = abstract?.pointee,
        Unmanaged<Farewell>.fromOpaque(object).takeUnretainedValue().deadline?.hasPassed == true
      {
        return -Int(EAGAIN)
      }
      let count = recv(socket, buffer, length, flags)
      return count < 0 ? -Int(errno) : count
    }
    libssh2_session_callback_set(raw, LIBSSH2_CALLBACK_RECV, unsafeBitCast(receive, to: UnsafeMutableRawPointer.self))
  }

  /// Waits until the last call, which said EAGAIN, can go on.
  func waitForSocket(_ action: String, by deadline: Deadline) throws(TransportError) {
    // A server that always says something, and never what is waited for, would be listened to for ever.
    let isLate = deadline.hasPassed
    switch isLate ? .timedOut : waitUntilReady([(socket.number, blockedEvents)], interruption: interrupter.descriptor, deadline: deadline) {
    case .ready: return
    case .interrupted: throw .interruptedConnection
    case .timedOut:
      throw .lostConnection(.timeout, "no answer while \(action)", hint: "Check that the NAS is up and not overloaded; it is tried again.")
    }
  }

  /// What the last call waits for.
  var blockedEvents: Int16 {
    var events = Int16(POLLIN)
    if libssh2_session_block_directions(raw) & LIBSSH2_SESSION_BLOCK_OUTBOUND != 0 { events |= Int16(POLLOUT) }
    return events
  }

  /// Whether a small packet can be sent whole. libssh2 loses track of a packet that is sent in part where it lies on its own stack
  /// (end of input, keepalive), so those are sent only then.
  var hasRoom: Bool {
    var descriptor = pollfd(fd: socket.number, events: Int16(POLLOUT), revents: 0)
    return poll(&descriptor, 1, 0) == 1 && descriptor.revents & Int16(POLLOUT) != 0
  }

  /// Milliseconds since the kernel last received data for this connection.
  var silence: UInt32? { millisecondsSinceData(on: socket) }

  /// Algorithms the library can use for a method, in its own order.
  func supported(_ method: Int32) -> [String] {
    var list: UnsafeMutablePointer<UnsafePointer<CChar>?>?
    let count = libssh2_session_supported_algs(raw, method, &list)
    guard count > 0, let list else { return [] }
    defer { libssh2_free(raw, list) }
    return (0..<Int(count)).compactMap { list[$0].map { String(cString: $0) } }
  }

  /// Lets the library use these algorithms only, in this order.
  func prefer(_ algorithms: [String], for method: Int32) throws(TransportError) {
    let code = libssh2_session_method_pref(raw, method, algorithms.joined(separator: ","))
    guard code == 0 else { throw LibSSH2Error(code: code, session: raw).failure(while: "choosing algorithms") }
  }
}
