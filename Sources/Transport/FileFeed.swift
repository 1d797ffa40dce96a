import Synchronization

/// Small files on their way to whoever writes them on the far side in one stream: many tasks give, one takes, in the order in which they were given.
///
/// What was given is there once its tag is among the `confirmations`. Where the stream breaks, everything else that was given has to be sent in
/// another way: it may be there, in part, or not at all.
public final class FileFeed: Sendable {
  /// Files that were given in one go.
  public struct Portion: Sendable {
    /// Of the giver's.
    public let tag: Int
    /// In the order in which they are written.
    public let files: [WholeFile]
    /// What they take on the way.
    public let bytes: Int
  }

  /// What there is to take.
  public enum Taken: Sendable {
    case portion(Portion)
    /// Nothing just now.
    case nothing
    /// Nothing more comes.
    case end
  }

  private struct State {
    var waiting: [Portion] = []
    /// Of what waits.
    var bytes = 0
    var hasEnded = false
    var isClosed = false
    var hasBegun = false
    var listener: (@Sendable () -> Void)?
    var giversWaiting: [CheckedContinuation<Void, Never>] = []
  }

  /// Bytes that wait to be taken at most, but for the last portion: some milliseconds of a fast line.
  private static let room = 2 << 20

  private let state = Mutex(State())
  private let confirmation: AsyncStream<[Int]>.Continuation
  /// Tags of portions that are there, until the feed is closed. For one reader.
  public let confirmations: AsyncStream<[Int]>

  /// Nothing was given yet.
  public init() { (confirmations, confirmation) = AsyncStream.makeStream() }

  // MARK: Who gives

  /// Gives files, once there is room for them.
  /// - Parameter weight: Bytes that they take on the way.
  /// - Returns: False where nobody takes anything any more: they are not on their way then.
  public func give(_ files: [WholeFile], weight: Int, tag: Int) async -> Bool {
    let portion = Portion(tag: tag, files: files, bytes: weight)
    while true {
      let listener: (@Sendable () -> Void)?? = state.withLock { state in
        if state.isClosed { return .some(nil) }
        guard state.bytes < Self.room else { return nil }
        state.waiting.append(portion)
        state.bytes += portion.bytes
        return .some(state.listener ?? {})
      }
      if let listener {
        listener?()
        return listener != nil
      }
      await withCheckedContinuation { continuation in
        let waits = state.withLock { state in
          guard state.bytes >= Self.room, !state.isClosed else { return false }
          state.giversWaiting.append(continuation)
          return true
        }
        if !waits { continuation.resume() }
      }
    }
  }

  /// Nothing more is given.
  public func end() {
    let listener = state.withLock { state in
      state.hasEnded = true
      return state.listener
    }
    listener?()
  }

  /// Whether somebody takes what is given: from then on it is worth giving everything.
  public var hasBegun: Bool { state.withLock { $0.hasBegun } }

  /// Whether nobody takes anything any more.
  public var isClosed: Bool { state.withLock { $0.isClosed } }

  // MARK: Who takes

  /// Taking begins.
  public func begin() { state.withLock { $0.hasBegun = true } }

  /// The next files.
  public func take() -> Taken {
    let (taken, givers) = state.withLock { state -> (Taken, [CheckedContinuation<Void, Never>]) in
      guard !state.waiting.isEmpty else { return (state.hasEnded ? .end : .nothing, []) }
      let portion = state.waiting.removeFirst()
      state.bytes -= portion.bytes
      guard state.bytes < Self.room else { return (.portion(portion), []) }
      defer { state.giversWaiting = [] }
      return (.portion(portion), state.giversWaiting)
    }
    for giver in givers { giver.resume() }
    return taken
  }

  /// These are there.
  public func confirm(_ tags: [Int]) { confirmation.yield(tags) }

  /// Nothing is taken any more. Idempotent.
  public func close() {
    let givers = state.withLock { state in
      state.isClosed = true
      state.waiting = []
      defer { state.giversWaiting = [] }
      return state.giversWaiting
    }
    confirmation.finish()
    for giver in givers { giver.resume() }
  }

  /// Has a function called, from any thread, whenever there is something to take or the end has come.
  public func listen(_ listener: @escaping @Sendable () -> Void) {
    state.withLock { $0.listener = listener }
    listener()
  }
}
