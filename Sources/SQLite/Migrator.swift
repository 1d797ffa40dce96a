/// One numbered change of a schema. Once shipped it is never edited: a later one follows.
package struct Migration: Sendable {
  /// What `user_version` becomes.
  package let version: Int64
  package let sql: String
  /// What is worded anew in tables' descriptions after that.
  package let rewordings: [Rewording]

  package init(version: Int64, sql: String = "", rewordings: [Rewording] = []) {
    self.version = version
    self.sql = sql
    self.rewordings = rewordings
  }

  /// Another wording of a constraint. The rows that are there must hold it already: they are not looked at, however many there are.
  package struct Rewording: Sendable {
    /// The table's name.
    package let table: String
    /// What its description says, word by word, once.
    package let former: String
    package let new: String
    package init(table: String, former: String, new: String) {
      self.table = table
      self.former = former
      self.new = new
    }
  }
}

/// Brings a file to the newest schema, each migration in one transaction with the version it reaches.
package enum Migrator {
  /// Why a file cannot be used.
  package enum Refusal: Error, Sendable, CustomStringConvertible {
    /// The file belongs to another program.
    case foreign(applicationID: Int64)
    /// The file was written by a newer version of this program.
    case newer(found: Int64, known: Int64)
    /// Something else has the file's name.
    case notAFile(String)
    case sqlite(SQLiteError)

    package var description: String {
      switch self {
      case .foreign(let id): "the file belongs to another program (application id \(id))"
      case .newer(let found, let known): "the file has schema \(found), this program knows up to \(known)"
      case .notAFile(let what): what
      case .sqlite(let error): error.description
      }
    }
  }

  /// Whether a file can be used, found out by reading alone: nothing of a file that is refused may be changed.
  /// - Parameter applicationID: A file that carries another one is refused unless it is empty.
  /// - Returns: The file's schema version.
  @discardableResult
  package static func inspect(
    _ connection: Connection, applicationID: Int32, migrations: [Migration]
  ) throws(Refusal) -> Int64 {
    let newest = migrations.map(\.version).max() ?? 0
    let found: (id: Int64, version: Int64, tables: Int64)
    do {
      // In one transaction: another process may be making the file just now.
      try connection.execute("BEGIN")
      defer { try? connection.execute("COMMIT") }  // nothing was written that could be lost
      found = (
        try connection.first("PRAGMA application_id") { $0.integer(0) } ?? 0,
        try connection.first("PRAGMA user_version") { $0.integer(0) } ?? 0,
        try connection.first("SELECT count(*) FROM sqlite_schema") { $0.integer(0) } ?? 0
      )
    } catch { throw .sqlite(error) }
    guard found.id == Int64(applicationID) || (found.id == 0 && found.tables == 0) else { throw .foreign(applicationID: found.id) }
    guard found.version <= newest else { throw .newer(found: found.version, known: newest) }
    return found.version
  }

  /// Inspects the file and applies the migrations that it lacks.
  /// - Parameter applicationID: Stored in the file's header.
  package static func migrate(
    _ connection: Connection, applicationID: Int32, migrations: [Migration]
  ) throws(Refusal) {
    let version = try inspect(connection, applicationID: applicationID, migrations: migrations)
    for migration in migrations.sorted(by: { $0.version < $1.version }) where migration.version > version {
      try connection.immediately(
        { () throws(Refusal) in
          do throws(SQLiteError) {
            // Another process may have migrated between the look and the lock.
            let current = try connection.first("PRAGMA user_version") { $0.integer(0) } ?? 0
            guard current < migration.version else { return }
            try apply(migration, to: connection)
            try connection.execute("PRAGMA application_id = \(applicationID)")
            try connection.execute("PRAGMA user_version = \(migration.version)")
          } catch { throw .sqlite(error) }
        }, mapping: { .sqlite($0) })
    }
  }

  /// Changes tables, and says nothing of it in the file's header: within a transaction, or in a file that nobody else has.
  package static func apply(_ migration: Migration, to connection: Connection) throws(SQLiteError) {
    try connection.execute(migration.sql)
    try reword(connection, migration.rewordings)
  }

  /// In the steps that https://sqlite.org/lang_altertable.html has for changes that do not touch what is stored ("Making Other Kinds Of Table Schema
  /// Changes").
  private static func reword(_ connection: Connection, _ rewordings: [Migration.Rewording]) throws(SQLiteError) {
    guard !rewordings.isEmpty else { return }
    try connection.editSchema(
      { () throws(SQLiteError) in
        for rewording in rewordings {
          let count = try connection.run(
            """
            UPDATE sqlite_schema SET sql = replace(sql, ?2, ?3)
            WHERE type = 'table' AND name = ?1 AND length(sql) - length(replace(sql, ?2, '')) = length(?2)
            """, [.text(rewording.table), .text(rewording.former), .text(rewording.new)])
          guard count == 1 else { throw .corrupt("the description of the table \(rewording.table) is not what was written") }
        }
      },
      look: { () throws(SQLiteError) in
        // What cannot be understood is no table.
        for table in Set(rewordings.map(\.table)) { _ = try connection.first("SELECT 1 FROM \(table) LIMIT 1") { $0.integer(0) } }
      })
  }
}
