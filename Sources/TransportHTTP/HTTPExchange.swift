import CCurl
import Glibc
import SyncModel
import Transport

/// One request and its answer, as libcurl's callbacks see it. Belongs to the client's actor; the callbacks run on its thread.
final class HTTPExchange {
  /// What it occupies: a stream holds a connection for as long as its caller likes.
  enum Kind { case bounded, upload, download }

  enum Phase { case waiting, connecting, sending, answering, receiving }

  /// Bytes of one answer's header lines, 1xx answers included.
  static let headerLimit = 64 * 1024
  /// Bytes handed over and not taken yet, each way.
  static let window = 1 << 20
  /// A trickle of less than this a deadline is no progress.
  static let leastProgress = 1024
  /// A server that copies a whole body after its last byte came is expected to do so at this rate. Bytes a second.
  static let copyingRate: UInt64 = 20_000_000

  let id: UInt64
  let request: HTTPRequest
  let kind: Kind
  var easy: CurlEasy?
  var headerLines: CurlHeaders?

  // What goes out.
  private var whole: [UInt8] = []
  private var outbox: [[UInt8]] = []
  private var outboxHead = 0
  private var position = 0
  private(set) var outboxBytes = 0
  private var bodyEnded = false
  private(set) var readPaused = false
  private(set) var sent: UInt64 = 0

  // What comes in.
  private(set) var status = 0
  private var headers: [(name: String, value: String)] = []
  private var headerBytes = 0
  /// The empty line after the header lines of the answer has come.
  private(set) var headersComplete = false
  private var body: [UInt8] = []
  private var inbox: [[UInt8]] = []
  private var inboxBytes = 0
  private(set) var writePaused = false
  /// How the server broke its bounds, where it did.
  private(set) var violation: String?
  /// An error page was long enough.
  private(set) var truncated = false

  // Liveness. Monotonic nanoseconds.
  private(set) var phase = Phase.waiting
  private var deadline: UInt64 = .max
  private var moved = 0
  private let connectPatience: UInt64
  private let patience: UInt64

  var result: Result<HTTPResponse, TransportError>?
  var completion: CheckedContinuation<Void, Never>?
  var roomWaiter: CheckedContinuation<Void, Never>?
  var dataWaiter: CheckedContinuation<Void, Never>?

  init(id: UInt64, _ request: HTTPRequest, _ kind: Kind, settings: HTTPSettings) {
    self.id = id
    self.request = request
    self.kind = kind
    // libcurl's own limit comes first and knows more to say.
    connectPatience = settings.connectTimeout.nanoseconds &+ 500_000_000
    patience = settings.progressTimeout.nanoseconds
    if case .bytes(let bytes) = request.body { whole = bytes }
  }

  // MARK: Liveness

  static func now() -> UInt64 { SystemClock().monotonicNanoseconds }

  private func renew(_ span: UInt64) {
    let (moment, overflow) = Self.now().addingReportingOverflow(span)
    deadline = overflow ? .max : moment
    moved = 0
  }

  func begin() {
    phase = .connecting
    renew(connectPatience)
  }

  /// libcurl has a connection and is about to send the request.
  fileprivate func connected() {
    // libcurl does not ask for a body that is empty.
    switch request.body {
    case .none, .stream(length: 0): return awaitAnswer()
    case .bytes(let bytes) where bytes.isEmpty: return awaitAnswer()
    default: break
    }
    phase = .sending
    renew(patience)
  }

  private func awaitAnswer() {
    phase = .answering
    renew(patience &* UInt64(max(1, request.patience)) &+ sent / Self.copyingRate &* 1_000_000_000)
  }

  private func progressed(_ count: Int) {
    moved += count
    if moved >= Self.leastProgress { renew(patience) }
  }

  /// Nanoseconds until the exchange counts as dead; nil while it waits for its own side.
  func timeLeft(at now: UInt64) -> UInt64? {
    if deadline == .max || writePaused || (readPaused && outboxBytes == 0 && phase == .sending) { return nil }
    return deadline > now ? deadline - now : 0
  }

  // MARK: Going out

  /// Bytes from the caller.
  /// - Returns: Whether libcurl waits for them.
  func hand(_ chunk: [UInt8]) -> Bool {
    outbox.append(chunk)
    outboxBytes += chunk.count
    return resume()
  }

