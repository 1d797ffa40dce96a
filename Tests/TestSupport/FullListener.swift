import Glibc

/// A port on 127.0.0.1 that drops whatever wants to connect, as a firewall does: it listens, nobody accepts, and its queue is full.
public final class FullListener: Sendable {
  /// Where it listens.
  public let port: UInt16
  private let descriptors: [Int32]

  /// Listens, and fills the queue.
  public init() throws {
    func newSocket() throws -> Int32 {
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
      guard descriptor >= 0 else { throw TemporaryFolder.Failure("socket: \(String(cString: strerror(errno)))") }
      return descriptor
    }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = try newSocket()
    var sockets = [listener]
    let isListening = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, length) == 0 && listen(listener, 0) == 0 && getsockname(listener, $0, &length) == 0
      }
    }
    guard isListening else { throw TemporaryFolder.Failure("listen: \(String(cString: strerror(errno)))") }
    // A queue of 0 takes one; what comes after it is dropped.
    for _ in 0..<4 {
      let client = try newSocket()
      sockets.append(client)
      _ = withUnsafePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(client, $0, length) }
      }
    }
    descriptors = sockets
    port = UInt16(bigEndian: address.sin_port)
  }

  /// Ends it. Once only.
  public func close() { for descriptor in descriptors { Glibc.close(descriptor) } }
}
