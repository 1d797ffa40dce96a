import Foundation
import SyncModel

/// `deletion.json`: what was removed of a run's local copy, on whose word and on what proof. Written before the first removal and again after
/// the last. Format: `Specs/schemas/deletion.schema.json`.
public struct DeletionCertificate: Hashable, Sendable, Codable {
  /// How far the removal is.
  public enum Progress: String, Hashable, Sendable, Codable {
    /// Removing had begun and did not come to this program's knowledge as ended.
    case started
    /// Something that was listed stays.
    case partial
    case done
  }

  /// A file, and how the NAS's copy of it was proven at the moment of the removal.
  public struct File: Hashable, Sendable, Codable {
    /// Relative to the run.
    public let path: RelativePath
    /// Bytes.
    public let size: UInt64
    /// SHA-256 of both copies.
    public let sha256: ContentDigest
    /// How the NAS's digest was got.
    public let evidence: Evidence

    /// Takes the values as they are.
    public init(path: RelativePath, size: UInt64, sha256: ContentDigest, evidence: Evidence) {
      self.path = path
      self.size = size
      self.sha256 = sha256
      self.evidence = evidence
    }
  }

  /// A verification that counted.
  public struct Pass: Hashable, Sendable, Codable {
    /// When, by the clock on the wall.
    public let at: Date
    /// `publish`, `audit` or `cleanup`.
    public let source: String
    /// Files that were proven.
    public let files: Int
    /// The weakest evidence among them; absent where the run has no file.
    public let evidence: Evidence?

    /// Takes the values as they are.
    public init(at: Date, source: String, files: Int, evidence: Evidence?) {
      self.at = at
      self.source = source
      self.files = files
      self.evidence = evidence
    }
  }

  /// What stays of what was listed, or lies there unlisted.
  public struct Kept: Hashable, Sendable, Codable {
    /// Relative to the run; safe to show.
    public let path: String
    /// One sentence.
    public let reason: String

    /// Takes the values as they are.
    public init(path: String, reason: String) {
      self.path = path
      self.reason = reason
    }
  }

  /// Who removed.
  public struct Remover: Hashable, Sendable, Codable {
    /// Name of the workstation.
    public let host: String
    /// The user of the process.
    public let user: String
    /// The program and its version.
    public let program: String
    /// `serve`, or `cleanup` for an operator's word.
    public let by: String

    /// Takes the values as they are.
    public init(host: String, user: String, program: String, by: String) {
      self.host = host
      self.user = user
      self.program = program
      self.by = by
    }
  }

  /// Version of this format; readers ignore keys that they do not know.
  public var schemaVersion = "1.0"
  /// How far the removal is.
  public var progress: Progress
  /// The job's id.
  public let jobID: String
  /// 1 for the first job of a run.
  public let generation: Int
  /// The instrument.
  public let equipmentID: String
  /// Path on the workstation.
  public let runPath: String
  /// Address of the NAS.
  public let destination: String
  /// Where the run lies there.
  public let remotePath: String
  /// Before the first removal.
  public let startedAt: Date
  /// After the last.
  public var endedAt: Date?
  /// Who removed.
  public let remover: Remover
  /// Whether the metadata folder stays.
  public let retainMetadata: Bool
  /// The verifications that counted.
  public let passes: [Pass]
  /// The conditions, all of them met.
  public let interlocks: [CleanupInterlock]
  /// Digest of `checksums.sha256` on both sides.
  public let manifestSHA256: ContentDigest?
  /// Digest of `receipt.json` on both sides.
  public let receiptSHA256: ContentDigest?
  /// Every file that was to be removed.
  public let files: [File]
  /// Symbolic links that were to be removed.
  public let links: [RelativePath]
  /// Files and links that went in this attempt and in those before it.
  public var removed: Int
  /// Bytes of the files among them that went in this attempt.
  public var bytesFreed: UInt64
  /// What stays, and why.
  public var kept: [Kept]

  /// Takes the values as they are.
  package init(
    jobID: String, generation: Int, equipmentID: String, runPath: String, destination: String, remotePath: String, startedAt: Date,
    remover: Remover, retainMetadata: Bool, passes: [Pass], interlocks: [CleanupInterlock], manifestSHA256: ContentDigest?,
    receiptSHA256: ContentDigest?, files: [File], links: [RelativePath]
  ) {
    progress = .started
    self.jobID = jobID
    self.generation = generation
    self.equipmentID = equipmentID
    self.runPath = runPath
    self.destination = destination
    self.remotePath = remotePath
    self.startedAt = startedAt
    self.remover = remover
    self.retainMetadata = retainMetadata
    self.passes = passes
    self.interlocks = interlocks
    self.manifestSHA256 = manifestSHA256
    self.receiptSHA256 = receiptSHA256
    self.files = files
    self.links = links
    removed = 0
    bytesFreed = 0
    kept = []
  }

  private enum CodingKeys: String, CodingKey {
    case schemaVersion = "schema_version"
    case progress
    case jobID = "job_id"
    case generation
    case equipmentID = "equipment_id"
    case runPath = "run_path"
    case destination
    case remotePath = "remote_path"
    case startedAt = "started_at"
    case endedAt = "ended_at"
    case remover
    case retainMetadata = "retain_metadata"
    case passes, interlocks
    case manifestSHA256 = "manifest_sha256"
    case receiptSHA256 = "receipt_sha256"
    case files, links, removed
    case bytesFreed = "bytes_freed"
    case kept
  }

  /// The file's bytes.
  /// - Throws: `SyncFailure` of kind `protocol`, should a value not be expressible as JSON.
  package func encoded() throws(SyncFailure) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = .iso8601
    do { return Array(try encoder.encode(self)) + [0x0a] } catch {
      throw SyncFailure(
        .protocol, "the deletion certificate could not be written as JSON: \(error)", hint: "Nothing is removed without one. Report this.")
    }
  }
}
