import SQLite
import SyncModel

/// Where runs stand and what has changed, for whoever watches many of them: what is asked again and again reads what is new alone.
extension SyncQueue {
  enum NewsStatement {
    static let lastSequence = "SELECT coalesce(max(sequence), 0) FROM history"
    /// Jobs with news, and the state in which the first of them found each. ?1: after this.
    static let since = """
      SELECT job, (SELECT from_state FROM history AS first
          WHERE first.job = changed.job AND first.sequence > ?1 AND first.from_state IS NOT NULL ORDER BY first.sequence LIMIT 1)
      FROM (SELECT DISTINCT job FROM history NOT INDEXED WHERE sequence > ?1) AS changed ORDER BY job
      """
  }

  /// The newest job of a run, in the few words that a watcher needs.
  package struct RunStanding: Hashable, Sendable {
    package let number: Int64
    /// A state that this version does not know counts as one that is left alone.
    package let state: JobState

    package init(number: Int64, state: JobState) {
      self.number = number
      self.state = state
    }

    /// Of a run's newest job.
    package init(_ job: JobRow) { self.init(number: job.number, state: job.state) }
  }

  /// A run's newest job of which the history has news.
  package struct News: Sendable {
    package let job: JobRow
    /// In which state the first news found it; nil for a job that has not changed its state.
    package let former: JobState?
  }

  /// The number of the newest line of all history: what is `news` after this has not happened yet.
  package func lastSequence() throws(SyncFailure) -> Int64 {
    try read { (connection) throws(SQLiteError) in try connection.first(NewsStatement.lastSequence) { $0.integer(0) } } ?? 0
  }

  /// The newest jobs of runs of whose jobs the history has new lines, in the order of arrival. No job changes its state without one.
  /// - Parameter sequence: Of the last line that is no news any more.
  /// - Returns: What to ask with the next time, too.
  package func news(since sequence: Int64) throws(SyncFailure) -> (sequence: Int64, news: [News]) {
    // Asked first: what is written in between is read again the next time.
    let last = try lastSequence()
    guard last > sequence else { return (sequence, []) }
    let news = try read { (connection) throws(SQLiteError) -> [News] in
      let changed = try connection.query(NewsStatement.since, [.integer(sequence)]) {
        (number: $0.integer(0), former: $0.optionalText(1).flatMap(JobState.init(rawValue:)))
      }
      var news: [News] = []
      for (number, former) in changed {
        guard let job = try connection.first(LookStatement.newestByNumber, [.integer(number)], RowCoding.job) else { continue }
        news.append(News(job: job, former: former))
      }
      return news
    }
    return (last, news)
  }

  /// The newest jobs of runs, by the bytes of the run's path; runs without one are not in the answer.
  package func standings(ofRuns paths: [String]) throws(SyncFailure) -> [[UInt8]: RunStanding] {
    try read { (connection) throws(SQLiteError) in
      var runs: [[UInt8]: RunStanding] = [:]
      for path in paths {
        let standing = try connection.first(LookStatement.standing, [.text(path)]) {
          RunStanding(number: $0.integer(0), state: JobState(rawValue: $0.text(1)) ?? .running)
        }
        if let standing { runs[Array(path.utf8)] = standing }
      }
      return runs
    }
  }
}
