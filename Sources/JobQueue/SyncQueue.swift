import Executors
import Glibc
import SQLite
import SyncModel

/// The durable queue: one SQLite file, shared safely by one worker process and any number of commands.
///
/// Every write is one immediate transaction under the process-wide write lock; every state change is a compare-and-set on the old
/// state together with its history row. All calls run on the queue's own thread.
package actor SyncQueue {
  nonisolated let executor: ThreadExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  var opened: Opened?
  let path: String
  let clock: any SyncClock

  /// The connection and its lock, which live and die together.
  struct Opened {
    let connection: Connection
    let lock: WriteLock
    var writes = 0
  }

  /// - Parameters:
  ///   - stateDirectory: Created (mode 0700) where missing.
  ///   - patience: Seconds that another process's write is waited for.
  /// - Throws: `SyncFailure` of kind `local` or `misconfigured` with what to do about the file.
  package static func open(
    stateDirectory: String, clock: any SyncClock, patience: Double = 90
  ) async throws(SyncFailure) -> SyncQueue {
    let queue = SyncQueue(path: stateDirectory + "/queue.db", clock: clock)
    try await queue.openFile(stateDirectory: stateDirectory, patience: patience)
    return queue
  }

  /// Whether a state folder has a queue file, or what is left of one: a log, or a link that leads nowhere, is not the same as none at all.
  package static func isPresent(stateDirectory: String) -> Bool {
    let path = stateDirectory + "/queue.db"
    var status = stat()
    return lstat(path, &status) == 0 || (stat(path + "-wal", &status) == 0 && status.st_size > 0)
  }

  init(path: String, clock: any SyncClock) {
    self.executor = ThreadExecutor(name: "nassync-queue")
    self.path = path
    self.clock = clock
  }

  deinit { executor.shutdown() }

  private func openFile(stateDirectory: String, patience: Double) throws(SyncFailure) {
    do throws(QueueError) { try openOrMake(stateDirectory: stateDirectory, patience: patience) } catch { throw failure(error) }
  }

  /// Opens the file, or makes it.
  func openOrMake(stateDirectory: String, patience: Double) throws(QueueError) {
    let lock: WriteLock
    do throws(SyncFailure) {
      try makeDirectory(stateDirectory)
      lock = try WriteLock(path: stateDirectory + "/queue.lock", patience: patience)
      try lock.lock()
    } catch { throw .failure(error) }
    defer { lock.unlock() }
    do throws(Migrator.Refusal) {
      if try !isThere() { try makeFile() }
      opened = Opened(connection: try Self.prepare(path), lock: lock)
    } catch {
      if case .sqlite(let inner) = error { throw .sqlite(inner) }
      if case .notAFile(let what) = error {
        throw .failure(
          SyncFailure(
            .local, "the queue file \(path) cannot be used: \(what)",
            hint: "Move it away; `nassync recover` rebuilds the queue from the runs and the NAS.", retry: false))
      }
      throw .failure(
        SyncFailure(
          .misconfigured, "\(path) cannot be used: \(error)",
          hint: "Point state_dir at this program's own folder, or install the newer nassync that wrote the file."))
    }
  }

  /// Whether there is a file to open. SQLite would take an empty one for a new queue, remove the log of one that is gone, and read anything.
  private func isThere() throws(Migrator.Refusal) -> Bool {
    var status = stat()
    guard stat(path, &status) == 0 else {
      // What cannot be asked for another reason SQLite says better.
      guard errno == ENOENT || errno == ELOOP else { return true }
      if lstat(path, &status) == 0 { throw .notAFile("it is a link that leads nowhere") }
      if stat(path + "-wal", &status) == 0, status.st_size > 0 { throw .sqlite(.corrupt("it is gone, and its log is there")) }
      return false
    }
    if status.st_mode & S_IFMT == S_IFDIR { throw .notAFile("it is a folder") }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile("it is no file") }
    guard status.st_size > 0 else { throw .sqlite(.corrupt("it is empty, which it never is by this program's doing")) }
    return true
  }

  /// Makes the file under another name, and gives it its own once it has its tables: one that is empty is then not a new one.
  private func makeFile() throws(Migrator.Refusal) {
    let new = path + ".new"
    for ending in ["", "-journal"] { unlink(new + ending) }
    do {
      let connection: Connection
      do throws(SQLiteError) {
        connection = try Connection(path: new)
        try QueueSeals.define(on: connection)
        // Nobody else knows of it yet, and it is flushed as a whole.
        try connection.execute("PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF")
      } catch { throw Migrator.Refusal.sqlite(error) }
      try Migrator.migrate(connection, applicationID: QueueSchema.applicationID, migrations: QueueSchema.migrations)
    }
    guard Self.flush(new), rename(new, path) == 0, Self.flush(path.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }) else {
      let code = errno
      throw .sqlite(.system(code, "\(path) could not be made: \(String(cString: strerror(code)))"))
    }
  }

  private static func flush(_ path: String) -> Bool {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return false }
    defer { Glibc.close(descriptor) }
    return fsync(descriptor) == 0
  }

  /// A connection to the file with the newest schema. A file that is refused is not changed: even the journal mode is kept in its header.
  private static func prepare(_ path: String) throws(Migrator.Refusal) -> Connection {
    let connection: Connection
    do throws(SQLiteError) {
      connection = try Connection(path: path)
      try connection.setBusyTimeout(milliseconds: 60_000)
      try connection.hardenForSharedUse()
      try QueueSeals.define(on: connection)
    } catch { throw .sqlite(error) }
    try Migrator.inspect(connection, applicationID: QueueSchema.applicationID, migrations: QueueSchema.migrations)
    do throws(SQLiteError) {
      let mode = try connection.first("PRAGMA journal_mode = WAL") { $0.text(0) } ?? "none"
      guard mode == "wal" else { throw SQLiteError(code: 1, message: "no write-ahead log is possible there, the journal mode is \(mode)") }
      try connection.execute("PRAGMA synchronous = FULL")
      try connection.execute("PRAGMA foreign_keys = ON")
      try connection.execute("PRAGMA wal_autocheckpoint = 0")
      try connection.execute("PRAGMA trusted_schema = OFF")
    } catch { throw .sqlite(error) }
    try Migrator.migrate(connection, applicationID: QueueSchema.applicationID, migrations: QueueSchema.migrations)
    return connection
  }

  /// Reads the whole file once for damage, its indexes against its tables, too: an index with a changed path hides a run. What a worker does
  /// before it believes a row. It takes a second for 100,000 jobs, so commands that only look do without.
  /// - Throws: `SyncFailure` of kind `local`, not retried, where the file is damaged; retried, where it cannot be read.
  package func checkForDamage() throws(SyncFailure) { try read(Self.requireWhole) }

  static func requireWhole(_ connection: Connection) throws(SQLiteError) {
    if let what = try QueueSchema.damage(connection) { throw .corrupt("\(what) is not what was written") }
    let verdict = try connection.first("PRAGMA integrity_check(1)") { $0.text(0) } ?? "no answer"
    guard verdict == "ok" else { throw SQLiteError(verdict: verdict) }
    if let what = try QueueSeals.damage(connection) { throw .corrupt("\(what) is not what was written") }
  }

  private func makeDirectory(_ directory: String) throws(SyncFailure) {
    var partial = directory.hasPrefix("/") ? "/" : ""
    for segment in directory.split(separator: "/") {
      partial += (partial.isEmpty || partial.hasSuffix("/") ? "" : "/") + segment
      if mkdir(partial, 0o700) != 0, errno != EEXIST {
        throw SyncFailure(
          .local, "cannot make the state folder \(partial): \(String(cString: strerror(errno)))",
          hint: "Choose a state_dir that the user running nassync may write to.")
      }
    }
  }

  /// Checkpoints and closes the file. Idempotent; later calls throw.
  package func close() {
    guard let opened else { return }
    self.opened = nil
    do {
      try opened.lock.lock()
      defer { opened.lock.unlock() }
      try opened.connection.checkpoint()
    } catch {
      // Nothing is lost: the write-ahead log holds every commit, and the next process checkpoints it.
      return
    }
  }

  // MARK: - Reading and writing

  /// A read on a consistent view of the file.
  func read<T>(_ body: (Connection) throws(SQLiteError) -> T) throws(SyncFailure) -> T {
    guard let opened else { throw closedFailure }
    do { return try body(opened.connection) } catch { throw failure(error) }
  }

  /// One immediate transaction under the write lock.
  func write<T>(_ body: (Connection) throws(QueueError) -> T) throws(SyncFailure) -> T {
    guard let opened else { throw closedFailure }
    try opened.lock.lock()
    defer { opened.lock.unlock() }
    let result: T
    do throws(QueueError) {
      result = try opened.connection.immediately({ () throws(QueueError) in try body(opened.connection) }, mapping: { .sqlite($0) })
    } catch { throw failure(error) }
    self.opened?.writes += 1
    // A checkpoint every so often, under the lock: see WriteLock.
    if let writes = self.opened?.writes, writes % 256 == 0 {
      do { try opened.connection.checkpoint() } catch {
        // The transaction is committed and in the write-ahead log: a caller that was told otherwise would strand what it just claimed.
      }
    }
    return result
  }

  /// What may end a transaction.
  enum QueueError: Error {
    case sqlite(SQLiteError)
    case failure(SyncFailure)
  }

  private var closedFailure: SyncFailure {
    SyncFailure(.local, "the queue \(path) is closed", hint: "Open a new client; this one was closed.")
  }

  private func failure(_ error: QueueError) -> SyncFailure {
    switch error {
    case .sqlite(let inner): failure(inner)
    case .failure(let inner): inner
    }
  }

  /// Whether the file is another one than was written, which only `recover` mends.
  func isDamage(_ error: SQLiteError) -> Bool {
    if error.isCorrupt || QueueSeals.isDamagedRow(error) { return true }
    guard error.isRefusedStatement, let connection = opened?.connection else { return false }
    // The statements are this program's own: where SQLite does not understand one, a table is described otherwise.
    do throws(SQLiteError) { return try QueueSchema.damage(connection) != nil } catch { return error.isCorrupt }
  }

  /// What a SQLite error means to an operator.
  func failure(_ error: SQLiteError) -> SyncFailure {
    if error.isFull {
      return SyncFailure(
        .local, "the disk that holds \(path) is full", hint: "Free space there; nassync goes on by itself, nothing is lost.")
    }
    if isDamage(error) {
      return SyncFailure(
        .local, "the queue file \(path) is damaged (\(error.message))",
        hint: "Stop nassync, then `nassync recover`: it keeps the file as a backup, and rebuilds the queue from the runs and the NAS.",
        retry: false)
    }
    if error.isNewer {
      return SyncFailure(
        .misconfigured, "a newer nassync has taken over the queue file \(path) (\(error.message))",
        hint: "End this program and start the newer one; nothing is lost.")
    }
    if error.isDiskTrouble {
      return SyncFailure(
        .local, "the queue file \(path) cannot be read or written (\(error.message))",
        hint: "That is no damage to the file yet: look at the disk and its cable (`dmesg`), then run the command again. Where the disk "
          + "is lost, move the file away, and `nassync recover` rebuilds the queue.")
    }
    if error.isReadOnly {
      return SyncFailure(
        .local, "the queue file \(path) cannot be written (\(error.message))",
        hint: "The state folder and the files in it must belong to the user that runs nassync.", retry: false)
    }
    if error.isBusy {
      return SyncFailure(
        .local, "the queue file \(path) is held by another program", hint: "Close other programs that have the file open and try again.")
    }
    return SyncFailure(
      .local, "the queue file \(path) gave an error: \(error)", hint: "Run the command again; if it repeats, check the disk.")
  }
}
