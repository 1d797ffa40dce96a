import SQLite
import SyncModel

extension SyncQueue {
  /// The statements that look, in one place so that their plans can be tested.
  enum LookStatement {
    /// ?1: the run's path.
    static let latestOfRun = "SELECT \(RowCoding.jobColumns) FROM job WHERE run_path = ?1 ORDER BY generation DESC LIMIT 1"
    static let latest = """
      SELECT \(RowCoding.jobColumns) FROM job AS j
      WHERE generation = (SELECT max(generation) FROM job WHERE run_path = j.run_path) ORDER BY number
      """
    static let standings = "SELECT run_path, number, state FROM job ORDER BY run_path, generation"
    /// ?1: the state.
    static let inState = "SELECT \(RowCoding.jobColumns) FROM job WHERE state = ?1 ORDER BY number"
    /// ?1: the job's number.
    static let components = "SELECT \(RowCoding.componentColumns) FROM component WHERE job = ?1 ORDER BY path"
    /// ?1: the run's path. The digest is the published one, whatever an attempt since has found here.
    static let published = """
      SELECT \(RowCoding.componentColumns(digest: "published_digest")) FROM component JOIN
        (SELECT number, generation FROM job WHERE run_path = ?1) AS j
        ON component.job = j.number
      WHERE component.published_digest IS NOT NULL ORDER BY path, generation
      """
    /// Folders and links, which have no digest and so are never `verified` one by one. ?1: the run's path.
    static let publishedOthers = """
      SELECT \(RowCoding.componentColumns) FROM component JOIN
        (SELECT number, generation FROM job WHERE run_path = ?1 AND verified_at IS NOT NULL) AS j
        ON component.job = j.number
      WHERE component.kind <> 0 ORDER BY path, generation
      """
    /// What generations held whose local copy was removed. ?1: the run's path.
    static let removedLocally = """
      SELECT path FROM component JOIN (SELECT number FROM job WHERE run_path = ?1 AND state = 'cleaned') AS j ON component.job = j.number
      """
    /// ?1: a job's number, or NULL for all.
    static let lastChecks = """
      SELECT job, event, at, detail FROM history WHERE sequence IN (
        SELECT max(sequence) FROM history
        WHERE (?1 IS NULL OR job = ?1) AND event IN ('proven', 'verified_on_demand', 'nas_mismatch_on_demand', 'local_mismatch_on_demand',
          'audit_verified', 'cleanup_verified')
        GROUP BY job)
      """
    /// ?1: the run's path.
    static let latestVerified = """
      SELECT \(RowCoding.jobColumns) FROM job WHERE run_path = ?1 AND verified_at IS NOT NULL ORDER BY generation DESC LIMIT 1
      """
    /// ?1: the run's path.
    static let history = """
      SELECT job.id, job.generation, at, event, from_state, to_state, detail FROM history JOIN job ON job.number = history.job
      WHERE job.run_path = ?1 ORDER BY sequence
      """
  }

  /// The newest job of a run.
  package func latestJob(ofRun runPath: String) throws(SyncFailure) -> JobRow? {
    try read { (connection) throws(SQLiteError) in
      try connection.first(LookStatement.latestOfRun, [.text(runPath)], RowCoding.job)
    }
  }

  /// The newest job of every run, oldest first.
  package func latestJobs() throws(SyncFailure) -> [JobRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.latest, [], RowCoding.job)
    }
  }

  /// All jobs that are in a state, of every generation, oldest first.
  package func jobs(in state: JobState) throws(SyncFailure) -> [JobRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.inState, [.text(state.rawValue)], RowCoding.job)
    }
  }

  /// All jobs of a run, the oldest generation first.
  package func jobs(ofRun runPath: String) throws(SyncFailure) -> [JobRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(
        "SELECT \(RowCoding.jobColumns) FROM job WHERE run_path = ?1 ORDER BY generation", [.text(runPath)], RowCoding.job)
    }
  }

  /// A job by its number.
  package func job(number: Int64) throws(SyncFailure) -> JobRow {
    let row = try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT \(RowCoding.jobColumns) FROM job WHERE number = ?1", [.integer(number)], RowCoding.job)
    }
    guard let row else { throw Self.vanished("number \(number)") }
    return row
  }

  /// A job's components in the order of their path's bytes.
  package func components(of job: JobRow) throws(SyncFailure) -> [ComponentRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.components, [.integer(job.number)], RowCoding.component)
    }
  }

  /// What the last check of each job found: the event, when, and its sentence, by the job's number.
  package func lastChecks(ofJob number: Int64? = nil) throws(SyncFailure) -> [Int64: (event: String, at: Double, detail: String)] {
    let rows = try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.lastChecks, [.optional(number)]) {
        (job: $0.integer(0), event: $0.text(1), at: $0.real(2), detail: $0.text(3))
      }
    }
    return Dictionary(rows.map { ($0.job, ($0.event, $0.at, $0.detail)) }) { $1 }
  }

  /// The newest job of a run that was ever verified.
  package func latestVerifiedJob(ofRun runPath: String) throws(SyncFailure) -> JobRow? {
    try read { (connection) throws(SQLiteError) in
      try connection.first(LookStatement.latestVerified, [.text(runPath)], RowCoding.job)
    }
  }

  /// The components that a run's published generations hold, the newest of each path, in the order of their path's bytes.
  package func publishedComponents(ofRun runPath: String) throws(SyncFailure) -> [ComponentRow] {
    let rows = try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.published, [.text(runPath)], RowCoding.component)
    }
    return Self.newest(rows)
  }

  /// The folders and links that a run's published generations hold, the newest of each path; not those whose name became a file's.
  package func publishedOthers(ofRun runPath: String) throws(SyncFailure) -> [ComponentRow] {
    let rows = try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.publishedOthers, [.text(runPath)], RowCoding.component)
    }
    let files = Set(try publishedComponents(ofRun: runPath).map(\.entry.path))
    return Self.newest(rows).filter { !files.contains($0.entry.path) }
  }

  /// Paths that a generation held whose local copy was removed: nobody expects them here.
  package func pathsRemovedLocally(ofRun runPath: String) throws(SyncFailure) -> Set<RelativePath> {
    let paths = try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.removedLocally, [.text(runPath)]) { RowCoding.path($0.blob(0)) }
    }
    return Set(paths.compactMap { $0 })
  }

  /// Of rows in the order of path and generation, the last of each path.
  private static func newest(_ rows: [ComponentRow]) -> [ComponentRow] {
    var newest: [ComponentRow] = []
    for row in rows {
      if newest.last?.entry.path == row.entry.path { newest.removeLast() }
      newest.append(row)
    }
    return newest
  }

  /// All history of a run, every generation, in order.
  package func history(ofRun runPath: String) throws(SyncFailure) -> [HistoryRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.history, [.text(runPath)]) {
        HistoryRow(
          jobID: $0.text(0), generation: Int($0.integer(1)), at: $0.real(2), event: $0.text(3),
          from: $0.optionalText(4).flatMap(JobState.init(rawValue:)), to: $0.optionalText(5).flatMap(JobState.init(rawValue:)),
          detail: $0.text(6))
      }
    }
  }
}
