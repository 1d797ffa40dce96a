import SQLite
import SyncModel

/// Which published runs are to be looked at again, and what the looks found.
extension SyncQueue {
  /// The statements that audits ask again and again. Their condition repeats that of the index `job_by_audit` word by word, else the planner
  /// does not use it.
  enum AuditStatement {
    /// The run of an instrument and a destination whose last audit is the oldest. Generations that a newer one has followed have no time and
    /// are not read; the last condition holds where one of them was registered by an older program.
    /// ?1: the instrument, ?2: the destination, ?3: audited no later than this.
    static let due = """
      SELECT \(RowCoding.jobColumns) FROM job
      WHERE state IN ('verified', 'cleanup_eligible', 'cleaned') AND equipment_id = ?1 AND destination = ?2 AND audited_at <= ?3
        AND NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = job.run_path AND newer.generation > job.generation)
      ORDER BY audited_at LIMIT 1
      """
    /// One that was looked at after now, by a clock that was set back since. Parameters as above.
    static let ahead = """
      SELECT \(RowCoding.jobColumns) FROM job
      WHERE state IN ('verified', 'cleanup_eligible', 'cleaned') AND equipment_id = ?1 AND destination = ?2 AND audited_at > ?3
        AND NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = job.run_path AND newer.generation > job.generation)
      ORDER BY audited_at LIMIT 1
      """
    /// How many runs of an instrument and a destination are due, and since when. Parameters as above.
    static let backlog = """
      SELECT count(*), min(audited_at) FROM job
      WHERE state IN ('verified', 'cleanup_eligible', 'cleaned') AND equipment_id = ?1 AND destination = ?2 AND audited_at <= ?3
      """
    /// ?1: after this. What lies in the future was written by a clock that was set back since, and does not count.
    static let time = "SELECT coalesce(sum(seconds), 0) FROM audit_spell WHERE ended > ?1 AND ended <= ?2"
    /// Audits that could not be made and that nothing followed.
    static let notMade = """
      SELECT job, at, detail FROM history
      WHERE event IN ('nas_mismatch_on_demand', 'local_mismatch_on_demand', 'audit_not_made') AND event = 'audit_not_made'
        AND NOT EXISTS (SELECT 1 FROM history AS later WHERE later.job = history.job AND later.sequence > history.sequence
          AND later.event IN ('audit_not_made', 'audit_verified', 'cleanup_verified', 'remote_corrupted', 'proven', 'retried'))
      """
  }

  /// The published run of an instrument whose NAS copy has waited longest to be looked at again; nil where none is due.
  ///
  /// Only the newest generation of a run is audited, and only while nothing is on its way: it covers what the ones before it published.
  /// - Parameter auditedBefore: Wall clock; runs that were looked at after this are not due.
  package func nextAudit(equipment: String, destination: String, auditedBefore: Double) throws(SyncFailure) -> JobRow? {
    let now = clock.wallSeconds
    return try read { (connection) throws(SQLiteError) in
      let place: [Value] = [.text(equipment), .text(destination)]
      if let due = try connection.first(AuditStatement.due, place + [.real(auditedBefore)], RowCoding.job) { return due }
      return try connection.first(AuditStatement.ahead, place + [.real(now)], RowCoding.job)
    }
  }

  /// How many runs of an instrument and a destination were last looked at before a moment, and when the oldest of them was.
  package func auditBacklog(
    equipment: String, destination: String, auditedBefore: Double
  ) throws(SyncFailure) -> (count: Int, oldest: Double?) {
    try read { (connection) throws(SQLiteError) in
      try connection.first(AuditStatement.backlog, [.text(equipment), .text(destination), .real(auditedBefore)]) {
        (Int($0.integer(0)), $0.optionalReal(1))
      }
    } ?? (0, nil)
  }

