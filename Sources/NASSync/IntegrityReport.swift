import Foundation
import SyncModel
import Verification

/// What an integrity check found.
public struct IntegrityReport: Hashable, Sendable, Codable {
  /// One difference.
  public struct Mismatch: Hashable, Sendable, Codable {
    /// Which side differs from the manifest.
    public enum Place: String, Hashable, Sendable, Codable { case local, nas }
    /// In what way.
    public enum Problem: String, Hashable, Sendable, Codable {
      case missing
      case extra
      case differs
      case otherKind = "other_kind"
      case unreadable
      case damagedManifest = "damaged_manifest"
    }
    /// Relative to the run; safe to show.
    public let path: String
    /// Which side.
    public let place: Place
    /// In what way.
    public let problem: Problem
    /// One sentence.
    public let detail: String
  }

  /// Absolute path of the run.
  public let runPath: String
  /// Where it is published; nil where only the local side was checked.
  public let remotePath: String?
  /// Whether everything that was compared is equal.
  public let ok: Bool
  /// Files of the manifest.
  public let filesChecked: Int
  /// Their bytes.
  public let bytesChecked: UInt64
  /// How the NAS's digests were got; nil where only the local side was checked or nothing could be.
  public let evidence: Evidence?
  /// When the check ended.
  public let checkedAt: Date
  /// Every difference, sorted by path.
  public let mismatches: [Mismatch]

  private enum CodingKeys: String, CodingKey {
    case runPath = "run_path"
    case remotePath = "remote_path"
    case ok
    case filesChecked = "files_checked"
    case bytesChecked = "bytes_checked"
    case evidence
    case checkedAt = "checked_at"
    case mismatches
  }

  /// Every key is there, null where it has no value.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(runPath, forKey: .runPath)
    try container.encode(remotePath, forKey: .remotePath)
    try container.encode(ok, forKey: .ok)
    try container.encode(filesChecked, forKey: .filesChecked)
    try container.encode(bytesChecked, forKey: .bytesChecked)
    try container.encode(evidence, forKey: .evidence)
    try container.encode(checkedAt, forKey: .checkedAt)
    try container.encode(mismatches, forKey: .mismatches)
  }
}

extension IntegrityReport.Mismatch {
  init(_ found: Verification.Mismatch) {
    let problem: Problem =
      switch found.problem {
      case .missing: .missing
      case .extra: .extra
      case .differs: .differs
      case .otherKind: .otherKind
      case .unreadable: .unreadable
      }
    self.init(path: found.path.description, place: .nas, problem: problem, detail: found.sentence)
  }
}
