import CLibSSH2
import Glibc
import SyncModel
import Transport

/// One channel of a libssh2 session, non-blocking.
///
/// libssh2 can have one packet half sent at a time and refuses every other packet until that one is through; and what it has read from
/// the socket it keeps, so that `poll(2)` says nothing of it. This class holds both together:
/// - while a write is half sent, reading only empties the socket (the peer must not be made to wait, or both would), and sends nothing;
/// - while a read has a window adjustment half sent, writing waits;
/// - standard error is taken out whenever standard output is read, so that neither hides the other;
/// - `pollDescriptors` returns a descriptor that is ready at once where data lies in libssh2's queue.
final class LibSSH2Channel: SSHChannel {
  private let raw: OpaquePointer
  private let session: LibSSH2Session
  private let settings: SFTPSettings
  private var isFreed = false
  private var writeIsHalfSent = false
  private var readIsHalfSent = false
  private var inputEnded = false
  private var endWaitsForRoom = false
  private var outputEnded = false
  private var complaints: [UInt8] = []
  private var alive: LivenessWatch

  /// Standard error kept until somebody asks; the rest is dropped.
  private static let complaintLimit = 64 * 1024

  init(raw: OpaquePointer, session: LibSSH2Session, settings: SFTPSettings) {
    self.raw = raw
    self.session = session
    self.settings = settings
    alive = LivenessWatch(interval: .seconds(Int64(settings.keepAliveSeconds)))
  }

  deinit { close() }

