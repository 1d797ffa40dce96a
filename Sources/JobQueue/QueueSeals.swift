import Digests
import SQLite
import SyncModel

/// Checksums of the rows on which a removal of local files relies.
///
/// SQLite notices a damaged page only where its structure is hurt; a bit that flips inside a value is read as another value. So a job's row, its
/// components' identities, its verifications and the clock's readings each carry a seal: the first 8 bytes of a SHA-256 over their values, made
/// when they are written, compared before anything is deleted, and a job's before it is changed.
package enum QueueSeals {
  /// The function's name in SQL.
  package static let function = "nassync_seal"
  /// What the trigger says that keeps a damaged row from being changed.
  static let damagedRow = "a row is not what was written"

  /// Whether the trigger spoke: SQLite has one code for all of them.
  static func isDamagedRow(_ error: SQLiteError) -> Bool { error.isTrigger && error.message == damagedRow }

  /// Every connection that writes needs it.
  package static func define(on connection: Connection) throws(SQLiteError) {
    let hasher = SmallSHA256()
    // Without SHA-256 there is no seal, and without a seal nothing is deleted.
    try connection.defineDigest(function) { bytes in hasher.prefix(of: bytes).map { Int64(bitPattern: $0) } }
  }

  // These lists are part of the file's format (schema 5): its triggers are made of them. A column more needs a migration that makes the triggers
  // anew and seals every row again.
  private static let sealedOfJob = [
    "number", "id", "run_path", "equipment_id", "relative_path", "destination", "remote_path", "generation", "state", "verify_passes",
    "verified_at", "manifest_digest", "receipt_digest",
  ]
  private static let sealedOfComponent = [
    "job", "path", "kind", "link_target", "device", "inode", "size", "modified", "changed", "mode",
  ]
  private static let sealedOfPass = ["job", "wall", "boot", "uptime", "source", "evidence", "files", "ledger_length"]
  private static let sealedOfSample = ["boot", "uptime", "wall"]

  private static func seal(_ columns: [String], of row: String = "") -> String {
    "\(function)(\(columns.map { row + $0 }.joined(separator: ", ")))"
  }

  /// A proven file's digests say the same three times over: what was read here, what the NAS said, and what was published. What is not proven
  /// any more has lost `verified_at` before one of them changes.
  private static let isTorn = """
    kind = 0 AND verified_at IS NOT NULL AND (remote_digest IS NOT local_digest OR published_digest IS NOT local_digest)
    """

  /// The seal of a row, in SQL.
  package static let ofComponent = seal(sealedOfComponent)
  /// The seal of a row, in SQL.
  package static let ofPass = seal(sealedOfPass)
  static let ofSample = seal(sealedOfSample)

  /// Schema 5.
  static let migration = """
    ALTER TABLE job ADD COLUMN seal INTEGER;
    ALTER TABLE component ADD COLUMN seal INTEGER;
    ALTER TABLE verification_pass ADD COLUMN seal INTEGER;
    ALTER TABLE clock_sample ADD COLUMN seal INTEGER;
    UPDATE job SET seal = \(seal(sealedOfJob));
    UPDATE component SET seal = \(ofComponent);
    UPDATE verification_pass SET seal = \(ofPass);
    UPDATE clock_sample SET seal = \(ofSample);
    CREATE TRIGGER job_is_sealed_i AFTER INSERT ON job
      BEGIN UPDATE job SET seal = \(seal(sealedOfJob, of: "NEW.")) WHERE number = NEW.number; END;
    -- A value that has changed by itself must not be sealed with the next one that is written beside it.
    CREATE TRIGGER job_is_whole BEFORE UPDATE OF \(sealedOfJob.joined(separator: ", ")) ON job
      WHEN OLD.seal IS NOT \(seal(sealedOfJob, of: "OLD."))
      BEGIN SELECT RAISE(ABORT, '\(damagedRow)'); END;
    CREATE TRIGGER job_is_sealed_u AFTER UPDATE OF \(sealedOfJob.joined(separator: ", ")) ON job
      BEGIN UPDATE job SET seal = \(seal(sealedOfJob, of: "NEW.")) WHERE number = NEW.number; END;
    """

  /// The first of a job's rows that is not what was written, in words.
  static func damage(_ connection: Connection, job: Int64) throws(SQLiteError) -> String? {
    let number: [Value] = [.integer(job)]
    if try connection.first("SELECT 1 FROM job WHERE number = ?1 AND seal IS NOT \(seal(sealedOfJob))", number, { $0.integer(0) }) != nil {
      return "the row of job number \(job)"
    }
    let component = try connection.first(
      "SELECT path FROM component WHERE job = ?1 AND (seal IS NOT \(ofComponent) OR \(isTorn)) LIMIT 1", number,
      { displayText(of: $0.blob(0)) })
    if let component { return "the row of “\(component)”, a component of job number \(job)" }
    let pass = try connection.first(
      "SELECT sequence FROM verification_pass WHERE job = ?1 AND seal IS NOT \(ofPass) LIMIT 1", number, { $0.integer(0) })
    if let pass { return "verification \(pass) of job number \(job)" }
    return try damageOfClocks(connection)
  }

  private static func damageOfClocks(_ connection: Connection) throws(SQLiteError) -> String? {
    try connection.first("SELECT sequence FROM clock_sample WHERE seal IS NOT \(ofSample) LIMIT 1", []) { $0.integer(0) }
      .map { "reading \($0) of the clock" }
  }

  /// The first row of all jobs, verifications or clock readings that is not what was written, in words. Components are looked at with their job.
  static func damage(_ connection: Connection) throws(SQLiteError) -> String? {
    if let job = try connection.first("SELECT number FROM job WHERE seal IS NOT \(seal(sealedOfJob)) LIMIT 1", [], { $0.integer(0) }) {
      return "the row of job number \(job)"
    }
    let pass = try connection.first(
      "SELECT sequence FROM verification_pass WHERE seal IS NOT \(ofPass) LIMIT 1", [], { $0.integer(0) })
    if let pass { return "verification \(pass)" }
    return try damageOfClocks(connection)
  }
}

