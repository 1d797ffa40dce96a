import Digests
import SQLite
import SyncModel

/// How rows become values and values become rows, in one place.
enum RowCoding {
  static let jobColumns = """
    number, id, run_path, equipment_id, relative_path, destination, remote_path, generation, priority, state, claimed_by, frozen,
    attempts, mismatches, next_attempt_at, error_kind, error_message, error_retry, error_hint, files_total, files_done, bytes_total,
    bytes_sent, evidence, verify_passes, verified_at, manifest_digest, receipt_digest, created_at, updated_at,
    audited_at, repairs, cleanup_note, cleanup_noted_at
    """

  /// ?1: the job's number.
  static let jobByNumber = "SELECT \(jobColumns) FROM job WHERE number = ?1"

  static func job(_ row: Row) throws(SQLiteError) -> JobRow {
    guard let relative = path(row.blob(4)) else { throw damaged("a job's path is no path") }
    guard let state = JobState(rawValue: row.text(9)) else { throw damaged("a job has the state `\(row.text(9))`") }
    var failure: SyncFailure?
    if let kind = row.optionalText(15) {
      failure = SyncFailure(
        SyncFailure.Kind(rawValue: kind) ?? .protocol, row.text(16), hint: row.text(18), retry: row.integer(17) != 0)
    }
    return JobRow(
      number: row.integer(0), id: row.text(1), runPath: row.text(2), equipmentID: row.text(3), relative: relative,
      destination: row.text(5), remotePath: row.text(6), generation: Int(row.integer(7)), priority: Int(row.integer(8)), state: state,
      claimedBy: row.optionalText(10), frozen: row.integer(11) != 0, attempts: Int(row.integer(12)), mismatches: Int(row.integer(13)),
      nextAttemptAt: row.optionalReal(14), lastError: failure, filesTotal: Int(row.integer(19)), filesDone: Int(row.integer(20)),
      bytesTotal: row.size(21), bytesSent: row.size(22), evidence: row.optionalText(23).flatMap(Evidence.init(rawValue:)),
      verifyPasses: Int(row.integer(24)), verifiedAt: row.optionalReal(25), manifestDigest: digest(row, 26), receiptDigest: digest(row, 27),
      createdAt: row.real(28), updatedAt: row.real(29), auditedAt: row.optionalReal(30), repairs: row.integer(31) != 0,
      cleanupNote: row.optionalText(32), cleanupNotedAt: row.optionalReal(33))
  }

  static let componentColumns = componentColumns(digest: "local_digest")

  /// - Parameter digest: The column that a row's local digest is read from.
  static func componentColumns(digest: String) -> String {
    """
    path, kind, link_target, device, inode, size, modified, changed, mode, state, bytes_durable, \(digest), remote_digest, evidence, verified_at,
    upload_token
    """
  }

  static func component(_ row: Row) throws(SQLiteError) -> ComponentRow {
    guard let path = path(row.blob(0)) else { throw damaged("a component's path is no path") }
    let kind: RunEntry.Kind
    switch row.integer(1) {
    case 0: kind = .file
    case 1: kind = .folder
    default: kind = .symlink(target: row.blob(2))
    }
    guard let state = ComponentRow.State(rawValue: row.text(9)) else { throw damaged("a component has the state `\(row.text(9))`") }
    return ComponentRow(
      entry: RunEntry(
        path: path, kind: kind,
        fingerprint: FileFingerprint(
          device: UInt64(bitPattern: row.integer(3)), inode: UInt64(bitPattern: row.integer(4)), size: row.size(5),
          modified: row.integer(6),
          changed: row.integer(7), mode: UInt32(truncatingIfNeeded: row.integer(8)))),
      state: state, bytesDurable: row.size(10), localDigest: digest(row, 11), remoteDigest: digest(row, 12),
      evidence: row.optionalText(13).flatMap(Evidence.init(rawValue:)), verifiedAt: row.optionalReal(14), uploadToken: row.optionalText(15))
  }

  /// - Parameter values: Gets what a row of a job's component is made of, in the order of the table's first ten columns.
  static func append(_ entry: RunEntry, job: Int64, to values: inout [Value]) {
    let kind: Int64
    var target: [UInt8]?
    switch entry.kind {
    case .file: kind = 0
    case .folder: kind = 1
    case .symlink(let bytes):
      kind = 2
      target = bytes
    case .special: kind = 0  // the gate stops a run with a special file before it is registered
    }
    let print = entry.fingerprint
    values += [
      .integer(job), .blob(entry.path.bytes), .integer(kind), .optional(target), .integer(Int64(bitPattern: print.device)),
      .integer(Int64(bitPattern: print.inode)), .size(print.size), .integer(print.modified), .integer(print.changed),
      .integer(Int64(print.mode)),
    ]
  }

  static func path(_ bytes: [UInt8]) -> RelativePath? {
    do { return try RelativePath(bytes: bytes) } catch { return nil }
  }

  private static func digest(_ row: Row, _ column: Int32) -> ContentDigest? {
    row.optionalBlob(column).flatMap { ContentDigest(bytes: $0) }
  }

  private static func damaged(_ what: String) -> SQLiteError { .corrupt(what) }
}
