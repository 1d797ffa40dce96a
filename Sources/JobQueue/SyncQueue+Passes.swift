import SQLite
import SyncModel

/// Verifications that count, and what the clocks said at them.
extension SyncQueue {
  static func insert(_ connection: Connection, _ pass: VerificationPass, job: JobRow) throws(QueueError) {
    do throws(SQLiteError) {
      try connection.run(
        """
        INSERT INTO verification_pass (job, wall, boot, uptime, source, evidence, files, ledger_length)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
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
      INSERT INTO clock_sample (boot, uptime, wall) VALUES (?1, ?2, ?3)
      ON CONFLICT (boot) DO UPDATE SET uptime = max(uptime, excluded.uptime), wall = excluded.wall
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
