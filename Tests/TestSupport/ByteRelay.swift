import Foundation
import Glibc
import Synchronization

/// A TCP relay on 127.0.0.1 that counts what passes: how many bytes a program sent, seen from outside of it. It can cut what goes through it, too.
///
/// Plain sockets on threads of its own; every connection is made anew to the target.
public final class ByteRelay: Sendable {
  /// Where it listens.
  public let host = "127.0.0.1"
  /// The port it listens on.
  public let port: Int
  private let listener: Int32
  private let target: Int
  private let uploaded = Atomic<UInt64>(0)
  private let cut: Cut?
  private let isPaused = Atomic(false)
  private let open = Mutex<(closed: Bool, descriptors: Set<Int32>)>((false, []))

  /// Bytes that went from clients to the target so far.
  public var bytesUploaded: UInt64 { uploaded.load(ordering: .relaxed) }

  /// Where each connection ends, however much is still to come.
  public struct Cut: Sendable {
    /// Whether what the client sends is counted, or what it gets.
    public let ofUpload: Bool
    /// So many bytes still pass.
    public let bytes: Int

    /// Counts what the client sends, or what it gets, and ends the connection after so many bytes of it.
    public init(ofUpload: Bool, after bytes: Int) { (self.ofUpload, self.bytes) = (ofUpload, bytes) }
  }

  /// Starts a relay, runs the body, ends the relay and every connection through it.
  public static func with<Result>(
    to target: Int, cut: Cut? = nil, isolation: isolated (any Actor)? = #isolation, _ body: (ByteRelay) async throws -> Result
  ) async throws -> Result {
    let relay = try ByteRelay(to: target, cut: cut)
    defer { relay.stop() }
    return try await body(relay)
  }

  /// From now on nothing passes in either direction. Connections stay open, and new ones are accepted, as by a machine whose server hangs.
  public func pause() { isPaused.store(true, ordering: .relaxed) }

  private init(to target: Int, cut: Cut?) throws {
    self.target = target
    self.cut = cut
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw TemporaryFolder.Failure("socket: \(String(cString: strerror(errno)))") }
    var address = Self.loopback(port: 0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, length) == 0 && listen(descriptor, 64) == 0 ? getsockname(descriptor, $0, &length) : -1
      }
    }
    guard status == 0 else {
      close(descriptor)
      throw TemporaryFolder.Failure("no relay can listen: \(String(cString: strerror(errno)))")
    }
    listener = descriptor
    port = Int(UInt16(bigEndian: address.sin_port))
    Thread.detachNewThread { self.serve() }
  }

  private static func loopback(port: Int) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
  }

  private func serve() {
    while true {
      let client = accept(listener, nil, nil)
      if client < 0 {
        if errno == EINTR || errno == ECONNABORTED { continue }
        break
      }
      _ = fcntl(client, F_SETFD, FD_CLOEXEC)
      let server = connectToTarget()
      guard server >= 0, keep([client, server]) else {
        close(client)
        if server >= 0 { close(server) }
        continue
      }
      // Each descriptor is closed by the second of its two threads to end.
      let remaining = Countdown(2)
      for (from, to, counts) in [(client, server, true), (server, client, false)] {
        Thread.detachNewThread {
          self.pump(from, to, counts: counts)
          if remaining.isLast() { self.release([client, server]) }
        }
      }
    }
    close(listener)
  }

  private func connectToTarget() -> Int32 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return -1 }
    var address = Self.loopback(port: target)
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    guard status == 0 else {
      close(descriptor)
      return -1
    }
    return descriptor
  }

  private func pump(_ from: Int32, _ to: Int32, counts: Bool) {
    var buffer = [UInt8](repeating: 0, count: 256 << 10)
    var left = cut.flatMap { $0.ofUpload == counts ? $0.bytes : nil } ?? Int.max
    copying: while true {
      let read = recv(from, &buffer, buffer.count, 0)
      if read < 0, errno == EINTR { continue }
      guard read > 0 else { break }
      while isPaused.load(ordering: .relaxed), !open.withLock(\.closed) { usleep(10_000) }
      let got = min(read, left)
      left -= got
      if counts { uploaded.add(UInt64(got), ordering: .relaxed) }
      var sent = 0
      while sent < got {
        let count = buffer[sent..<got].withUnsafeBytes { send(to, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { break copying }
        sent += count
      }
      if left == 0 {
        for end in [from, to] { shutdown(end, Int32(SHUT_RDWR)) }
        return
      }
    }
    shutdown(to, Int32(SHUT_WR))
    shutdown(from, Int32(SHUT_RD))
  }

  private func keep(_ descriptors: [Int32]) -> Bool {
    open.withLock { state in
      if !state.closed { state.descriptors.formUnion(descriptors) }
      return !state.closed
    }
  }

  private func release(_ descriptors: [Int32]) {
    open.withLock { state in
      for descriptor in descriptors {
        state.descriptors.remove(descriptor)
        close(descriptor)
      }
    }
  }

  private func stop() {
    open.withLock { state in
      state.closed = true
      for descriptor in state.descriptors { shutdown(descriptor, Int32(SHUT_RDWR)) }
    }
    // Wakes the accepting thread, which closes the listener.
    shutdown(listener, Int32(SHUT_RDWR))
  }

  private final class Countdown: Sendable {
    private let left: Atomic<Int>
    init(_ count: Int) { left = Atomic(count) }
    func isLast() -> Bool { left.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 }
  }
}
