import Foundation
import JobQueue
import SyncModel

/// What became of a request to enqueue a run.
public enum SyncHandleState: String, Hashable, Sendable, Codable {
  /// Let through the gate: the run has a job.
  case queued
  /// Stopped by the gate: no job was made.
  case blocked
}

/// What `enqueue` answers.
public struct SyncJobHandle: Hashable, Sendable, Codable {
  /// The job's id (a UUID); empty where the gate blocked the run.
  public let jobID: String
  /// Whether the run was let through.
  public let state: SyncHandleState
  /// Absolute path of the run.
  public let runPath: String
  /// The hard findings that no override lets through.
  public let blockingFindings: [Finding]
  /// Where the job stands: `queued` for a new one, further for a run that needed nothing new; nil where blocked.
  public let jobState: JobState?
  /// Whether the run had this job already, so that nothing was added to the queue.
  public let unchanged: Bool
}

/// The queue as a whole.
public struct QueueOverview: Hashable, Sendable {
  /// How many runs there are whose newest job is in a state; states without any are left out.
  public let counts: [JobState: Int]
  /// Some of the runs, or all.
  public let runs: [RunStatus]

  /// How many runs there are in all.
  public var total: Int { counts.values.reduce(0, +) }
}

/// Where one run stands.
public struct RunStatus: Hashable, Sendable, Codable {
  /// A job's state, or `none` for a run without a job.
  public enum State: Hashable, Sendable, Codable {
    case none
    case job(JobState)

    /// What `--json` holds.
    public var name: String {
      switch self {
      case .none: "none"
      case .job(let state): state.rawValue
      }
    }

    /// Reads what `encode(to:)` writes.
    public init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      let name = try container.decode(String.self)
      if name == "none" {
        self = .none
      } else if let state = JobState(rawValue: name) {
        self = .job(state)
      } else {
        throw DecodingError.dataCorruptedError(in: container, debugDescription: "no state is called \(name)")
      }
    }

    /// Writes the value as described above.
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.singleValueContainer()
      try container.encode(name)
    }
  }

  /// Absolute path of the run.
  public let runPath: String
  /// Nil where the run has no job.
  public let jobID: String?
  /// The instrument, where it is known.
  public let equipmentID: String?
  /// Where the run stands.
  public let state: State
  /// 1 for the first job of a run.
  public let generation: Int
  /// Counted failures since the last success.
  public let attempts: Int
  /// When the job is tried again.
  public let nextAttemptAt: Date?
  /// Why the last attempt failed; nil once something succeeded.
  public let lastError: SyncFailure?
  /// Files of the snapshot.
  public let filesTotal: Int
  /// Files that are wholly on the NAS.
  public let filesDone: Int
  /// Bytes of the snapshot.
  public let bytesTotal: UInt64
  /// Bytes that the NAS has.
  public let bytesSent: UInt64
  /// Verifications that found the NAS copy whole.
  public let verifyPasses: Int
  /// When the last of them ended.
  public let verifiedAt: Date?
  /// Where the run is, or will be, published.
  public let remotePath: String?
  /// How the NAS copy was proven.
  public let evidence: Evidence?

  /// A run without a job.
  init(runPath: String, equipmentID: String?) {
    self.init(
      runPath: runPath, jobID: nil, equipmentID: equipmentID, state: .none, generation: 0, attempts: 0, nextAttemptAt: nil, lastError: nil,
      filesTotal: 0, filesDone: 0, bytesTotal: 0, bytesSent: 0, verifyPasses: 0, verifiedAt: nil, remotePath: nil, evidence: nil)
  }

  init(_ job: JobRow) {
    self.init(
      runPath: job.runPath, jobID: job.id, equipmentID: job.equipmentID, state: .job(job.state), generation: job.generation,
      attempts: job.attempts, nextAttemptAt: job.nextAttemptAt.map(Date.init(timeIntervalSince1970:)), lastError: job.lastError,
      filesTotal: job.filesTotal, filesDone: job.filesDone, bytesTotal: job.bytesTotal, bytesSent: job.bytesSent,
      verifyPasses: job.verifyPasses, verifiedAt: job.verifiedAt.map(Date.init(timeIntervalSince1970:)), remotePath: job.remotePath,
      evidence: job.evidence)
  }

  private init(
    runPath: String, jobID: String?, equipmentID: String?, state: State, generation: Int, attempts: Int, nextAttemptAt: Date?,
    lastError: SyncFailure?, filesTotal: Int, filesDone: Int, bytesTotal: UInt64, bytesSent: UInt64, verifyPasses: Int, verifiedAt: Date?,
    remotePath: String?, evidence: Evidence?
  ) {
    self.runPath = runPath
    self.jobID = jobID
    self.equipmentID = equipmentID
    self.state = state
    self.generation = generation
    self.attempts = attempts
    self.nextAttemptAt = nextAttemptAt
    self.lastError = lastError
    self.filesTotal = filesTotal
    self.filesDone = filesDone
    self.bytesTotal = bytesTotal
    self.bytesSent = bytesSent
    self.verifyPasses = verifyPasses
    self.verifiedAt = verifiedAt
    self.remotePath = remotePath
    self.evidence = evidence
  }

  private enum CodingKeys: String, CodingKey {
    case runPath = "run_path"
    case jobID = "job_id"
    case equipmentID = "equipment_id"
    case state, generation, attempts
    case nextAttemptAt = "next_attempt_at"
    case lastError = "last_error"
    case filesTotal = "files_total"
    case filesDone = "files_done"
    case bytesTotal = "bytes_total"
    case bytesSent = "bytes_sent"
    case verifyPasses = "verify_passes"
    case verifiedAt = "verified_at"
    case remotePath = "remote_path"
    case evidence
  }

  /// Every key is there, null where it has no value.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(runPath, forKey: .runPath)
    try container.encode(jobID, forKey: .jobID)
    try container.encode(equipmentID, forKey: .equipmentID)
    try container.encode(state, forKey: .state)
    try container.encode(generation, forKey: .generation)
    try container.encode(attempts, forKey: .attempts)
    try container.encode(nextAttemptAt, forKey: .nextAttemptAt)
    try container.encode(lastError, forKey: .lastError)
    try container.encode(filesTotal, forKey: .filesTotal)
    try container.encode(filesDone, forKey: .filesDone)
    try container.encode(bytesTotal, forKey: .bytesTotal)
    try container.encode(bytesSent, forKey: .bytesSent)
    try container.encode(verifyPasses, forKey: .verifyPasses)
    try container.encode(verifiedAt, forKey: .verifiedAt)
    try container.encode(remotePath, forKey: .remotePath)
    try container.encode(evidence, forKey: .evidence)
  }
}
