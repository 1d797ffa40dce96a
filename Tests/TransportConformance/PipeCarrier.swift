import CLinux
import Executors
import Glibc
import Synchronization
import SyncModel
import Transport
import TransportSFTP

/// Starts a real SFTP server as a child and speaks to it over a socket pair: the server without SSH around it.
final class PipeServers: Sendable {
  let command: [String]
  private let children = Mutex<[pid_t]>([])

  /// - Parameter command: Program (absolute path) and arguments.
  init(command: [String]) { self.command = command }

  /// Servers running now.
  var running: [pid_t] { children.withLock { $0 } }

  func signalAll(_ signal: Int32) { for child in running { kill(child, signal) } }

  var connector: SSHConnector {
    { [self] (_, _) throws(TransportError) in PipeConnection(servers: self) }
  }

  fileprivate func start() throws(TransportError) -> (pid: pid_t, stream: Int32, complaints: Int32) {
    var pair: [Int32] = [-1, -1]
    var errors: [Int32] = [-1, -1]
    let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, kind, 0, &pair) == 0, socketpair(AF_UNIX, kind, 0, &errors) == 0 else { throw Self.failed("socketpair") }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, pair[1], 0)
    posix_spawn_file_actions_adddup2(&actions, pair[1], 1)
    posix_spawn_file_actions_adddup2(&actions, errors[1], 2)
    defer { posix_spawn_file_actions_destroy(&actions) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // The client's thread blocks all signals; the child must not inherit that.
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var arguments: [UnsafeMutablePointer<CChar>?] = command.map { strdup($0) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var child: pid_t = 0
    let status = posix_spawn(&child, command[0], &actions, &attributes, arguments, environ)
    close(pair[1])
    close(errors[1])
    guard status == 0 else {
      close(pair[0])
      close(errors[0])
      throw Self.failed("posix_spawn")
    }
    _ = clinux_set_nonblocking(pair[0])
    _ = clinux_set_nonblocking(errors[0])
    children.withLock { $0.append(child) }
    return (child, pair[0], errors[0])
  }

  fileprivate func end(_ child: pid_t) {
    kill(child, SIGKILL)
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    children.withLock { $0.removeAll { $0 == child } }
  }

  fileprivate static func failed(_ call: String) -> TransportError {
    .failure(SyncFailure(.local, "\(call): \(String(cString: strerror(errno)))", hint: "-"), sessionLost: true)
  }
}

private final class PipeConnection: SSHConnection {
  let servers: PipeServers
  let carrier = "a pipe"
  let isLoggedIn = true
  let serverIdentification = "a server over a socket pair"
  let hostKeyFingerprint = "none"

  init(servers: PipeServers) { self.servers = servers }

  func openChannel(_ purpose: SSHChannelPurpose) throws(TransportError) -> any SSHChannel {
    guard purpose == .sftp else { throw .unsupported("run a command") }
    let (child, stream, complaints) = try servers.start()
    return PipeChannel(servers: servers, child: child, stream: stream, complaints: complaints)
  }

  func close() {}
}

private final class PipeChannel: SSHChannel {
  private let servers: PipeServers
  private var child: pid_t?
  private let stream: Int32
  private let complaints: Int32

  init(servers: PipeServers, child: pid_t, stream: Int32, complaints: Int32) {
    self.servers = servers
    self.child = child
    self.stream = stream
    self.complaints = complaints
  }

  deinit { close() }

  func read(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    try result(of: recv(stream, buffer.baseAddress, buffer.count, 0), "recv")
  }

  func write(_ buffer: UnsafeRawBufferPointer) throws(TransportError) -> CarrierResult {
    try result(of: Glibc.send(stream, buffer.baseAddress, buffer.count, Int32(MSG_NOSIGNAL)), "send")
  }

  func readError(into buffer: UnsafeMutableRawBufferPointer) throws(TransportError) -> CarrierResult {
    try result(of: recv(complaints, buffer.baseAddress, buffer.count, 0), "recv")
  }

  private func result(of count: Int, _ call: String) throws(TransportError) -> CarrierResult {
    if count > 0 { return .bytes(count) }
    if count == 0 || errno == EPIPE || errno == ECONNRESET { return .endOfStream }
    if errno == EAGAIN || errno == EINTR { return .wouldBlock }
    throw PipeServers.failed(call)
  }

  func sendEndOfInput() throws(TransportError) -> CarrierResult {
    shutdown(stream, Int32(SHUT_WR))
    return .bytes(0)
  }

  func exitStatus() -> Int32? { nil }

  func pollDescriptors(wantsWrite: Bool) -> [(descriptor: Int32, events: Int16)] {
    [(stream, Int16(wantsWrite ? POLLIN | POLLOUT : POLLIN))]
  }

  func keepAlive() throws(TransportError) -> Int { 60_000 }

  func close() {
    guard let child else { return }
    self.child = nil
    Glibc.close(stream)
    Glibc.close(complaints)
    servers.end(child)
  }
}
