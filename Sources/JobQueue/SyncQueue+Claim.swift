import SQLite
import SyncModel

extension SyncQueue {
  /// The statements of a claim. Their conditions repeat those of the index `job_turn` word by word, else the planner does not use it.
  enum ClaimStatement {
    /// The states that a worker takes up.
    static let states = [JobState.awaitingVerify, .queued]

    private static func waits(in state: JobState) -> String { "claimed_by IS NULL AND state = '\(state.rawValue)'" }

    /// The instruments with a waiting job: one step in the index an instrument, however many jobs it has.
    static func equipments(in state: JobState) -> String {
      """
      WITH RECURSIVE waiting (id) AS (
        SELECT min(equipment_id) FROM job WHERE \(waits(in: state))
        UNION ALL
        SELECT (SELECT min(equipment_id) FROM job WHERE \(waits(in: state)) AND equipment_id > waiting.id) FROM waiting
        WHERE waiting.id IS NOT NULL)
      SELECT id FROM waiting WHERE id IS NOT NULL
      """
    }

    /// The destinations of an instrument's waiting jobs, one step each. ?1: the instrument.
    static func destinations(in state: JobState) -> String {
      """
      WITH RECURSIVE place (name) AS (
        SELECT min(destination) FROM job WHERE \(waits(in: state)) AND equipment_id = ?1
        UNION ALL
        SELECT (SELECT min(destination) FROM job WHERE \(waits(in: state)) AND equipment_id = ?1 AND destination > place.name) FROM place
        WHERE place.name IS NOT NULL)
      SELECT name FROM place WHERE name IS NOT NULL
      """
    }

    /// Of the highest priority there is, the job that has no time set, or else the one whose time comes first.
    /// ?1: the instrument, ?2: the destination, ?3: only priorities below this.
    static func first(in state: JobState, below: Bool) -> String {
      """
      SELECT number, priority, next_attempt_at FROM job
      WHERE \(waits(in: state)) AND equipment_id = ?1 AND destination = ?2\(below ? " AND priority < ?3" : "")
      ORDER BY priority DESC, next_attempt_at, number LIMIT 1
      """
    }

    /// Of a priority the job whose time came first. ?1: the instrument, ?2: the destination, ?3: the priority, ?4: now.
    static func retried(in state: JobState) -> String {
      """
      SELECT number, priority, next_attempt_at FROM job
      WHERE \(waits(in: state)) AND equipment_id = ?1 AND destination = ?2 AND priority = ?3 AND next_attempt_at <= ?4
      ORDER BY next_attempt_at, number LIMIT 1
      """
    }

    static let inFlight = "SELECT 1 FROM job WHERE state IN ('running', 'awaiting_verify') AND claimed_by IS NOT NULL LIMIT 1"

    /// ?1: the state, ?2: the moment.
    static let tooFarAhead = "SELECT number FROM job WHERE state = ?1 AND claimed_by IS NULL AND next_attempt_at > ?2"

    static let backlog = """
      SELECT count(*), coalesce(sum(claimed_by IS NOT NULL OR coalesce(next_attempt_at, 0) <= ?1), 0), min(next_attempt_at) FROM job
      WHERE state IN ('queued', 'running', 'awaiting_verify')
      """
  }

