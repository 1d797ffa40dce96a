import SQLite
import SyncModel

/// What the queue remembers of removals of local copies.
extension SyncQueue {
  /// The statements of a service's rounds. Both read an index alone, but for what they find; the planner, which knows of no sizes, is told which.
  enum CleanupStatement {
    /// Verified jobs with enough passes that lie far enough back, whatever clocks say of the time between. ?1: after this number,
    /// ?2: the passes, ?3: the moment, ?4: how many.
    static let ripening = """
      SELECT number FROM job INDEXED BY job_verified WHERE state = 'verified' AND number > ?1 AND verify_passes >= ?2
        AND (SELECT count(*) FROM verification_pass WHERE verification_pass.job = job.number AND wall <= ?3) >= ?2
      ORDER BY number LIMIT ?4
      """
    /// Eligible jobs that were not kept just now; one that was kept later than now was so by a clock that was set back since.
    /// ?1: after this number, ?2: now, ?3: just now began then, ?4: how many.
    static let removable = """
      SELECT number FROM job INDEXED BY job_eligible WHERE state = 'cleanup_eligible' AND number > ?1
        AND (cleanup_noted_at IS NULL OR cleanup_noted_at > ?2 OR cleanup_noted_at <= ?3)
      ORDER BY number LIMIT ?4
      """
  }

  /// Some of the verified jobs that may have become eligible, in the order of arrival.
  /// - Parameters:
  ///   - number: Only jobs after this one; the last of a piece brings the next piece.
  ///   - minimumPasses: How many verifications there must be that were made `before`, seconds since 1970.
  package func ripeningJobs(
    after number: Int64, minimumPasses: Int, before: Double, limit: Int = 256
  ) throws(SyncFailure) -> [JobRow] {
    try jobs(
      CleanupStatement.ripening,
      [.integer(number), .integer(Int64(max(1, minimumPasses))), .real(before), .integer(Int64(limit))])
  }

  /// Some of the eligible jobs whose local copy was not kept within the last seconds, in the order of arrival.
  /// - Parameter number: Only jobs after this one.
  package func removableJobs(after number: Int64, notKeptFor seconds: Double, limit: Int = 256) throws(SyncFailure) -> [JobRow] {
    let now = clock.wallSeconds
    return try jobs(CleanupStatement.removable, [.integer(number), .real(now), .real(now - seconds), .integer(Int64(limit))])
  }

  private func jobs(_ sql: String, _ values: [Value]) throws(SyncFailure) -> [JobRow] {
    try read { (connection) throws(SQLiteError) in
      var rows: [JobRow] = []
      for number in try connection.query(sql, values, { $0.integer(0) }) {
        if let row = try connection.first(RowCoding.jobByNumber, [.integer(number)], RowCoding.job) { rows.append(row) }
      }
      return rows
    }
  }

  /// Verified jobs with at least so many passes, the oldest first: those that may have become eligible.
  package func verifiedJobs(minimumPasses: Int) throws(SyncFailure) -> [JobRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(
        "SELECT \(RowCoding.jobColumns) FROM job WHERE state = 'verified' AND verify_passes >= ?1 ORDER BY number",
        [.integer(Int64(minimumPasses))], RowCoding.job)
    }
  }

  /// Notes durably that files of the job's run are about to be removed. From then on a file that is gone counts as removed by this program.
  /// - Throws: `SyncFailure` where the job is not CLEANUP_ELIGIBLE any more, or its run has a newer one.
  package func beginRemoval(_ job: JobRow, detail: String) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      guard let newest = try Self.latest(connection, runPath: job.runPath), newest.number == job.number, newest.state == .cleanupEligible
      else { throw .failure(Self.stale(job, "its run moved on meanwhile")) }
      do throws(SQLiteError) {
        if let what = try QueueSeals.damage(connection, job: job.number) {
          throw .corrupt("\(what) is not what was written")
        }
        try Self.note(connection, job: job.number, at: now, event: "cleanup_started", from: nil, to: nil, detail: detail)
      } catch { throw .sqlite(error) }
    }
  }

  /// Whether this program has begun to remove the files of the job's run.
  package func removalBegan(_ job: JobRow) throws(SyncFailure) -> Bool { try count(of: "cleanup_started", job) > 0 }

  /// Remembers why the local copy stays, for `problems`, `history` and the time of the next try.
  package func noteKept(_ job: JobRow, reason: String) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        try connection.run(
          "UPDATE job SET cleanup_note = ?2, cleanup_noted_at = ?3 WHERE number = ?1",
          [.integer(job.number), .text(reason), .real(now)])
        try Self.note(connection, job: job.number, at: now, event: "cleanup_kept", from: nil, to: nil, detail: reason)
      } catch { throw .sqlite(error) }
    }
  }

  /// How often the local copy was kept.
  package func timesKept(_ job: JobRow) throws(SyncFailure) -> Int { try count(of: "cleanup_kept", job) }

  private func count(of event: String, _ job: JobRow) throws(SyncFailure) -> Int {
    try read { (connection) throws(SQLiteError) in
      Int(
        try connection.first("SELECT count(*) FROM history WHERE job = ?1 AND event = ?2", [.integer(job.number), .text(event)]) {
          $0.integer(0)
        } ?? 0)
    }
  }
}
