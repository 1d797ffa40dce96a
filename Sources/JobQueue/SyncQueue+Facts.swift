import SQLite
import SyncModel

/// What destinations said of themselves when they were last asked: for the gate, which must work while they do not answer.
extension SyncQueue {
  /// Remembers what a destination said just now, as JSON.
  package func recordFacts(_ facts: String, ofDestination destination: String) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        try connection.run(
          """
          INSERT INTO destination_fact (destination, at, facts) VALUES (?1, ?2, ?3)
          ON CONFLICT (destination) DO UPDATE SET at = excluded.at, facts = excluded.facts
          """, [.text(destination), .real(now), .text(facts)])
      } catch { throw .sqlite(error) }
    }
  }

  /// What a destination said when it was last asked, and when that was (seconds since 1970); nil for one that never was.
  package func facts(ofDestination destination: String) throws(SyncFailure) -> (at: Double, facts: String)? {
    try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT at, facts FROM destination_fact WHERE destination = ?1", [.text(destination)]) {
        ($0.real(0), $0.text(1))
      }
    }
  }
}
