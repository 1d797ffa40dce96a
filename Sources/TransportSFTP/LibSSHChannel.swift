import CLibSSH
import Glibc
import SyncModel
import Transport

/// One channel of a libssh session, non-blocking.
///
/// libssh takes whatever the far side's window allows into a buffer of its own, reads the socket 4 KiB at a time, and keeps what it has read, of
/// which `poll(2)` says nothing. So here:
/// - nothing more is handed to it while it holds bytes that the socket would not take: what was accepted is on its way;
/// - a read goes on for as long as the socket gives something;
/// - `pollDescriptors` returns a descriptor that is ready at once where data may lie inside libssh.
final class LibSSHChannel: SSHChannel {
  private let raw: OpaquePointer
  private let session: LibSSHSession
  private let settings: SFTPSettings
  private var isFreed = false
  private var inputEnded = false
  private var outputEnded = false
  /// Whether the server knows of it.
  var isBound = false
  /// Bytes that had come when there was nothing to read: where more have come since, libssh may hold some. Nil where nobody has looked.
  private var quietAt: UInt64?
  /// Bytes that had come and gone when nothing more could be written: where others have, it may be possible again.
  private var blockedAt: (in: UInt64, out: UInt64)?
  /// Bytes that the socket had taken when it would take no more; nil where it takes them.
  private var stuckAt: UInt64?
  private var complaints: [UInt8] = []
  private var alive: LivenessWatch

  /// How often the socket is read for one call at most: its caller has others to look after, deadlines among them.
  private static let mostRounds = 64
  /// Standard error kept until somebody asks; the rest is dropped.
  private static let complaintLimit = 64 * 1024

  /// - Parameter raw: New; it is freed with this object.
  init(raw: OpaquePointer, session: LibSSHSession, settings: SFTPSettings) {
    self.raw = raw
    self.session = session
    self.settings = settings
    alive = LivenessWatch(interval: .seconds(Int64(settings.keepAliveSeconds)))
  }

  deinit { close() }

