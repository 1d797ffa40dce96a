import CLinux
import Executors
import Glibc
import SyncModel
import Transport

/// Makes TCP connections within a deadline.
enum TCPConnector {
  /// Tries the host's addresses one after another, each with its share of the time left.
  /// - Returns: A connected, non-blocking socket.
  /// - Throws: The failure of the last address tried.
  static func connect(
    to host: String, port: UInt16, deadline: Deadline, interrupter: Interrupter
  ) throws(TransportError) -> FileDescriptor {
    let addresses = try HostResolver.addresses(of: host, port: port, deadline: deadline, interrupter: interrupter)
    var failure: TransportError?
    for (index, address) in addresses.enumerated() {
      do throws(TransportError) {
        return try connect(
          to: address, name: displayText("\(host):\(port)"), deadline: deadline.share(of: addresses.count - index), interrupter: interrupter
        )
      } catch {
        if interrupter.isInterrupted { throw error }
        failure = error
      }
    }
    throw failure ?? .lostConnection(.network, "\(displayText(host)) has no address", hint: "Check `host` in the equipment profile.")
  }

  private static func connect(
    to address: HostAddress, name: String, deadline: Deadline, interrupter: Interrupter
  ) throws(TransportError) -> FileDescriptor {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let number = socket(address.family, type, 0)
    guard number >= 0 else { throw refusal(errno, name) }
    let descriptor = FileDescriptor(number)
    setOptions(number)
    let status = address.bytes.withUnsafeBytes { bytes -> Int32 in
      guard let start = bytes.baseAddress else { return -1 }
      return Glibc.connect(number, start.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
    }
    if status == 0 { return descriptor }
    guard errno == EINPROGRESS || errno == EINTR else { throw refusal(errno, name) }
    switch waitUntilReady([(number, Int16(POLLOUT))], interruption: interrupter.descriptor, deadline: deadline) {
    case .interrupted: throw .interruptedConnection
    case .timedOut: throw refusal(ETIMEDOUT, name)
    case .ready: break
    }
    var error: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    guard getsockopt(number, SOL_SOCKET, SO_ERROR, &error, &length) == 0, error == 0 else { throw refusal(error, name) }
    return descriptor
  }

  /// Small packets go at once, and the kernel notices by itself when the other side is gone.
  private static func setOptions(_ socket: Int32) {
    func set(_ level: Int32, _ option: Int32, _ value: Int32) {
      var value = value
      // An option that this kernel lacks costs speed or a later notice, never correctness.
      setsockopt(socket, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }
    let tcp = Int32(SOL_TCP)
    set(tcp, TCP_NODELAY, 1)
    set(SOL_SOCKET, SO_KEEPALIVE, 1)
    set(tcp, TCP_KEEPIDLE, 30)
    set(tcp, TCP_KEEPINTVL, 10)
    set(tcp, TCP_KEEPCNT, 6)
    set(tcp, TCP_USER_TIMEOUT, 90_000)
  }

  private static func refusal(_ code: Int32, _ name: String) -> TransportError {
    switch code {
    case ECONNREFUSED:
      .lostConnection(
        .network, "nothing answers at \(name): connection refused",
        hint: "Check that SSH is switched on there, and `host` and `port` in the equipment profile.")
    case ETIMEDOUT:
      .lostConnection(
        .timeout, "\(name) does not answer", hint: "Check that the NAS is up, and that no firewall drops connections to that port.")
    case EHOSTUNREACH, ENETUNREACH, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL:
      .lostConnection(
        .network, "there is no way to \(name): \(String(cString: strerror(code)))",
        hint: "Check the network of this machine and of the NAS.")
    case EMFILE, ENFILE:
      .lostConnection(
        .local, "no socket can be opened: \(String(cString: strerror(code)))", hint: "Raise the limit on open files (ulimit -n).")
    default:
      .lostConnection(
        .network, "no connection to \(name): \(String(cString: strerror(code)))", hint: "Check the network of this machine and of the NAS.")
    }
  }
}
