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
    /// ?1: the run's path.
    static let standing = "SELECT number, state FROM job WHERE run_path = ?1 ORDER BY generation DESC LIMIT 1"
    private static let isNewest =
      "NOT EXISTS (SELECT 1 FROM job AS newer WHERE newer.run_path = job.run_path AND newer.generation > job.generation)"
    /// ?1: the job's number.
    static let newestByNumber = "SELECT \(RowCoding.jobColumns) FROM job WHERE number = ?1 AND \(isNewest)"
    /// ?1: the state.
    static let newestInState = "SELECT \(RowCoding.jobColumns) FROM job WHERE state = ?1 AND \(isNewest) ORDER BY number"
    /// ?1: the state, ?2: how many.
    static let firstInState = newestInState + " LIMIT ?2"
    /// ?1: the state, ?2: how many.
    static let lastInState = newestInState + " DESC LIMIT ?2"
    static let counts = "SELECT state, runs FROM run_count WHERE runs > 0"
    /// Newest jobs with an error, and those whose local copy was kept.
    static let inTrouble = "SELECT \(RowCoding.jobColumns) FROM job WHERE error_kind IS NOT NULL AND \(isNewest)"
    static let kept = """
      SELECT \(RowCoding.jobColumns) FROM job INDEXED BY job_kept
      WHERE cleanup_note IS NOT NULL AND state = 'cleanup_eligible' AND \(isNewest)
      """
    /// Bytes that active jobs still want. ?1: the destination.
    static let wanted = """
      SELECT coalesce(sum(max(0, bytes_total - bytes_sent)), 0) FROM job
      WHERE state IN ('queued', 'running', 'awaiting_verify') AND destination = ?1
      """
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
    /// What says how a copy was found.
    private static let checks = """
      ('proven', 'verified_on_demand', 'nas_mismatch_on_demand', 'local_mismatch_on_demand', 'audit_verified', 'cleanup_verified')
      """
    /// ?1: a job's number.
    static let lastCheck = "SELECT event, at, detail FROM history WHERE job = ?1 AND event IN \(checks) ORDER BY sequence DESC LIMIT 1"
    /// Checks that found a difference and that none has followed. The first condition is the index's, word by word.
    static let differences = """
      SELECT job, event, at, detail FROM history
      WHERE event IN ('nas_mismatch_on_demand', 'local_mismatch_on_demand', 'audit_not_made') AND event <> 'audit_not_made'
        AND NOT EXISTS (SELECT 1 FROM history AS later
          WHERE later.job = history.job AND later.sequence > history.sequence AND later.event IN \(checks))
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

  /// The newest jobs of runs that are in a state, oldest first.
  package func jobs(in state: JobState) throws(SyncFailure) -> [JobRow] {
    try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.newestInState, [.text(state.rawValue)], RowCoding.job)
    }
  }

  /// How many runs there are whose newest job is in a state. States in which there is none are left out.
  package func counts() throws(SyncFailure) -> [JobState: Int] {
    let rows = try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.counts) { (state: JobState(rawValue: $0.text(0)), runs: Int($0.integer(1))) }
    }
    return Dictionary(rows.compactMap { row in row.state.map { ($0, row.runs) } }) { $1 }
  }

  /// The newest jobs of some runs: those that are sent or verified now, then those that failed, then those that wait, then those that are done,
  /// of these the last first.
  /// - Parameter limit: How many at most.
  package func jobsOfInterest(limit: Int) throws(SyncFailure) -> [JobRow] {
    try read { (connection) throws(SQLiteError) in
      var jobs: [JobRow] = []
      for state in [JobState.running, .awaitingVerify, .failed, .queued] where jobs.count < limit {
        jobs += try connection.query(
          LookStatement.firstInState, [.text(state.rawValue), .integer(Int64(limit - jobs.count))], RowCoding.job)
      }
      let left = limit - jobs.count
      guard left > 0 else { return jobs }
      var done: [JobRow] = []
      for state in [JobState.verified, .cleanupEligible, .cleaned] {
        done += try connection.query(LookStatement.lastInState, [.text(state.rawValue), .integer(Int64(left))], RowCoding.job)
      }
      return jobs + done.sorted { $0.number > $1.number }.prefix(left)
    }
  }

  /// The newest jobs of runs of which something is to be told: an error, a local copy that was kept, or what the caller knows of.
  /// - Parameter others: Numbers of further jobs.
  package func jobsInTrouble(and others: Set<Int64>) throws(SyncFailure) -> [JobRow] {
    let rows = try read { (connection) throws(SQLiteError) -> [JobRow] in
      var rows = try connection.query(LookStatement.inTrouble, [], RowCoding.job)
      rows += try connection.query(LookStatement.kept, [], RowCoding.job)
      for number in others {
        if let row = try connection.first(LookStatement.newestByNumber, [.integer(number)], RowCoding.job) { rows.append(row) }
      }
      return rows
    }
    return Dictionary(rows.map { ($0.number, $0) }) { $1 }.values.sorted { $0.number < $1.number }
  }

  /// Bytes that the jobs on their way to a destination still want there.
  package func bytesWanted(at destination: String) throws(SyncFailure) -> UInt64 {
    try read { (connection) throws(SQLiteError) in
      try connection.first(LookStatement.wanted, [.text(destination)]) { $0.size(0) }
    } ?? 0
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

  /// What the last check of a job found: the event, when, and its sentence.
  package func lastCheck(of job: JobRow) throws(SyncFailure) -> (event: String, at: Double, detail: String)? {
    try read { (connection) throws(SQLiteError) in
      try connection.first(LookStatement.lastCheck, [.integer(job.number)]) { (event: $0.text(0), at: $0.real(1), detail: $0.text(2)) }
    }
  }

  /// What the last check found of each job whose last check found a difference, by the job's number.
  package func differences() throws(SyncFailure) -> [Int64: (event: String, at: Double, detail: String)] {
    let rows = try read { (connection) throws(SQLiteError) in
      try connection.query(LookStatement.differences) {
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
