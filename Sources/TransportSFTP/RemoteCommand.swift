import Executors
import SyncModel
import Transport

/// One command run by the far side's login shell.
///
/// The text is a constant of this program, never built from names: names go over standard input, separated by NUL. It is made so that
/// csh, fish and busybox pass it on unharmed: one pair of single quotes, in it no `!`, no line feed and no backslash before a quote.
struct RemoteCommand: Hashable, Sendable {
  /// What the login shell is given.
  let text: String
  /// The command itself.
  let script: String

  /// Marks the end of whatever a login profile prints, and the end of the answer with the exit status.
  static let begin = Array("NASSYNC-BEGIN\n".utf8)
  static let end = Array("NASSYNC-END ".utf8)

  /// - Parameter script: POSIX shell, without single quotes. Its answer is framed by the two marks.
  init(script: StaticString) { self.init("\(script)") }

  /// Gives a program on its standard input a file that is still being written. The first line of standard input names the file, each one after that says
  /// how many more MiB of it are there, and the last one, `end`, that the rest is. Where that does not come, nothing more is read. `dd` reads no more than it is
  /// told to; without it all is read at the end.
  /// - Parameter program: As for `init(script:)`.
  init(following program: StaticString) {
    self.init(
      #"IFS= read -r f && exec 3<"$f" && while read -r n; do case "$n" in end) cat <&3; break;; esac; "#
        + #"dd bs=1048576 count="$n" <&3 2>/dev/null; done | \#(program)"#)
  }

  private init(_ script: String) {
    self.script = script
    text = "exec /bin/sh -c 'echo NASSYNC-BEGIN; \(script); echo \"NASSYNC-END $?\"'"
  }

  /// Why a command gave no answer although the connection is fine.
  enum Refusal: Error {
    /// The server does not run commands.
    case denied
    /// Nothing came for as long as was granted.
    case silent
    case failed(TransportError)
  }

  /// Runs the command: feeds its input and takes its output at the same time, blocking the calling thread.
  /// - Parameters:
  ///   - silence: How long nothing may move; the connection's own keepalives notice a dead peer much earlier.
  ///   - input: The next piece of standard input, nil at its end.
  ///   - output: Takes standard output as it comes.
  /// - Returns: The last part of standard error.
  func run(
    on connection: any SSHConnection, interrupter: Interrupter, silence: Duration, input: () -> [UInt8]?,
    output: (ArraySlice<UInt8>) throws(TransportError) -> Void
  ) throws(Refusal) -> [UInt8] {
    let channel: any SSHChannel
    do throws(TransportError) {
      channel = try connection.openChannel(.exec(text))
    } catch {
      if case .unsupported = error { throw .denied }
      throw .failed(error)
    }
    defer { channel.close() }
    do throws(TransportError) {
      if let said = try Self.converse(channel, interrupter, silence, input: input, output: output, endsInput: true) {
        return said.complaints
      }
    } catch {
      // Over the system's ssh program the refusal comes when the channel is there already.
      if case .unsupported = error { throw .denied }
      throw .failed(error)
    }
    throw .silent
  }

  /// Feeds input and takes output until the channel ends, or until `isDone` says so.
  /// - Parameter endsInput: Whether the far side is told where the input ends.
  /// - Returns: The last part of standard error, and whether all of the input was taken; nil where the silence lasted too long.
  static func converse(
    _ channel: any SSHChannel, _ interrupter: Interrupter, _ silence: Duration, input: () -> [UInt8]?,
    output: (ArraySlice<UInt8>) throws(TransportError) -> Void, isDone: () -> Bool = { false }, endsInput: Bool = false
  ) throws(TransportError) -> (complaints: [UInt8], wasFed: Bool)? {
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    var feed = CommandInput()
    func advance() throws(TransportError) -> Bool {
      if feed.wantsMore {
        if let more = input() { feed.append(more) } else { feed.finish(isTold: endsInput) }
      }
      return try feed.advance(channel)
    }
    var complaints = Complaints()
    var deadline = Deadline(after: silence)
    while true {
      if interrupter.isInterrupted { throw .interruptedConnection }
      var moved = try advance()
      switch try RemoteCommand.read(channel, &buffer) {
      case .bytes(let count):
        try output(buffer[..<count])
        moved = true
        if isDone() {
          try complaints.collect(channel)
          // The answer can be there before anybody has looked whether the input is at its end.
          _ = try advance()
          return (complaints.bytes, feed.isDone)
        }
      case .endOfStream:
        try complaints.collect(channel)
        return (complaints.bytes, feed.isDone)
      case .wouldBlock: break
      }
      try complaints.collect(channel)
      if moved {
        deadline = Deadline(after: silence)
        continue
      }
      let next = Deadline(after: .milliseconds(try channel.keepAlive()))
      let descriptors = channel.pollDescriptors(wantsWrite: !feed.isDone)
      let until = next.moment < deadline.moment ? next : deadline
      if waitUntilReady(descriptors, interruption: interrupter.descriptor, deadline: until) == .timedOut, deadline.hasPassed { return nil }
    }
  }

  static func read(_ channel: any SSHChannel, _ buffer: inout [UInt8]) throws(TransportError) -> CarrierResult {
    let result: Result<CarrierResult, TransportError> = buffer.withUnsafeMutableBytes { bytes in
      do throws(TransportError) { return .success(try channel.read(into: bytes)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  static func readError(_ channel: any SSHChannel, _ buffer: inout [UInt8]) throws(TransportError) -> CarrierResult {
    let result: Result<CarrierResult, TransportError> = buffer.withUnsafeMutableBytes { bytes in
      do throws(TransportError) { return .success(try channel.readError(into: bytes)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  /// The last 4 KiB of standard error.
  private struct Complaints {
    private(set) var bytes: [UInt8] = []
    private var buffer = [UInt8](repeating: 0, count: 4096)

    mutating func collect(_ channel: any SSHChannel) throws(TransportError) {
      while true {
        guard case .bytes(let count) = try RemoteCommand.readError(channel, &buffer), count > 0 else { return }
        bytes += buffer.prefix(count)
        if bytes.count > 4096 { bytes.removeFirst(bytes.count - 4096) }
      }
    }
  }
}
