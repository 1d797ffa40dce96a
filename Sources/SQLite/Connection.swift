import CSQLite

/// One connection to a database file. Used on one thread at a time; its owner sees to that.
package final class Connection {
  private let handle: OpaquePointer
  private var cache: [String: Statement] = [:]

  /// Opens or creates the file.
  /// - Throws: `SQLiteError`, e.g. SQLITE_CANTOPEN where the folder is missing or read-only.
  package init(path: String, readOnly: Bool = false) throws(SQLiteError) {
    var opened: OpaquePointer?
    let flags = (readOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
    let status = sqlite3_open_v2(path, &opened, flags, nil)
    guard status == SQLITE_OK, let opened else {
      let message = opened.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
      sqlite3_close_v2(opened)
      throw SQLiteError(code: status, message: "\(message): \(path)")
    }
    handle = opened
  }

  deinit {
    cache.removeAll()
    sqlite3_close_v2(handle)
  }

  /// The one place that turns a result code into an error: the message is read before the next call overwrites it.
  func check(_ status: Int32, sql: String? = nil) throws(SQLiteError) {
    guard status != SQLITE_OK, status != SQLITE_ROW, status != SQLITE_DONE else { return }
    let error = SQLiteError(code: status, message: String(cString: sqlite3_errmsg(handle)), sql: sql)
    // SQLite calls a file malformed that the disk does not give (EIO): asked of the disk itself, it says so.
    if error.isCorrupt, let trouble = readingTrouble() { throw trouble }
    throw error
  }

  /// Reads the file and its log from end to end; what the disk says against that. Through SQLite's own descriptors: closing another one of the same
  /// file would take away the locks that this process has on it.
  package func readingTrouble() -> SQLiteError? {
    for which in [SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER] {
      var file: UnsafeMutablePointer<sqlite3_file>?
      guard sqlite3_file_control(handle, nil, which, &file) == SQLITE_OK, let file, let methods = file.pointee.pMethods else { continue }
      var size: sqlite3_int64 = 0
      var status = methods.pointee.xFileSize(file, &size)
      let piece = 1 << 16
      let buffer = UnsafeMutableRawPointer.allocate(byteCount: piece, alignment: 16)
      defer { buffer.deallocate() }
      var offset: sqlite3_int64 = 0
      while status == SQLITE_OK, offset < size {
        let count = min(sqlite3_int64(piece), size - offset)
        status = methods.pointee.xRead(file, buffer, Int32(count), offset)
        offset += count
      }
      let error = SQLiteError(code: status, message: "\(String(cString: sqlite3_errstr(status))) at byte \(offset)")
      // What has become shorter meanwhile was read to its end.
      if error.isDiskTrouble, status != Self.shortRead { return error }
    }
    return nil
  }

  /// `SQLITE_IOERR_SHORT_READ`, a macro that Swift does not import.
  private static let shortRead: Int32 = SQLITE_IOERR | 2 << 8

  /// Runs statements that return nothing of interest and take no values.
  package func execute(_ sql: String) throws(SQLiteError) {
    try check(sqlite3_exec(handle, sql, nil, nil, nil), sql: sql)
  }

  /// A prepared statement, kept for the next use of the same text.
  package func statement(_ sql: String) throws(SQLiteError) -> Statement {
    if let cached = cache[sql] {
      cached.reset()
      return cached
    }
    var prepared: OpaquePointer?
    try check(sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &prepared, nil), sql: sql)
    guard let prepared else { throw SQLiteError(code: SQLITE_MISUSE, message: "an empty statement", sql: sql) }
    let statement = Statement(handle: prepared, connection: self, sql: sql)
    cache[sql] = statement
    return statement
  }

  /// The texts of all statements that were prepared on this connection.
  package var preparedStatements: [String] { Array(cache.keys) }

  /// Runs a statement with values; returns the number of rows changed.
  @discardableResult
  package func run(_ sql: String, _ values: [Value] = []) throws(SQLiteError) -> Int {
    let statement = try statement(sql)
    try statement.bind(values)
    defer { statement.reset() }
    while try statement.step() {}
    return Int(sqlite3_changes(handle))
  }

  /// Runs a statement so many times: what is done for each row alone, binding and stepping, is all that is done for it.
  /// - Parameter row: Adds the values of the row of that number, from 0, to a list that is empty and used again and again.
  package func run(_ sql: String, times: Int, _ row: (_ number: Int, _ values: inout [Value]) -> Void) throws(SQLiteError) {
    let statement = try statement(sql)
    defer { statement.reset() }
    var values: [Value] = []
    for number in 0..<times {
      values.removeAll(keepingCapacity: true)
      row(number, &values)
      // What is bound to one row takes the place of what was bound to the one before, all of it.
      try statement.bind(values)
      while try statement.step() {}
      statement.rewind()
    }
  }

  /// All rows of a query, each made by `row`.
  package func query<T>(
    _ sql: String, _ values: [Value] = [], _ row: (Row) throws(SQLiteError) -> T
  ) throws(SQLiteError) -> [T] {
    let statement = try statement(sql)
    try statement.bind(values)
    defer { statement.reset() }
    var result: [T] = []
    while try statement.step() { result.append(try row(Row(statement: statement))) }
    return result
  }

  /// The first row of a query.
  package func first<T>(
    _ sql: String, _ values: [Value] = [], _ row: (Row) throws(SQLiteError) -> T
  ) throws(SQLiteError) -> T? {
    let statement = try statement(sql)
    try statement.bind(values)
    defer { statement.reset() }
    guard try statement.step() else { return nil }
    return try row(Row(statement: statement))
  }

  /// Gives SQL a function of any number of values: the body gets them in a form in which different values differ, and what it returns is the
  /// function's value. It may be used in triggers of the file's schema.
  /// - Parameter body: nil is NULL. Called on the connection's thread, and keeps nothing of the buffer.
  package func defineDigest(_ name: String, _ body: @escaping (UnsafeRawBufferPointer) -> Int64?) throws(SQLiteError) {
    let box = Unmanaged.passRetained(DigestBox(body))
    let status = sqlite3_create_function_v2(
      handle, name, -1, SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, box.toOpaque(),
      { context, count, values in
        guard let context, let pointer = sqlite3_user_data(context) else { return }
        let box = Unmanaged<DigestBox>.fromOpaque(pointer).takeUnretainedValue()
        box.bytes.removeAll(keepingCapacity: true)
        for index in 0..<Int(count) { DigestBox.append(values?[index], to: &box.bytes) }
        if let result = box.bytes.withUnsafeBytes(box.body) { sqlite3_result_int64(context, result) } else { sqlite3_result_null(context) }
      }, nil, nil,
      { pointer in if let pointer { Unmanaged<DigestBox>.fromOpaque(pointer).release() } })
    // SQLite releases the box itself where it refuses.
    try check(status, sql: name)
  }

  private final class DigestBox {
    let body: (UnsafeRawBufferPointer) -> Int64?
    /// Used again and again, on the connection's thread.
    var bytes: [UInt8] = []
    init(_ body: @escaping (UnsafeRawBufferPointer) -> Int64?) { self.body = body }

    /// A byte for the type, then the value; of texts and blobs their length first.
    static func append(_ value: OpaquePointer?, to bytes: inout [UInt8]) {
      let type = sqlite3_value_type(value)
      bytes.append(UInt8(truncatingIfNeeded: type))
      switch type {
      case SQLITE_INTEGER: withUnsafeBytes(of: sqlite3_value_int64(value).littleEndian) { bytes += $0 }
      case SQLITE_FLOAT: withUnsafeBytes(of: sqlite3_value_double(value).bitPattern.littleEndian) { bytes += $0 }
      case SQLITE_NULL: break
      default:
        let start = sqlite3_value_blob(value)
        let count = Int(sqlite3_value_bytes(value))
        withUnsafeBytes(of: Int64(count).littleEndian) { bytes += $0 }
        bytes += UnsafeRawBufferPointer(start: start, count: count)
      }
    }
  }

  /// Milliseconds that a lock held by somebody else is waited for.
  package func setBusyTimeout(milliseconds: Int32) throws(SQLiteError) {
    try check(sqlite3_busy_timeout(handle, milliseconds))
  }

  /// Forbids the checkpoint that closing the last connection would make (see the decision on the write lock), and direct edits of the
  /// file's internal tables.
  package func hardenForSharedUse() throws(SQLiteError) {
    try check(nassync_sqlite3_no_checkpoint_on_close(handle))
    try check(nassync_sqlite3_defensive(handle, 1))
  }

  /// Edits tables' descriptions as text, within a transaction; nothing outside a migration has a reason to.
  /// - Parameters:
  ///   - edit: May change the rows of `sqlite_schema`.
  ///   - look: Is called with the descriptions as they are then, to see that they can be understood.
  func editSchema(_ edit: () throws(SQLiteError) -> Void, look: () throws(SQLiteError) -> Void) throws(SQLiteError) {
    let version = try first("PRAGMA schema_version") { $0.integer(0) } ?? 0
    var isDefensive: Int32 = 0
    try check(nassync_sqlite3_is_defensive(handle, &isDefensive))
    try check(nassync_sqlite3_defensive(handle, 0))
    let edited: Result<Void, SQLiteError>
    do throws(SQLiteError) {
      try execute("PRAGMA writable_schema = ON")
      try edit()
      // Forgets what was read of the descriptions, and forbids editing them.
      try execute("PRAGMA writable_schema = RESET")
      try look()
      // Other connections read them again. Last, because what has been read under this number before would not be dropped where the transaction is rolled back,
      // and pass for the descriptions of whoever uses the number next.
      try execute("PRAGMA schema_version = \(version + 1)")
      edited = .success(())
    } catch { edited = .failure(error) }
    if case .failure = edited { try? execute("PRAGMA writable_schema = RESET") }  // what went wrong before is what is told
    let isClosed = nassync_sqlite3_defensive(handle, isDefensive)
    try edited.get()
    try check(isClosed)
  }

  /// Moves what the write-ahead log holds into the file, without waiting for readers.
  package func checkpoint() throws(SQLiteError) {
    let status = sqlite3_wal_checkpoint_v2(handle, nil, SQLITE_CHECKPOINT_PASSIVE, nil, nil)
    // BUSY means that a reader still needs older pages: the next checkpoint moves them.
    if status & 0xff != SQLITE_BUSY { try check(status) }
  }

  /// Whether a transaction is open.
  package var isInTransaction: Bool { sqlite3_get_autocommit(handle) == 0 }

  /// Makes a running query on this connection fail with SQLITE_INTERRUPT.
  package func interrupt() { sqlite3_interrupt(handle) }

  /// `body` in one immediate transaction: committed when it returns, rolled back when it throws.
  package func immediately<T, Failure: Error>(
    _ body: () throws(Failure) -> T, mapping: (SQLiteError) -> Failure
  ) throws(Failure) -> T {
    do { try execute("BEGIN IMMEDIATE") } catch { throw mapping(error) }
    let result: T
    do {
      result = try body()
    } catch {
      rollBack()
      throw error
    }
    do {
      try execute("COMMIT")
    } catch {
      rollBack()
      throw mapping(error)
    }
    return result
  }

  private func rollBack() {
    // SQLite has rolled back by itself after a full disk or an I/O error; a second ROLLBACK would only say so.
    guard isInTransaction else { return }
    try? execute("ROLLBACK")  // the error that led here is the one to report, and closing rolls back as well
  }
}

/// A value to bind.
package enum Value: Sendable, Hashable {
  case null
  case integer(Int64)
  case real(Double)
  case text(String)
  case blob([UInt8])

  /// An optional integer.
  package static func optional(_ value: Int64?) -> Value { value.map { .integer($0) } ?? .null }
  /// An optional real.
  package static func optional(_ value: Double?) -> Value { value.map { .real($0) } ?? .null }
  /// An optional text.
  package static func optional(_ value: String?) -> Value { value.map { .text($0) } ?? .null }
  /// An optional blob.
  package static func optional(_ value: [UInt8]?) -> Value { value.map { .blob($0) } ?? .null }
  /// A count or size; what does not fit, which no file system can hold, is clamped.
  package static func size(_ value: UInt64) -> Value { .integer(Int64(clamping: value)) }
}
