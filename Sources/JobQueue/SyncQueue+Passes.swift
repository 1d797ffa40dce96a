import SQLite
import SyncModel

/// Verifications that count, and what the clocks said at them.
extension SyncQueue {
  static func insert(_ connection: Connection, _ pass: VerificationPass, job: JobRow) throws(QueueError) {
    do throws(SQLiteError) {
      try connection.run(
        """
        INSERT INTO verification_pass (job, wall, boot, uptime, source, evidence, files, ledger_length, seal)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, \(QueueSeals.function)(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8))
        """,
        [
          .integer(job.number), .real(pass.reading.wall), .text(pass.reading.boot), .real(pass.reading.uptime), .text(pass.source.rawValue),
          .optional(pass.evidence?.rawValue), .integer(Int64(pass.files)), .integer(Int64(pass.ledgerLength)),
        ])
      try sample(connection, pass.reading)
    } catch { throw .sqlite(error) }
  }

  private static func sample(_ connection: Connection, _ reading: ClockReading) throws(SQLiteError) {
    try connection.run(
      """
      INSERT INTO clock_sample (boot, uptime, wall, seal) VALUES (?1, ?2, ?3, \(QueueSeals.function)(?1, ?2, ?3))
      ON CONFLICT (boot) DO UPDATE SET uptime = max(uptime, excluded.uptime), wall = excluded.wall,
        seal = CASE WHEN seal IS \(QueueSeals.ofSample)
          THEN \(QueueSeals.function)(boot, max(uptime, excluded.uptime), excluded.wall) ELSE seal END
      """, [.text(reading.boot), .real(reading.uptime), .real(reading.wall)])
  }

  /// Notes that the machine is running now: the only witness of time that passes across its restarts.
  package func sampleClock() throws(SyncFailure) {
    let reading = clock.reading
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) { try Self.sample(connection, reading) } catch { throw .sqlite(error) }
    }
  }

  /// The last reading of each start of the machine, in their order.
  package func clockSamples() throws(SyncFailure) -> [ClockReading] {
    try read { (connection) throws(SQLiteError) in
      try connection.query("SELECT wall, boot, uptime FROM clock_sample ORDER BY sequence") {
        ClockReading(wall: $0.real(0), boot: $0.text(1), uptime: $0.real(2))
      }
    }
  }

  /// Records that the NAS copy of a published run was found whole, and forgets what an earlier audit found wrong.
  ///
  /// Two looks at the same moment are one: it counts as a further pass only where `spacing` has certainly gone by since the last that counted.
  /// - Parameter spacing: Seconds of trusted time.
  /// - Returns: The job as it is afterwards, and whether the pass counts.
  /// - Throws: `SyncFailure` where the job is in another state by now.
  package func recordPass(
    _ job: JobRow, _ pass: VerificationPass, spacing: Double
  ) throws(SyncFailure) -> (job: JobRow, counted: Bool) {
    let last = try passes(of: job).last?.reading
    let samples = try clockSamples()
    let counted = last.map { TrustedTime.elapsed(from: $0, to: pass.reading, samples: samples) >= spacing } ?? true
    let moved = try write { (connection) throws(QueueError) -> JobRow? in
      do throws(SQLiteError) {
        let changed = try connection.run(
          """
          UPDATE job SET verified_at = ?3, audited_at = ?3, verify_passes = verify_passes + ?4, updated_at = ?3
          WHERE number = ?1 AND state = ?2 AND verify_passes = ?5 AND state IN ('verified', 'cleanup_eligible', 'cleaned')
            AND NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = job.run_path AND newer.generation > job.generation)
          """,
          [
            .integer(job.number), .text(job.state.rawValue), .real(pass.reading.wall), .integer(counted ? 1 : 0),
            .integer(Int64(job.verifyPasses)),
          ])
        guard changed == 1 else { return nil }
        try connection.run(
          "DELETE FROM nas_fault WHERE job IN (SELECT number FROM job WHERE run_path = ?1)", [.text(job.runPath)])
        // A cleaned run keeps its state when its copy is found changed, and shows that as its error until it is whole again.
        try connection.run(
          """
          UPDATE job SET error_kind = NULL, error_message = NULL, error_retry = NULL, error_hint = NULL
          WHERE number = ?1 AND error_kind = 'remote_corrupted'
          """, [.integer(job.number)])
        try Self.note(
          connection, job: job.number, at: pass.reading.wall, event: "\(pass.source.rawValue)_verified", from: job.state, to: job.state,
          detail: "\(pass.files) files proven on the NAS (evidence: \(pass.evidence?.rawValue ?? "none, the run has no file"))"
            + (counted ? "" : ", too soon after the last to count as another pass"))
      } catch { throw .sqlite(error) }
      if counted { try Self.insert(connection, pass, job: job) }
      return try Self.job(connection, number: job.number)
    }
    guard let moved else { throw Self.stale(job, "it is no longer \(job.state.rawValue)") }
    return (moved, counted)
  }

  /// A job's verifications that count, the oldest first.
  package func passes(of job: JobRow) throws(SyncFailure) -> [VerificationPass] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(
        "SELECT wall, boot, uptime, source, evidence, files, ledger_length FROM verification_pass WHERE job = ?1 ORDER BY sequence",
        [.integer(job.number)]
      ) {
        VerificationPass(
          reading: ClockReading(wall: $0.real(0), boot: $0.text(1), uptime: $0.real(2)),
          source: VerificationPass.Source(rawValue: $0.text(3)) ?? .publish, evidence: $0.optionalText(4).flatMap(Evidence.init(rawValue:)),
          files: Int($0.integer(5)), ledgerLength: Int($0.integer(6)))
      }
    }
  }
}
