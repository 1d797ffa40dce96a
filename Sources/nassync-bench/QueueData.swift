import Foundation
import JobQueue
import SQLite
import SyncModel

/// A large queue file, the same each time: the product's own tables, filled by plain SQL, every row sealed as the product seals it.
///
/// Of 100 jobs in the order of their arrival: the first 80 are done (65 cleaned, 10 eligible for it, 5 verified twice), then come 10 that were
/// verified once, 2 that failed, 6 that are due and 2 that wait for a later time.
struct QueueData {
  static let componentsEach = 10
  static let instruments = 20
  static let destinations = 4
  /// The moment at which everything is measured, seconds since 1970.
  static let now: Double = 1_795_000_000

  let jobs: Int

  static func instrument(_ number: Int) -> String { "SCOPE_\(number < 10 ? "0" : "")\(number)" }
  static func destination(_ number: Int) -> String { "sftp://nas\(number % destinations).lab.example:22/srv/lab" }

  /// Fills a file that the product has made and closed.
  func fill(_ path: String) throws {
    let connection = try Connection(path: path)
    try QueueSeals.define(on: connection)
    try connection.execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -400000")
    try connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    // Whatever is written keeps its place in the order of arrival, so that the file is as large as one that grew.
    for start in stride(from: 1, through: jobs, by: 100_000) {
      let end = min(jobs, start + 99_999)
      try connection.execute("BEGIN")
      for statement in statements(from: start, to: end) { try connection.execute(statement) }
      try connection.execute("COMMIT")
    }
    try connection.execute("PRAGMA locking_mode = NORMAL; PRAGMA journal_mode = DELETE")
  }

