import CCurl
import Executors
import Glibc
import SyncModel
import Transport

/// A body on its way to the server, known to the client that began it only.
package struct HTTPUpload: Hashable, Sendable {
  let id: UInt64
}

/// Requests to one HTTP server: many in flight on kept connections, over libcurl's multi interface. Knows nothing of WebDAV, S3 or runs.
///
/// The actor lives on a thread of its own. Between jobs the thread pumps: libcurl moves what can be moved and calls back into the
/// exchanges, finished ones wake their callers, and the thread sleeps in `curl_multi_poll` on the sockets, the interrupter and its own
/// queue. While it sleeps it holds no reference to the client, so that a client nobody uses any more ends its thread and connections.
///
/// What a driver may rely on:
/// - Nothing is retried but a request on a kept connection that turns out to be closed before a byte of an answer came; so a request that
///   is not idempotent may have been done although its answer says that it cannot be done (again).
/// - No redirection is followed, no proxy of the environment is used, no cookie is kept, nothing but HTTP/1.1 is spoken, and credentials go
///   to the one origin only. TLS 1.2 or later with a certificate that holds, a pin in addition.
/// - Memory is bounded: 64 KiB of header lines and `bodyLimit` bytes a request, 1 MiB each way a stream.
/// - A request on which nothing moves ends the client with `timeout`; any other failure is of its request alone (`sessionLost` false).
package actor HTTPClient {
  private struct PollPlan: Sendable {
    var multi: CurlMulti?
    /// Milliseconds.
    var timeout: Int
  }

  /// As given.
  package nonisolated let settings: HTTPSettings
  /// What answers of this server mean.
  package nonisolated let failures: HTTPFailures
  private nonisolated let executor: ThreadExecutor
  private nonisolated let interrupter: Interrupter
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private var multi: CurlMulti?
  private var credentials = HTTPCredentials.none
  /// Configured handles that carry nothing at the moment. One that has answered a Digest challenge keeps what it learnt.
  private var idle: [CurlEasy] = []
  private var active: [UInt64: HTTPExchange] = [:]
  private var streams = HTTPLine()
  private var requests = HTTPLine()
  private var activeStreams = 0
  private var uploads: [UInt64: HTTPExchange] = [:]
  private var nextID: UInt64 = 0
  /// What ended the client; thrown by every later call.
  private var loss: TransportError?
  /// The server answered 417 once: it is not asked for permission again.
  private var expects = true

  /// - Parameter interrupter: Wakes the client's thread and ends it; the caller may fire it at any time.
  package init(settings: HTTPSettings, interrupter: Interrupter = Interrupter()) {
    self.settings = settings
    self.interrupter = interrupter
    failures = HTTPFailures(settings)
    executor = ThreadExecutor(name: "http")
  }

  isolated deinit {
    for exchange in active.values { detach(exchange, keepsHandle: false) }
    idle = []
    multi = nil
    executor.shutdown()
  }

  // MARK: Life

  /// Opens a session over a client of its own, which ends with the caller's task or where the session cannot be opened.
  package static func session<Session: Sendable>(
    _ settings: HTTPSettings, _ open: @Sendable (HTTPClient) async throws(TransportError) -> Session
  ) async throws(TransportError) -> Session {
    let interrupter = Interrupter()
    let client = HTTPClient(settings: settings, interrupter: interrupter)
    let opened: Result<Session, TransportError> = await withTaskCancellationHandler {
      do throws(TransportError) {
        try await client.open()
        return .success(try await open(client))
      } catch {
        await client.close()
        return .failure(error)
      }
    } onCancel: {
      interrupter.interrupt()
    }
    return try opened.get()
  }

  /// Fetches the credentials and makes the client ready; connects nowhere yet. Called once.
  package func open() throws(TransportError) {
    try check()
    guard settings.origin.scheme == .https || settings.allowsPlainHTTP else {
      let error = HTTPFailures.lost(
        .misconfigured, "\(settings.origin) is not encrypted", hint: "Use https, or write `insecure: true` where nobody else can listen.")
      lose(error)
      throw error
    }
    do throws(SyncFailure) { credentials = try settings.credentials() } catch {
      lose(.failure(error, sessionLost: true))
      throw .failure(error, sessionLost: true)
    }
    let first = try CurlEasy()
    do throws(TransportError) { try configure(first) } catch {
      lose(error)
      throw error
    }
    guard let multi = CurlMulti() else { throw HTTPFailures.lost(.local, "libcurl cannot start", hint: "It is tried again.") }
    nassync_curl_multi_set_long(multi.raw, CURLMOPT_MAXCONNECTS, settings.connections + 1)
    nassync_curl_multi_set_long(multi.raw, CURLMOPT_PIPELINING, 0)
    idle = [first]
    self.multi = multi
    // The executor holds the pump, so the pump holds no executor; and `self` is let go of before the wait.
    executor.setPump { [weak self, interrupter, wake = executor.wakeDescriptor] in
      guard let plan = self?.serviceFromPump() else { return }
      Self.wait(plan, wake, interrupter.descriptor)
    }
  }

  /// Makes every call in flight throw at once. From any thread; waits for nothing.
  package nonisolated func interrupt() { interrupter.interrupt() }

  /// Ends the client. What is in flight throws; later calls throw.
  package func close() { lose(HTTPFailures.lost(.interrupted, "the session was closed", hint: "Open another one.")) }

  /// - Throws: what ended the client.
  package func check() throws(TransportError) {
    if interrupter.isInterrupted { lose(Self.interrupted) }
    if let loss { throw loss }
  }

  private static let interrupted = HTTPFailures.lost(
    .interrupted, "the transfer was interrupted", hint: "It is begun again at the next start.")

  private func lose(_ error: TransportError) {
    guard loss == nil else { return }
    loss = error
    let orphans = Array(active.values) + streams.removeAll() + requests.removeAll()
    // Who waits is told first: ending connections may take a moment.
    for exchange in orphans { exchange.conclude(.failure(error)) }
    for exchange in orphans { detach(exchange, keepsHandle: false) }
    uploads = [:]
    idle = []
    credentials = .none
    multi = nil
  }

  // MARK: Requests

  /// Sends a request and waits for the whole answer, whatever its status.
  package func perform(_ request: HTTPRequest) async throws(TransportError) -> HTTPResponse {
    let exchange = try enqueue(request, .bounded)
    return try await answer(to: exchange)
  }

  private func answer(to exchange: HTTPExchange) async throws(TransportError) -> HTTPResponse {
    if exchange.result == nil { await withCheckedContinuation { exchange.completion = $0 } }
    guard let result = exchange.result else { throw failures.violated("an answer that got lost") }
    return try result.get()
  }

  /// Sends a request and passes the body of a 200 or 206 on as it comes, at most 1 MiB ahead of its taker.
  /// - Parameter body: Called with the head of the answer and successive pieces, in order.
  /// - Returns: The answer; with another status its body, as far as it is kept.
  /// - Throws: what `body` throws, after the connection was given up.
  package func download(
    _ request: HTTPRequest, _ body: @Sendable (HTTPResponse, [UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) -> HTTPResponse {
    let exchange = try enqueue(request, .download)
    while true {
      let (chunk, resumes) = exchange.takeInbox()
      // May call back and fill the inbox at once.
      if resumes, let easy = exchange.easy { curl_easy_pause(easy.raw, 0) }
      if !chunk.isEmpty {
        do throws(SyncFailure) { try await body(exchange.head, chunk) } catch {
          giveUp(exchange)
          throw .failure(error, sessionLost: false)
        }
        continue
      }
      if let result = exchange.result { return try result.get() }
      await withCheckedContinuation { exchange.dataWaiter = $0 }
    }
  }

  /// Begins a request whose body is handed over piece by piece. Returns at once.
  package func upload(_ request: HTTPRequest) throws(TransportError) -> HTTPUpload {
    let exchange = try enqueue(request, .upload)
    uploads[exchange.id] = exchange
    return HTTPUpload(id: exchange.id)
  }

  /// Takes bytes of an upload's body, and waits while 1 MiB of it is on its way.
  /// - Returns: The answer, where the server gave one before it had everything: the upload is over then.
  package func write(_ chunk: [UInt8], to upload: HTTPUpload) async throws(TransportError) -> HTTPResponse? {
    let exchange = try find(upload)
    while exchange.result == nil, exchange.outboxBytes > 0, exchange.outboxBytes + chunk.count > HTTPExchange.window {
      await withCheckedContinuation { exchange.roomWaiter = $0 }
    }
    if let result = exchange.result { return try result.get() }
    if !chunk.isEmpty, exchange.hand(chunk), let easy = exchange.easy { curl_easy_pause(easy.raw, 0) }
    return nil
  }

  /// Ends an upload's body and waits for the answer.
  package func finish(_ upload: HTTPUpload) async throws(TransportError) -> HTTPResponse {
    let exchange = try find(upload)
    uploads[upload.id] = nil
    if case .stream(let length?) = exchange.request.body, exchange.sent + UInt64(exchange.outboxBytes) != length, exchange.result == nil {
      giveUp(exchange)
      throw .failure(
        SyncFailure(.protocol, "a body ended early", hint: "It is sent again."), sessionLost: false)
    }
    if exchange.result == nil, exchange.endBody(), let easy = exchange.easy { curl_easy_pause(easy.raw, 0) }
    let response = try await answer(to: exchange)
    if case .stream(let length?) = exchange.request.body, response.isSuccess, exchange.sent != length {
      throw failures.violated("success before the whole body had come")
    }
    return response
  }

  /// Gives an upload up: the connection is cut, so that the server knows that the body is not whole.
  package func abandon(_ upload: HTTPUpload) {
    guard let exchange = uploads.removeValue(forKey: upload.id) else { return }
    giveUp(exchange)
  }

  private func find(_ upload: HTTPUpload) throws(TransportError) -> HTTPExchange {
    try check()
    guard let exchange = uploads[upload.id] else {
      throw .failure(SyncFailure(.protocol, "the upload is over", hint: "Begin it again."), sessionLost: false)
    }
    return exchange
  }

  private func giveUp(_ exchange: HTTPExchange) {
    streams.remove(exchange)
    requests.remove(exchange)
    detach(exchange, keepsHandle: false)
    exchange.conclude(
      .failure(.failure(SyncFailure(.interrupted, "the transfer was given up", hint: "Begin it again."), sessionLost: false)))
    startWaiting()
  }

  private func enqueue(_ request: HTTPRequest, _ kind: HTTPExchange.Kind) throws(TransportError) -> HTTPExchange {
    try check()
    guard multi != nil else { throw HTTPFailures.lost(.protocol, "the HTTP client is not open", hint: "Report this.") }
    nextID += 1
    let exchange = HTTPExchange(id: nextID, request, kind, settings: settings)
    if kind == .bounded { requests.append(exchange) } else { streams.append(exchange) }
    startWaiting()
    return exchange
  }

  // MARK: In flight

  /// Streams may take every connection; short requests share what is left, and have one of their own when nothing is: a stream waits for its
  /// caller, who may be waiting for such a request.
  private func startWaiting() {
    while loss == nil, activeStreams < settings.connections, let next = streams.next() { start(next) }
    while loss == nil, active.count - activeStreams < max(1, settings.connections - activeStreams), let next = requests.next() {
      start(next)
    }
  }

  private func start(_ exchange: HTTPExchange) {
    guard let multi else { return }
    do throws(TransportError) {
      let easy: CurlEasy
      if let kept = idle.popLast() {
        easy = kept
      } else {
        easy = try CurlEasy()
        try configure(easy)
      }
      try prepare(easy, for: exchange)
      exchange.easy = easy
      guard curl_multi_add_handle(multi.raw, easy.raw) == CURLM_OK else {
        exchange.easy = nil
        throw failures.failure(CURLE_OUT_OF_MEMORY, "")
      }
    } catch {
      exchange.conclude(.failure(error))
      return
    }
    active[exchange.id] = exchange
    if exchange.kind != .bounded { activeStreams += 1 }
    exchange.begin()
  }

  /// What every request of this client has in common.
  private func configure(_ easy: CurlEasy) throws(TransportError) {
    let protocols = settings.allowsPlainHTTP ? "http,https" : "https"
    try easy.set(CURLOPT_PROTOCOLS_STR, protocols)
    try easy.set(CURLOPT_REDIR_PROTOCOLS_STR, protocols)
    try easy.set(CURLOPT_FOLLOWLOCATION, 0)
    // Whatever the environment says: a proxy would see the names of the runs, and is no place for credentials.
    try easy.set(CURLOPT_PROXY, "")
    try easy.set(CURLOPT_NOPROXY, "*")
    try easy.set(CURLOPT_NOSIGNAL, 1)
    try easy.set(CURLOPT_QUICK_EXIT, 1)
    // HTTP/2 before libcurl 8.7 can lose a part of an upload that it repeats; it is slower, too.
    try easy.set(CURLOPT_HTTP_VERSION, nassync_curl_http11)
    try easy.set(CURLOPT_PATH_AS_IS, 1)
    try easy.set(CURLOPT_CONNECTTIMEOUT_MS, max(1, Int(settings.connectTimeout.nanoseconds / 1_000_000)))
    try easy.set(CURLOPT_TCP_KEEPALIVE, 1)
    try easy.set(CURLOPT_BUFFERSIZE, 256 * 1024)
    try easy.set(CURLOPT_UPLOAD_BUFFERSIZE, 256 * 1024)
    try easy.set(CURLOPT_USERAGENT, "nassync")
    try easy.set(CURLOPT_SSLVERSION, nassync_curl_tls12)
    try easy.set(CURLOPT_SSL_VERIFYPEER, 1)
    try easy.set(CURLOPT_SSL_VERIFYHOST, 2)
    if let file = settings.caFile {
      try easy.set(CURLOPT_CAINFO, file)
      // Debian's libcurl would look there as well.
      try easy.set(CURLOPT_CAPATH, nil)
    }
    if let pin = settings.pin { try easy.set(CURLOPT_PINNEDPUBLICKEY, pin) }
    switch credentials {
    case .none: break
    case .basic(let user, let password):
      try easy.set(CURLOPT_HTTPAUTH, nassync_curl_basic)
      try easy.set(CURLOPT_USERNAME, user)
      try easy.set(CURLOPT_PASSWORD, password)
    case .digest(let user, let password):
      try easy.set(CURLOPT_HTTPAUTH, nassync_curl_digest)
      try easy.set(CURLOPT_USERNAME, user)
      try easy.set(CURLOPT_PASSWORD, password)
    case .bearer(let token):
      try easy.set(CURLOPT_HTTPAUTH, nassync_curl_bearer)
      try easy.set(CURLOPT_XOAUTH2_BEARER, token)
    case .signed: break
    }
  }

  /// What is this request's own; everything that another one may have set before is set again.
  private func prepare(_ easy: CurlEasy, for exchange: HTTPExchange) throws(TransportError) {
    let request = exchange.request
    let lines = CurlHeaders()
    for (name, value) in request.headers { lines.append("\(name): \(value)") }
    if case .signed(let sign) = credentials { for (name, value) in sign(request) { lines.append("\(name): \(value)") } }
    try easy.set(CURLOPT_URL, settings.origin.text + request.target)
    var asks = false
    switch request.body {
    case .none:
      // UPLOAD off leaves the method of an upload behind; HTTPGET clears it, and the name follows.
      try easy.set(CURLOPT_UPLOAD, 0)
      try easy.set(CURLOPT_HTTPGET, 1)
      // Otherwise libcurl would wait for the body whose length the answer to a HEAD gives; the next request clears it.
      if request.method == "HEAD" { try easy.set(CURLOPT_NOBODY, 1) }
    case .bytes(let bytes):
      try easy.set(CURLOPT_UPLOAD, 1)
      try easy.set(CURLOPT_INFILESIZE_LARGE, size: Int64(bytes.count))
    case .stream(let length):
      try easy.set(CURLOPT_UPLOAD, 1)
      try easy.set(CURLOPT_INFILESIZE_LARGE, size: length.map { Int64(clamping: $0) } ?? -1)
      // A stream cannot be sent twice: a server that wants a log-in or has no room says so before the first byte. Small ones are not asked
      // for, each would cost a round trip.
      asks = expects && (length ?? .max) > 1 << 20
    }
    lines.append(asks ? "Expect: 100-continue" : "Expect:")
    try easy.set(CURLOPT_CUSTOMREQUEST, request.method)
    try easy.check(nassync_curl_set_list(easy.raw, lines.raw), CURLOPT_HTTPHEADER)
    try exchange.attach(to: easy)
    easy.clearFailureText()
    exchange.headerLines = lines
  }

  /// Takes an exchange off libcurl.
  private func detach(_ exchange: HTTPExchange, keepsHandle: Bool) {
    guard let easy = exchange.easy else { return }
    if let multi { curl_multi_remove_handle(multi.raw, easy.raw) }
    active[exchange.id] = nil
    if exchange.kind != .bounded { activeStreams -= 1 }
    nassync_curl_set_list(easy.raw, nil)
    exchange.headerLines = nil
    exchange.easy = nil
    if keepsHandle, loss == nil, idle.count <= settings.connections, easy.mayServeAgain() { idle.append(easy) }
  }

  // MARK: The pump

  private nonisolated func serviceFromPump() -> PollPlan? { assumeIsolated { $0.service() } }

  /// Moves what can be moved. Returns what to wait for, or nil where there is work at once.
  private func service() -> PollPlan? {
    guard loss == nil, let multi else { return PollPlan(multi: nil, timeout: -1) }
    if interrupter.isInterrupted {
      lose(Self.interrupted)
      return nil
    }
    var running: Int32 = 0
    guard curl_multi_perform(multi.raw, &running) == CURLM_OK else {
      lose(HTTPFailures.lost(.local, "libcurl fails", hint: "It is tried again; report it if it repeats."))
      return nil
    }
    var finished: [(HTTPExchange, CURLcode)] = []
    var left: Int32 = 0
    while let message = curl_multi_info_read(multi.raw, &left) {
      guard message.pointee.msg == CURLMSG_DONE else { continue }
      let raw = message.pointee.easy_handle
      if let exchange = active.values.first(where: { $0.easy?.raw == raw }) { finished.append((exchange, nassync_curl_result(message))) }
    }
    for (exchange, code) in finished { finish(exchange, code) }
    if !finished.isEmpty { startWaiting() }
    if executor.hasJobs { return nil }
    let now = HTTPExchange.now()
    var shortest: UInt64?
    for exchange in active.values {
      guard let left = exchange.timeLeft(at: now) else { continue }
      if left == 0 {
        lose(failures.stalled(seconds: Double(settings.progressTimeout.nanoseconds) / 1e9))
        return nil
      }
      shortest = min(shortest ?? .max, left)
    }
    return PollPlan(multi: multi, timeout: shortest.map { Int(clamping: $0 / 1_000_000) + 1 } ?? 3_600_000)
  }

  /// A server that takes no connection takes none of those that wait in line either: each in its turn would find that out for itself, and a run
  /// of many files take the time of all of them. As long as another connection works they wait for that one.
  private func giveUpWaiting(_ error: TransportError) {
    guard active.values.allSatisfy({ $0.phase == .connecting }) else { return }
    for exchange in streams.removeAll() + requests.removeAll() { exchange.conclude(.failure(error)) }
  }

  private func finish(_ exchange: HTTPExchange, _ code: CURLcode) {
    let text = exchange.easy?.failureText ?? ""
    let result: Result<HTTPResponse, TransportError>
    if code == CURLE_OK || exchange.truncated {
      if exchange.status == 417 { expects = false }
      let response = exchange.response
      if !exchange.headersComplete {
        // libcurl takes a connection that ends in the header lines for the end of the answer.
        result = .failure(failures.failure(CURLE_RECV_ERROR, "it ended in the answer's header lines"))
      } else if let encoding = response.header("Content-Encoding"), encoding.lowercased() != "identity", response.isSuccess,
        exchange.request.method != "HEAD"
      {
        result = .failure(failures.violated("a body in the encoding \(displayText(of: encoding.utf8.prefix(40))), which was not asked for"))
      } else if let length = response.header("Content-Length"), UInt64(length.trimmingSpaces) == nil {
        // libcurl reads on to the end of the connection, as if nothing had been said.
        result = .failure(failures.violated("a body of the length “\(displayText(of: length.utf8.prefix(40)))”"))
      } else {
        result = .success(response)
      }
    } else if let violation = exchange.violation {
      result = .failure(failures.violated(violation))
    } else {
      result = .failure(failures.failure(code, text))
    }
    detach(exchange, keepsHandle: code == CURLE_OK)
    exchange.conclude(result)
    if exchange.phase == .connecting, case .failure(let error) = result { giveUpWaiting(error) }
  }

  private static func wait(_ plan: PollPlan, _ wake: Int32, _ interruption: Int32) {
    guard let multi = plan.multi else {
      var set = pollfd(fd: wake, events: Int16(POLLIN), revents: 0)
      _ = poll(&set, 1, Int32(clamping: plan.timeout))
      return
    }
    var extra = [
      curl_waitfd(fd: wake, events: Int16(CURL_WAIT_POLLIN), revents: 0),
      curl_waitfd(fd: interruption, events: Int16(CURL_WAIT_POLLIN), revents: 0),
    ]
    var ready: Int32 = 0
    curl_multi_poll(multi.raw, &extra, UInt32(extra.count), Int32(clamping: plan.timeout), &ready)
  }
}

extension String {
  fileprivate var trimmingSpaces: Substring {
    var rest = self[...]
    while rest.last == " " || rest.last == "\t" { rest = rest.dropLast() }
    return rest
  }
}
