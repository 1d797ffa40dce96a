import CLinux
import Executors
import Glibc
import Synchronization
import SyncModel
import Transport

/// One address that a host name stands for.
struct HostAddress: Sendable {
  let family: Int32
  /// A `sockaddr` of the family, as bytes.
  let bytes: [UInt8]
}

/// Turns a host name into addresses.
///
/// `getaddrinfo` may hang for minutes behind a dead name server and cannot be interrupted. It runs on a thread of its own, which is
/// left behind when the deadline passes and ends by itself later.
enum HostResolver {
  static func addresses(
    of host: String, port: UInt16, deadline: Deadline, interrupter: Interrupter
  ) throws(TransportError) -> [HostAddress] {
    // An address in digits needs no name server and hence no thread.
    if case .found(let addresses) = lookUp(host, port, flags: AI_NUMERICHOST) { return addresses }
    let inquiry = Inquiry(host: host, port: port)
    guard inquiry.descriptor >= 0, inquiry.start() else {
      throw .failure(
        SyncFailure(
          .local, "no thread can be started to look up \(displayText(host))", hint: "Raise the limits on threads and open files."),
        sessionLost: true)
    }
    switch waitUntilReady([(inquiry.descriptor, Int16(POLLIN))], interruption: interrupter.descriptor, deadline: deadline) {
    case .interrupted: throw .interruptedConnection
    case .timedOut:
      throw .lostConnection(
        .timeout, "looking up the name \(displayText(host)) takes too long", hint: "Check the network and the name server of this machine.")
    case .ready: break
    }
    switch inquiry.answer {
    case .found(let addresses) where !addresses.isEmpty: return addresses
    case .failed(EAI_AGAIN):
      throw .lostConnection(
        .network, "the name \(displayText(host)) cannot be looked up now", hint: "Check the network and the name server of this machine.")
    case .failed(EAI_NONAME), .failed(EAI_NODATA):
      // A name server that is reached through a VPN which is down says this too: waiting may help.
      throw .lostConnection(
        .network, "there is no host named \(displayText(host))", hint: "Check `host` in the equipment profile, and the network.")
    case .failed(let code):
      throw .lostConnection(
        .network, "the name \(displayText(host)) cannot be looked up: \(String(cString: gai_strerror(code)))",
        hint: "Check `host` in the equipment profile, and the network.")
    case .found, nil:
      throw .lostConnection(.network, "the name \(displayText(host)) has no address", hint: "Check `host` in the equipment profile.")
    }
  }

  private static let EAI_NODATA: Int32 = -5

  private enum Answer: Sendable {
    case found([HostAddress])
    case failed(Int32)
  }

  private static func lookUp(_ host: String, _ port: UInt16, flags: Int32) -> Answer {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = flags | AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(host, String(port), &hints, &list)
    guard status == 0 else { return .failed(status) }
    defer { freeaddrinfo(list) }
    var addresses: [HostAddress] = []
    var next = list
    while let entry = next?.pointee {
      if let address = entry.ai_addr {
        let bytes = UnsafeRawBufferPointer(start: address, count: Int(entry.ai_addrlen))
        addresses.append(HostAddress(family: entry.ai_family, bytes: Array(bytes)))
      }
      next = entry.ai_next
    }
    return .found(addresses)
  }

  /// A question on its way, shared by who asks and the thread that answers.
  private final class Inquiry: Sendable {
    let host: String
    let port: UInt16
    /// Readable once the answer is there.
    let descriptor = clinux_eventfd()
    private let result = Mutex<Answer?>(nil)

    init(host: String, port: UInt16) {
      self.host = host
      self.port = port
    }

    deinit {
      if descriptor >= 0 { close(descriptor) }
    }

    var answer: Answer? { result.withLock { $0 } }

    func start() -> Bool {
      var attributes = pthread_attr_t()
      pthread_attr_init(&attributes)
      defer { pthread_attr_destroy(&attributes) }
      pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
      var thread = pthread_t()
      let me = Unmanaged.passRetained(self)
      let status = pthread_create(
        &thread, &attributes,
        { raw in
          guard let raw else { return nil }
          let inquiry = Unmanaged<Inquiry>.fromOpaque(raw).takeRetainedValue()
          var all = sigset_t()
          sigfillset(&all)
          pthread_sigmask(SIG_BLOCK, &all, nil)
          let answer = lookUp(inquiry.host, inquiry.port, flags: 0)
          inquiry.result.withLock { $0 = answer }
          var one: UInt64 = 1
          _ = write(inquiry.descriptor, &one, 8)
          return nil
        }, me.toOpaque())
      if status != 0 { me.release() }
      return status == 0
    }
  }
}
