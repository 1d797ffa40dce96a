import Glibc
import SQLite
import SyncModel

/// A run that was found published, and that the queue does not know.
package struct FoundRun: Sendable {
  /// With the id under which it was published.
  package var draft: JobDraft
  package let generation: Int
  /// Nothing of it is on this workstation any more.
  package let isCleaned: Bool
  /// Files among what is missing here that this program had begun to remove.
  package let removalBegan: Bool
  /// When it was enqueued then, on the wall.
  package let enqueuedAt: Double
  /// When it was proven when it was published, on the wall.
  package let publishedAt: Double
  package let manifestDigest: ContentDigest
  package let receiptDigest: ContentDigest?
  /// With the digest of files. What is not here has the identity of nothing: no local file is ever taken for it.
  package let components: [(entry: RunEntry, digest: ContentDigest?)]
  /// How each file was proven on the NAS just now; nil where something there is not what the manifest says.
  package let proof: Proof?
  /// One sentence for the history.
  package let detail: String

  /// A verification that was made for the recovery.
  package struct Proof: Sendable {
    package let evidence: [RelativePath: Evidence]
    package let weakest: Evidence?
    package init(evidence: [RelativePath: Evidence], weakest: Evidence?) {
      self.evidence = evidence
      self.weakest = weakest
    }
  }

  package init(
    draft: JobDraft, generation: Int, isCleaned: Bool, removalBegan: Bool, enqueuedAt: Double, publishedAt: Double,
    manifestDigest: ContentDigest, receiptDigest: ContentDigest?, components: [(entry: RunEntry, digest: ContentDigest?)], proof: Proof?,
    detail: String
  ) {
    self.draft = draft
    self.generation = generation
    self.isCleaned = isCleaned
    self.removalBegan = removalBegan
    self.enqueuedAt = enqueuedAt
    self.publishedAt = publishedAt
    self.manifestDigest = manifestDigest
    self.receiptDigest = receiptDigest
    self.components = components
    self.proof = proof
    self.detail = detail
  }
}

/// Rebuilding what a lost or damaged file knew.
extension SyncQueue {
  /// What is wrong with a queue file, found without changing it; nil where it is whole or not there.
  ///
  /// Everything is read: the structure, and every row that carries a seal. What is wrong is looked at again: a read that failed once is no damage.
  /// - Throws: `SyncFailure` where the file is another program's or a newer version's, or the disk gives an error.
  package static func damage(stateDirectory: String, clock: any SyncClock) async throws(SyncFailure) -> String? {
    let path = stateDirectory + "/queue.db"
    guard isPresent(stateDirectory: stateDirectory) else { return nil }
    let queue = SyncQueue(path: path, clock: clock)
    let found: Result<String?, SyncFailure>
    do throws(SyncFailure) { found = .success(try await queue.findLastingDamage(stateDirectory)) } catch { found = .failure(error) }
    await queue.close()
    return try found.get()
  }

  private func findLastingDamage(_ stateDirectory: String) throws(SyncFailure) -> String? {
    guard try findDamage(stateDirectory) != nil else { return nil }
    opened = nil
    return try findDamage(stateDirectory)
  }

  private func findDamage(_ stateDirectory: String) throws(SyncFailure) -> String? {
    do throws(QueueError) {
      try openOrMake(stateDirectory: stateDirectory, patience: 90)
      guard let connection = opened?.connection else { return nil }
      do throws(SQLiteError) { try Self.requireAllWhole(connection) } catch { throw .sqlite(error) }
      return nil
    } catch {
      switch error {
      case .sqlite(let inner):
        let failure = failure(inner)
        guard isDamage(inner) else { throw failure }
        return failure.message
      case .failure(let inner): throw inner
      }
    }
  }

  /// The structure, and every row that carries a seal.
  static func requireAllWhole(_ connection: Connection) throws(SQLiteError) {
    try requireWhole(connection)
    try requireWhole(connection, jobs: try connection.query("SELECT number FROM job", []) { $0.integer(0) })
  }

  /// Moves a file that cannot be used out of the way, with its log; nothing of it is removed.
  /// - Returns: Its new path.
  package static func setAside(stateDirectory: String, suffix: String) throws(SyncFailure) -> String {
    let lock = try WriteLock(path: stateDirectory + "/queue.lock", patience: 90)
    try lock.lock()
    defer { lock.unlock() }
    let path = stateDirectory + "/queue.db"
    var target = "\(path).\(suffix)"
    var number = 1
    while access(target, F_OK) == 0 {
      number += 1
      target = "\(path).\(suffix)-\(number)"
    }
    // The log first: a new file must never find the old one's.
    for ending in ["-wal", "-shm", ""] where rename(path + ending, target + ending) != 0 && errno != ENOENT {
      throw SyncFailure(
        .local, "\(path)\(ending) cannot be moved away: \(String(cString: strerror(errno)))",
        hint: "The state folder must belong to the user that runs nassync.")
    }
    return target
  }

