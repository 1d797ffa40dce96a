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
          equipments.filter { $0.contains("job") }.allSatisfy { $0.contains("SEARCH job USING COVERING INDEX job_due") }, "\(equipments)")
        #expect(equipments.contains { $0.contains("(state=? AND claimed_by=? AND equipment_id>?)") }, "\(equipments)")
        let place = "SEARCH job USING COVERING INDEX job_due (state=? AND claimed_by=? AND equipment_id=? AND next_attempt_at"
        for count in [0, 1, 3] {
          let fresh = try await fixture.queue.plan(SyncQueue.ClaimStatement.due(in: state, .fresh, excluding: count))
          #expect(fresh.filter { $0.contains("job") || $0.contains("ORDER BY") } == [place + "=?)"], "\(fresh)")
          let retried = try await fixture.queue.plan(SyncQueue.ClaimStatement.due(in: state, .retried, excluding: count))
          #expect(retried.first == place + "<?)", "\(retried)")
        }
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

  @Test(arguments: [
    (SyncQueue.LookStatement.latestOfRun, ["SEARCH job USING INDEX sqlite_autoindex_job_2 (run_path=?)"]),
    (SyncQueue.LookStatement.inState, ["SEARCH job USING INDEX job_by_state (state=?)", "USE TEMP B-TREE FOR ORDER BY"]),
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
    (SyncQueue.LookStatement.standings, ["SCAN job USING INDEX sqlite_autoindex_job_2"]),
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