  /// An audit could not be made, for a reason that is no fault of the copy. The run's turn comes again later, and others go before it.
  /// - Parameters:
  ///   - auditedAt: What counts as its last audit from now on, wall clock: so long before its next turn as audits lie apart.
  ///   - detail: One sentence for the history.
  /// - Returns: False where the job moved meanwhile; nothing was written then.
  @discardableResult
  package func postponeAudit(_ job: JobRow, auditedAt: Double, detail: String) throws(SyncFailure) -> Bool {
    let now = clock.wallSeconds
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        let changed = try connection.run(
          "UPDATE job SET audited_at = ?3 WHERE number = ?1 AND state = ?2 AND audited_at IS ?4",
          [.integer(job.number), .text(job.state.rawValue), .real(auditedAt), .optional(job.auditedAt)])
        guard changed == 1 else { return false }
        try Self.note(connection, job: job.number, at: now, event: "audit_not_made", from: job.state, to: job.state, detail: detail)
        return true
      } catch { throw .sqlite(error) }
    }
  }

  /// The NAS copy of a cleaned run is no longer what was published. The run keeps its state: there is nothing here to send again.
  /// - Returns: False where the job moved meanwhile; nothing was written then.
  @discardableResult
  package func recordFault(ofCleaned job: JobRow, _ failure: SyncFailure) throws(SyncFailure) -> Bool {
    let now = clock.wallSeconds
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        let changed = try connection.run(
          """
          UPDATE job SET audited_at = ?2, updated_at = ?2, error_kind = ?3, error_message = ?4, error_retry = 0, error_hint = ?5
          WHERE number = ?1 AND state = 'cleaned'
            AND NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = job.run_path AND newer.generation > job.generation)
          """,
          [.integer(job.number), .real(now), .text(failure.kind.rawValue), .text(failure.message), .text(failure.hint)])
        guard changed == 1 else { return false }
      } catch { throw .sqlite(error) }
      try Self.insertFault(connection, job, failure.message, at: now)
      do throws(SQLiteError) {
        try Self.note(
          connection, job: job.number, at: now, event: "remote_corrupted", from: .cleaned, to: .cleaned, detail: failure.description)
      } catch { throw .sqlite(error) }
      return true
    }
  }

  /// The start of a fault is kept while it lasts.
  static func insertFault(_ connection: Connection, _ job: JobRow, _ detail: String, at now: Double) throws(QueueError) {
    do throws(SQLiteError) {
      try connection.run(
        """
        INSERT INTO nas_fault (job, since, last_at, detail) VALUES (?1, ?2, ?2, ?3)
        ON CONFLICT (job) DO UPDATE SET last_at = excluded.last_at, detail = excluded.detail
        """, [.integer(job.number), .real(now), .text(detail)])
    } catch { throw .sqlite(error) }
  }

  static func clearFault(_ connection: Connection, _ job: JobRow) throws(QueueError) {
    do throws(SQLiteError) { try connection.run("DELETE FROM nas_fault WHERE job = ?1", [.integer(job.number)]) } catch {
      throw .sqlite(error)
    }
  }

  /// What is wrong on the NAS as far as anybody has looked, by the job's number.
  package func faults() throws(SyncFailure) -> [Int64: NASFault] {
    let rows = try read { (connection) throws(SQLiteError) in
      try connection.query("SELECT job, since, last_at, detail FROM nas_fault") {
        NASFault(job: $0.integer(0), since: $0.real(1), lastAt: $0.real(2), detail: $0.text(3))
      }
    }
    return Dictionary(rows.map { ($0.job, $0) }) { $1 }
  }

  /// Whether something is known to be wrong with the NAS copy of a run, by any of its generations.
  package func hasFault(runPath: String) throws(SyncFailure) -> Bool {
    try read { (connection) throws(SQLiteError) in
      try connection.first(
        "SELECT 1 FROM nas_fault JOIN job ON job.number = nas_fault.job WHERE job.run_path = ?1", [.text(runPath)]
      ) { _ in true }
    } ?? false
  }

  /// Audits that could not be made and were not made up for since, by the job's number.
  package func auditsNotMade() throws(SyncFailure) -> [Int64: (at: Double, detail: String)] {
    let rows = try read { (connection) throws(SQLiteError) in
      try connection.query(AuditStatement.notMade) { (job: $0.integer(0), at: $0.real(1), detail: $0.text(2)) }
    }
    return Dictionary(rows.map { ($0.job, ($0.at, $0.detail)) }) { $1 }
  }

  // MARK: - Time

  /// Remembers how long an audit took, and forgets what no limit asks about any more.
  package func recordAuditTime(_ seconds: Double) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        try connection.run("INSERT INTO audit_spell (ended, seconds) VALUES (?1, ?2)", [.real(now), .real(max(0, seconds))])
        try connection.run("DELETE FROM audit_spell WHERE ended < ?1", [.real(now - 2 * 86_400)])
      } catch { throw .sqlite(error) }
    }
  }

  /// Seconds that were spent on audits that ended in the last so many seconds.
  package func auditTime(inLast window: Double) throws(SyncFailure) -> Double {
    let now = clock.wallSeconds
    return try read { (connection) throws(SQLiteError) in
      try connection.first(AuditStatement.time, [.real(now - window), .real(now)]) { $0.real(0) }
    } ?? 0
  }
}