  /// The caller has no more.
  func endBody() -> Bool {
    bodyEnded = true
    return resume()
  }

  private func resume() -> Bool {
    guard readPaused else { return false }
    readPaused = false
    renew(patience)
    return true
  }

  fileprivate func supply(_ buffer: UnsafeMutableRawBufferPointer) -> Int {
    guard case .stream(let length) = request.body else {
      let count = min(buffer.count, whole.count - position)
      whole.withUnsafeBytes { buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[position..<position + count])) }
      position += count
      sent = UInt64(position)
      progressed(count)
      if position == whole.count { awaitAnswer() }
      return count
    }
    var filled = 0
    while filled < buffer.count, outboxHead < outbox.count {
      let chunk = outbox[outboxHead]
      let count = min(buffer.count - filled, chunk.count - position)
      chunk.withUnsafeBytes { bytes in
        UnsafeMutableRawBufferPointer(rebasing: buffer[filled...]).copyMemory(
          from: UnsafeRawBufferPointer(rebasing: bytes[position..<position + count]))
      }
      filled += count
      position += count
      if position == chunk.count {
        outbox[outboxHead] = []
        outboxHead += 1
        position = 0
      }
    }
    if outboxHead == outbox.count {
      outbox.removeAll(keepingCapacity: true)
      outboxHead = 0
    }
    outboxBytes -= filled
    sent += UInt64(filled)
    if filled > 0 {
      progressed(filled)
      if sent == length { awaitAnswer() }
    } else if bodyEnded {
      awaitAnswer()
    } else {
      readPaused = true
    }
    if outboxBytes < Self.window {
      roomWaiter?.resume()
      roomWaiter = nil
    }
    return filled > 0 || bodyEnded ? filled : Int(CURL_READFUNC_PAUSE)
  }

  /// libcurl wants to send the body from its start again: after a challenge, or on a new connection where a kept one was closed meanwhile.
  fileprivate func rewind(to offset: Int64) -> Bool {
    switch request.body {
    case .none: return offset == 0
    case .bytes:
      guard offset >= 0, offset <= whole.count else { return false }
      position = Int(offset)
      return true
    case .stream: return offset == 0 && sent == 0
    }
  }

  // MARK: Coming in

  /// One line of an answer's head, with its end.
  /// - Returns: Whether the transfer goes on.
  func header(_ line: UnsafeRawBufferPointer) -> Bool {
    headerBytes += line.count
    guard headerBytes <= Self.headerLimit else {
      violation = "more than \(Self.headerLimit / 1024) KiB of header lines"
      return false
    }
    var bytes = line[...]
    while let last = bytes.last, last == 0x0d || last == 0x0a { bytes = bytes.dropLast() }
    if bytes.starts(with: Array("HTTP/".utf8)) {
      // Another answer begins: the one before was 1xx, or a challenge.
      headers = []
      headersComplete = false
      let words = bytes.split(separator: 0x20, maxSplits: 2)
      status = words.count > 1 ? Int(String(decoding: words[1], as: UTF8.self)) ?? 0 : 0
    } else if bytes.isEmpty {
      guard status >= 200 else { return true }
      headersComplete = true
      // While the body still goes out, its own progress counts.
      if phase != .sending {
        phase = .receiving
        renew(patience)
      }
    } else if let colon = bytes.firstIndex(of: UInt8(ascii: ":")) {
      let value = String(decoding: bytes[(colon + 1)...], as: UTF8.self)
      let trimmed = value.drop { $0 == " " || $0 == "\t" }
      headers.append((String(decoding: bytes[..<colon], as: UTF8.self), String(trimmed)))
    }
    return true
  }

  /// What the answer's first lines said.
  var head: HTTPResponse { HTTPResponse(status: status, headers: headers) }

  /// Whether the body is for the caller of `download` rather than an error page.
  private var streams: Bool { kind == .download && request.streamed.contains(status) }

  /// - Returns: The bytes taken, `CURL_WRITEFUNC_PAUSE`, or 0 to give up.
  func receive(_ bytes: UnsafeRawBufferPointer) -> Int {
    if streams {
      if inboxBytes >= Self.window {
        writePaused = true
        return Int(CURL_WRITEFUNC_PAUSE)
      }
      inbox.append(Array(bytes))
      inboxBytes += bytes.count
      progressed(bytes.count)
      dataWaiter?.resume()
      dataWaiter = nil
      return bytes.count
    }
    guard body.count + bytes.count <= request.bodyLimit else {
      if status >= 300 { truncated = true } else { violation = "a body of more than \(request.bodyLimit) bytes" }
      return 0
    }
    body.append(contentsOf: bytes)
    progressed(bytes.count)
    return bytes.count
  }

  /// What has arrived for the caller.
  /// - Returns: The bytes, and whether libcurl waits for room.
  func takeInbox() -> (chunk: [UInt8], resumes: Bool) {
    var chunk = inbox.first ?? []
    if inbox.count > 1 {
      chunk.reserveCapacity(inboxBytes)
      for piece in inbox.dropFirst() { chunk += piece }
    }
    inbox = []
    inboxBytes = 0
    guard writePaused else { return (chunk, false) }
    writePaused = false
    renew(patience)
    return (chunk, true)
  }

  /// The whole answer.
  var response: HTTPResponse { HTTPResponse(status: status, headers: headers, body: body) }

  /// Wakes everybody who waits for this exchange.
  func conclude(_ result: Result<HTTPResponse, TransportError>) {
    guard self.result == nil else { return }
    self.result = result
    outbox = []
    whole = []
    for waiter in [completion, roomWaiter, dataWaiter] { waiter?.resume() }
    completion = nil
    roomWaiter = nil
    dataWaiter = nil
  }
}

