import SQLite
import TestSupport
import Testing

/// The wrapper alone, without a queue.
@Suite struct SQLiteTests {
  static func with(_ body: (Connection, TemporaryFolder) throws -> Void) async throws {
    try await TemporaryFolder.with { folder in try body(try Connection(path: folder.path + "/a.db"), folder) }
  }

  @Test func everyValueComesBack() async throws {
    try await Self.with { connection, _ in
      try connection.execute("CREATE TABLE t (a INTEGER, b REAL, c TEXT, d BLOB) STRICT")
      let rows: [[Value]] = [
        [.integer(.min), .real(-0.5), .text(""), .blob([])],
        [.integer(.max), .real(.greatestFiniteMagnitude), .text("a\0b"), .blob([0, 255])],
        [.null, .null, .null, .null], [.size(.max), .optional(Double?.none), .optional("e\u{301}"), .optional([UInt8]?.none)],
      ]
      for row in rows { try connection.run("INSERT INTO t VALUES (?1, ?2, ?3, ?4)", row) }
      let found = try connection.query("SELECT a, b, c, d FROM t ORDER BY rowid") { row in
        [
          row.optionalInteger(0).map { Value.integer($0) } ?? .null, .optional(row.optionalReal(1)), .optional(row.optionalText(2)),
          .optional(row.optionalBlob(3)),
        ]
      }
      #expect(found[0] == rows[0] && found[1] == rows[1] && found[2] == rows[2])
      #expect(found[3] == [.integer(.max), .null, .text("e\u{301}"), .null])
      #expect(try connection.first("SELECT typeof(c) || typeof(d) FROM t LIMIT 1") { $0.text(0) } == "textblob", "empty is not NULL")
      #expect(try connection.first("SELECT length(CAST(c AS BLOB)) FROM t WHERE rowid = 2") { $0.integer(0) } == 3)
    }
  }

  @Test func aWrongNumberOfValuesIsAnErrorAndNotNull() async throws {
    try await Self.with { connection, _ in
      try connection.execute("CREATE TABLE t (a, b)")
      for values in [[], [Value.integer(1)], [.integer(1), .integer(2), .integer(3)]] {
        #expect(throws: SQLiteError.self) { try connection.run("INSERT INTO t VALUES (?1, ?2)", values) }
      }
      #expect(try connection.run("INSERT INTO t VALUES (?1, ?2)", [.integer(1), .integer(2)]) == 1)
      #expect(try connection.first("SELECT count(*) FROM t") { $0.integer(0) } == 1)
    }
  }

