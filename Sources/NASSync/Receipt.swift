import Foundation
import Gate
import SyncModel

/// `receipt.json`: who sent what when, which gate rules and overrides let it through, how it was proven.
struct Receipt: Hashable, Sendable, Codable {
  /// Version of this format; readers ignore keys that they do not know.
  var schemaVersion = "1.0"
  let jobID: String
  let generation: Int
  let equipmentID: String
  /// Path on the workstation.
  let runPath: String
  let destination: String
  let remotePath: String
  let sender: Sender
  let enqueuedAt: Date
  let verifiedAt: Date
  let files: Int
  let bytes: UInt64
  /// Not sent, by the instrument's `exclude` patterns.
  let excluded: [String]
  /// Files that lay in the run's folder on the NAS already and are none of the run's: neither sent nor proven, and left alone.
  let foreign: [String]?
  let gate: GatePart
  let verification: VerificationPart
  /// Digest of `checksums.sha256`, which lists every component.
  let manifestSHA256: ContentDigest
  /// Digest of the copy of `creation.json` that travelled with the run; absent for a run without a record.
  let recordSHA256: ContentDigest?

  struct Sender: Hashable, Sendable, Codable {
    let host: String
    let user: String
    let program: String
  }

  struct GatePart: Hashable, Sendable, Codable {
    let evaluatedAt: Date
    /// The classes of finding that were looked for; of another validator, its name.
    let rules: [String]
    /// Findings that inform only.
    let informing: [Finding]
    /// Hard findings that an override let through.
    let overridden: [Finding]
    /// The overrides that did, each once.
    let overrides: [GateVerdict.UsedOverride]

    private enum CodingKeys: String, CodingKey {
      case evaluatedAt = "evaluated_at"
      case rules, informing, overridden, overrides
    }
  }

  struct VerificationPart: Hashable, Sendable, Codable {
    /// The weakest evidence among the components; absent where the run has no file.
    let evidence: Evidence?
    let server: Int
    let store: Int
    let readback: Int
  }

  private enum CodingKeys: String, CodingKey {
    case schemaVersion = "schema_version"
    case jobID = "job_id"
    case generation
    case equipmentID = "equipment_id"
    case runPath = "run_path"
    case destination
    case remotePath = "remote_path"
    case sender
    case enqueuedAt = "enqueued_at"
    case verifiedAt = "verified_at"
    case files, bytes, excluded, foreign, gate, verification
    case manifestSHA256 = "manifest_sha256"
    case recordSHA256 = "record_sha256"
  }

  /// The file's bytes.
  func encoded() throws(SyncFailure) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = .iso8601
    do { return Array(try encoder.encode(self)) + [0x0a] } catch {
      throw SyncFailure(
        .protocol, "the receipt could not be written as JSON: \(error)", hint: "Report this with the output of `nassync history`.")
    }
  }

  /// Reads a receipt; nil where the bytes are none.
  static func decode(_ bytes: [UInt8]) -> Receipt? {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    return try? decoder.decode(Receipt.self, from: Data(bytes))  // a receipt that cannot be read is no receipt; callers say so
  }
}
