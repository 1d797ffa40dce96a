/// One numbered change of a schema. Once shipped it is never edited: a later one follows.
package struct Migration: Sendable {
  /// What `user_version` becomes.
  package let version: Int64
  package let sql: String
  package init(version: Int64, sql: String) {
    self.version = version
    self.sql = sql
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
            try connection.execute(migration.sql)
            try connection.execute("PRAGMA application_id = \(applicationID)")
            try connection.execute("PRAGMA user_version = \(migration.version)")
          } catch { throw .sqlite(error) }
        }, mapping: { .sqlite($0) })
    }
  }
}
