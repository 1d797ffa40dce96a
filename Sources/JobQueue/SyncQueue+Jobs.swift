import SQLite
import SyncModel

extension SyncQueue {
  /// What `register` found.
  package enum Registration: Sendable {
    /// A new job, or a new generation of one.
    case registered(JobRow)
    /// The run has a job that is still on its way: that one.
    case active(JobRow)
  }

  /// Registers a job with all its components in one transaction: either all of them are in the queue, or none.
  ///
  /// A run that has an active job keeps it. A run whose last job ended gets a job of the next generation.
  /// - Throws: `SyncFailure` of kind `blocked` for a run without a component.
  package func register(_ draft: JobDraft, entries: [RunEntry]) throws(SyncFailure) -> Registration {
    try Self.checkNotEmpty(entries, runPath: draft.runPath)
    let now = clock.wallSeconds
    return try write { (connection) throws(QueueError) in
      if let active = try Self.latest(connection, runPath: draft.runPath), active.state.isActive { return .active(active) }
      try Self.checkPlace(connection, draft)
      do throws(SQLiteError) {
        let generation =
          1 + (try connection.first("SELECT max(generation) FROM job WHERE run_path = ?1", [.text(draft.runPath)]) { $0.integer(0) } ?? 0)
        try connection.run(
          """
          INSERT INTO job (id, run_path, equipment_id, relative_path, destination, remote_path, generation, priority, state,
            created_at, updated_at, repairs) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'queued', ?9, ?9, ?10)
          """,
          [
            .text(draft.id), .text(draft.runPath), .text(draft.equipmentID), .blob(draft.relative.bytes), .text(draft.destination),
            .text(draft.remotePath), .integer(generation), .integer(Int64(draft.priority)), .real(now),
            .integer(draft.repairs ? 1 : 0),
          ])
        // The new generation covers what the ones before it published: from now on it is the one to audit.
        try connection.run(
          "UPDATE job SET audited_at = NULL WHERE run_path = ?1 AND generation < ?2", [.text(draft.runPath), .integer(generation)])
        let number = try connection.first("SELECT last_insert_rowid()") { $0.integer(0) } ?? 0
        try Self.insert(connection, entries, job: number)
        try Self.note(
          connection, job: number, at: now, event: "registered", from: nil, to: .queued,
          detail: "generation \(generation), \(entries.count) components")
        try connection.run("DELETE FROM blocked_run WHERE run_path = ?1", [.text(draft.runPath)])
      } catch { throw .sqlite(error) }
      guard let row = try Self.latest(connection, runPath: draft.runPath) else { throw .failure(Self.vanished(draft.id)) }
      return .registered(row)
    }
  }

  /// Two runs of this workstation never share a place on the NAS.
  private static func checkPlace(_ connection: Connection, _ draft: JobDraft) throws(QueueError) {
    let other: (run: String, equipment: String)?
    do throws(SQLiteError) {
      other = try connection.first(
        "SELECT run_path, equipment_id FROM job WHERE destination = ?1 AND remote_path = ?2 AND run_path <> ?3 LIMIT 1",
        [.text(draft.destination), .text(draft.remotePath), .text(draft.runPath)]
      ) { ($0.text(0), $0.text(1)) }
    } catch { throw .sqlite(error) }
    guard let other else { return }
    throw .failure(
      SyncFailure(
        .misconfigured,
        "\(displayText(draft.runPath)) would lie at \(draft.remotePath) on the NAS, where \(displayText(other.run)) of \(other.equipment) goes",
        hint: "Give one of the instruments a remote_root of its own; two runs are never merged."))
  }

  /// Folders alone are no component: there would be nothing whose content can be compared.
  static func checkNotEmpty(_ entries: [RunEntry], runPath: String) throws(SyncFailure) {
    guard entries.allSatisfy({ $0.kind == .folder }) else { return }
    throw SyncFailure(
      .blocked, "empty_run: \(displayText(runPath)) has no component, and nothing is ever verified vacuously",
      hint: "Check that the instrument has written its data there; a run that is to stay empty can be removed.")
  }

  /// Marks the snapshot as frozen: called before the first byte is sent.
  package func freeze(_ job: JobRow, worker: String) throws(SyncFailure) {
    try update(job, worker: worker, "frozen = 1", [])
  }

  private func update(_ job: JobRow, worker: String, _ assignment: String, _ values: [Value]) throws(SyncFailure) {
    try write { (connection) throws(QueueError) in
      let changed: Int
      do throws(SQLiteError) {
        changed = try connection.run(
          "UPDATE job SET \(assignment) WHERE number = ?1 AND claimed_by = ?2", [.integer(job.number), .text(worker)] + values)
      } catch { throw .sqlite(error) }
      guard changed == 1 else { throw .failure(Self.stale(job, "another worker holds it")) }
    }
  }

  static func insert(_ connection: Connection, _ entries: [RunEntry], job: Int64) throws(SQLiteError) {
    var files: Int64 = 0
    var bytes: UInt64 = 0
    try connection.run(
      """
      INSERT INTO component (job, path, kind, link_target, device, inode, size, modified, changed, mode, seal)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \(QueueSeals.function)(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10))
      """, times: entries.count
    ) { number, values in RowCoding.append(entries[number], job: job, to: &values) }
    for entry in entries where entry.kind == .file {
      files += 1
      bytes &+= entry.fingerprint.size
    }
    try connection.run(
      "UPDATE job SET files_total = ?2, bytes_total = ?3, files_done = 0, bytes_sent = 0 WHERE number = ?1",
      [.integer(job), .integer(files), .size(bytes)])
  }

  static func note(
    _ connection: Connection, job: Int64, at: Double, event: String, from: JobState?, to: JobState?, detail: String
  ) throws(SQLiteError) {
    try connection.run(
      "INSERT INTO history (job, at, event, from_state, to_state, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
      [.integer(job), .real(at), .text(event), .optional(from?.rawValue), .optional(to?.rawValue), .text(detail)])
  }

  static func latest(_ connection: Connection, runPath: String) throws(QueueError) -> JobRow? {
    do {
      return try connection.first(LookStatement.latestOfRun, [.text(runPath)], RowCoding.job)
    } catch { throw .sqlite(error) }
  }

  static func job(_ connection: Connection, number: Int64) throws(QueueError) -> JobRow {
    do {
      if let row = try connection.first(
        "SELECT \(RowCoding.jobColumns) FROM job WHERE number = ?1", [.integer(number)], RowCoding.job)
      {
        return row
      }
    } catch { throw .sqlite(error) }
    throw .failure(vanished("number \(number)"))
  }

  static func vanished(_ id: String) -> SyncFailure {
    SyncFailure(.local, "job \(id) is not in the queue", hint: "`nassync status` lists the jobs there are.", retry: false)
  }

  static func stale(_ job: JobRow, _ why: String) -> SyncFailure {
    SyncFailure(
      .local, "job \(job.id) cannot go on: \(why)",
      hint: "Something else moved the job meanwhile; `nassync history` shows what.", retry: false)
  }

  /// Adds a line to a job's history that is no transition.
  package func note(_ job: JobRow, event: String, detail: String) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        try Self.note(connection, job: job.number, at: now, event: event, from: nil, to: nil, detail: detail)
      } catch { throw .sqlite(error) }
    }
  }
}
