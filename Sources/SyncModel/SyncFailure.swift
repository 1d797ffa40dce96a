/// Why something did not succeed: the kind decides what the queue does, the message and the hint are for a person.
public struct SyncFailure: Error, Hashable, Sendable, Codable, CustomStringConvertible {
  /// The kinds of the contract. The raw value is what `--json` and the queue hold.
  public enum Kind: String, Hashable, Sendable, Codable, CaseIterable {
    case network
    case timeout
    case auth
    case hostKey = "host_key"
    case permission
    case remoteFull = "remote_full"
    case remoteConflict = "remote_conflict"
    case hashMismatch = "hash_mismatch"
    case blocked
    case localChanged = "local_changed"
    case localVanished = "local_vanished"
    case remoteCorrupted = "remote_corrupted"
    case misconfigured
    case `protocol`
    /// The local disk, queue file or system refused something that is no fault of the run or the NAS.
    case local
    /// The operation was told to stop; the job keeps its place.
    case interrupted

    /// Whether waiting may help.
    public var isRetried: Bool {
      switch self {
      case .auth, .hostKey, .misconfigured, .localVanished, .remoteConflict, .blocked, .remoteCorrupted: false
      case .network, .timeout, .permission, .remoteFull, .hashMismatch, .localChanged, .protocol, .local, .interrupted: true
      }
    }
  }

  /// What kind of thing it is.
  public let kind: Kind
  /// Whether nobody answered, or only that this is no time to ask: that says nothing of what was asked for.
  public var isUnanswered: Bool { kind == .network || kind == .timeout }
  /// One sentence that names the thing.
  public let message: String
  /// Whether the queue tries again by itself.
  public let retry: Bool
  /// The next step for the operator.
  public let hint: String

  /// - Parameter retry: Nil takes the kind's own rule.
  public init(_ kind: Kind, _ message: String, hint: String, retry: Bool? = nil) {
    self.kind = kind
    self.message = message
    self.retry = retry ?? kind.isRetried
    self.hint = hint
  }

  /// Safe to show.
  public var description: String { "\(message) (\(kind.rawValue)). \(hint)" }
}
