import CLinux
import Executors
import Glibc
import Intake
import SyncModel

/// A validator's program while it runs: in a process group of its own, with three pipes and nothing else open. Blocking; used on a thread
/// that has SIGPIPE blocked, which those of `ThreadExecutor` have.
struct ValidatorProcess: ~Copyable {
  /// Seconds between asking a program to end and ending it.
  private static let patience = 1.0
  /// The same where the service itself is to stop.
  private static let shortPatience = 0.2
  /// How long standard output may stay open after the program has ended: what it wrote is there already.
  private static let drainTime = 1.0
  private static let tailLimit = 4096

  private let id: pid_t
  /// Readable once the program has ended; negative where the kernel has no such thing.
  private let ended: Int32
  private var input: Pipe
  private var output: Pipe
  private var error: Pipe
  private let timeout: Double
  private let deadline: UInt64
  private let outputLimit: Int
  private var isReaped = false

  private var pending: ArraySlice<UInt8> = []
  private var inputIsWritten = false
  private var answer: [UInt8] = []
  private var tail: [UInt8] = []

  /// Two ends, each closed once.
  private struct Pipe: ~Copyable {
    private(set) var reading: Int32
    private(set) var writing: Int32

    init() throws(ValidatorFailure) {
      var ends: [Int32] = [-1, -1]
      guard clinux_pipe(&ends) == 0 else { throw ValidatorFailure("cannot be started: no pipe can be made: \(errorText(errno))") }
      reading = ends[0]
      writing = ends[1]
    }

    mutating func closeReading() {
      if reading >= 0 { close(reading) }
      reading = -1
    }

    mutating func closeWriting() {
      if writing >= 0 { close(writing) }
      writing = -1
    }

    deinit {
      if reading >= 0 { close(reading) }
      if writing >= 0 { close(writing) }
    }
  }

  /// Starts the program.
  /// - Parameters:
  ///   - program: Its path.
  ///   - arguments: The name it is told, and what follows.
  ///   - environment: `NAME=value` each; all it gets.
  ///   - timeout: Seconds.
  init(program: String, arguments: [String], environment: [String], timeout: Double, outputLimit: Int) throws(ValidatorFailure) {
    let input = try Pipe()
    var output = try Pipe()
    var error = try Pipe()
    let started = Self.spawn(program, arguments, environment, streams: [input.reading, output.writing, error.writing])
    guard started.status == 0 else {
      throw ValidatorFailure(
        "cannot be started: \(displayText(program)): \(errorText(started.status))",
        hint: started.status == ENOEXEC
          ? "A script needs a first line that names its interpreter: #!/usr/bin/env python3." : "Mend the program and check again.")
    }
    output.closeWriting()
    error.closeWriting()
    clinux_set_nonblocking(input.writing)
    clinux_set_nonblocking(output.reading)
    clinux_set_nonblocking(error.reading)
    id = started.id
    ended = clinux_pidfd(started.id)
    // The reading end of its input stays open here too: what it left unread can be counted at the end, and a program that reads nothing is
    // found out whatever the size of the run.
    self.input = input
    self.output = output
    self.error = error
    self.timeout = timeout
    self.outputLimit = outputLimit
    deadline = SystemClock().monotonicNanoseconds &+ UInt64(max(0, min(timeout, 86_400)) * 1e9)
  }

  deinit {
    if ended >= 0 { close(ended) }
    guard !isReaped else { return }
    kill(-id, SIGKILL)
    Self.reapLater(id)
  }

