import CLinux
import Foundation
import Glibc

/// What a finished process said.
public struct ProcessResult: Sendable {
  /// The exit status; 128 + the signal's number where a signal ended it.
  public let status: Int32
  /// Everything it wrote to standard output.
  public let stdout: [UInt8]
  /// Everything it wrote to standard error.
  public let stderr: [UInt8]

  /// Standard output as text.
  public var text: String { String(decoding: stdout, as: UTF8.self) }
  /// Standard error as text.
  public var errorText: String { String(decoding: stderr, as: UTF8.self) }
}

/// Runs a program to its end. Its streams are files, so no amount of output can dead-lock.
/// - Parameters:
///   - arguments: The program (a name without `/` is looked up in `PATH`) and what follows.
///   - environment: Replaces the whole environment; nil inherits it.
///   - directory: The working directory; nil inherits it.
public func runProcess(
  _ arguments: [String], input: [UInt8] = [], environment: [String: String]? = nil, directory: String? = nil
) async throws -> ProcessResult {
  try await TemporaryFolder.with { folder in
    let streams = ChildProcess.Streams(
      input: try folder.write(input, to: "in", mode: 0o600), output: "\(folder.path)/out", error: "\(folder.path)/err")
    let child = try ChildProcess(arguments, environment: environment, directory: directory, streams: streams)
    let status = await child.exitStatus()
    return ProcessResult(
      status: status, stdout: Array(try Data(contentsOf: URL(fileURLWithPath: streams.output))),
      stderr: Array(try Data(contentsOf: URL(fileURLWithPath: streams.error))))
  }
}

/// A process that was started here. It inherits no descriptor but its three streams: Foundation's `Process` lets the ones of other
/// processes slip through, and then the end of one is not noticed while another lives.
public struct ChildProcess: Sendable {
  /// Files for the standard streams.
  public struct Streams: Sendable {
    /// Read as standard input.
    public var input = "/dev/null"
    /// Written anew with standard output.
    public var output = "/dev/null"
    /// Written anew with standard error.
    public var error = "/dev/null"
    /// - Parameter input: Each of them is `/dev/null` where it is not given.
    public init(input: String = "/dev/null", output: String = "/dev/null", error: String = "/dev/null") {
      self.input = input
      self.output = output
      self.error = error
    }
  }

  /// The process id: the process stays, as a zombie at least, until somebody awaits `exitStatus()`.
  public let id: pid_t

  /// Starts a program.
  /// - Parameter ownGroup: It leads a process group of its own, so that it can be ended with what it starts, and an interrupt from the terminal
  ///   does not reach it.
  public init(
    _ arguments: [String], environment: [String: String]? = nil, directory: String? = nil, streams: Streams = Streams(),
    ownGroup: Bool = false
  ) throws {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, streams.input, O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, streams.output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    posix_spawn_file_actions_addopen(&actions, 2, streams.error, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    _ = clinux_spawn_close_from(&actions, 3)
    if let directory { _ = clinux_spawn_chdir(&actions, directory) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    // Threads of Swift's executors block signals; the child must not inherit that.
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | (ownGroup ? POSIX_SPAWN_SETPGROUP : 0)))

    let own = ProcessInfo.processInfo.environment
    // A program that is built with a sanitizer has to hear what it is told, whatever else it may know.
    let told = own.filter { Patience.sanitizer != nil && ["TSAN_OPTIONS", "ASAN_OPTIONS", "LSAN_OPTIONS", "LD_PRELOAD"].contains($0.key) }
    let variables = (environment ?? own).merging(told) { given, _ in given }.map { "\($0.key)=\($0.value)" }
    var argv = arguments.map { strdup($0) } + [nil]
    var envp = variables.map { strdup($0) } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    var pid = pid_t()
    let status = posix_spawnp(&pid, arguments.first ?? "", &actions, &attributes, &argv, &envp)
    guard status == 0 else {
      throw TemporaryFolder.Failure("cannot start \(arguments): \(String(cString: strerror(status)))")
    }
    id = pid
  }

  /// Whether it still runs.
  public var isRunning: Bool { ProcessTree.isAlive(id) }

  /// Waits for the end; once only.
  public func exitStatus() async -> Int32 {
    let id = id
    return await withCheckedContinuation { continuation in
      Thread.detachNewThread {
        var status: Int32 = 0
        while waitpid(id, &status, 0) < 0, errno == EINTR {}
        let signal = status & 0x7f
        continuation.resume(returning: signal == 0 ? (status >> 8) & 0xff : 128 + signal)
      }
    }
  }
}
