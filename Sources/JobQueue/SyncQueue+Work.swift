import SQLite
import SyncModel

/// What a transition changes besides the state.
package struct JobChange: Sendable {
  package var attempts: Int?
  package var mismatches: Int?
  /// Wall clock; `.some(nil)` clears it.
  package var nextAttemptAt: Double??
  /// `.some(nil)` clears it.
  package var lastError: SyncFailure??
  package var releasesClaim = false
  package var frozen: Bool?
  package var evidence: Evidence?
  /// The verification that this transition rests on.
  package var pass: VerificationPass?
  package var repairs: Bool?
  /// What an audit found wrong on the NAS.
  package var fault: String?
  package var verifiedAt: Double?
  package var manifestDigest: ContentDigest?
  package var receiptDigest: ContentDigest?
  package init() {}
}

/// How far one component has come.
package struct ComponentProgress: Sendable {
  package let path: RelativePath
  package let state: ComponentRow.State
  package let bytesDurable: UInt64
  package let localDigest: ContentDigest?
  /// What the driver needs to go on from there; nil where the name is enough, or nothing is left to do.
  package let uploadToken: String?
  package init(
    path: RelativePath, state: ComponentRow.State, bytesDurable: UInt64, localDigest: ContentDigest?, uploadToken: String? = nil
  ) {
    self.uploadToken = uploadToken
    self.path = path
    self.state = state
    self.bytesDurable = bytesDurable
    self.localDigest = localDigest
  }
}

/// What was proven of one component.
package struct ComponentProof: Sendable {
  package let path: RelativePath
  package let remoteDigest: ContentDigest
  package let evidence: Evidence
  package init(path: RelativePath, remoteDigest: ContentDigest, evidence: Evidence) {
    self.path = path
    self.remoteDigest = remoteDigest
    self.evidence = evidence
  }
}

extension SyncQueue {
  /// The only way a job changes its state: a compare-and-set on the state and the holder, in one transaction with its history row.
  /// - Parameters:
  ///   - worker: Who must hold the job; nil where nobody may.
  ///   - detail: One sentence for the history.
  /// - Returns: The job as it is afterwards.
  /// - Throws: `SyncFailure` where the transition does not exist or the job moved meanwhile.
  @discardableResult
  package func transition(
    _ job: JobRow, on event: JobEvent, worker: String?, change: JobChange = JobChange(), proofs: [ComponentProof] = [], detail: String
  ) throws(SyncFailure) -> JobRow {
    let next: JobState
    do { next = try JobStateMachine.next(job.state, on: event, mismatches: job.mismatches) } catch {
      throw SyncFailure(
        .misconfigured, "\(error)",
        hint: "`nassync status` shows where the run stands; only a failed job can be retried.")
    }
    let now = clock.wallSeconds
    // A job that nobody works on any more is free, whatever the caller says: a claim left behind would strand it.
    let frees = change.releasesClaim || (next != .running && next != .awaitingVerify)
    let moved = try write { (connection) throws(QueueError) -> JobRow? in
      if event == .retried || event == .remoteCorrupted { try Self.checkNewest(connection, job) }
      do throws(SQLiteError) {
        let (assignments, values) = Self.assignments(for: change, now: now)
        let changed = try connection.run(
          """
          UPDATE job SET state = ?2, updated_at = ?3\(assignments)\(frees ? ", claimed_by = NULL" : "")
          WHERE number = ?1 AND state = ?4 AND claimed_by IS ?5
          """,
          [.integer(job.number), .text(next.rawValue), .real(now), .text(job.state.rawValue), .optional(worker)] + values)
        guard changed == 1 else { return nil }
        // In the order of the table: each of its pages is then read and written once, and not as often as it has rows.
        let ordered = proofs.sorted { $0.path < $1.path }
        try connection.run(
          """
          UPDATE component SET state = 'verified', remote_digest = ?3, published_digest = ?3, evidence = ?4, verified_at = ?5
          WHERE job = ?1 AND path = ?2
          """,
          times: ordered.count
        ) { number, values in
          let proof = ordered[number]
          values += [
            .integer(job.number), .blob(proof.path.bytes), .blob(proof.remoteDigest.bytes), .text(proof.evidence.rawValue), .real(now),
          ]
        }
      } catch { throw .sqlite(error) }
      if event == .proven { try Self.checkProven(connection, job, at: now) }
      if let pass = change.pass { try Self.insert(connection, pass, job: job) }
      if event == .proven { try Self.clearFault(connection, job) }
      if let fault = change.fault { try Self.insertFault(connection, job, fault, at: now) }
      do throws(SQLiteError) {
        try Self.note(connection, job: job.number, at: now, event: Self.name(of: event), from: job.state, to: next, detail: detail)
        return try connection.first(
          "SELECT \(RowCoding.jobColumns) FROM job WHERE number = ?1", [.integer(job.number)], RowCoding.job)
      } catch { throw .sqlite(error) }
    }
    guard let moved else { throw Self.stale(job, "it is no longer \(job.state.rawValue)") }
    return moved
  }

