import Synchronization

/// How far a file has come that is being written, told by whoever writes it to whoever hashes it meanwhile.
public final class FileGrowth: Sendable {
  private struct State {
    var reached: UInt64 = 0
    var end = End.open
    var hasBegun = false
    var listener: (@Sendable () -> Void)?
  }

  /// What is known of the file's end.
  public enum End: Hashable, Sendable {
    /// More is written.
    case open
    /// The last byte is there.
    case whole
    /// Nobody wants the digest any more.
    case abandoned
  }

  private let state = Mutex(State())

  /// Nothing is there yet.
  public init() {}

  /// The first so many bytes are there, and none of them is written again.
  public func reached(_ bytes: UInt64) { change { $0.reached = max($0.reached, bytes) } }

  /// The last of all the bytes is there.
  public func isWhole(_ bytes: UInt64) {
    change {
      $0.reached = max($0.reached, bytes)
      if $0.end == .open { $0.end = .whole }
    }
  }

  /// The hashing has begun: it is worth being waited for.
  public func begin() { state.withLock { $0.hasBegun = true } }

  /// Whether the hashing has begun.
  public var hasBegun: Bool { state.withLock { $0.hasBegun } }

  /// Nobody wants the digest any more.
  public func abandon() { change { $0.end = .abandoned } }

  /// Bytes that are there, and whether they are all.
  public var now: (bytes: UInt64, end: End) { state.withLock { ($0.reached, $0.end) } }

  /// Has a function called, from any thread, whenever something has changed.
  public func listen(_ listener: @escaping @Sendable () -> Void) {
    state.withLock { $0.listener = listener }
    listener()
  }

  private func change(_ body: (inout State) -> Void) {
    let listener = state.withLock { state in
      body(&state)
      return state.listener
    }
    listener?()
  }
}
