import Cleanup
import Foundation
import JobQueue
import SyncModel

/// What became of one run's local copy.
public struct CleanupOutcome: Hashable, Sendable, Codable {
  /// In a word.
  public enum Result: String, Hashable, Sendable, Codable {
    /// Everything that was listed is removed.
    case cleaned
    /// A dry run that found every condition met.
    case wouldClean = "would_clean"
    /// Something was removed, and something stays.
    case partial
    /// Nothing was removed.
    case kept
    /// The local copy was removed before.
    case nothingToDo = "nothing_to_do"
  }

  /// Absolute path of the run.
  public let runPath: String
  /// The job's id.
  public let jobID: String
  /// The instrument.
  public let equipmentID: String
  /// The job's state afterwards.
  public let state: JobState
  /// Whether nothing was to be removed anyway.
  public let dryRun: Bool
  /// What became of it.
  public let result: Result
  /// Every condition, met or not; none where there was nothing to do.
  public let interlocks: [CleanupInterlock]
  /// Files that were removed, or would be.
  public let files: Int
  /// Their bytes.
  public let bytes: UInt64
  /// What stays though it was listed, or was found unlisted, and why.
  public let kept: [DeletionCertificate.Kept]
  /// What went wrong.
  public let error: SyncFailure?
  /// What `deletion.json` says; nil where nothing was to be removed.
  public let certificate: DeletionCertificate?

  /// The conditions that keep the local copy.
  public var unmet: [CleanupInterlock] { interlocks.filter { !$0.met } }

  init(
    _ job: JobRow, dryRun: Bool, result: Result, interlocks: [CleanupInterlock] = [], files: Int = 0, bytes: UInt64 = 0,
    kept: [DeletionCertificate.Kept] = [], error: SyncFailure? = nil, certificate: DeletionCertificate? = nil
  ) {
    runPath = job.runPath
    jobID = job.id
    equipmentID = job.equipmentID
    state = job.state
    self.dryRun = dryRun
    self.result = result
    self.interlocks = interlocks
    self.files = files
    self.bytes = bytes
    self.kept = kept
    self.error = error
    self.certificate = certificate
  }

  private enum CodingKeys: String, CodingKey {
    case runPath = "run_path"
    case jobID = "job_id"
    case equipmentID = "equipment_id"
    case state
    case dryRun = "dry_run"
    case result, interlocks, files, bytes, kept, error, certificate
  }

  /// Every key is there, null where it has no value.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(runPath, forKey: .runPath)
    try container.encode(jobID, forKey: .jobID)
    try container.encode(equipmentID, forKey: .equipmentID)
    try container.encode(state, forKey: .state)
    try container.encode(dryRun, forKey: .dryRun)
    try container.encode(result, forKey: .result)
    try container.encode(interlocks, forKey: .interlocks)
    try container.encode(files, forKey: .files)
    try container.encode(bytes, forKey: .bytes)
    try container.encode(kept, forKey: .kept)
    try container.encode(error, forKey: .error)
    try container.encode(certificate, forKey: .certificate)
  }
}

/// What one pass over the runs did.
public struct CleanupReport: Hashable, Sendable, Codable {
  /// Whether another process removes local copies just now, so that this one did nothing.
  public let elsewhere: Bool
  /// One outcome a run, in the order in which they were named, or in that of their jobs.
  public let runs: [CleanupOutcome]
}