  /// A job is VERIFIED only by proofs that came with this very transition: one for every file, each equal to the local digest.
  private static func checkProven(_ connection: Connection, _ job: JobRow, at now: Double) throws(QueueError) {
    let open: (count: Int64, path: [UInt8])?
    do throws(SQLiteError) {
      open = try connection.first(
        """
        SELECT count(*), min(path) FROM component WHERE job = ?1 AND kind = 0 AND NOT
          (state = 'verified' AND verified_at IS ?2 AND local_digest IS NOT NULL AND remote_digest IS local_digest)
        """, [.integer(job.number), .real(now)]
      ) { ($0.integer(0), $0.blob(1)) }
    } catch { throw .sqlite(error) }
    guard let open, open.count > 0 else { return }
    throw .failure(
      SyncFailure(
        .protocol, "\(open.count) files of job \(job.id) are not proven, the first is \(displayText(of: open.path))",
        hint: "Nothing is called verified without its own proof. `nassync retry` sends the run again.", retry: false))
  }

  /// An older generation must not come back to life beside, or after, a newer one.
  private static func checkNewest(_ connection: Connection, _ job: JobRow) throws(QueueError) {
    if let newest = try latest(connection, runPath: job.runPath), newest.generation > job.generation {
      throw .failure(stale(job, "its run has a newer job, \(newest.id)"))
    }
  }

  private static func name(of event: JobEvent) -> String {
    switch event {
    case .claimed: "claimed"
    case .sent: "sent"
    case .proven: "proven"
    case .interrupted: "interrupted"
    case .digestMismatch: "digest_mismatch"
    case .gaveUp: "gave_up"
    case .remoteCorrupted: "remote_corrupted"
    case .becameEligible: "became_eligible"
    case .removedLocally: "removed_locally"
    case .retried: "retried"
    }
  }

  /// Parameters start at ?6.
  private static func assignments(for change: JobChange, now: Double) -> (String, [Value]) {
    var text = ""
    var values: [Value] = []
    func set(_ column: String, _ value: Value) {
      values.append(value)
      text += ", \(column) = ?\(values.count + 5)"
    }
    if let attempts = change.attempts { set("attempts", .integer(Int64(attempts))) }
    if let mismatches = change.mismatches { set("mismatches", .integer(Int64(mismatches))) }
    if let next = change.nextAttemptAt { set("next_attempt_at", .optional(next)) }
    if let error = change.lastError {
      set("error_kind", .optional(error?.kind.rawValue))
      set("error_message", .optional(error?.message))
      set("error_retry", .optional(error.map { $0.retry ? Int64(1) : Int64(0) }))
      set("error_hint", .optional(error?.hint))
    }
    if let frozen = change.frozen { set("frozen", .integer(frozen ? 1 : 0)) }
    if let evidence = change.evidence { set("evidence", .text(evidence.rawValue)) }
    if let pass = change.pass {
      text += ", verify_passes = verify_passes + 1"
      set("audited_at", .real(pass.reading.wall))
    }
    if change.fault != nil { set("audited_at", .real(now)) }
    if let repairs = change.repairs { set("repairs", .integer(repairs ? 1 : 0)) }
    if let at = change.verifiedAt { set("verified_at", .real(at)) }
    if let digest = change.manifestDigest { set("manifest_digest", .blob(digest.bytes)) }
    if let digest = change.receiptDigest { set("receipt_digest", .blob(digest.bytes)) }
    return (text, values)
  }

