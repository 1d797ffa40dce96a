import Executors
import Glibc
import NASSync

/// The program's two outputs. Writing blocks where a reader is slow, so it happens on a thread of its own.
///
/// With `--json` exactly one document goes to standard output, at the end; everything for people goes to standard error or nowhere.
actor Console {
  nonisolated let options: GlobalOptions
  /// What standard output goes to.
  nonisolated let output: Terminal
  /// What standard error goes to.
  nonisolated let errors: Terminal
  /// Whether standard error can be drawn on: a terminal that knows how to go back to the start of a line.
  nonisolated let draws: Bool
  /// Whether standard output can be drawn on from its top.
  nonisolated let redraws: Bool
  /// How runs are called.
  nonisolated let names: RunNames
  private let environment: [String: String]
  private let executor = ThreadExecutor(name: "console")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  /// Whether whoever read standard output has gone.
  private(set) var readerIsGone = false
  private var writeError: Int32?
  /// Whether a progress line stands on the terminal.
  private var transient = false

  init(options: GlobalOptions, environment: [String: String], currentDirectory: String) {
    self.options = options
    names = RunNames(seenFrom: currentDirectory)
    self.environment = environment
    output = Terminal(descriptor: 1, environment: environment)
    errors = Terminal(descriptor: 2, environment: environment)
    redraws = output.width != nil && (environment["TERM"] ?? "dumb") != "dumb"
    draws = errors.width != nil && (environment["TERM"] ?? "dumb") != "dumb" && !options.quiet
  }

  deinit { executor.shutdown() }

  /// Runs something that blocks on the console's thread.
  nonisolated func blocking<Result: Sendable, Failure: Error>(
    _ body: @Sendable @escaping () throws(Failure) -> Result
  ) async throws(Failure) -> Result {
    try await executor.run(body)
  }

  /// What was asked for, for a person: on standard output, except with `--json`.
  func show(_ lines: [String]) {
    guard !options.json, !lines.isEmpty else { return }
    clearTransient()
    write(lines, to: 1)
  }

  /// What a command did, for a person: not wanted with `--quiet`.
  func say(_ lines: [String]) {
    if !options.quiet { show(lines) }
  }

  /// Text that is printed as it is, without a newline added.
  func raw(_ text: String) { write(Array(text.utf8), to: 1) }

  /// The document of `--json`; nothing without it.
  func document(_ value: some Encodable & Sendable) {
    guard options.json else { return }
    do { write([try JSONOutput.text(value)], to: 1) } catch {
      // Values of ours encode always; should one not, silence would be taken for success.
      writeError = EINVAL
      write(["nassync: the answer cannot be written as JSON: \(error)"], to: 2)
    }
  }

  /// A remark or a line of progress, on standard error; not with `--quiet`.
  func note(_ line: String) {
    if !options.quiet { complain([line]) }
  }

  /// What must be said even with `--quiet`, on standard error.
  func complain(_ lines: [String]) {
    clearTransient()
    write(lines, to: 2)
  }

  /// An error that ends the command: for a person, and with `--json` as the document.
  func report(_ failure: CommandFailure) {
    complain(failure.lines)
    document(ErrorDocument(failure))
  }

  /// The line that stays at the bottom of the terminal until something else is written.
  /// - Parameter render: Given the terminal as it is now: a person may have made the window smaller.
  func draw(_ render: @Sendable (Terminal) -> String) {
    guard draws else { return }
    write(Array("\r\(render(Terminal(descriptor: 2, environment: environment)))\u{1b}[K".utf8), to: 2)
    transient = true
  }

  /// An empty screen, for `redraw`.
  func clearScreen() { write(Array("\u{1b}[2J".utf8), to: 1) }

  /// A screen that is kept up to date: standard output, a terminal, is cleared and written anew, from its top.
  /// - Parameter render: Given the terminal as it is now. Lines that do not fit on the screen are left out at the end.
  func redraw(_ render: @Sendable (Terminal) -> [String]) {
    let terminal = Terminal(descriptor: 1, environment: environment)
    let body = render(terminal).prefix(max(1, terminal.height - 1)).map { "\($0)\u{1b}[K\n" }.joined()
    write(Array("\u{1b}[H\(body)\u{1b}[J".utf8), to: 1)
  }

  /// Removes the progress line.
  func clearTransient() {
    guard transient else { return }
    transient = false
    write(Array("\r\u{1b}[K".utf8), to: 2)
  }

  /// The exit code in the end: an answer that could not be written is no success.
  func finish(_ code: ExitCode) -> ExitCode {
    clearTransient()
    guard let writeError, code == .done else { return code }
    write(["nassync: standard output cannot be written: \(String(cString: strerror(writeError)))"], to: 2)
    return .failed
  }

  private func write(_ lines: [String], to descriptor: Int32) {
    write(Array((lines.joined(separator: "\n") + "\n").utf8), to: descriptor)
  }

  private func write(_ bytes: [UInt8], to descriptor: Int32) {
    if descriptor == 1, readerIsGone || writeError != nil { return }
    var rest = bytes[...]
    while !rest.isEmpty {
      let written = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if written > 0 {
        rest = rest.dropFirst(written)
        continue
      }
      switch errno {
      case EINTR: continue
      case EAGAIN:
        // Somebody else made the descriptor non-blocking; it is shared with other programs.
        var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&waiting, 1, -1)
      case EPIPE:
        if descriptor == 1 { readerIsGone = true }
        return
      default:
        if descriptor == 1 { writeError = errno }
        return
      }
    }
  }
}