  // MARK: Reading

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !isFreed else { throw gone }
    guard let start = buffer.baseAddress, buffer.count > 0 else { return .bytes(0) }
    if outputEnded { return .endOfStream }
    for _ in 0..<Self.mostRounds {
      let before = session.bytesIn
      let count = ssh_channel_read_nonblocking(raw, start, UInt32(clamping: buffer.count), 0)
      if count > 0 {
        quietAt = nil
        return .bytes(Int(count))
      }
      // Standard error comes in the same window.
      try takeComplaints()
      if count == SSH_EOF || (count >= 0 && ssh_channel_is_eof(raw) != 0) {
        outputEnded = true
        return .endOfStream
      }
      guard count >= 0 || count == SSH_AGAIN else { throw broken() }
      quietAt = session.bytesIn
      if session.bytesIn == before { return .wouldBlock }
    }
    quietAt = nil
    return .wouldBlock
  }

  private func takeComplaints() throws(TransportError) {
    var buffer = [UInt8](repeating: 0, count: 4096)
    for _ in 0..<Self.mostRounds {
      let count = ssh_channel_read_nonblocking(raw, &buffer, UInt32(buffer.count), 1)
      guard count > 0 else {
        if count == SSH_ERROR { throw broken() }
        return
      }
      let room = max(0, Self.complaintLimit - complaints.count)
      complaints += buffer.prefix(min(Int(count), room))
    }
  }

  func readError(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    let count = min(complaints.count, buffer.count)
    guard count > 0 else { return outputEnded ? .endOfStream : .wouldBlock }
    buffer.copyBytes(from: complaints.prefix(count))
    complaints.removeFirst(count)
    return .bytes(count)
  }

  // MARK: Writing

  func write(_ buffer: UnsafeRawBufferPointer) throws(TransportError) -> CarrierResult {
    guard !isFreed else { throw gone }
    guard let start = buffer.baseAddress, buffer.count > 0 else { return .bytes(0) }
    if isStuck { return blocked }
    let count = ssh_channel_write(raw, start, UInt32(clamping: buffer.count))
    noteStuck()
    if count > 0 {
      blockedAt = nil
      return .bytes(Int(count))
    }
    if count == 0 || count == SSH_AGAIN { return blocked }
    // The far side reads no more, and may have said why: that is read yet.
    if session.isRefusal, !session.isOver { return .endOfStream }
    throw broken()
  }

  var room: Int? { isFreed ? nil : Int(ssh_channel_window_size(raw)) }

  private var blocked: CarrierResult {
    blockedAt = (session.bytesIn, session.bytesOut)
    return .wouldBlock
  }

  /// Whether libssh holds bytes that the socket does not take. Offers them to it.
  private var isStuck: Bool {
    guard session.hasUnsent else {
      if stuckAt != nil { alive.heard() }
      stuckAt = nil
      return false
    }
    noteStuck()
    return true
  }

  /// Only where there was no room before has the far side done something when there is some: what goes into an empty buffer tells nothing of it.
  private func noteStuck() {
    guard session.hasUnsent else { return }
    if let before = stuckAt, session.bytesOut != before { alive.heard() }
    stuckAt = session.bytesOut
    alive.asked()
  }

  func sendEndOfInput() throws(TransportError) -> CarrierResult {
    guard !isFreed else { throw gone }
    if inputEnded { return .bytes(0) }
    switch ssh_channel_send_eof(raw) {
    case SSH_OK, SSH_AGAIN:
      // Where it is not sent yet it lies behind what was written, and goes with it.
      inputEnded = true
      return .bytes(0)
    default: throw broken()
    }
  }

  // MARK: Waiting

  func pollDescriptors(wantsWrite: Bool) -> [(descriptor: Int32, events: Int16)] {
    var events = Int16(POLLIN)
    // This may move bytes either way, so it comes before the looks at what was moved.
    if !isFreed, session.hasUnsent { events |= Int16(POLLOUT) }
    var descriptors = [(descriptor: session.socket.number, events: events)]
    let mayRead = !outputEnded && quietAt != session.bytesIn
    let mayWrite = wantsWrite && blockedAt.map { $0 != (session.bytesIn, session.bytesOut) } ?? false
    if !isFreed, mayRead || mayWrite { descriptors.append((session.alwaysReady.descriptor, Int16(POLLIN))) }
    return descriptors
  }

  func keepAlive() throws(TransportError) -> Int {
    guard !isFreed else { throw gone }
    if let silence = session.silence { alive.update(millisecondsSinceData: silence) }
    if alive.isDead {
      throw .lostConnection(
        .timeout, "\(displayText(settings.host)) stopped answering", hint: "Check the NAS and the network; it is tried again.")
    }
    // Bytes that wait for room are question enough: their acknowledgement, or the lack of one, is the answer.
    if alive.isDue, !isStuck {
      // The call that follows an answer only takes note of it. Where one is still waited for, none is sent, and its silence counts.
      let before = session.bytesOut
      ssh_send_keepalive(session.raw)
      if session.bytesOut == before, !session.hasUnsent { ssh_send_keepalive(session.raw) }
      if session.isOver { throw broken() }
      alive.sent(really: true)
    }
    return alive.millisecondsToNext
  }

  // MARK: The end

  /// Nil where the server closed the channel without a word about it.
  func exitStatus() -> Int32? {
    guard outputEnded, !isFreed else { return nil }
    let deadline = Deadline(after: .seconds(2))
    while true {
      let status = ssh_channel_get_exit_status(raw)
      if status >= 0 { return status }
      guard ssh_channel_is_closed(raw) == 0, !session.isOver, !deadline.hasPassed else { return nil }
      let events = [(descriptor: session.socket.number, events: Int16(POLLIN))]
      guard waitUntilReady(events, interruption: session.interrupter.descriptor, deadline: deadline) == .ready else { return nil }
    }
  }

  /// Waits at most a second for the socket to take it: a channel whose end the far side does not hear of would count there for ever.
  func close() {
    guard !isFreed else { return }
    isFreed = true
    let deadline = Deadline(after: .seconds(1))
    while isBound, ssh_channel_close(raw) == SSH_AGAIN {
      let events = [(descriptor: session.socket.number, events: Int16(POLLIN | POLLOUT))]
      if waitUntilReady(events, interruption: session.interrupter.descriptor, deadline: deadline) != .ready {
        shutdown(session.socket.number, Int32(SHUT_RDWR))
        break
      }
    }
    ssh_channel_free(raw)
  }

  /// The connection goes: libssh frees the channel with it.
  func abandon() { isFreed = true }

  private var gone: TransportError {
    .lostConnection(.network, "the channel to \(displayText(settings.host)) is closed", hint: "It is opened again when it is needed.")
  }

  private func broken() -> TransportError { session.failure(while: "talking to \(displayText(settings.host))") }
}
