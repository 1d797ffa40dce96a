import Foundation
import Glibc
import Synchronization

/// A server on 127.0.0.1 that sends exactly the bytes a test wants, when it wants: every connection runs the test's own script on a thread
/// of its own. For what no decent web server would do.
public final class RawHTTPServer: Sendable {
  /// One connection. All methods block.
  public final class Connection: Sendable {
    private let descriptor: Int32
    private let stopped: @Sendable () -> Bool

    fileprivate init(_ descriptor: Int32, stopped: @escaping @Sendable () -> Bool) {
      self.descriptor = descriptor
      self.stopped = stopped
    }

    /// Reads up to the end of a request's header lines.
    /// - Returns: Nil where the client has gone.
    public func readHead() -> String? {
      var head: [UInt8] = []
      while !head.suffix(4).elementsEqual([13, 10, 13, 10]) {
        guard let byte = read(1)?.first else { return nil }
        head.append(byte)
      }
      return String(decoding: head, as: UTF8.self)
    }

    /// At most so many bytes; nil at the end.
    public func read(_ count: Int) -> [UInt8]? {
      var bytes = [UInt8](repeating: 0, count: count)
      let got = recv(descriptor, &bytes, count, 0)
      return got > 0 ? Array(bytes.prefix(got)) : nil
    }

    /// Sends bytes.
    /// - Returns: False where the client has gone.
    @discardableResult public func send(_ bytes: [UInt8]) -> Bool {
      var rest = bytes[...]
      while !rest.isEmpty {
        let sent = rest.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard sent > 0 else { return false }
        rest = rest.dropFirst(sent)
      }
      return true
    }

    /// Sends text.
    @discardableResult public func send(_ text: String) -> Bool { send(Array(text.utf8)) }

    /// Waits until the client has gone or the test is over.
    public func hang() {
      while !stopped(), read(65_536) != nil {}
    }

    /// Sends the same bytes until the client has gone or the test is over.
    public func sendForEver(_ bytes: [UInt8], every pause: UInt32 = 0) {
      while !stopped(), send(bytes) { if pause > 0 { usleep(pause) } }
    }

    fileprivate func end() { shutdown(descriptor, Int32(SHUT_RDWR)) }
    deinit { close(descriptor) }
  }

  /// The port it listens on.
  public let port: UInt16
  private let listener: Int32
  private let isOver = Atomic<Bool>(false)
  private let connections = Mutex<[Connection]>([])
  private let script: @Sendable (Connection) -> Void

  /// Runs a server for as long as a body runs.
  public static func with<Result>(
    _ script: @escaping @Sendable (Connection) -> Void, isolation: isolated (any Actor)? = #isolation,
    _ body: (RawHTTPServer) async throws -> Result
  ) async throws -> Result {
    let server = try RawHTTPServer(script)
    defer { server.stop() }
    return try await body(server)
  }

  private init(_ script: @escaping @Sendable (Connection) -> Void) throws {
    self.script = script
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = listener
    let bound = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 64) == 0 && getsockname(descriptor, $0, &length) == 0
      }
    }
    port = UInt16(bigEndian: address.sin_port)
    guard bound else { throw TemporaryFolder.Failure("cannot listen: \(String(cString: strerror(errno)))") }
    Thread.detachNewThread { self.accept() }
  }

  private func accept() {
    while true {
      let accepted = Glibc.accept(listener, nil, nil)
      guard accepted >= 0 else { break }
      let connection = Connection(accepted) { [weak self] in self?.isOver.load(ordering: .relaxed) ?? true }
      connections.withLock { $0.append(connection) }
      if isOver.load(ordering: .relaxed) { connection.end() }
      let script = script
      Thread.detachNewThread { [weak self] in
        script(connection)
        connection.end()
        self?.connections.withLock { $0.removeAll { $0 === connection } }
      }
    }
    close(listener)
  }

  private func stop() {
    isOver.store(true, ordering: .relaxed)
    for connection in connections.withLock({ $0 }) { connection.end() }
    // Wakes the accepting thread, which closes the listener.
    shutdown(listener, Int32(SHUT_RDWR))
  }
}
