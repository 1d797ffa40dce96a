import SQLite
import SyncModel

/// What stands beside the jobs: runs that the gate stopped, and destinations that do not answer.
extension SyncQueue {
  /// Remembers that the gate stopped a run that has no job. `since` is kept where it was stopped before.
  package func recordBlocked(runPath: String, equipmentID: String, findings: String) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        try connection.run(
          """
          INSERT INTO blocked_run (run_path, equipment_id, since, findings) VALUES (?1, ?2, ?3, ?4)
          ON CONFLICT (run_path) DO UPDATE SET findings = excluded.findings, equipment_id = excluded.equipment_id
          """, [.text(runPath), .text(equipmentID), .real(now), .text(findings)])
      } catch { throw .sqlite(error) }
    }
  }

  /// The gate let the run through.
  package func clearBlocked(runPath: String) throws(SyncFailure) {
    let known = try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT 1 FROM blocked_run WHERE run_path = ?1", [.text(runPath)]) { _ in true }
    }
    guard known == true else { return }
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) { try connection.run("DELETE FROM blocked_run WHERE run_path = ?1", [.text(runPath)]) } catch {
        throw .sqlite(error)
      }
    }
  }

  /// Runs that the gate stopped and that were not let through since.
  package func blockedRuns() throws(SyncFailure) -> [BlockedRun] {
    try read { (connection) throws(SQLiteError) in
      try connection.query("SELECT run_path, equipment_id, since, findings FROM blocked_run ORDER BY since, run_path") {
        BlockedRun(runPath: $0.text(0), equipmentID: $0.text(1), since: $0.real(2), findings: $0.text(3))
      }
    }
  }

  /// What the gate found of a run that it stopped and has not let through since; nil for any other.
  package func blockedRun(path: String) throws(SyncFailure) -> BlockedRun? {
    try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT run_path, equipment_id, since, findings FROM blocked_run WHERE run_path = ?1", [.text(path)]) {
        BlockedRun(runPath: $0.text(0), equipmentID: $0.text(1), since: $0.real(2), findings: $0.text(3))
      }
    }
  }

  /// Remembers that a destination does not answer; the start of the outage is kept.
  package func recordOutage(_ destination: String, failure: SyncFailure, nextAttemptAt: Double) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        try connection.run(
          """
          INSERT INTO outage (destination, since, next_attempt_at, error_kind, error_message, error_hint) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
          ON CONFLICT (destination) DO UPDATE SET next_attempt_at = excluded.next_attempt_at, error_kind = excluded.error_kind,
            error_message = excluded.error_message, error_hint = excluded.error_hint
          """,
          [
            .text(destination), .real(now), .real(nextAttemptAt), .text(failure.kind.rawValue), .text(failure.message), .text(failure.hint),
          ])
      } catch { throw .sqlite(error) }
    }
  }

  /// The destination answered.
  /// - Returns: Whether it had been out.
  @discardableResult
  package func clearOutage(_ destination: String) throws(SyncFailure) -> Bool {
    let known = try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT 1 FROM outage WHERE destination = ?1", [.text(destination)]) { _ in true }
    }
    guard known == true else { return false }
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) { try connection.run("DELETE FROM outage WHERE destination = ?1", [.text(destination)]) } catch {
        throw .sqlite(error)
      }
    }
    return true
  }

  /// Destinations that do not answer now.
  package func outages() throws(SyncFailure) -> [Outage] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(
        "SELECT destination, since, next_attempt_at, error_kind, error_message, error_hint FROM outage ORDER BY since"
      ) {
        Outage(
          destination: $0.text(0), since: $0.real(1), nextAttemptAt: $0.real(2),
          failure: SyncFailure(SyncFailure.Kind(rawValue: $0.text(3)) ?? .network, $0.text(4), hint: $0.text(5)))
      }
    }
  }
}
