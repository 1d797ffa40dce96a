import CSQLite

/// A prepared statement.
package final class Statement {
  fileprivate let handle: OpaquePointer
  private unowned let connection: Connection
  private let sql: String

  init(handle: OpaquePointer, connection: Connection, sql: String) {
    self.handle = handle
    self.connection = connection
    self.sql = sql
  }

  deinit { sqlite3_finalize(handle) }

  /// Binds all parameters, the first to `?1`.
  /// - Throws: `SQLiteError` where the number differs from what the statement has: a mistake that would bind NULL silently.
  package func bind(_ values: [Value]) throws(SQLiteError) {
    let expected = Int(sqlite3_bind_parameter_count(handle))
    guard values.count == expected else {
      throw SQLiteError(code: SQLITE_RANGE, message: "\(values.count) values for \(expected) parameters", sql: sql)
    }
    for (index, value) in values.enumerated() {
      let position = Int32(index + 1)
      let status: Int32
      switch value {
      case .null: status = sqlite3_bind_null(handle, position)
      case .integer(let integer): status = sqlite3_bind_int64(handle, position, integer)
      case .real(let real): status = sqlite3_bind_double(handle, position, real)
      case .text(let text):
        var copy = text
        status = copy.withUTF8 { utf8 in
          utf8.withMemoryRebound(to: CChar.self) { characters in
            // An empty buffer may have no address, and a null pointer would bind NULL.
            characters.isEmpty
              ? nassync_sqlite3_bind_text(handle, position, "", 0)
              : nassync_sqlite3_bind_text(handle, position, characters.baseAddress, Int32(clamping: characters.count))
          }
        }
      case .blob(let bytes):
        status = bytes.withUnsafeBytes { nassync_sqlite3_bind_blob(handle, position, $0.baseAddress, Int32(clamping: $0.count)) }
      }
      try connection.check(status, sql: sql)
    }
  }

  /// Advances to the next row; false at the end.
  package func step() throws(SQLiteError) -> Bool {
    let status = sqlite3_step(handle)
    if status == SQLITE_ROW { return true }
    if status == SQLITE_DONE { return false }
    // The message must be read before the reset overwrites it.
    do {
      try connection.check(status, sql: sql)
    } catch {
      sqlite3_reset(handle)
      throw error
    }
    return false
  }

  /// Makes the statement ready to run again with the values that are bound, or with others in the place of all of them.
  func rewind() { sqlite3_reset(handle) }

  /// Makes the statement ready for another use and drops the bound values.
  package func reset() {
    sqlite3_reset(handle)
    sqlite3_clear_bindings(handle)
  }
}

/// The current row of a statement; valid until the next step.
package struct Row {
  private let statement: Statement
  init(statement: Statement) { self.statement = statement }

  /// Whether a column is NULL.
  package func isNull(_ column: Int32) -> Bool { sqlite3_column_type(statement.handle, column) == SQLITE_NULL }
  /// An integer; NULL reads as 0.
  package func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(statement.handle, column) }
  /// A size, never negative.
  package func size(_ column: Int32) -> UInt64 { UInt64(max(0, integer(column))) }
  /// A real; NULL reads as 0.
  package func real(_ column: Int32) -> Double { sqlite3_column_double(statement.handle, column) }
  /// A text; NULL reads as empty.
  package func text(_ column: Int32) -> String { optionalText(column) ?? "" }
  /// A blob; NULL reads as empty.
  package func blob(_ column: Int32) -> [UInt8] {
    guard let base = sqlite3_column_blob(statement.handle, column) else { return [] }
    let count = Int(sqlite3_column_bytes(statement.handle, column))
    return Array(UnsafeRawBufferPointer(start: base, count: count))
  }
  /// A text or nil for NULL.
  package func optionalText(_ column: Int32) -> String? {
    guard let base = sqlite3_column_text(statement.handle, column) else { return nil }
    let count = Int(sqlite3_column_bytes(statement.handle, column))
    return String(decoding: UnsafeBufferPointer(start: base, count: count), as: UTF8.self)
  }
  /// An integer or nil for NULL.
  package func optionalInteger(_ column: Int32) -> Int64? { isNull(column) ? nil : integer(column) }
  /// A real or nil for NULL.
  package func optionalReal(_ column: Int32) -> Double? { isNull(column) ? nil : real(column) }
  /// A blob or nil for NULL.
  package func optionalBlob(_ column: Int32) -> [UInt8]? { isNull(column) ? nil : blob(column) }
}
