import SyncModel

/// What a driver throws. The first three are answers about one path that callers act on; everything else is a `SyncFailure` with its
/// kind, message and hint, and says whether the session can still be used.
public enum TransportError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Nothing has that name.
  case notFound(RemotePath)
  /// Something has that name already, and the operation never overwrites.
  case alreadyExists(RemotePath)
  /// The destination cannot do that (its probe said so, or it answered so).
  case unsupported(String)
  /// Everything else. `sessionLost`: the session answers no more and must be closed; a new one may work.
  case failure(SyncFailure, sessionLost: Bool)

  /// The failure to record in the queue.
  public var failure: SyncFailure {
    switch self {
    case .notFound(let path):
      SyncFailure(
        .protocol, "\(path) is not on the NAS",
        hint: "Something removed it there; try again, and if it repeats look at who else writes to this folder.")
    case .alreadyExists(let path):
      SyncFailure(.remoteConflict, "\(path) exists on the NAS already", hint: "Compare the two and move one away, then `nassync retry`.")
    case .unsupported(let what):
      SyncFailure(.misconfigured, "the destination cannot \(what)", hint: "`nassync check` lists what it can do.")
    case .failure(let failure, _): failure
    }
  }

  /// Whether the session must be closed.
  public var sessionLost: Bool {
    if case .failure(_, let lost) = self { lost } else { false }
  }

  /// Whether nobody answered, or only that this is no time to ask: another question would not fare better for now.
  public var isUnanswered: Bool { sessionLost || failure.isUnanswered }

  /// Safe to show.
  public var description: String { failure.description }
}