extension QueueSchema {
  /// The first table, index or trigger that is not described as this program describes it, in words. A bit that flips in such a description may
  /// name a column that there is not, or switch off a trigger; SQLite believes it.
  /// - Throws: Also where a newer program has changed the file while this one had it open: what it describes is not damage.
  static func damage(_ connection: Connection) throws(SQLiteError) -> String? {
    let fresh = try Connection(path: ":memory:")
    try QueueSeals.define(on: fresh)
    for migration in migrations.sorted(by: { $0.version < $1.version }) { try Migrator.apply(migration, to: fresh) }
    let found = Set(try descriptions(connection))
    guard let other = try descriptions(fresh).first(where: { !found.contains($0) }) else { return nil }
    // Asked afterwards: another program may change the file at any moment.
    let (version, known) = (try connection.first("PRAGMA user_version") { $0.integer(0) } ?? 0, migrations.map(\.version).max() ?? 0)
    guard version <= known else { throw .newer(found: version, known: known) }
    return "the description of the \(other.type) \(other.name)"
  }

  private struct Description: Hashable {
    let type: String
    let name: String
    let table: String
    let sql: String
  }

  private static func descriptions(_ connection: Connection) throws(SQLiteError) -> [Description] {
    try connection.query("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema ORDER BY name", []) {
      Description(type: $0.text(0), name: $0.text(1), table: $0.text(2), sql: $0.text(3))
    }
  }
}

extension SyncQueue {
  /// Compares every row of a job with its seal.
  /// - Throws: `SyncFailure` of kind `local`, not retried, naming the row that is not what was written.
  package func requireWhole(_ job: JobRow) throws(SyncFailure) {
    try read { (connection) throws(SQLiteError) in try Self.requireWhole(connection, jobs: [job.number]) }
  }

  /// Compares every row of all of a run's jobs with its seal: what the NAS is compared with must be what was written.
  /// - Throws: `SyncFailure` of kind `local`, not retried, naming the row that is not what was written.
  package func requireWhole(run: String) throws(SyncFailure) {
    try read { (connection) throws(SQLiteError) in
      let jobs = try connection.query("SELECT number FROM job WHERE run_path = ?1", [.text(run)]) { $0.integer(0) }
      try Self.requireWhole(connection, jobs: jobs)
    }
  }

  static func requireWhole(_ connection: Connection, jobs: [Int64]) throws(SQLiteError) {
    for number in jobs {
      if let what = try QueueSeals.damage(connection, job: number) { throw .corrupt("\(what) is not what was written") }
    }
  }
}
