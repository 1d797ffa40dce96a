import CSQLite
import Glibc

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
  /// The disk, or the memory for what was read from it, and nothing that stands in the file.
  package var isDiskTrouble: Bool { primary == SQLITE_IOERR || primary == SQLITE_NOMEM }
  package var isReadOnly: Bool { primary == SQLITE_READONLY || primary == SQLITE_CANTOPEN || primary == SQLITE_PERM }
  package var isConstraint: Bool { primary == SQLITE_CONSTRAINT }
  /// `RAISE(ABORT, …)` of a trigger; the message is the trigger's.
  package var isTrigger: Bool { code == SQLITE_CONSTRAINT | 7 << 8 }
  /// The statement was not understood: no such column, a trigger that makes no sense.
  package var isRefusedStatement: Bool { primary == SQLITE_ERROR }
  /// The file belongs to a newer version of this program by now.
  package var isNewer: Bool { code == Self.newer }

  /// Under SQLite's own code for descriptions that have changed, and none that it gives itself.
  private static let newer: Int32 = SQLITE_SCHEMA | 1 << 8
  package var isInterrupted: Bool { primary == SQLITE_INTERRUPT }

  /// A damage that was found by looking, and not by SQLite.
  package static func corrupt(_ message: String) -> SQLiteError { SQLiteError(code: SQLITE_CORRUPT, message: message) }

  /// A newer program has changed the file while this one had it open.
  package static func newer(found: Int64, known: Int64) -> SQLiteError {
    SQLiteError(code: newer, message: "it has schema \(found), this program knows up to \(known)")
  }

  /// What the system said, outside of SQLite.
  package static func system(_ errno: Int32, _ message: String) -> SQLiteError {
    switch errno {
    case ENOSPC, EDQUOT: SQLiteError(code: SQLITE_FULL, message: message)
    case EACCES, EPERM, EROFS: SQLiteError(code: SQLITE_CANTOPEN, message: message)
    default: SQLiteError(code: SQLITE_IOERR, message: message)
    }
  }

  /// What a line of `PRAGMA integrity_check` says: that the file is damaged, or that a page could not be read at all, which is told in the same
  /// breath, as `error code=266`.
  package init(verdict: String) {
    let code = verdict.firstRange(of: #/error code[ =](?<code>[0-9]+)/#).flatMap { Int32(verdict[$0].drop { !$0.isNumber }) }
    let error = SQLiteError(code: code ?? SQLITE_CORRUPT, message: verdict)
    self = error.isDiskTrouble ? error : .corrupt(verdict)
  }

  package var description: String {
    "SQLite \(code): \(message)" + (sql.map { " in `\($0.prefix(120))`" } ?? "")
  }
}
