import SyncModel

/// What a run's record says about its way to the NAS. The raw value is what `creation.json` holds.
public enum SyncStatus: String, Hashable, Sendable, Codable, CaseIterable {
  case pending
  case synced
  case cleaned
  case failed
  case blockedByValidation = "blocked_by_validation"
}

/// Why a record could not be read or written.
package enum RecordError: Error, Hashable, Sendable, CustomStringConvertible {
  /// It exists, and it is not what a record must be.
  case malformed(String)
  /// The system refused.
  case system(String)
  /// Another program held the lock for too long, or kept changing the record.
  case busy(String)
  /// There is no run, or no record, where one is needed.
  case absent(String)

  package var description: String {
    switch self {
    case .malformed(let reason): "creation.json cannot be read: \(reason)"
    case .system(let reason), .busy(let reason), .absent(let reason): reason
    }
  }
}

/// A run's `creation.json` as this program reads it: the public ExLab-Wizard format, schema versions 1.0 to 1.8 (its chapter 11.3).
package struct RunRecord: Sendable {
  package private(set) var document: JSONDocument
  /// As spelled, `1.8`; nil where the record has none.
  package let schemaVersion: String?
  /// As spelled: `experimental` or `test`, or something the gate refuses; nil where the record has none.
  package let runKind: String?
  /// As spelled; a value outside `SyncStatus` is kept until it is set.
  package let syncStatus: String?
  /// Overrides and revocations that could be read, in the order of the record.
  package let overrides: [OverrideEntry]
  /// What is wrong with the others. While there is any, no override counts.
  package let overrideProblems: [String]

  /// - Throws: `RecordError.malformed`.
  package init(parsing bytes: [UInt8]) throws(RecordError) {
    let document: JSONDocument
    do { document = try JSONDocument(parsing: bytes) } catch { throw .malformed(error.description) }
    try self.init(document)
  }

  private init(_ document: JSONDocument) throws(RecordError) {
    self.document = document
    schemaVersion = try Self.text("schema_version", in: document)
    runKind = try Self.text("run_kind", in: document)
    syncStatus = try Self.text("sync_status", in: document)
    switch document.lookUp("validation_overrides") {
    case .absent:
      overrides = []
      overrideProblems = []
    case .repeated: throw .malformed("the key validation_overrides stands there twice")
    case .one(let node):
      guard case .array(let elements) = node.value else { throw .malformed("validation_overrides is not an array") }
      var overrides: [OverrideEntry] = []
      var problems: [String] = []
      for (index, element) in elements.enumerated() {
        do {
          overrides.append(try OverrideEntry(element))
        } catch {
          problems.append("entry \(index + 1) of validation_overrides: \(error.reason)")
        }
      }
      self.overrides = overrides
      overrideProblems = problems
    }
  }

  private static func text(_ key: String, in document: JSONDocument) throws(RecordError) -> String? {
    switch document.lookUp(key) {
    case .absent: return nil
    case .repeated: throw .malformed("the key \(key) stands there twice")
    case .one(let node):
      switch node.value {
      case .string(let bytes): return String(decoding: bytes, as: UTF8.self)
      case .null: return nil
      default: throw .malformed("\(key) is not a string")
      }
    }
  }

  /// Whether a top-level key is there with something in it: not null, not an empty string.
  func has(_ key: String) -> Bool {
    guard case .one(let node) = document.lookUp(key) else { return false }
    switch node.value {
    case .null: return false
    case .string(let text): return !text.isEmpty
    default: return true
    }
  }

  /// The record with another `sync_status`; everything else byte for byte the same.
  package func setting(_ status: SyncStatus) throws(RecordError) -> RunRecord {
    var edited = document
    do { try edited.setString(status.rawValue, forKey: "sync_status") } catch { throw .malformed(error.description) }
    return try RunRecord(edited)
  }

  /// The record with one more entry in `validation_overrides`; everything else byte for byte the same.
  package func appending(_ entry: OverrideEntry) throws(RecordError) -> RunRecord {
    var edited = document
    let chain = (key: OverrideLedger.key, json: JSONDocument.quoted(OverrideLedger.next(in: document)))
    do { try edited.append(entry.members + [chain], toArray: "validation_overrides") } catch { throw .malformed(error.description) }
    return try RunRecord(edited)
  }

  /// The chain through the entries of `validation_overrides`.
  package var ledger: OverrideLedger { OverrideLedger(document) }

  /// What `appendOverride` starts from where a run has no record.
  static let minimal = Array("{\n  \"schema_version\": \"1.8\"\n}\n".utf8)
}