  // MARK: Reading

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !isFreed else { throw gone }
    guard let start = buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count > 0 else { return .bytes(0) }
    if outputEnded { return .endOfStream }
    if writeIsHalfSent {
      try emptySocket()
      return .wouldBlock
    }
    let count = libssh2_channel_read_ex(raw, 0, start, buffer.count)
    if count > 0 {
      readIsHalfSent = false
      return .bytes(count)
    }
    try noteRead(Int32(clamping: count))
    // Standard error lies in the same queue and in the same window.
    if !readIsHalfSent, hasDataQueued {
      try takeComplaints()
      let again = readIsHalfSent ? Int(LIBSSH2_ERROR_EAGAIN) : libssh2_channel_read_ex(raw, 0, start, buffer.count)
      if again > 0 { return .bytes(again) }
      if !readIsHalfSent { try noteRead(Int32(clamping: again)) }
    }
    guard libssh2_channel_eof(raw) == 1 else { return .wouldBlock }
    outputEnded = true
    return .endOfStream
  }

  /// - Parameter code: What a read returned: 0 or an error.
  private func noteRead(_ code: Int32) throws(TransportError) {
    if code == 0 {
      readIsHalfSent = false
    } else if code == LIBSSH2_ERROR_EAGAIN {
      readIsHalfSent = libssh2_session_block_directions(session.raw) & LIBSSH2_SESSION_BLOCK_OUTBOUND != 0
    } else {
      throw broken(code)
    }
  }

  private func takeComplaints() throws(TransportError) {
    var buffer = [CChar](repeating: 0, count: 4096)
    while !readIsHalfSent {
      let count = libssh2_channel_read_ex(raw, SSH_EXTENDED_DATA_STDERR, &buffer, buffer.count)
      guard count > 0 else {
        try noteRead(Int32(clamping: count))
        return
      }
      let room = max(0, LibSSH2Channel.complaintLimit - complaints.count)
      complaints += buffer.prefix(min(count, room)).map { UInt8(bitPattern: $0) }
    }
  }

  /// Moves what has arrived into libssh2's queue, which the channel's window bounds, without sending anything.
  private func emptySocket() throws(TransportError) {
    let code = libssh2_channel_wait_eof(raw)
    guard code == 0 || code == LIBSSH2_ERROR_EAGAIN else { throw broken(code) }
  }

  func readError(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    let count = min(complaints.count, buffer.count)
    guard count > 0 else { return outputEnded ? .endOfStream : .wouldBlock }
    buffer.copyBytes(from: complaints.prefix(count))
    complaints.removeFirst(count)
    return .bytes(count)
  }

  /// Whether libssh2 holds bytes for this channel, of either stream. Not `libssh2_poll_channel_read`: that one gives up, with an error, at the
  /// first packet of under five bytes in the session's queue, and every answer to a keepalive is one that stays there for good.
  private var hasDataQueued: Bool {
    var count: UInt = 0
    libssh2_channel_window_read_ex(raw, &count, nil)
    return count > 0
  }

  // MARK: Writing

  func write(_ buffer: UnsafeRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !isFreed else { throw gone }
    guard let start = buffer.baseAddress?.assumingMemoryBound(to: CChar.self), buffer.count > 0 else { return .bytes(0) }
    if readIsHalfSent { return .wouldBlock }
    let count = libssh2_channel_write_ex(raw, 0, start, buffer.count)
    if count > 0 {
      // Only where there was no room before has the far side done something: what goes into an empty buffer tells nothing of it.
      if writeIsHalfSent { alive.heard() }
      writeIsHalfSent = false
      return .bytes(count)
    }
    if count == 0 || count == Int(LIBSSH2_ERROR_EAGAIN) {
      writeIsHalfSent = count != 0 && libssh2_session_block_directions(session.raw) & LIBSSH2_SESSION_BLOCK_OUTBOUND != 0
      if writeIsHalfSent { alive.asked() }
      return .wouldBlock
    }
    if count == Int(LIBSSH2_ERROR_CHANNEL_CLOSED) || libssh2_channel_eof(raw) == 1 { return .endOfStream }
    throw broken(Int32(clamping: count))
  }

  func sendEndOfInput() throws(TransportError) -> CarrierResult {
    guard !isFreed else { throw gone }
    if inputEnded { return .bytes(0) }
    endWaitsForRoom = !session.hasRoom
    guard !writeIsHalfSent, !readIsHalfSent, !endWaitsForRoom else { return .wouldBlock }
    let code = libssh2_channel_send_eof(raw)
    switch code {
    case 0:
      inputEnded = true
      return .bytes(0)
    case LIBSSH2_ERROR_EAGAIN: return .wouldBlock
    default: throw broken(code)
    }
  }

  // MARK: Waiting

  func pollDescriptors(wantsWrite: Bool) -> [(descriptor: Int32, events: Int16)] {
    var events = Int16(POLLIN)
    if writeIsHalfSent || readIsHalfSent || (wantsWrite && endWaitsForRoom) { events |= Int16(POLLOUT) }
    var descriptors = [(descriptor: session.socket.number, events: events)]
    let queued = !isFreed && !outputEnded && (hasDataQueued || libssh2_channel_eof(raw) == 1)
    if queued, !writeIsHalfSent, !readIsHalfSent { descriptors.append((session.alwaysReady.descriptor, Int16(POLLIN))) }
    return descriptors
  }

  func keepAlive() throws(TransportError) -> Int {
    guard !isFreed else { throw gone }
    if let silence = session.silence { alive.update(millisecondsSinceData: silence) }
    if alive.isDead {
      throw .lostConnection(
        .timeout, "\(displayText(settings.host)) stopped answering", hint: "Check the NAS and the network; it is tried again.")
    }
    // A packet that is half sent is question enough: its acknowledgement, or the lack of one, is the answer.
    if alive.isDue, !writeIsHalfSent, !readIsHalfSent, session.hasRoom {
      var next: Int32 = 0
      let code = libssh2_keepalive_send(session.raw, &next)
      guard code == 0 || code == LIBSSH2_ERROR_EAGAIN else { throw broken(code) }
      alive.sent(really: next <= LivenessWatch.shortestInterval)
    }
    return alive.millisecondsToNext
  }

  // MARK: The end

  /// 0 where the server closed the channel without a word about it: libssh2 does not tell the two apart. Who must know lets the far side
  /// say so in its output.
  func exitStatus() -> Int32? {
    guard outputEnded, !isFreed else { return nil }
    let deadline = Deadline(after: .seconds(2))
    while libssh2_channel_wait_closed(raw) == LIBSSH2_ERROR_EAGAIN {
      let events = [(descriptor: session.socket.number, events: session.blockedEvents)]
      guard waitUntilReady(events, interruption: session.interrupter.descriptor, deadline: deadline) == .ready else { return nil }
    }
    var signal: UnsafeMutablePointer<CChar>?
    libssh2_channel_get_exit_signal(raw, &signal, nil, nil, nil, nil, nil)
    if let signal {
      libssh2_free(session.raw, signal)
      return nil
    }
    return libssh2_channel_get_exit_status(raw)
  }

  /// Waits at most a second for the far side: an unfinished close would leave the connection out of step, so it is then closed, too.
  func close() {
    guard !isFreed else { return }
    isFreed = true
    if writeIsHalfSent || readIsHalfSent { shutdown(session.socket.number, Int32(SHUT_RDWR)) }
    let deadline = Deadline(after: .seconds(1))
    var givingUp = 0
    // What is not freed after that goes with the session.
    while libssh2_channel_free(raw) == LIBSSH2_ERROR_EAGAIN, givingUp < 100 {
      let events = [(descriptor: session.socket.number, events: session.blockedEvents)]
      if waitUntilReady(events, interruption: session.interrupter.descriptor, deadline: deadline) != .ready {
        shutdown(session.socket.number, Int32(SHUT_RDWR))
        givingUp += 1
      }
    }
  }

  /// The connection goes: `libssh2_session_free` frees the channel with it.
  func abandon() { isFreed = true }

  private var gone: TransportError {
    .lostConnection(.network, "the channel to \(displayText(settings.host)) is closed", hint: "It is opened again when it is needed.")
  }

  private func broken(_ code: Int32) -> TransportError {
    session.failure(code, while: "talking to \(displayText(settings.host))")
  }
}
