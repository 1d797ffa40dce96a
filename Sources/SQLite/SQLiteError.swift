import CSQLite

/// An error of SQLite with its extended code, its message as it was at that moment, and the statement.
package struct SQLiteError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Extended result code, https://www.sqlite.org/rescode.html
  package let code: Int32
  package let message: String
  /// The statement, without bound values: those may be names of a lab's files.
  package let sql: String?

  package init(code: Int32, message: String, sql: String? = nil) {
    self.code = code
    self.message = message
    self.sql = sql
  }

  /// The primary code: the low byte.
  package var primary: Int32 { code & 0xff }
  package var isFull: Bool { primary == SQLITE_FULL }
  package var isBusy: Bool { primary == SQLITE_BUSY || primary == SQLITE_LOCKED }
  package var isCorrupt: Bool { primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB }
  package var isReadOnly: Bool { primary == SQLITE_READONLY || primary == SQLITE_CANTOPEN || primary == SQLITE_PERM }
  package var isConstraint: Bool { primary == SQLITE_CONSTRAINT }
  package var isInterrupted: Bool { primary == SQLITE_INTERRUPT }

  package var description: String {
    "SQLite \(code): \(message)" + (sql.map { " in `\($0.prefix(120))`" } ?? "")
  }
}
