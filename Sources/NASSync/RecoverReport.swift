import Foundation
import SyncModel

/// What a recovery of the queue found and did.
public struct RecoverReport: Hashable, Sendable, Codable {
  /// One run.
  public struct Run: Hashable, Sendable, Codable {
    /// What became of it.
    public enum Outcome: String, Hashable, Sendable, Codable {
      /// The queue knows it: nothing was done.
      case known
      /// Published and proven again now, with its local copy here.
      case verified
      /// Published and proven again now; its local copy was removed.
      case cleaned
      /// Not published, and it had been enqueued: it is in the queue again.
      case queued
      /// The same, and the gate keeps it.
      case blocked
      /// The NAS does not hold what its manifest says. With a local copy it was enqueued; without, its problem stays open.
      case notWhole = "not_whole"
      /// It cannot be said: the NAS, or the disk here, gave an error.
      case unclear
    }
    /// Where it lies, or lay, on this workstation.
    public let runPath: String
    /// The instrument.
    public let equipmentID: String
    /// What became of it.
    public let outcome: Outcome
    /// One sentence.
    public let detail: String
    /// What to do; nil where nothing is.
    public let hint: String?
    /// The kind of failure of what is unclear.
    public let kind: SyncFailure.Kind?

    init(_ location: RunLocation, _ outcome: Outcome, _ detail: String, hint: String? = nil, kind: SyncFailure.Kind? = nil) {
      runPath = location.root
      equipmentID = location.equipment
      self.outcome = outcome
      self.detail = detail
      self.hint = hint
      self.kind = kind
    }

    private enum CodingKeys: String, CodingKey {
      case runPath = "run_path"
      case equipmentID = "equipment_id"
      case outcome, detail, hint, kind
    }
  }

  /// A place that could not be searched.
  public struct Obstacle: Hashable, Sendable, Codable {
    /// A folder here, or a destination.
    public let place: String
    /// One sentence.
    public let message: String
    /// What to do.
    public let hint: String
    /// Of what kind, where a destination was asked.
    public let kind: SyncFailure.Kind?
  }

  /// Whether nothing was written.
  public let dryRun: Bool
  /// What was wrong with the queue file; nil where it was whole, or not there.
  public let damage: String?
  /// Where the damaged file lies now.
  public let setAside: String?
  /// By path.
  public let runs: [Run]
  /// What kept runs from being found.
  public let obstacles: [Obstacle]
  /// Hidden folders of unfinished transfers on the NAS that belong to no job of this queue.
  public let leftovers: [String]

  private enum CodingKeys: String, CodingKey {
    case dryRun = "dry_run"
    case damage
    case setAside = "set_aside"
    case runs, obstacles, leftovers
  }
}