  /// Claims the next job that is due, by compare-and-set; nil where none is.
  ///
  /// Instruments take turns: of those with a due job, the one with the fewest jobs in flight comes first, so that one instrument's backlog
  /// does not hold up another's run. Within one instrument: priority, then order of arrival, where of those that waited for a time the one
  /// whose time came first stands for all. A QUEUED job becomes RUNNING; an
  /// AWAITING_VERIFY one keeps its state and is marked as held.
  /// - Parameter limit: Jobs in flight that one instrument may have.
  package func claimNext(
    worker: String, inFlight: [String: Int] = [:], excludingDestinations excluded: Set<String> = [], atMost limit: Int = .max
  ) throws(SyncFailure) -> JobRow? {
    let now = clock.wallSeconds
    // A look without the lock first: an idle worker must not write, and a long look must not hold up others.
    let found = try read { (connection) throws(SQLiteError) in
      try Self.dueJob(connection, now: now, inFlight: inFlight, excluded: excluded, limit: limit)
    }
    guard let found else { return nil }
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        var due = found
        while try !Self.take(connection, due, worker: worker, now: now) {
          // Somebody else was faster. Under the lock what the next look finds stays free.
          guard let other = try Self.dueJob(connection, now: now, inFlight: inFlight, excluded: excluded, limit: limit),
            other.number != due.number
          else {
            return nil
          }
          due = other
        }
        let job = try connection.first(
          "SELECT \(RowCoding.jobColumns) FROM job WHERE number = ?1", [.integer(due.number)], RowCoding.job)
        guard let job else { return nil }
        try Self.note(
          connection, job: due.number, at: now, event: "claimed", from: due.state, to: job.state, detail: "attempt \(job.attempts &+ 1)")
        return job
      } catch { throw .sqlite(error) }
    }
  }

  /// The compare-and-set of a claim: false where the job is no longer what the look saw, and due.
  private static func take(_ connection: Connection, _ due: Due, worker: String, now: Double) throws(SQLiteError) -> Bool {
    let next: JobState = due.state == .queued ? .running : .awaitingVerify
    return try connection.run(
      """
      UPDATE job SET state = ?2, claimed_by = ?3, updated_at = ?4, next_attempt_at = NULL
      WHERE number = ?1 AND state = ?5 AND claimed_by IS NULL AND coalesce(next_attempt_at, 0) <= ?4
      """, [.integer(due.number), .text(next.rawValue), .text(worker), .real(now), .text(due.state.rawValue)]) == 1
  }

  private struct Due {
    let number: Int64
    let priority: Int64
    let state: JobState
    /// How many jobs of its instrument are in flight.
    let load: Int

    func goesBefore(_ other: Due) -> Bool {
      if load != other.load { return load < other.load }
      if priority != other.priority { return priority > other.priority }
      return number < other.number
    }
  }

  private static func dueJob(
    _ connection: Connection, now: Double, inFlight: [String: Int], excluded: Set<String>, limit: Int
  ) throws(SQLiteError) -> Due? {
    var best: Due?
    for state in ClaimStatement.states {
      for equipment in try connection.query(ClaimStatement.equipments(in: state), [], { $0.text(0) }) {
        let load = inFlight[equipment] ?? 0
        guard load < limit, best.map({ load <= $0.load }) ?? true else { continue }
        for destination in try connection.query(ClaimStatement.destinations(in: state), [.text(equipment)], { $0.text(0) })
        where !excluded.contains(destination) {
          let place: [Value] = [.text(equipment), .text(destination)]
          guard let due = try dueJob(connection, at: place, in: state, now: now, load: load) else { continue }
          if let current = best, !due.goesBefore(current) { continue }
          best = due
        }
      }
    }
    return best
  }

  /// The first due job of an instrument and a destination: the highest priority of which one is due, and in it the first to come.
  private static func dueJob(
    _ connection: Connection, at place: [Value], in state: JobState, now: Double, load: Int
  ) throws(SQLiteError) -> Due? {
    func row(_ row: Row) -> (due: Due, at: Double?) {
      (Due(number: row.integer(0), priority: row.integer(1), state: state, load: load), row.optionalReal(2))
    }
    var found = try connection.first(ClaimStatement.first(in: state, below: false), place, row)
    while let top = found {
      // A time comes after none in the order: where there is one, all jobs of the priority have one, and no earlier one.
      if let at = top.at {
        if at <= now { return top.due }
      } else {
        let retried = try connection.first(
          ClaimStatement.retried(in: state), place + [.integer(top.due.priority), .real(now)], row)
        return retried.map { $0.due.number < top.due.number ? $0.due : top.due } ?? top.due
      }
      found = try connection.first(ClaimStatement.first(in: state, below: true), place + [.integer(top.due.priority)], row)
    }
    return nil
  }

  /// Whether a job is in flight or could be claimed now.
  package func isAnythingDue(excludingDestinations excluded: Set<String> = []) throws(SyncFailure) -> Bool {
    let now = clock.wallSeconds
    return try read { (connection) throws(SQLiteError) in
      if try connection.first(ClaimStatement.inFlight, [], { _ in true }) != nil { return true }
      return try Self.dueJob(connection, now: now, inFlight: [:], excluded: excluded, limit: .max) != nil
    }
  }

  /// Makes due whatever waits for a moment further ahead than anything is ever made to wait: that moment was reckoned by a clock that was
  /// set back since, and nobody should wait for it.
  /// - Parameter longest: Seconds.
  /// - Returns: The number of jobs and destinations concerned.
  package func forgetTimes(beyond longest: Double) throws(SyncFailure) -> Int {
    let now = clock.wallSeconds
    let (jobs, outages) = try read { (connection) throws(SQLiteError) in
      var jobs: [Int64] = []
      for state in ClaimStatement.states {
        jobs += try connection.query(ClaimStatement.tooFarAhead, [.text(state.rawValue), .real(now + longest)]) { $0.integer(0) }
      }
      let statement = "SELECT destination FROM outage WHERE next_attempt_at > ?1"
      return (jobs, try connection.query(statement, [.real(now + longest)]) { $0.text(0) })
    }
    if jobs.isEmpty, outages.isEmpty { return 0 }
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        var changed = 0
        for number in jobs {
          guard
            try connection.run(
              "UPDATE job SET next_attempt_at = NULL WHERE number = ?1 AND claimed_by IS NULL AND next_attempt_at > ?2",
              [.integer(number), .real(now + longest)]) == 1
          else { continue }
          changed += 1
          try Self.note(
            connection, job: number, at: now, event: "clock_set_back", from: nil, to: nil,
            detail: "the job waited for a time that the clock has moved away from; it is due now")
        }
        for destination in outages {
          changed += try connection.run(
            "UPDATE outage SET next_attempt_at = ?2 WHERE destination = ?1 AND next_attempt_at > ?3",
            [.text(destination), .real(now), .real(now + longest)])
        }
        return changed
      } catch { throw .sqlite(error) }
    }
  }

  /// How many jobs are active, and when the next of them is due: nil where one is due now or in flight, or none is active.
  package func backlog() throws(SyncFailure) -> (active: Int, due: Int, nextAt: Double?) {
    let now = clock.wallSeconds
    return try read { (connection) throws(SQLiteError) in
      let found = try connection.first(ClaimStatement.backlog, [.real(now)]) {
        (active: Int($0.integer(0)), due: Int($0.integer(1)), nextAt: $0.optionalReal(2))
      }
      guard let found else { return (0, 0, nil) }
      return (found.active, found.due, found.due > 0 ? nil : found.nextAt)
    }
  }
}
