import SQLite
import SyncModel

/// Where every run stands, for whoever watches thousands of them.
extension SyncQueue {
  /// The newest job of a run, in the few words that a watcher needs.
  package struct RunStanding: Hashable, Sendable {
    package let number: Int64
    package let state: JobState
  }

  /// Tells whether the file has been written since, by this connection or another.
  package struct Edition: Hashable, Sendable {
    let foreign: Int64
    let own: Int
  }

  /// The newest job of every run by the bytes of the run's path, in one query; nil where the file has not been written since `edition`.
  package func standings(since edition: Edition?) throws(SyncFailure) -> (edition: Edition, runs: [[UInt8]: RunStanding])? {
    let own = opened?.writes ?? 0
    return try read { (connection) throws(SQLiteError) in
      // Read first: what is committed in between is read again the next time.
      let foreign = try connection.first("PRAGMA data_version") { $0.integer(0) } ?? 0
      let current = Edition(foreign: foreign, own: own)
      guard current != edition else { return nil }
      var runs: [[UInt8]: RunStanding] = [:]
      let rows = try connection.query(LookStatement.standings, []) {
        (path: $0.text(0), number: $0.integer(1), state: JobState(rawValue: $0.text(2)))
      }
      // By generation: the last of a run is the newest. A state that this version does not know is left alone.
      for row in rows { runs[Array(row.path.utf8)] = RunStanding(number: row.number, state: row.state ?? .running) }
      return (current, runs)
    }
  }
}