  /// An AWAITING_VERIFY job whose verification could not be completed stays where it is and becomes due later.
  package func postponeVerification(
    _ job: JobRow, worker: String, failure: SyncFailure?, attempts: Int, nextAttemptAt: Double?
  ) throws(SyncFailure) {
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      let changed: Int
      do throws(SQLiteError) {
        changed = try connection.run(
          """
          UPDATE job SET claimed_by = NULL, attempts = ?3, next_attempt_at = ?4, error_kind = coalesce(?5, error_kind),
            error_message = coalesce(?6, error_message), error_retry = coalesce(?7, error_retry), error_hint = coalesce(?8, error_hint),
            updated_at = ?9 WHERE number = ?1 AND state = 'awaiting_verify' AND claimed_by = ?2
          """,
          [
            .integer(job.number), .text(worker), .integer(Int64(attempts)), .optional(nextAttemptAt), .optional(failure?.kind.rawValue),
            .optional(failure?.message), .optional(failure.map { $0.retry ? Int64(1) : Int64(0) }), .optional(failure?.hint), .real(now),
          ])
        if changed == 1 {
          try Self.note(
            connection, job: job.number, at: now, event: "verification_postponed", from: .awaitingVerify, to: .awaitingVerify,
            detail: failure?.description ?? "told to stop")
        }
      } catch { throw .sqlite(error) }
      guard changed == 1 else { throw .failure(Self.stale(job, "it is no longer awaiting_verify")) }
    }
  }

  /// Records how far components have come, many in one transaction, and the job's counters with them.
  package func checkpoint(_ job: JobRow, worker: String, _ progress: [ComponentProgress]) throws(SyncFailure) {
    guard !progress.isEmpty else { return }
    let now = clock.wallSeconds
    try write { (connection) throws(QueueError) in
      let changed: Int
      do throws(SQLiteError) {
        var files: Int64 = 0
        var bytes: Int64 = 0
        // In the order of the table: files that lie side by side arrive together.
        for item in progress.sorted(by: { $0.path < $1.path }) {
          let key: [Value] = [.integer(job.number), .blob(item.path.bytes)]
          let old = try connection.first("SELECT state, bytes_durable, kind FROM component WHERE job = ?1 AND path = ?2", key) {
            (done: $0.text(0) != "pending", bytes: $0.integer(1), isFile: $0.integer(2) == 0)
          }
          guard let old else { continue }
          try connection.run(
            """
            UPDATE component SET state = ?3, bytes_durable = ?4, local_digest = coalesce(?5, local_digest),
              remote_digest = NULL, evidence = NULL, verified_at = NULL, upload_token = ?6 WHERE job = ?1 AND path = ?2
            """,
            key + [
              .text(item.state.rawValue), .size(item.bytesDurable), .optional(item.localDigest?.bytes), .optional(item.uploadToken),
            ])
          if old.isFile {
            files += (item.state != .pending ? 1 : 0) - (old.done ? 1 : 0)
            bytes &+= Int64(clamping: item.bytesDurable) &- old.bytes
          }
        }
        changed = try connection.run(
          """
          UPDATE job SET files_done = files_done + ?3, bytes_sent = bytes_sent + ?4, updated_at = ?5
          WHERE number = ?1 AND claimed_by = ?2
          """, [.integer(job.number), .text(worker), .integer(files), .integer(bytes), .real(now)])
      } catch { throw .sqlite(error) }
      guard changed == 1 else { throw .failure(Self.stale(job, "another worker holds it")) }
    }
  }

  /// Called once by a worker process that has the worker lock: nothing that a dead process held is stranded.
  ///
  /// RUNNING goes back to QUEUED with its progress; AWAITING_VERIFY is free to be verified again.
  /// - Returns: The number of jobs that were held.
  @discardableResult
  package func replay() throws(SyncFailure) -> Int {
    let now = clock.wallSeconds
    return try write { (connection) throws(QueueError) in
      do throws(SQLiteError) {
        let running = try connection.query("SELECT number FROM job WHERE state = 'running'") { $0.integer(0) }
        for number in running {
          try connection.run(
            "UPDATE job SET state = 'queued', claimed_by = NULL, next_attempt_at = NULL, updated_at = ?2 WHERE number = ?1",
            [.integer(number), .real(now)])
          try Self.note(
            connection, job: number, at: now, event: "interrupted", from: .running, to: .queued,
            detail: "the process that held the job is gone; what it sent is kept")
        }
        let held = try connection.run(
          "UPDATE job SET claimed_by = NULL, next_attempt_at = NULL WHERE state = 'awaiting_verify' AND claimed_by IS NOT NULL")
        return running.count + held
      } catch { throw .sqlite(error) }
    }
  }
}
