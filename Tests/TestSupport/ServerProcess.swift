import Foundation
import Glibc
import Synchronization

/// A server program that a test has started: one process with all that it starts itself, ended by process id.
struct ServerProcess: Sendable {
  /// What it is called in messages.
  let name: String
  private let process: ChildProcess
  private let watchdog: Watchdog

  /// Starts a program and returns once it is ready; one that does not get ready is ended again.
  /// - Parameters:
  ///   - folder: Its own folder, removed should the test process die.
  ///   - seconds: How long it may take.
  ///   - isReady: Asked again and again.
  ///   - log: What it has said, for the message where it does not get ready.
  static func start(
    _ name: String, _ command: [String], environment: [String: String], folder: TemporaryFolder, streams: ChildProcess.Streams = .init(),
    seconds: Int = 10, until isReady: @Sendable () -> Bool, log: @Sendable () -> String
  ) async throws -> ServerProcess {
    let process = try ChildProcess(command, environment: environment, directory: "/", streams: streams, ownGroup: true)
    let server = ServerProcess(name: name, process: process, watchdog: try Watchdog(server: process.id, folder: folder))
    let deadline = ContinuousClock.now + .seconds(seconds)
    while process.isRunning, ContinuousClock.now < deadline {
      if isReady() { return server }
      try await Task.sleep(nanoseconds: 10_000_000)
    }
    try await server.stop()
    throw TemporaryFolder.Failure("\(name) does not start: \(log())")
  }

  /// Ends it and all that it has started. Once only.
  func stop() async throws {
    await watchdog.dismiss()
    // Stopped first, it cannot start another process while we look.
    Glibc.kill(process.id, SIGSTOP)
    try await ProcessTree.kill(descendants + [process.id])
    _ = await process.exitStatus()
  }

  /// What it has started and runs now.
  var descendants: [pid_t] { ProcessTree.descendants(of: process.id) }

  /// Freezes it: connections stay open and nothing answers. Returns once every thread of it stands still.
  func pause() async throws {
    let all = [process.id] + descendants
    for pid in all { Glibc.kill(pid, SIGSTOP) }
    for _ in 0..<500 {
      if !all.contains(where: ProcessTree.runs) { return }
      try await Task.sleep(nanoseconds: 10_000_000)
    }
    throw TemporaryFolder.Failure("\(name) does not stand still")
  }

  /// Thaws what `pause` froze.
  func resume() { for pid in [process.id] + descendants { Glibc.kill(pid, SIGCONT) } }
}

/// A server of a test's own, as `using` needs it.
protocol StoppableServer: Sendable {
  /// Ends it and all that it has started. Idempotent.
  func stop() async throws
}

extension StoppableServer {
  /// Runs a body and stops the server, whatever the body did.
  func using<Result>(
    isolation: isolated (any Actor)? = #isolation, _ body: (Self) async throws -> Result
  ) async throws -> Result {
    do {
      let result = try await body(self)
      try await stop()
      return result
    } catch {
      try await stop()
      throw error
    }
  }
}

/// Whether something takes connections on a port of 127.0.0.1.
func accepts(_ port: Int) -> Bool {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  guard descriptor >= 0 else { return false }
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  return withUnsafePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
    }
  }
}

/// A port of 127.0.0.1 on which nothing listens at the moment, for a program that is told its port.
///
/// It lies below those that the kernel hands out itself (Linux: from 32768): a test that runs beside, asks for any port and gets this one
/// before the program has it would answer in its name. No port is given twice, and processes begin at different ones.
public func freePort() throws -> Int {
  for _ in 0..<portRange.count {
    let port = nextPort.withLock { next in
      next = next + 1 < portRange.upperBound ? next + 1 : portRange.lowerBound
      return next
    }
    if try isFree(port) { return port }
  }
  throw TemporaryFolder.Failure("no free port among \(portRange)")
}

private let portRange = 12_000..<32_000
private let nextPort = Mutex(portRange.lowerBound + Int(getpid()) * 211 % portRange.count)

private func isFree(_ port: Int) throws -> Bool {
  let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
  guard descriptor >= 0 else { throw TemporaryFolder.Failure("socket: \(String(cString: strerror(errno)))") }
  defer { close(descriptor) }
  var address = sockaddr_in()
  address.sin_family = sa_family_t(AF_INET)
  address.sin_port = UInt16(truncatingIfNeeded: port).bigEndian
  address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
  return withUnsafePointer(to: &address) { pointer in
    pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
      bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
    }
  }
}
