import CLinux
import Executors
import Glibc
import SyncModel
import Transport

/// A running `ssh` with three pipes, non-blocking on this side.
///
/// It ends when this object goes, when the thread that started it ends, and when this process does; and it is always waited for. Whatever it
/// started to get there (a ProxyJump's ssh) is in its process group and ends with it.
final class OpenSSHProcess {
  let id: pid_t
  /// Nil once the end of its input has been said.
  private(set) var input: FileDescriptor?
  let output: FileDescriptor
  let error: FileDescriptor
  /// Readable once it has ended; negative where the kernel has no such thing.
  private let ended: FileDescriptor
  /// As `waitpid(2)` gave it.
  private(set) var status: Int32?
  private var isReaped = false

  /// Room in the pipes of input and output, bytes: ssh takes large pieces and sleeps less. Less does as well, only slower.
  private static let room: Int32 = 1 << 20

  /// Starts a program.
  /// - Parameters:
  ///   - program: Its absolute path.
  ///   - arguments: What follows its name; no shell sees them.
  init(program: String, arguments: [String]) throws(TransportError) {
    let input = try Self.pipe()
    let output = try Self.pipe()
    let error = try Self.pipe()
    _ = clinux_pipe_room(input.writing.number, Self.room)
    _ = clinux_pipe_room(output.writing.number, Self.room)
    var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
    var envp: [UnsafeMutablePointer<CChar>?] = Self.environment.map { strdup($0) } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    let streams = [input.reading.number, output.writing.number, error.writing.number]
    var child = pid_t()
    var code: Int32
    var tries: Int32 = 0
    repeat { code = clinux_spawn_tethered(&child, program, &argv, &envp, streams) } while clinux_busy_again(code, &tries) != 0
    guard code == 0 else {
      throw .lostConnection(
        .local, "\(displayText(program)) cannot be started: \(String(cString: strerror(code)))",
        hint: "Look whether it can be run, and at the limits on processes and memory.")
    }
    id = child
    ended = FileDescriptor(clinux_pidfd(child))
    self.input = input.writing
    self.output = output.reading
    self.error = error.reading
    for descriptor in [input.writing, output.reading, error.reading] { clinux_set_nonblocking(descriptor.number) }
  }

  deinit { end() }

  private static func pipe() throws(TransportError) -> (reading: FileDescriptor, writing: FileDescriptor) {
    var ends: [Int32] = [-1, -1]
    guard clinux_pipe(&ends) == 0 else {
      throw .lostConnection(
        .local, "no pipe to the ssh program can be made: \(String(cString: strerror(errno)))",
        hint: "Raise the limit on open files (ulimit -n).")
    }
    return (FileDescriptor(ends[0]), FileDescriptor(ends[1]))
  }

  /// This process's own, so that ssh finds agent, home and tickets; but nothing may open a window to ask for a passphrase.
  private static var environment: [String] {
    var result: [String] = []
    var next = environ
    while let entry = next.pointee {
      // Bytes that are no UTF-8 cannot be what ssh needs; such an entry stays behind.
      if let text = String(validatingCString: entry), !text.hasPrefix("SSH_ASKPASS") { result.append(text) }
      next += 1
    }
    return result + ["SSH_ASKPASS_REQUIRE=never"]
  }

  /// What to poll to notice that it has ended.
  var endDescriptor: Int32 { ended.number }

  func closeInput() { input = nil }

  /// Waits until it has ended by itself.
  /// - Returns: Whether it has.
  func awaitEnd(_ duration: Duration, interrupter: Interrupter?) -> Bool {
    let deadline = Deadline(after: duration)
    while !reap() {
      if deadline.hasPassed { return false }
      // Without a descriptor for its end, it is looked for every 5 ms.
      let until = ended.number >= 0 ? deadline : Deadline(after: .milliseconds(5))
      let result = waitUntilReady([(ended.number, Int16(POLLIN))], interruption: interrupter?.descriptor ?? -1, deadline: until)
      if result == .interrupted { return reap() }
    }
    return true
  }

  /// Takes its status if it has ended.
  private func reap() -> Bool {
    guard !isReaped else { return true }
    var found: Int32 = 0
    let result = waitpid(id, &found, WNOHANG)
    if result == id {
      status = found
      isReaped = true
    } else if result < 0, errno != EINTR {
      // Somebody else waited for it.
      isReaped = true
    }
    return isReaped
  }

  /// Ends it at once, with all that it started. Idempotent.
  func end() {
    input = nil
    guard !isReaped else { return }
    // Its id cannot be another's before it has been waited for; the group is its own, made before it became ssh.
    kill(-id, SIGKILL)
    if awaitEnd(.seconds(1), interrupter: nil) { return }
    // Stuck in the kernel, on a dead network share for example: its end is waited for by a thread that nobody waits for.
    isReaped = true
    let orphan = id
    Task.detached {
      let executor = ThreadExecutor(name: "reap")
      defer { executor.shutdown() }
      await executor.run {
        var status: Int32 = 0
        while waitpid(orphan, &status, 0) < 0, errno == EINTR {}
      }
    }
  }

  /// What a short run of the program gave: `ssh -V`, `ssh -G`.
  struct Answer {
    /// Its exit status; nil where a signal ended it.
    let exit: Int32?
    /// The first 256 KiB.
    let output: [UInt8]
    let error: [UInt8]
  }

  /// Lets it run to its end without input.
  /// - Throws: `timeout`, `interrupted`; it is gone then.
  func finish(by deadline: Deadline, interrupter: Interrupter) throws(TransportError) -> Answer {
    closeInput()
    var texts: [[UInt8]] = [[], []]
    var open = [output, error]
    var buffer = [UInt8](repeating: 0, count: 16 * 1024)
    let sources = [output, error]
    while !open.isEmpty {
      switch waitUntilReady(open.map { ($0.number, Int16(POLLIN)) }, interruption: interrupter.descriptor, deadline: deadline) {
      case .ready: break
      case .interrupted: throw .interruptedConnection
      case .timedOut:
        throw .lostConnection(
          .timeout, "the ssh program does not answer", hint: "Look at what its configuration runs (Match exec, ProxyCommand).")
      }
      for (index, source) in sources.enumerated() where open.contains(where: { $0 === source }) {
        let count = Glibc.read(source.number, &buffer, buffer.count)
        if count > 0 {
          texts[index] += buffer.prefix(min(count, max(0, 256 * 1024 - texts[index].count)))
        } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
          open.removeAll { $0 === source }
        }
      }
    }
    guard awaitEnd(.seconds(2), interrupter: interrupter), let status else { return Answer(exit: nil, output: texts[0], error: texts[1]) }
    return Answer(exit: Self.exitCode(status), output: texts[0], error: texts[1])
  }

  /// The exit code in a wait status; nil where a signal ended the program.
  static func exitCode(_ status: Int32) -> Int32? { status & 0x7f == 0 ? (status >> 8) & 0xff : nil }
}