  /// Adds a run that was found published, in one transaction.
  /// - Returns: The new job; nil where the queue knows the run by now.
  package func add(_ run: FoundRun) throws(SyncFailure) -> JobRow? {
    try Self.checkNotEmpty(run.components.map(\.entry), runPath: run.draft.runPath)
    let reading = clock.reading
    return try write { (connection) throws(QueueError) in
      if try Self.latest(connection, runPath: run.draft.runPath) != nil { return nil }
      let number: Int64
      do throws(SQLiteError) { number = try Self.insert(connection, run, at: reading.wall) } catch { throw .sqlite(error) }
      let job = try Self.job(connection, number: number)
      if run.proof == nil { try Self.insertFault(connection, job, run.detail, at: reading.wall) }
      if let proof = run.proof, !run.isCleaned {
        // What the record held before is not known: any revocation in it counts as one that came since.
        try Self.insert(
          connection,
          VerificationPass(reading: reading, source: .audit, evidence: proof.weakest, files: proof.evidence.count, ledgerLength: 0),
          job: job)
      }
      return job
    }
  }

  private static func insert(_ connection: Connection, _ run: FoundRun, at now: Double) throws(SQLiteError) -> Int64 {
    let draft = run.draft
    let state: JobState = run.isCleaned ? .cleaned : .verified
    try connection.run(
      """
      INSERT INTO job (id, run_path, equipment_id, relative_path, destination, remote_path, generation, priority, state, evidence,
        verify_passes, verified_at, audited_at, manifest_digest, receipt_digest, created_at, updated_at)
      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?16, ?12, ?13, ?14, ?15, ?12)
      """,
      [
        .text(draft.id), .text(draft.runPath), .text(draft.equipmentID), .blob(draft.relative.bytes), .text(draft.destination),
        .text(draft.remotePath), .integer(Int64(run.generation)), .integer(Int64(draft.priority)), .text(state.rawValue),
        .optional(run.proof?.weakest?.rawValue), .integer(run.proof != nil && !run.isCleaned ? 1 : 0), .real(now),
        .blob(run.manifestDigest.bytes), .optional(run.receiptDigest?.bytes), .real(run.enqueuedAt),
        .real(run.proof == nil ? run.publishedAt : now),
      ])
    let number = try connection.first("SELECT last_insert_rowid()") { $0.integer(0) } ?? 0
    try insert(connection, run.components.map(\.entry), job: number)
    for component in run.components {
      guard let digest = component.digest else {
        try connection.run(
          "UPDATE component SET state = 'sent' WHERE job = ?1 AND path = ?2",
          [.integer(number), .blob(component.entry.path.bytes)])
        continue
      }
      try connection.run(
        """
        UPDATE component SET state = 'verified', bytes_durable = size, local_digest = ?3, remote_digest = ?3, published_digest = ?3,
          evidence = ?4, verified_at = ?5 WHERE job = ?1 AND path = ?2
        """,
        [
          .integer(number), .blob(component.entry.path.bytes), .blob(digest.bytes),
          .optional(run.proof?.evidence[component.entry.path]?.rawValue), .real(now),
        ])
    }
    try connection.run(
      "UPDATE job SET files_done = files_total, bytes_sent = bytes_total WHERE number = ?1", [.integer(number)])
    try note(connection, job: number, at: now, event: "recovered", from: nil, to: state, detail: run.detail)
    if run.removalBegan {
      try note(
        connection, job: number, at: now, event: "cleanup_started", from: nil, to: nil,
        detail: "before the queue was lost, as deletion.json in the run says")
    }
    try connection.run("DELETE FROM blocked_run WHERE run_path = ?1", [.text(draft.runPath)])
    return number
  }

  /// The ids of all jobs.
  package func jobIDs() throws(SyncFailure) -> [String] {
    try read { (connection) throws(SQLiteError) in try connection.query("SELECT id FROM job", []) { $0.text(0) } }
  }

  /// Whether a job has this id.
  package func hasJob(id: String) throws(SyncFailure) -> Bool {
    try read { (connection) throws(SQLiteError) in
      try connection.first("SELECT 1 FROM job WHERE id = ?1", [.text(id)]) { $0.integer(0) } != nil
    }
  }
}
