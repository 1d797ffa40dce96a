import Executors
import Glibc
import SyncModel
import Transport

/// One SFTP session: many requests in flight, replies matched by id.
///
/// The actor lives on a thread of its own. Between jobs the thread pumps: it hands the outbox to the channel, takes what has arrived,
/// gives each reply to whoever waits for it, and sleeps in `poll(2)` on the channel, the interrupter and its own queue. While it
/// sleeps it holds no reference to the client, so that a client nobody uses any more ends its thread and its connection.
package actor SFTPClient {
  /// Receives the reply to one request, or what ended the session. Called on the client's thread.
  typealias ReplyHandler = (Result<SFTPReply, TransportError>) -> Void

  private struct PendingRequest {
    let expects: SFTPReply.Kind
    let handler: ReplyHandler
  }

  private struct PollPlan: Sendable {
    var descriptors: [(descriptor: Int32, events: Int16)]
    /// Milliseconds, -1 for no limit.
    var timeout: Int
  }

  /// Replies to requests sent in one go. Belongs to the client's actor.
  private final class Gathering {
    private var replies: [SFTPReply?]
    private var left: Int
    private var failed: TransportError?
    private let done: CheckedContinuation<Result<[SFTPReply], TransportError>, Never>

    init(_ count: Int, _ done: CheckedContinuation<Result<[SFTPReply], TransportError>, Never>) {
      replies = Array(repeating: nil, count: count)
      left = count
      self.done = done
    }

    func answered(_ index: Int, _ result: Result<SFTPReply, TransportError>) {
      switch result {
      case .success(let reply): replies[index] = reply
      case .failure(let error): failed = error
      }
      left -= 1
      if left == 0 { done.resume(returning: failed.map { .failure($0) } ?? .success(replies.compactMap { $0 })) }
    }
  }

  /// What the server announced and what follows from it.
  struct Abilities {
    var extensions: Set<SFTPExtension> = []
    /// Bytes of one READ.
    var readSize = 32 * 1024
    /// Bytes of one WRITE.
    var writeSize = 32 * 1024
    var carrier = ""
    var server = ""
    var hostKeyFingerprint = ""
    var limits: SFTPLimits?
  }

  /// As given.
  package nonisolated let settings: SFTPSettings
  private nonisolated let executor: ThreadExecutor
  private nonisolated let interrupter: Interrupter
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private var connection: (any SSHConnection)?
  private var channel: (any SSHChannel)?
  private var frames = SFTPFrameBuffer()
  private var outbox = SFTPOutbox()
  private var pending: [UInt32: PendingRequest] = [:]
  private var nextID: UInt32 = 0
  private var versionHandler: ((Result<SFTPVersion, TransportError>) -> Void)?
  /// What ended the session; thrown by every later call.
  private var loss: TransportError?
  /// When a byte moved last, or the first request went into an idle session. Monotonic nanoseconds.
  private var progressed: UInt64 = 0
  private var patience: UInt64
  private var complaints: [UInt8] = []

  var abilities = Abilities()
  /// Bytes and packets of WRITEs not acknowledged yet.
  let writeWindow: SFTPWindow
  /// Small files being written, each with an open handle on the server.
  let putSlots: SFTPWindow
  var uploads: [UInt64: SFTPUpload] = [:]
  var nextUpload: UInt64 = 0
  /// Folders known to be there, so that thousands of files ask once.
  var knownFolders: Set<RemotePath> = []

  /// - Parameter interrupter: Wakes the client's thread and ends the session; the caller may fire it before and during `open`.
  package init(settings: SFTPSettings, interrupter: Interrupter = Interrupter()) {
    self.settings = settings
    self.interrupter = interrupter
    executor = ThreadExecutor(name: "sftp")
    patience = settings.connectTimeout.nanoseconds
    writeWindow = SFTPWindow(byteLimit: settings.windowBytes, countLimit: 4096)
    putSlots = SFTPWindow(byteLimit: .max, countLimit: 64)
  }

  isolated deinit {
    tearDown()
    executor.shutdown()
  }

  // MARK: Life

  /// Connects, opens the subsystem and agrees on the protocol. Called once.
  package func open(_ connector: SSHConnector) async throws(TransportError) {
    try check()
    do {
      let connection = try connector(settings, interrupter)
      self.connection = connection
      channel = try connection.openChannel(.sftp)
      abilities.carrier = connection.carrier
      abilities.server = connection.serverIdentification
      abilities.hostKeyFingerprint = connection.hostKeyFingerprint
    } catch {
      lose(error)
      throw error
    }
    // The executor holds the pump, so the pump holds no executor; and `self` is let go of before the wait.
    executor.setPump { [weak self, interrupter, wake = executor.wakeDescriptor] in
      guard let plan = self?.serviceFromPump() else { return }
      Self.wait(plan, wake, interrupter.descriptor)
    }
    outbox.append(packet: SFTPRequest.initialPacket)
    progressed = Self.now()
    let answer = await withCheckedContinuation { continuation in
      versionHandler = { continuation.resume(returning: $0) }
    }
    let version = try answer.get()
    guard version.version == 3 else {
      let error = Self.lost(
        .protocol, "the server speaks SFTP version \(version.version), not 3", hint: "Update the NAS's SSH server.")
      lose(error)
      throw error
    }
    abilities.extensions = version.extensions
    if version.extensions.contains(.limits) { try await learnLimits() }
    patience = settings.progressTimeout.nanoseconds
  }

  /// Over a short way a smaller window fills the line as well, and what lies in it costs the server time: OpenSSH's keeps what is not read yet in one
  /// piece of memory, which it copies whole whenever it grows. In bytes.
  private static let shortWindow = 1 << 20

  private func learnLimits() async throws(TransportError) {
    let asked = Self.now()
    guard case .extended(let body) = try await ask(.limits) else { return }
    if Self.now() - asked < RoundTrip.long { writeWindow.setByteLimit(min(Self.shortWindow, settings.windowBytes)) }
    let limits: SFTPLimits
    do {
      limits = try SFTPLimits(decoding: body)
    } catch {
      throw violated("limits: \(error)")
    }
    abilities.limits = limits
    frames.raiseLimit(to: limits.packetLength)
    // 255 KiB is what OpenSSH takes; more brings nothing. A server that names less than 4 KiB is not believed.
    if limits.readLength >= 4096 { abilities.readSize = Int(min(limits.readLength, 255 * 1024)) }
    if limits.writeLength >= 4096 { abilities.writeSize = Int(min(limits.writeLength, 255 * 1024)) }
    if limits.openHandles > 0 { putSlots.setCountLimit(Int(min(limits.openHandles / 2, 256))) }
  }

  /// Makes every call in flight throw at once. From any thread; waits for nothing.
  package nonisolated func interrupt() { interrupter.interrupt() }

  /// Ends the session. What is in flight throws; later calls throw.
  package func close() {
    lose(Self.lost(.interrupted, "the session was closed", hint: "Open another one."))
  }

  /// - Throws: what ended the session.
  func check() throws(TransportError) {
    if interrupter.isInterrupted { lose(Self.interrupted) }
    if let loss { throw loss }
  }

  private static let interrupted = lost(.interrupted, "the transfer was interrupted", hint: "It continues where it stopped.")

  static func lost(_ kind: SyncFailure.Kind, _ message: String, hint: String) -> TransportError {
    .failure(SyncFailure(kind, message, hint: hint), sessionLost: true)
  }

  /// Ends the session because the server broke the protocol.
  func violated(_ what: String) -> TransportError {
    let error = Self.lost(
      .protocol, "the NAS does not keep to the SFTP protocol: \(what)", hint: "Try again; if it repeats, update the NAS's SSH server.")
    lose(error)
    return error
  }

  private func lose(_ error: TransportError) {
    guard loss == nil else { return }
    loss = error
    let orphans = pending
    pending = [:]
    outbox.removeAll()
    versionHandler?(.failure(error))
    versionHandler = nil
    for (_, request) in orphans { request.handler(.failure(error)) }
    writeWindow.fail(error)
    putSlots.fail(error)
    tearDown()
  }

  private func tearDown() {
    channel?.close()
    channel = nil
    connection?.close()
    connection = nil
  }

  // MARK: Requests

  /// Puts a request into the outbox. `handler` is called exactly once.
  func send(_ request: SFTPRequest, payload: ArraySlice<UInt8> = [], then handler: @escaping ReplyHandler) {
    if let loss {
      handler(.failure(loss))
      return
    }
    if pending.isEmpty { progressed = Self.now() }
    // After 2^32 requests an id may still be taken.
    while pending[nextID] != nil { nextID &+= 1 }
    pending[nextID] = PendingRequest(expects: request.expects, handler: handler)
    outbox.append(request, id: nextID, payload: payload)
    nextID &+= 1
  }

  /// Sends one request and waits for its reply.
  func ask(_ request: SFTPRequest) async throws(TransportError) -> SFTPReply {
    try check()
    return try await withCheckedContinuation { continuation in
      send(request) { continuation.resume(returning: $0) }
    }.get()
  }

  /// Sends requests in one go and waits for all the replies, which are in the requests' order.
  func ask(all requests: [SFTPRequest]) async throws(TransportError) -> [SFTPReply] {
    try check()
    guard !requests.isEmpty else { return [] }
    return try await withCheckedContinuation { continuation in
      let gathering = Gathering(requests.count, continuation)
      for (index, request) in requests.enumerated() { send(request) { gathering.answered(index, $0) } }
    }.get()
  }

  /// Sends a request whose only answer is a status.
  func status(of request: SFTPRequest) async throws(TransportError) -> SFTPStatus {
    guard case .status(let status) = try await ask(request) else { throw violated("a reply of the wrong type") }
    return status
  }

  /// Sends a request whose answer nobody needs: closing what was only read.
  func dismiss(_ request: SFTPRequest) { send(request) { _ in } }

  /// Waits for room in a window.
  func take(_ size: Int, in window: SFTPWindow) async throws(TransportError) {
    try check()
    if window.take(size) { return }
    try await withCheckedContinuation { window.wait(size, $0) }.get()
  }

  // MARK: The pump

  private nonisolated func serviceFromPump() -> PollPlan? { assumeIsolated { $0.service() } }

  /// Moves what can be moved. Returns what to wait for, or nil where there is work at once.
  private func service() -> PollPlan? {
    guard loss == nil, let channel else { return PollPlan(descriptors: [], timeout: -1) }
    do throws(TransportError) {
      var moved: Bool
      repeat {
        if interrupter.isInterrupted { throw Self.interrupted }
        let sent = try flush(channel)
        let received = try receive(channel)
        moved = sent || received
        if moved { progressed = Self.now() }
        // A reply may have ended the session; and those who were answered go first.
        if loss != nil || executor.hasJobs { return nil }
      } while moved
      try collectComplaints(channel)
      var timeout = try channel.keepAlive()
      if !pending.isEmpty || versionHandler != nil {
        let waited = Self.now() &- progressed
        guard waited < patience else { throw stalled() }
        timeout = min(timeout, Int((patience - waited) / 1_000_000) + 1)
      }
      return PollPlan(descriptors: channel.pollDescriptors(wantsWrite: !outbox.isEmpty), timeout: max(timeout, 1))
    } catch {
      lose(error)
      return nil
    }
  }

  private func stalled() -> TransportError {
    let seconds = Double(patience) / 1e9
    return Self.lost(
      .timeout, "\(displayText(settings.host)) has not moved a byte for \(seconds) s",
      hint: "Look whether the NAS is overloaded or the network is cut; the transfer continues where it stopped.")
  }

  private func flush(_ channel: any SSHChannel) throws(TransportError) -> Bool {
    var moved = false
    while !outbox.isEmpty {
      let taken = try outbox.drain { (bytes) throws(TransportError) -> Int in
        switch try channel.write(bytes) {
        case .bytes(let count): return count
        case .wouldBlock: return 0
        case .endOfStream: throw try closedByServer(channel)
        }
      }
      if taken == 0 { return moved }
      moved = true
    }
    return moved
  }

  private func receive(_ channel: any SSHChannel) throws(TransportError) -> Bool {
    var received = 0
    var ended = false
    try frames.receive { (buffer) throws(TransportError) -> Int in
      switch try channel.read(into: buffer) {
      case .bytes(let count): received = count
      case .wouldBlock: break
      case .endOfStream: ended = true
      }
      return received
    }
    if ended { throw try closedByServer(channel) }
    guard received > 0 else { return false }
    do throws(SFTPMalformed) {
      if versionHandler != nil {
        guard let version = try frames.next({ (packet) throws(SFTPMalformed) in try SFTPVersion(decoding: packet) }) else { return true }
        let handler = versionHandler
        versionHandler = nil
        handler?(.success(version))
      }
      while loss == nil, let (id, reply) = try frames.next({ (packet) throws(SFTPMalformed) in try SFTPReply.decode(packet) }) {
        try dispatch(reply, id: id)
      }
    } catch {
      throw violated(error.reason)
    }
    return true
  }

  private func dispatch(_ reply: SFTPReply, id: UInt32) throws(SFTPMalformed) {
    guard let request = pending.removeValue(forKey: id) else { throw SFTPMalformed("a reply to request \(id), which was not asked") }
    switch reply {
    case .status(let status):
      guard request.expects == .status || !status.isOK else {
        request.handler(.failure(violated("success where an answer was asked for")))
        return
      }
    default:
      guard reply.kind == request.expects else {
        request.handler(.failure(violated("a reply of the wrong type")))
        return
      }
    }
    request.handler(.success(reply))
  }

  /// Standard error of the subsystem: read so that it does not fill the channel's window, the last part kept for a failure's text.
  private func collectComplaints(_ channel: any SSHChannel) throws(TransportError) {
    var buffer = [UInt8](repeating: 0, count: 1024)
    while true {
      let result: Result<CarrierResult, TransportError> = buffer.withUnsafeMutableBytes { bytes in
        do throws(TransportError) { return .success(try channel.readError(into: bytes)) } catch { return .failure(error) }
      }
      guard case .bytes(let count) = try result.get(), count > 0 else { return }
      complaints.append(contentsOf: buffer.prefix(count))
      if complaints.count > 2048 { complaints.removeFirst(complaints.count - 2048) }
    }
  }

  private func closedByServer(_ channel: any SSHChannel) throws(TransportError) -> TransportError {
    try collectComplaints(channel)
    let words = complaints.isEmpty ? "" : ": “\(displayText(of: complaints.suffix(300)))”"
    return Self.lost(
      .network, "\(displayText(settings.host)) ended the SFTP session\(words)",
      hint: "Look whether the NAS is up and offers SFTP to this user; the transfer continues where it stopped.")
  }

  private static func wait(_ plan: PollPlan, _ wake: Int32, _ interruption: Int32) {
    var set = plan.descriptors.map { pollfd(fd: $0.descriptor, events: $0.events, revents: 0) }
    set.append(pollfd(fd: wake, events: Int16(POLLIN), revents: 0))
    // Once interrupted, that descriptor stays readable: a session that has ended waits for its jobs only.
    if !plan.descriptors.isEmpty { set.append(pollfd(fd: interruption, events: Int16(POLLIN), revents: 0)) }
    _ = poll(&set, nfds_t(set.count), Int32(clamping: plan.timeout))
  }

  private static func now() -> UInt64 { SystemClock().monotonicNanoseconds }
}

extension Duration {
  /// Whole nanoseconds, 0 for a negative duration.
  fileprivate var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? .max : whole &+ UInt64(attoseconds) / 1_000_000_000
  }
}