  private func statements(from start: Int, to end: Int) -> [String] {
    let now = Self.now
    // A place in the order of arrival, in hundredths of all.
    let state = """
      CASE WHEN i * 100 <= 80 * \(jobs) THEN CASE WHEN i % 16 < 13 THEN 'cleaned' WHEN i % 16 < 15 THEN 'cleanup_eligible' ELSE 'verified' END
        WHEN i * 100 <= 90 * \(jobs) THEN 'verified' WHEN i * 100 <= 92 * \(jobs) THEN 'failed' ELSE 'queued' END
      """
    let isDone = "state IN ('verified', 'cleanup_eligible', 'cleaned')"
    // The scrambled number of a job, as an id and as what stands for a digest.
    let id = "printf('%08x-%04x-4000-8000-%012x', (i * 2654435761) & 4294967295, i & 65535, i)"
    return [
      """
      INSERT INTO job (number, id, run_path, equipment_id, relative_path, destination, remote_path, generation, state, attempts,
        next_attempt_at, error_kind, error_message, error_retry, error_hint, files_total, files_done, bytes_total, bytes_sent, evidence,
        verify_passes, verified_at, audited_at, manifest_digest, receipt_digest, created_at, updated_at)
      WITH RECURSIVE n (i) AS (SELECT \(start) UNION ALL SELECT i + 1 FROM n WHERE i < \(end)),
        named AS (SELECT i, \(state) AS state, printf('SCOPE_%02d', i % \(Self.instruments)) AS equipment,
          printf('Project_%03d/Runs/Run_%07d', i % 997, i) AS run FROM n)
      SELECT i, \(id), '/data/lab/' || equipment || '/' || run, equipment, CAST(equipment || '/' || run AS BLOB),
        printf('sftp://nas%d.lab.example:22/srv/lab', (i % \(Self.instruments)) % \(Self.destinations)), '/srv/lab/' || equipment || '/' || run, 1,
        state, CASE WHEN state = 'failed' THEN 5 WHEN state = 'queued' AND i % 4 = 0 THEN 1 ELSE 0 END,
        CASE WHEN state = 'queued' AND i % 4 = 0 THEN \(now) + 60 + i % 7200 END,
        CASE WHEN state = 'failed' THEN 'permission' WHEN state = 'queued' AND i % 4 = 0 THEN 'timeout' END,
        CASE WHEN state = 'failed' OR state = 'queued' AND i % 4 = 0 THEN 'the NAS refused the folder' END,
        CASE WHEN state = 'failed' THEN 0 WHEN state = 'queued' AND i % 4 = 0 THEN 1 END,
        CASE WHEN state = 'failed' OR state = 'queued' AND i % 4 = 0 THEN 'Let the account write there, then nassync retry.' END,
        \(Self.componentsEach), CASE WHEN \(isDone) THEN \(Self.componentsEach) ELSE 0 END, 41943040,
        CASE WHEN \(isDone) THEN 41943040 ELSE 0 END, CASE WHEN \(isDone) THEN 'server' END,
        CASE WHEN \(isDone) THEN CASE WHEN i * 100 > 80 * \(jobs) THEN 1 ELSE 2 END ELSE 0 END,
        CASE WHEN \(isDone) THEN \(now) - 40000 - i % 40000 END, CASE WHEN \(isDone) THEN \(now) - 40000 - i % 40000 END,
        CASE WHEN \(isDone) THEN CAST(printf('%032d', i) AS BLOB) END, CASE WHEN \(isDone) THEN CAST(printf('%032d', i + 1) AS BLOB) END,
        \(now) - 8000000 + i, \(now) - 100000 + i % 1000
      FROM named
      """,
      """
      INSERT INTO component (job, path, kind, device, inode, size, modified, changed, mode, state, bytes_durable, local_digest, remote_digest,
        published_digest, evidence, verified_at, seal)
      WITH RECURSIVE c (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM c WHERE k < \(Self.componentsEach - 1)),
        made AS (SELECT number AS job, CAST(printf('plate_%d/well_%02d_channel_%d.tif', k / 4, k, k % 4) AS BLOB) AS path, 0 AS kind,
          NULL AS link_target, 64768 AS device, number * 16 + k AS inode, 4194304 AS size, 1790000000000000000 + number AS modified,
          1790000000000000001 + number AS changed, 420 AS mode, \(isDone) AS done, verified_at,
          CASE WHEN \(isDone) THEN CAST(printf('%024d%08d', number, k) AS BLOB) END AS digest
          FROM job JOIN c WHERE number BETWEEN \(start) AND \(end))
      SELECT job, path, kind, device, inode, size, modified, changed, mode, CASE WHEN done THEN 'verified' ELSE 'pending' END,
        CASE WHEN done THEN size ELSE 0 END, digest, digest, digest, CASE WHEN done THEN 'server' END, verified_at, \(QueueSeals.ofComponent)
      FROM made
      """,
      """
      INSERT INTO history (job, at, event, from_state, to_state, detail)
      WITH e (k, event, was, becomes) AS (VALUES (0, 'registered', NULL, 'queued'), (1, 'claimed', 'queued', 'running'),
        (2, 'sent', 'running', 'awaiting_verify'), (3, 'proven', 'awaiting_verify', 'verified'), (4, 'audit_verified', 'verified', 'verified'))
      SELECT number, created_at + k, event, was, becomes, event || ', 10 components' FROM job JOIN e
      WHERE number BETWEEN \(start) AND \(end) AND k < CASE WHEN \(isDone) THEN verify_passes + 3 ELSE 1 END
      """,
      """
      INSERT INTO verification_pass (job, wall, boot, uptime, source, evidence, files, ledger_length, seal)
      WITH p (k, source) AS (VALUES (0, 'publish'), (1, 'audit')),
        made AS (SELECT number AS job, verified_at - 90000.0 * (verify_passes - 1 - k) AS wall, 'boot' AS boot, 100000.0 AS uptime, source,
          'server' AS evidence, 10 AS files, 0 AS ledger_length
          FROM job JOIN p WHERE number BETWEEN \(start) AND \(end) AND k < verify_passes)
      SELECT job, wall, boot, uptime, source, evidence, files, ledger_length, \(QueueSeals.ofPass) FROM made
      """,
    ]
  }

  /// The files of one more run.
  static func entries(_ count: Int) throws -> [RunEntry] {
    try (0..<count).map { number in
      RunEntry(
        path: try RelativePath("plate_\(number / 400)/well_\(number)_channel_\(number % 4).tif"), kind: .file,
        fingerprint: FileFingerprint(
          device: 64768, inode: UInt64(number), size: 4096, modified: 1_790_000_000_000_000_000, changed: 1_790_000_000_000_000_001,
          mode: 0o644))
    }
  }

  static func draft(_ name: String, instrument number: Int) throws -> JobDraft {
    let equipment = instrument(number)
    let relative = "\(equipment)/Bench/Runs/\(name)"
    return JobDraft(
      id: UUID().uuidString.lowercased(), runPath: "/data/lab/\(relative)", equipmentID: equipment, relative: try RelativePath(relative),
      destination: destination(number), remotePath: "/srv/lab/\(relative)", priority: 0)
  }
}

/// The wall clock stands still at the moment for which the data is made.
struct BenchClock: SyncClock {
  private let system = SystemClock()
  var wallSeconds: Double { QueueData.now }
  var monotonicNanoseconds: UInt64 { system.monotonicNanoseconds }
  var reading: ClockReading { ClockReading(wall: QueueData.now, boot: "boot", uptime: 400_000) }
  func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError) { try await system.sleep(untilMonotonic: deadline) }
}
