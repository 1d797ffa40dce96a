import Foundation
import SyncModel

/// What a restore brought back, and what it could not.
public struct RestoreReport: Hashable, Sendable, Codable {
  /// What says that the manifest on the NAS is the run's own.
  public enum Anchor: String, Hashable, Sendable, Codable {
    /// This workstation's queue, which knows the digest of the manifest that was published.
    case queue
    /// The receipt beside it on the NAS.
    case receipt
    /// Nothing but the manifest itself: there is no receipt.
    case manifest
  }

  /// One thing that lies on the NAS and was not restored, or should lie there and does not.
  public struct Fault: Hashable, Sendable, Codable {
    /// What is wrong with it.
    public enum Problem: String, Hashable, Sendable, Codable {
      case missing, differs, unreadable
      case otherKind = "other_kind"
      /// A name that this program keeps for itself, or that this file system takes for another one.
      case name
      /// A symbolic link that leads out of the run, and of which nothing here says that it belongs to it.
      case leadsOut = "leads_out"
    }
    /// Relative to the run; safe to show.
    public let path: String
    /// What is wrong with it.
    public let problem: Problem
    /// One sentence.
    public let detail: String
  }

  /// Whether the whole run lies at the destination now, every file proven by its SHA-256.
  public let ok: Bool
  /// Where the run lies on the NAS.
  public let remotePath: String
  /// Where it lies now; absolute.
  public let destination: String
  /// The instrument.
  public let equipmentID: String
  /// Files of the manifest.
  public let filesTotal: Int
  /// Files that were downloaded and proven now.
  public let filesRestored: Int
  /// Files that were there already, read again and proven.
  public let filesKept: Int
  /// Bytes of the files that lie there proven.
  public let bytes: UInt64
  /// Bytes that came from the NAS now.
  public let bytesDownloaded: UInt64
  /// Symbolic links that were made or were there.
  public let links: Int
  /// Digest of the manifest.
  public let manifestSHA256: ContentDigest
  /// What vouches for the manifest.
  public let anchor: Anchor
  /// How the files were proven: read back and hashed here. Nil where the run has no file.
  public let evidence: Evidence?
  /// What could not be restored, sorted by path.
  public let faults: [Fault]
  /// Files on the NAS that the manifest does not list: left there.
  public let foreign: [String]

  /// Whether something on the NAS is not what its manifest says.
  public var hasDamage: Bool { faults.contains { $0.problem != .leadsOut && $0.problem != .name } }

  private enum CodingKeys: String, CodingKey {
    case ok
    case remotePath = "remote_path"
    case destination
    case equipmentID = "equipment_id"
    case filesTotal = "files_total"
    case filesRestored = "files_restored"
    case filesKept = "files_kept"
    case bytes
    case bytesDownloaded = "bytes_downloaded"
    case links
    case manifestSHA256 = "manifest_sha256"
    case anchor, evidence, faults, foreign
  }

  /// Every key is there, null where it has no value.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(ok, forKey: .ok)
    try container.encode(remotePath, forKey: .remotePath)
    try container.encode(destination, forKey: .destination)
    try container.encode(equipmentID, forKey: .equipmentID)
    try container.encode(filesTotal, forKey: .filesTotal)
    try container.encode(filesRestored, forKey: .filesRestored)
    try container.encode(filesKept, forKey: .filesKept)
    try container.encode(bytes, forKey: .bytes)
    try container.encode(bytesDownloaded, forKey: .bytesDownloaded)
    try container.encode(links, forKey: .links)
    try container.encode(manifestSHA256, forKey: .manifestSHA256)
    try container.encode(anchor, forKey: .anchor)
    try container.encode(evidence, forKey: .evidence)
    try container.encode(faults, forKey: .faults)
    try container.encode(foreign, forKey: .foreign)
  }
}

/// How far a restore is.
public struct RestoreProgress: Hashable, Sendable {
  /// Files that lie at the destination, proven.
  public let filesDone: Int
  /// Files of the manifest.
  public let filesTotal: Int
  /// Bytes that have arrived or were there.
  public let bytesDone: UInt64
  /// As the NAS lists them.
  public let bytesTotal: UInt64
  /// The file that moved last; safe to show.
  public let current: String
}
