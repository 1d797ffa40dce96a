import SQLite
import SyncModel

extension SyncQueue {
  /// Replaces a job's list of components by what the disk holds now, in one transaction with a history row.
  ///
  /// A component that is exactly what it was (`isSame`) keeps its progress; one that changed starts anew; one that is gone is dropped.
  /// - Throws: `SyncFailure` where the job is not held by `worker`, or, of kind `blocked`, where no component is left.
  /// - Returns: The job as it is afterwards.
  @discardableResult
  package func replaceSnapshot(
    of job: JobRow, worker: String, entries: [RunEntry], reason: String, isSame: @Sendable (RunEntry, RunEntry) -> Bool
  ) throws(SyncFailure) -> JobRow {
    try Self.checkNotEmpty(entries, runPath: job.runPath)
    let now = clock.wallSeconds
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        let held = try connection.first(
          "SELECT 1 FROM job WHERE number = ?1 AND state = 'running' AND claimed_by = ?2", [.integer(job.number), .text(worker)]
        ) { _ in true }
        if held == true {
          let old = try connection.query(
            "SELECT \(RowCoding.componentColumns) FROM component WHERE job = ?1", [.integer(job.number)], RowCoding.component)
          var known: [RelativePath: ComponentRow] = [:]
          for row in old { known[row.entry.path] = row }
          let published = try connection.query(
            "SELECT path, published_digest FROM component WHERE job = ?1 AND published_digest IS NOT NULL", [.integer(job.number)]
          ) { (path: $0.blob(0), digest: $0.blob(1)) }
          try connection.run("DELETE FROM component WHERE job = ?1", [.integer(job.number)])
          try Self.insert(connection, entries, job: job.number)
          for row in published {
            try connection.run(
              "UPDATE component SET published_digest = ?3 WHERE job = ?1 AND path = ?2",
              [.integer(job.number), .blob(row.path), .blob(row.digest)])
          }
          var files: Int64 = 0
          var bytes: UInt64 = 0
          for entry in entries {
            guard let row = known[entry.path], row.state != .pending || row.bytesDurable > 0 || row.uploadToken != nil,
              isSame(row.entry, entry)
            else { continue }
            try connection.run(
              "UPDATE component SET state = ?3, bytes_durable = ?4, local_digest = ?5, upload_token = ?6 WHERE job = ?1 AND path = ?2",
              [
                .integer(job.number), .blob(entry.path.bytes), .text(row.state.rawValue), .size(row.bytesDurable),
                .optional(row.localDigest?.bytes), .optional(row.uploadToken),
              ])
            if entry.kind == .file {
              files += row.state == .pending ? 0 : 1
              bytes &+= row.bytesDurable
            }
          }
          try connection.run(
            "UPDATE job SET files_done = ?2, bytes_sent = ?3, frozen = 0, updated_at = ?4 WHERE number = ?1",
            [.integer(job.number), .integer(files), .size(bytes), .real(now)])
          try Self.note(connection, job: job.number, at: now, event: "snapshot_replaced", from: .running, to: .running, detail: reason)
        } else {
          return nil as JobRow?
        }
        return try connection.first("SELECT \(RowCoding.jobColumns) FROM job WHERE number = ?1", [.integer(job.number)], RowCoding.job)
      } catch { throw .sqlite(error) }
    }.orStale(job, "its snapshot cannot be replaced now")
  }

  /// Makes components pending again, with nothing sent: their copy on the NAS is wrong or gone.
  package func resetComponents(_ job: JobRow, worker: String, paths: [RelativePath]) throws(SyncFailure) {
    try checkpoint(
      job, worker: worker, paths.map { ComponentProgress(path: $0, state: .pending, bytesDurable: 0, localDigest: nil) })
  }

  /// Points a job at another destination, because the configuration names another one now: nothing counts as sent.
  package func retarget(_ job: JobRow, worker: String, destination: String, remotePath: String) throws(SyncFailure) -> JobRow {
    let now = clock.wallSeconds
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        let changed = try connection.run(
          """
          UPDATE job SET destination = ?3, remote_path = ?4, files_done = 0, bytes_sent = 0, frozen = 0, repairs = 0, updated_at = ?5
          WHERE number = ?1 AND claimed_by = ?2 AND state = 'running'
          """, [.integer(job.number), .text(worker), .text(destination), .text(remotePath), .real(now)])
        guard changed == 1 else { return nil as JobRow? }
        try connection.run(
          """
          UPDATE component SET state = 'pending', bytes_durable = 0, remote_digest = NULL, evidence = NULL, verified_at = NULL, upload_token = NULL
          WHERE job = ?1
          """, [.integer(job.number)])
        try Self.note(
          connection, job: job.number, at: now, event: "retargeted", from: .running, to: .running,
          detail: "the configuration sends this instrument's runs to \(destination) now")
        return try connection.first("SELECT \(RowCoding.jobColumns) FROM job WHERE number = ?1", [.integer(job.number)], RowCoding.job)
      } catch { throw .sqlite(error) }
    }.orStale(job, "it cannot be pointed at another destination now")
  }
}

extension Optional<JobRow> {
  fileprivate func orStale(_ job: JobRow, _ why: String) throws(SyncFailure) -> JobRow {
    guard let self else { throw SyncQueue.stale(job, why) }
    return self
  }
}