  @Test func aFailedTransactionLeavesNothingAndTheNextOneWorks() async throws {
    struct Stop: Error {}
    try await Self.with { connection, _ in
      try connection.execute("PRAGMA foreign_keys = ON; CREATE TABLE p (a PRIMARY KEY) WITHOUT ROWID")
      try connection.execute("CREATE TABLE c (a REFERENCES p DEFERRABLE INITIALLY DEFERRED)")
      #expect(throws: Stop.self) {
        try connection.immediately(
          { () throws(Stop) in
            do { try connection.run("INSERT INTO p VALUES (1)") } catch { throw Stop() }
            #expect(connection.isInTransaction)
            throw Stop()
          }, mapping: { _ in Stop() })
      }
      #expect(!connection.isInTransaction)
      // The COMMIT itself fails here, on the deferred key.
      let orphan: () throws(SQLiteError) -> Int = { () throws(SQLiteError) in try connection.run("INSERT INTO c VALUES (7)") }
      #expect { try connection.immediately(orphan, mapping: { $0 }) } throws: { ($0 as? SQLiteError)?.isConstraint == true }
      #expect(!connection.isInTransaction)
      let good: () throws(SQLiteError) -> Int = { () throws(SQLiteError) in try connection.run("INSERT INTO p VALUES (2)") }
      #expect(try connection.immediately(good, mapping: { $0 }) == 1)
      #expect(try connection.query("SELECT a FROM p UNION ALL SELECT a FROM c") { $0.integer(0) } == [2])
    }
  }

  @Test func anErrorSaysWhatAndWhereWithoutTheValues() async throws {
    try await Self.with { connection, _ in
      try connection.execute("CREATE TABLE t (a TEXT PRIMARY KEY) WITHOUT ROWID")
      try connection.run("INSERT INTO t VALUES (?1)", [.text("patient-name")])
      do throws(SQLiteError) {
        try connection.run("INSERT INTO t VALUES (?1)", [.text("patient-name")])
        Issue.record("the same key went in twice")
      } catch {
        #expect(error.isConstraint && error.code == 1_555 && error.message == "UNIQUE constraint failed: t.a")
        #expect(error.description.contains("INSERT INTO t") && !error.description.contains("patient-name"))
      }
      #expect { try connection.execute("SELECT * FROM nowhere") } throws: { "\($0)".contains("no such table: nowhere") }
      #expect(throws: SQLiteError.self) { try connection.statement("  -- nothing") }
      // The statement that failed can be used again.
      #expect(try connection.run("INSERT INTO t VALUES (?1)", [.text("other")]) == 1)
    }
  }

  @Test func aMissingFolderIsSaidWithThePath() throws {
    #expect { try Connection(path: "/nowhere/at/all.db") } throws: { error in
      guard let error = error as? SQLiteError else { return false }
      return error.isReadOnly && error.message.contains("/nowhere/at/all.db")
    }
  }

  @Test func aReadOnlyConnectionWritesNothing() async throws {
    try await Self.with { connection, folder in
      try connection.execute("CREATE TABLE t (a)")
      let reader = try Connection(path: folder.path + "/a.db", readOnly: true)
      #expect(try reader.first("SELECT count(*) FROM t") { $0.integer(0) } == 0)
      #expect { try reader.execute("INSERT INTO t VALUES (1)") } throws: { ($0 as? SQLiteError)?.isReadOnly == true }
      #expect(throws: SQLiteError.self) { try Connection(path: folder.path + "/other.db", readOnly: true) }
    }
  }

  @Test func aLockedFileIsBusyOnlyAfterTheTimeGiven() async throws {
    try await Self.with { connection, folder in
      try connection.execute("CREATE TABLE t (a); BEGIN IMMEDIATE")
      let other = try Connection(path: folder.path + "/a.db")
      try other.setBusyTimeout(milliseconds: 50)
      #expect { try other.execute("BEGIN IMMEDIATE") } throws: { ($0 as? SQLiteError)?.isBusy == true }
      try connection.execute("COMMIT")
      try other.execute("BEGIN IMMEDIATE; COMMIT")
    }
  }

  // MARK: - Migrations

  static let first = Migration(version: 1, sql: "CREATE TABLE a (x); CREATE TABLE b (x)")
  static let second = Migration(version: 2, sql: "ALTER TABLE a ADD COLUMN y; INSERT INTO a VALUES (1, 2)")

  @Test func migrationsAreAppliedInOrderAndOnce() async throws {
    try await Self.with { connection, _ in
      try Migrator.migrate(connection, applicationID: 7, migrations: [Self.first])
      try Migrator.migrate(connection, applicationID: 7, migrations: [Self.second, Self.first])
      try Migrator.migrate(connection, applicationID: 7, migrations: [Self.second, Self.first])
      #expect(try connection.query("SELECT y FROM a") { $0.integer(0) } == [2])
      #expect(try connection.first("PRAGMA user_version") { $0.integer(0) } == 2)
      #expect(try connection.first("PRAGMA application_id") { $0.integer(0) } == 7)
      #expect { try Migrator.migrate(connection, applicationID: 8, migrations: [Self.first, Self.second]) } throws: {
        if case .foreign(7)? = $0 as? Migrator.Refusal { true } else { false }
      }
      #expect { try Migrator.migrate(connection, applicationID: 7, migrations: [Self.first]) } throws: {
        if case .newer(2, 1)? = $0 as? Migrator.Refusal { true } else { false }
      }
    }
  }

  @Test func aMigrationThatFailsHalfWayLeavesTheFileAsItWas() async throws {
    try await Self.with { connection, _ in
      try Migrator.migrate(connection, applicationID: 7, migrations: [Self.first])
      let broken = Migration(version: 2, sql: "CREATE TABLE c (x); INSERT INTO nowhere VALUES (1)")
      #expect(throws: Migrator.Refusal.self) { try Migrator.migrate(connection, applicationID: 7, migrations: [Self.first, broken]) }
      #expect(try connection.first("PRAGMA user_version") { $0.integer(0) } == 1)
      #expect(try connection.query("SELECT name FROM sqlite_schema ORDER BY 1") { $0.text(0) } == ["a", "b"])
      try Migrator.migrate(connection, applicationID: 7, migrations: [Self.first, Self.second])
    }
  }

  @Test func aConditionIsWordedAnewWhereItIsWhatItWas() async throws {
    try await Self.with { connection, _ in
      let made = Migration(version: 1, sql: "CREATE TABLE a (x CHECK (x IN (1, 2, 3))); INSERT INTO a VALUES (2)")
      func reworded(_ former: String, _ new: String, table: String = "a") -> [Migration] {
        [made, Migration(version: 2, sql: "CREATE TABLE b (x)", rewordings: [.init(table: table, former: former, new: new)])]
      }
      let before = "CREATE TABLE a (x CHECK (x IN (1, 2, 3)))"
      try Migrator.migrate(connection, applicationID: 7, migrations: [made])
      try connection.hardenForSharedUse()
      // What is not there, what is there twice, another table, and what SQLite cannot read afterwards.
      for migrations in [
        reworded("x IN (1, 2)", "1"), reworded("x", "y"), reworded("x IN (1, 2, 3)", "1", table: "b"), reworded("x IN (1, 2, 3)", "("),
      ] {
        #expect(throws: Migrator.Refusal.self) { try Migrator.migrate(connection, applicationID: 7, migrations: migrations) }
        #expect(try connection.query("SELECT sql FROM sqlite_schema") { $0.text(0) } == [before])
        #expect(try connection.first("PRAGMA user_version") { $0.integer(0) } == 1)
        #expect(try connection.query("SELECT x FROM a") { $0.integer(0) } == [2])
      }
      try Migrator.migrate(connection, applicationID: 7, migrations: reworded("x IN (1, 2, 3)", "x BETWEEN 1 AND 3"))
      #expect(try connection.query("SELECT sql FROM sqlite_schema") { $0.text(0) }.first == "CREATE TABLE a (x CHECK (x BETWEEN 1 AND 3))")
      try connection.execute("INSERT INTO a VALUES (3)")
      #expect(throws: SQLiteError.self) { try connection.execute("INSERT INTO a VALUES (4)") }
      // Nobody else may edit it: as before.
      #expect(throws: SQLiteError.self) { try connection.execute("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema") }
      #expect(try connection.first("PRAGMA integrity_check") { $0.text(0) } == "ok")
    }
  }

  /// What was read of the descriptions in mid of a change that was taken back is forgotten, whatever others do next.
  @Test func aRewordingThatIsTakenBackLeavesNoMemory() async throws {
    try await Self.with { connection, folder in
      let made = Migration(version: 1, sql: "CREATE TABLE a (x CHECK (x IN (1, 2, 3)))")
      let reworded = Migration(version: 2, rewordings: [.init(table: "a", former: "x IN (1, 2, 3)", new: "x BETWEEN 1 AND 3")])
      try Migrator.migrate(connection, applicationID: 7, migrations: [made])
      struct TakenBack: Error {}
      #expect(throws: TakenBack.self) {
        try connection.immediately(
          { () throws(TakenBack) in
            do throws(SQLiteError) { try Migrator.apply(reworded, to: connection) } catch { return }
            throw TakenBack()
          }, mapping: { _ in TakenBack() })
      }
      let other = try Connection(path: folder.path + "/a.db")
      // One change: its number is the one that was taken back.
      try other.execute("CREATE INDEX a_by_x ON a (x)")
      try connection.execute("INSERT INTO a VALUES (2)")
      #expect(try connection.first("PRAGMA integrity_check") { $0.text(0) } == "ok")
    }
  }

  /// Many times: a look in mid of another's making once saw tables in a file of nobody's.
  @Test func twoProcessesAtOnceMigrateOnce() async throws {
    for _ in 0..<40 { try await migrateAtOnce() }
  }

  private func migrateAtOnce() async throws {
    try await TemporaryFolder.with { folder in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<4 {
          group.addTask {
            let connection = try Connection(path: folder.path + "/a.db")
            try connection.setBusyTimeout(milliseconds: 10_000)
            try Migrator.migrate(connection, applicationID: 7, migrations: [Self.first, Self.second])
          }
        }
        try await group.waitForAll()
      }
      #expect(try Connection(path: folder.path + "/a.db").query("SELECT y FROM a") { $0.integer(0) } == [2])
    }
  }
}