  private static func spawn(
    _ program: String, _ arguments: [String], _ environment: [String], streams: [Int32]
  ) -> (status: Int32, id: pid_t) {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, descriptor) in streams.enumerated() { posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(number)) }
    var status = clinux_spawn_close_from(&actions, 3)
    guard status == 0 else { return (status, 0) }
    // Not the run's folder: a program that stays there would keep its file system busy, and relative names in a run are not to be trusted.
    status = clinux_spawn_chdir(&actions, "/")
    guard status == 0 else { return (status, 0) }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP))
    var argv = arguments.map { strdup($0) } + [nil]
    var envp = environment.map { strdup($0) } + [nil]
    defer { for pointer in argv + envp { free(pointer) } }
    var id = pid_t()
    var tries: Int32 = 0
    repeat { status = posix_spawn(&id, program, &actions, &attributes, &argv, &envp) } while clinux_busy_again(status, &tries) != 0
    return (status, id)
  }

  /// Gives it the run, takes its answer, and sees it to its end. The program is gone when this returns.
  mutating func converse(_ run: ValidatorInput, stop: Interrupter) throws(ValidatorFailure) -> [UInt8] {
    var failure: ValidatorFailure?
    do throws(ValidatorFailure) { try exchange(run, stop: stop) } catch { failure = error }
    let unread = clinux_unread(input.reading)
    let status = finish(wasAsked: failure == nil, stop: stop)
    drainError()
    if failure == nil { failure = verdict(status, unread: inputIsWritten ? unread : 1) }
    if var failure {
      failure.said = tail
      throw failure
    }
    return answer
  }

  private func verdict(_ status: Int32?, unread: Int32) -> ValidatorFailure? {
    guard let status else { return ValidatorFailure("has ended, but how is not known") }
    let signal = status & 0x7f
    if signal != 0 { return ValidatorFailure("was ended by signal \(signal) (\(String(cString: strsignal(signal))))") }
    let code = (status >> 8) & 0xff
    if code != 0 { return ValidatorFailure("ended with exit status \(code)") }
    if unread != 0 {
      return ValidatorFailure(
        "ended without having read all that it was told of the run", hint: "It must read its standard input to the end. Mend the program.")
    }
    return nil
  }

  private mutating func exchange(_ run: ValidatorInput, stop: Interrupter) throws(ValidatorFailure) {
    var run = run
    var hasEnded = false
    var last = deadline
    while !hasEnded || output.reading >= 0 {
      let now = SystemClock().monotonicNanoseconds
      if stop.isInterrupted { throw ValidatorFailure("was stopped, because this program stops", hint: "It is asked again.") }
      guard now < last else {
        if hasEnded {
          throw ValidatorFailure("has ended, but something that it started still holds its standard output")
        }
        throw ValidatorFailure(
          "did not end within \(Self.seconds(timeout))", hint: "Mend the program, or give it a longer `timeout` in gate.validators.")
      }
      if !inputIsWritten { write(&run) }
      var wanted = [
        pollfd(fd: stop.descriptor, events: Int16(POLLIN), revents: 0),
        pollfd(fd: hasEnded ? -1 : ended, events: Int16(POLLIN), revents: 0),
        pollfd(fd: output.reading, events: Int16(POLLIN), revents: 0), pollfd(fd: error.reading, events: Int16(POLLIN), revents: 0),
        pollfd(fd: hasEnded ? -1 : input.writing, events: Int16(POLLOUT), revents: 0),
      ]
      // Without a descriptor for its end, it is looked for every 20 ms.
      let wait = min((last - now) / 1_000_000 + 1, ended < 0 && !hasEnded ? 20 : 60_000)
      _ = poll(&wanted, nfds_t(wanted.count), Int32(wait))
      if wanted[2].revents != 0 { try readOutput() }
      if wanted[3].revents != 0 { readError() }
      if !hasEnded, Self.hasEnded(id) {
        hasEnded = true
        last = min(deadline, SystemClock().monotonicNanoseconds &+ UInt64(Self.drainTime * 1e9))
      }
    }
  }

  private mutating func write(_ run: inout ValidatorInput) {
    while true {
      if pending.isEmpty {
        guard let piece = run.next() else {
          inputIsWritten = true
          input.closeWriting()
          return
        }
        pending = piece[...]
        continue
      }
      let descriptor = input.writing
      let count = pending.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        return
      }
      pending = pending.dropFirst(count)
    }
  }

  private mutating func readOutput() throws(ValidatorFailure) {
    guard let bytes = Self.read(output.reading) else { return }
    if bytes.isEmpty { output.closeReading() }
    guard answer.count + bytes.count <= outputLimit else {
      throw ValidatorFailure(
        "wrote more than \(outputLimit >> 10) KiB of findings", hint: "It is to name what is wrong, not all that is there.")
    }
    answer += bytes
  }

  private mutating func readError() {
    guard let bytes = Self.read(error.reading) else { return }
    if bytes.isEmpty { error.closeReading() }
    tail = Array((tail + bytes).suffix(Self.tailLimit))
  }

  /// What is there of its last words. Bounded: something that it started may go on writing.
  private mutating func drainError() {
    var left = 64
    while error.reading >= 0, left > 0 {
      let before = tail
      guard let bytes = Self.read(error.reading), !bytes.isEmpty else { return }
      tail = Array((before + bytes).suffix(Self.tailLimit))
      left -= 1
    }
  }

  /// - Returns: Nil where nothing is there yet, nothing at the end.
  private static func read(_ descriptor: Int32) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    let count = buffer.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
    if count < 0 { return errno == EAGAIN || errno == EINTR ? nil : [] }
    return Array(buffer[..<count])
  }

  /// Sees to it that neither the program nor anything of its group lives on.
  /// - Parameter wasAsked: False where it is to end now.
  /// - Returns: Its wait status; nil where it could not be had.
  private mutating func finish(wasAsked: Bool, stop: Interrupter) -> Int32? {
    if !wasAsked, !Self.hasEnded(id) {
      kill(-id, SIGTERM)
      awaitEnd(stop.isInterrupted ? Self.shortPatience : Self.patience)
    }
    // Its id is its group's, and cannot be another's before it has been waited for.
    kill(-id, SIGKILL)
    awaitEnd(Self.patience)
    isReaped = true
    guard Self.hasEnded(id) else {
      // Stuck in the kernel, on a dead network share for example: its end is waited for by a thread that nobody waits for.
      Self.reapLater(id)
      return nil
    }
    var status: Int32 = 0
    while true {
      if waitpid(id, &status, 0) == id { return status }
      if errno != EINTR { return nil }
    }
  }

  private func awaitEnd(_ seconds: Double) {
    let end = SystemClock().monotonicNanoseconds &+ UInt64(seconds * 1e9)
    while !Self.hasEnded(id) {
      let now = SystemClock().monotonicNanoseconds
      guard now < end else { return }
      var wanted = pollfd(fd: ended, events: Int16(POLLIN), revents: 0)
      _ = poll(&wanted, 1, Int32(min((end - now) / 1_000_000 + 1, ended < 0 ? 5 : 1000)))
    }
  }

  /// Whether the program has ended; it stays a zombie. True as well where it cannot be waited for.
  private static func hasEnded(_ id: pid_t) -> Bool {
    var found = siginfo_t()
    if waitid(P_PID, id_t(id), &found, WEXITED | WNOHANG | WNOWAIT) != 0 { return errno != EINTR }
    return found.si_signo != 0
  }

  private static func reapLater(_ id: pid_t) {
    Task.detached {
      let executor = ThreadExecutor(name: "reap")
      defer { executor.shutdown() }
      await executor.run {
        var status: Int32 = 0
        while waitpid(id, &status, 0) < 0, errno == EINTR {}
      }
    }
  }

  private static func seconds(_ value: Double) -> String {
    let rounded = (value * 10).rounded() / 10
    return rounded == rounded.rounded() ? "\(Int(rounded)) s" : "\(rounded) s"
  }
}
