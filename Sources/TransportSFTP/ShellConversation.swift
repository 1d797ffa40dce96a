import Executors
import SyncModel
import Transport

/// One shell on the far side that takes command after command over one channel: a command is then one round trip, where a channel of its own is
/// several, and over the system's ssh a log-in.
///
/// Each command comes as a line, the number of bytes of its input and its text, and then the input. `head -c` passes on exactly so many bytes and leaves the
/// rest to the next `read`; one that reads ahead (BusyBox's does) would swallow the next command, so it is tried out first. The input is names, and no
/// name must ever be read as a command, whatever becomes of `head`: each line of commands begins with a word that nobody else knows, and the
/// first that does not ends the shell.
struct ShellConversation {
  private let channel: any SSHChannel
  private let word: String

  /// What runs there. The same care as with every `RemoteCommand`: one pair of single quotes, no `!`, no line feed.
  static let loop = """
    exec /bin/sh -c 'echo NASSYNC-READY; read -r w; while IFS=" " read -r t n c && [ "$t" = "$w" ]; do head -c "$n" | { echo NASSYNC-BEGIN; \
    eval "$c"; s=$?; cat >/dev/null; echo "NASSYNC-END $s"; }; done'
    """

  /// Opens the channel and tries the shell out.
  /// - Returns: Nil where it cannot be talked to like this; the connection may be over then.
  /// - Throws: Where the connection fails.
  static func open(on connection: any SSHConnection, interrupter: Interrupter, silence: Duration) throws(TransportError)
    -> ShellConversation?
  {
    let channel: any SSHChannel
    do throws(TransportError) { channel = try connection.openChannel(.exec(loop)) } catch {
      if case .unsupported = error { return nil }
      throw error
    }
    let conversation = ShellConversation(channel: channel, word: String(UInt64.random(in: 1 << 60 ... .max), radix: 36))
    do throws(TransportError) {
      if try conversation.isExact(interrupter, silence) { return conversation }
    } catch {
      channel.close()
      if case .unsupported = error { return nil }
      throw error
    }
    channel.close()
    return nil
  }

  /// Sends two commands at once and, when the first was answered, a third: where `head` read ahead, the second is never answered.
  private func isExact(_ interrupter: Interrupter, _ silence: Duration) throws(TransportError) -> Bool {
    let answered = { (number: Int) in Array("NASSYNC-BEGIN\n\(number)\nNASSYNC-END 0\n".utf8) }
    var output: [UInt8] = []
    for (input, end) in [("\(word)\n\(word) 2 cat\n1\n\(word) 2 cat\n2\n", answered(1)), ("\(word) 2 cat\n3\n", answered(3))] {
      var input: [UInt8]? = Array(input.utf8)
      let said = try RemoteCommand.converse(channel, interrupter, silence) {
        defer { input = nil }
        return input
      } output: { (bytes) throws(TransportError) in
        output += bytes
      } isDone: {
        output.count > 64 * 1024 || output.contains(end)
      }
      guard said != nil, output.contains(end) else { return false }
    }
    return output.ends(with: Array("NASSYNC-READY\n".utf8) + answered(1) + answered(2) + answered(3))
  }

  /// Runs a command; it must not need a standard input beyond what it is given.
  /// - Parameters:
  ///   - length: How many bytes `input` gives in all.
  ///   - isDone: Whether the output so far is the whole answer.
  /// - Returns: The last part of standard error; nil where nothing came for as long as was granted.
  /// - Throws: Where the connection fails, or the shell ends before its answer does.
  func run(
    _ command: RemoteCommand, length: Int, interrupter: Interrupter, silence: Duration, input: () -> [UInt8]?,
    output: (ArraySlice<UInt8>) throws(TransportError) -> Void, isDone: () -> Bool
  ) throws(TransportError) -> [UInt8]? {
    var header: [UInt8]? = Array("\(word) \(length) \(command.script)\n".utf8)
    let said = try RemoteCommand.converse(channel, interrupter, silence) {
      if let first = header {
        header = nil
        return first
      }
      return length == 0 ? nil : input()
    } output: { (bytes) throws(TransportError) in
      try output(bytes)
    } isDone: {
      isDone()
    }
    guard let said else { return nil }
    guard isDone(), said.wasFed else {
      throw .lostConnection(.network, "the NAS's shell ended in the middle of an answer", hint: "It is asked again over a new connection.")
    }
    return said.complaints
  }

  func close() { channel.close() }
}

extension [UInt8] {
  fileprivate func ends(with other: [UInt8]) -> Bool { count >= other.count && suffix(other.count).elementsEqual(other) }

  fileprivate func contains(_ other: [UInt8]) -> Bool {
    guard count >= other.count else { return false }
    return (0...(count - other.count)).contains { self[$0..<($0 + other.count)].elementsEqual(other) }
  }
}
