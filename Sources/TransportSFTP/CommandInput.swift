import Transport

/// What goes to the standard input of a command, how much of it has gone out, and whether its end has.
struct CommandInput {
  private var outgoing: ArraySlice<UInt8>
  private var end = End.open
  private enum End {
    /// More may be added.
    case open
    /// Nothing more is added, and the far side is to hear of it.
    case named
    case said
    /// Nothing more is added, and the channel is used further.
    case left
    /// The far side reads no more.
    case refused
  }

  init(_ first: [UInt8] = []) { outgoing = first[...] }

  /// Whether something can be added, and should be.
  var wantsMore: Bool { outgoing.isEmpty && end == .open }
  /// Whether bytes wait to go out.
  var hasBytes: Bool { !outgoing.isEmpty }
  /// Whether something waits to go out, be it the word that this was all.
  var hasMore: Bool { !outgoing.isEmpty || end == .named }
  /// Whether nothing is added any more, and nothing waits.
  var isDone: Bool { !hasMore && end != .open }
  /// Whether nothing is added any more.
  var hasEnded: Bool { end != .open }
  /// Whether the far side has been told the end.
  var isOver: Bool { end == .said }

  mutating func append(_ bytes: [UInt8]) { outgoing += bytes }

  /// Nothing more comes.
  /// - Parameter isTold: Whether the far side hears of it.
  mutating func finish(isTold: Bool = true) { if end == .open { end = isTold ? .named : .left } }

  /// Hands to a channel what it takes.
  /// - Parameter most: Bytes that may go out now.
  /// - Returns: Whether anything moved.
  mutating func advance(_ channel: any SSHChannel, atMost most: Int = .max) throws(TransportError) -> Bool {
    if !outgoing.isEmpty {
      let result: Result<CarrierResult, TransportError> = outgoing.prefix(most).withUnsafeBytes { raw in
        do throws(TransportError) { return .success(try channel.write(raw)) } catch { return .failure(error) }
      }
      switch try result.get() {
      case .bytes(let count):
        outgoing = outgoing.dropFirst(count)
        return count > 0
      case .wouldBlock: return false
      // What it has said is judged by whoever reads it.
      case .endOfStream:
        outgoing = []
        end = .refused
        return true
      }
    }
    guard end == .named, case .bytes = try channel.sendEndOfInput() else { return false }
    end = .said
    return true
  }
}
