import SQLite
import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// What is asked often must be found by an index, whatever the number of jobs.
@Suite struct QueryPlanTests {
  @Test func claimsReadTheIndexOfWhatWaits() async throws {
    try await QueueFixture.with { fixture in
      for state in SyncQueue.ClaimStatement.states {
        let equipments = try await fixture.queue.plan(SyncQueue.ClaimStatement.equipments(in: state))
        #expect(
          equipments.filter { $0.contains("job") }.allSatisfy { $0.contains("SEARCH job USING COVERING INDEX job_turn") }, "\(equipments)")
        #expect(equipments.contains { $0.contains("(state=? AND claimed_by=? AND equipment_id>?)") }, "\(equipments)")
        let place = "SEARCH job USING COVERING INDEX job_turn (state=? AND claimed_by=? AND equipment_id=? AND destination"
        let destinations = try await fixture.queue.plan(SyncQueue.ClaimStatement.destinations(in: state))
        #expect(destinations.contains { $0.hasPrefix(place + ">?)") }, "\(destinations)")
        // In their order, so that the first row is all that is read.
        #expect(try await fixture.queue.plan(SyncQueue.ClaimStatement.first(in: state, below: false)) == [place + "=?)"])
        #expect(try await fixture.queue.plan(SyncQueue.ClaimStatement.first(in: state, below: true)) == [place + "=? AND priority<?)"])
        #expect(
          try await fixture.queue.plan(SyncQueue.ClaimStatement.retried(in: state))
            == [place + "=? AND priority=? AND next_attempt_at<?)"])
      }
    }
  }

  @Test func theBacklogReadsAnIndexAlone() async throws {
    try await QueueFixture.with { fixture in
      let plan = try await fixture.queue.plan(SyncQueue.ClaimStatement.backlog)
      #expect(plan == ["SEARCH job USING COVERING INDEX job_by_state (state=?)"])
    }
  }

  @Test func timesTooFarAheadAreFoundInTheIndex() async throws {
    try await QueueFixture.with { fixture in
      let plan = try await fixture.queue.plan(SyncQueue.ClaimStatement.tooFarAhead)
      #expect(plan == ["SEARCH job USING COVERING INDEX job_by_state (state=? AND claimed_by=? AND next_attempt_at>?)"])
    }
  }

  private static let newest = [
    "CORRELATED SCALAR SUBQUERY 1", "SEARCH newer USING COVERING INDEX sqlite_autoindex_job_2 (run_path=? AND generation>?)",
  ]

  @Test(arguments: [
    (SyncQueue.LookStatement.latestOfRun, ["SEARCH job USING INDEX sqlite_autoindex_job_2 (run_path=?)"]),
    (SyncQueue.LookStatement.newestInState, ["SEARCH job USING INDEX job_in_state (state=?)"] + newest),
    (SyncQueue.LookStatement.lastInState, ["SEARCH job USING INDEX job_in_state (state=?)"] + newest),
    (SyncQueue.LookStatement.inTrouble, ["SCAN job USING INDEX job_in_trouble"] + newest),
    (SyncQueue.LookStatement.kept, ["SCAN job USING INDEX job_kept"] + newest),
    (
      SyncQueue.LookStatement.latest,
      ["SCAN j", "CORRELATED SCALAR SUBQUERY 1", "SEARCH job USING COVERING INDEX sqlite_autoindex_job_2 (run_path=?)"]
    ),
    (
      SyncQueue.LookStatement.history,
      [
        "SEARCH job USING INDEX sqlite_autoindex_job_2 (run_path=?)", "SEARCH history USING INDEX history_by_job (job=?)",
        "USE TEMP B-TREE FOR ORDER BY",
      ]
    ),
    (SyncQueue.LookStatement.standing, ["SEARCH job USING INDEX sqlite_autoindex_job_2 (run_path=?)"]),
    (SyncQueue.NewsStatement.lastSequence, ["SEARCH history"]),
    (
      SyncQueue.CleanupStatement.ripening,
      [
        "SEARCH job USING COVERING INDEX job_verified (state=? AND number>?)", "CORRELATED SCALAR SUBQUERY 1",
        "SEARCH verification_pass USING INDEX verification_pass_by_job (job=?)",
      ]
    ),
    (SyncQueue.CleanupStatement.removable, ["SEARCH job USING COVERING INDEX job_eligible (state=? AND number>?)"]),
    (SyncQueue.LookStatement.components, ["SEARCH component USING PRIMARY KEY (job=?)"]),
  ])
  func looksAreSearches(_ sql: String, _ plan: [String]) async throws {
    try await QueueFixture.with { fixture in
      let found = try await fixture.queue.plan(sql)
      #expect(found == plan)
    }
  }

  @Test func auditsReadTheIndexOfTheirTurns() async throws {
    try await QueueFixture.with { fixture in
      for (sql, range) in [(SyncQueue.AuditStatement.due, "<"), (SyncQueue.AuditStatement.ahead, ">")] {
        let plan = try await fixture.queue.plan(sql)
        // Found in their order, and no other row is read: the first that is not superseded ends it.
        #expect(
          plan == [
            "SEARCH job USING INDEX job_by_audit (equipment_id=? AND destination=? AND audited_at\(range)?)",
            "CORRELATED SCALAR SUBQUERY 1",
            "SEARCH newer USING COVERING INDEX sqlite_autoindex_job_2 (run_path=? AND generation>?)",
          ], "\(plan)")
      }
      let backlog = try await fixture.queue.plan(SyncQueue.AuditStatement.backlog)
      #expect(backlog == ["SEARCH job USING INDEX job_by_audit (equipment_id=? AND destination=? AND audited_at<?)"], "\(backlog)")
      let time = try await fixture.queue.plan(SyncQueue.AuditStatement.time)
      #expect(time == ["SEARCH audit_spell USING INDEX audit_spell_by_end (ended>? AND ended<?)"], "\(time)")
    }
  }

  @Test func publishedComponentsAreFoundByTheRun() async throws {
    try await QueueFixture.with { fixture in
      let plan = try await fixture.queue.plan(SyncQueue.LookStatement.published)
      #expect(plan.contains("SEARCH job USING COVERING INDEX sqlite_autoindex_job_2 (run_path=?)"), "\(plan)")
      #expect(plan.contains("SEARCH component USING PRIMARY KEY (job=?)"), "\(plan)")
    }
  }
}

extension SyncQueue {
  /// What the planner makes of a statement.
  func plan(_ sql: String) throws(SyncFailure) -> [String] {
    try read { (connection) throws(SQLiteError) in
      let statement = "EXPLAIN QUERY PLAN " + sql
      let parameters = Set(sql.split(separator: "?").dropFirst().map { $0.prefix { $0.isNumber } }).count
      return try connection.query(statement, [Value](repeating: .null, count: parameters)) { $0.text(3) }
    }
  }
}