// MARK: - What libcurl calls

extension HTTPExchange {
  /// Gives libcurl this exchange and its functions.
  func attach(to easy: CurlEasy) throws(TransportError) {
    let me = Unmanaged.passUnretained(self).toOpaque()
    let raw = easy.raw
    for option in [CURLOPT_READDATA, CURLOPT_WRITEDATA, CURLOPT_HEADERDATA, CURLOPT_SEEKDATA, CURLOPT_PREREQDATA, CURLOPT_PRIVATE] {
      try easy.check(nassync_curl_set_pointer(raw, option, me), option)
    }
    try easy.check(
      nassync_curl_set_transfer(raw, CURLOPT_READFUNCTION) { bytes, size, count, context in
        guard let bytes, let exchange = HTTPExchange.from(context) else { return Int(CURL_READFUNC_ABORT) }
        return exchange.supply(UnsafeMutableRawBufferPointer(start: bytes, count: size * count))
      }, CURLOPT_READFUNCTION)
    try easy.check(
      nassync_curl_set_transfer(raw, CURLOPT_WRITEFUNCTION) { bytes, size, count, context in
        guard let bytes, let exchange = HTTPExchange.from(context) else { return 0 }
        return exchange.receive(UnsafeRawBufferPointer(start: bytes, count: size * count))
      }, CURLOPT_WRITEFUNCTION)
    try easy.check(
      nassync_curl_set_transfer(raw, CURLOPT_HEADERFUNCTION) { bytes, size, count, context in
        guard let bytes, let exchange = HTTPExchange.from(context) else { return 0 }
        return exchange.header(UnsafeRawBufferPointer(start: bytes, count: size * count)) ? size * count : 0
      }, CURLOPT_HEADERFUNCTION)
    try easy.check(
      nassync_curl_set_seek(raw) { context, offset, origin in
        guard origin == SEEK_SET, let exchange = HTTPExchange.from(context), exchange.rewind(to: Int64(offset)) else {
          return CURL_SEEKFUNC_FAIL
        }
        return CURL_SEEKFUNC_OK
      }, CURLOPT_SEEKFUNCTION)
    try easy.check(
      nassync_curl_set_connected(raw) { context, _, _, _, _ in
        HTTPExchange.from(context)?.connected()
        return Int32(CURL_PREREQFUNC_OK)
      }, CURLOPT_PREREQFUNCTION)
  }

  private static func from(_ context: UnsafeMutableRawPointer?) -> HTTPExchange? {
    context.map { Unmanaged<HTTPExchange>.fromOpaque($0).takeUnretainedValue() }
  }
}

extension Duration {
  /// Whole nanoseconds; 0 for a negative duration, some centuries for anything longer.
  var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? .max / 4 : min(whole, .max / 4) &+ UInt64(attoseconds / 1_000_000_000)
  }
}
