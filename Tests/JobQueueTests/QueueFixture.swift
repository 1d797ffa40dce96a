import Digests
import Foundation
import SQLite
import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// A queue in a folder of its own, on a clock that stands still.
struct QueueFixture: Sendable {
  let folder: TemporaryFolder
  let clock: ManualClock
  let queue: SyncQueue

  var state: String { folder.path + "/state" }
  var file: String { state + "/queue.db" }

  static func with(_ body: (QueueFixture) async throws -> Void) async throws {
    try await TemporaryFolder.with { folder in
      let clock = ManualClock(wall: 1_000_000)
      let queue = try await SyncQueue.open(stateDirectory: folder.path + "/state", clock: clock)
      let fixture = QueueFixture(folder: folder, clock: clock, queue: queue)
      do {
        try await body(fixture)
        await queue.close()
      } catch {
        await queue.close()
        throw error
      }
    }
  }

  /// Another client of the same file.
  func another() async throws -> SyncQueue { try await SyncQueue.open(stateDirectory: state, clock: clock) }

  /// The file as a foreign program sees it.
  func foreign() throws -> Connection {
    let connection = try Connection(path: file)
    try QueueSeals.define(on: connection)
    try connection.setBusyTimeout(milliseconds: 60_000)
    return connection
  }

  func count(_ table: String) throws -> Int64 {
    try foreign().first("SELECT count(*) FROM \(table)") { $0.integer(0) } ?? -1
  }

  @discardableResult
  func register(
    _ run: String, equipment: String = "EQ", destination: String = "sftp://nas", priority: Int = 0, entries: [RunEntry]? = nil
  ) async throws -> JobRow {
    let draft = try Self.draft(run, equipment: equipment, destination: destination, priority: priority)
    guard case .registered(let row) = try await queue.register(draft, entries: entries ?? [Self.file("data.bin", size: 100)]) else {
      throw TemporaryFolder.Failure("\(run) is active")
    }
    return row
  }

  /// A job that is claimed by `worker`.
  func running(_ run: String = "/lab/run", worker: String = "w", entries: [RunEntry]? = nil) async throws -> JobRow {
    let row = try await register(run, entries: entries)
    let claimed = try #require(try await queue.claimNext(worker: worker))
    #expect(claimed.number == row.number)
    return claimed
  }

  /// A job that is sent and still held.
  func awaiting(_ run: String = "/lab/run", entries: [RunEntry]? = nil) async throws -> JobRow {
    let job = try await running(run, entries: entries)
    try await send(job)
    return try await queue.transition(job, on: .sent, worker: "w", detail: "sent")
  }

  /// Records every component as sent.
  func send(_ job: JobRow) async throws {
    let rows = try await queue.components(of: job)
    try await queue.checkpoint(
      job, worker: "w",
      rows.map {
        ComponentProgress(
          path: $0.entry.path, state: .sent, bytesDurable: $0.entry.fingerprint.size, localDigest: Self.digest($0.entry.path))
      })
  }

  func proofs(of job: JobRow) async throws -> [ComponentProof] {
    try await queue.components(of: job).filter { $0.entry.kind == .file }.map {
      ComponentProof(path: $0.entry.path, remoteDigest: Self.digest($0.entry.path), evidence: .server)
    }
  }

  @discardableResult
  func verified(_ run: String = "/lab/run", entries: [RunEntry]? = nil) async throws -> JobRow {
    let job = try await awaiting(run, entries: entries)
    return try await queue.transition(
      job, on: .proven, worker: "w", change: Self.released(), proofs: try await proofs(of: job), detail: "proven")
  }

  static func released() -> JobChange {
    var change = JobChange()
    change.releasesClaim = true
    return change
  }

  static func draft(
    _ run: String, equipment: String = "EQ", destination: String = "sftp://nas", priority: Int = 0,
    id: String = UUID().uuidString.lowercased()
  ) throws -> JobDraft {
    JobDraft(
      id: id, runPath: run, equipmentID: equipment, relative: try RelativePath(String(run.drop { $0 == "/" })), destination: destination,
      remotePath: "/srv" + run, priority: priority)
  }

  static func file(_ name: String, size: UInt64 = 1, inode: UInt64 = 7) -> RunEntry { entry(name, .file, size: size, inode: inode) }

  static func entry(_ name: String, _ kind: RunEntry.Kind, size: UInt64 = 0, inode: UInt64 = 7) -> RunEntry {
    RunEntry(
      path: path(name), kind: kind,
      fingerprint: FileFingerprint(device: 1, inode: inode, size: size, modified: 1_700_000_000_000_000_001, changed: 2, mode: 0o640))
  }

  static func path(_ name: String) -> RelativePath {
    do { return try RelativePath(name) } catch { preconditionFailure("the test names no path: \(name)") }
  }

  static func digest(_ path: RelativePath) -> ContentDigest {
    guard let digest = SHA256Hasher.digest(of: path.bytes) else { preconditionFailure("no SHA-256") }
    return digest
  }

  /// `define_seal(db)` for a program in Python that writes jobs: written from Specs/states.md, not from the code.
  static let sealInPython = """
    import hashlib, struct

    def seal(*values):
        data = b""
        for value in values:
            if value is None: data += b"\\5"
            elif isinstance(value, int): data += b"\\1" + struct.pack("<q", value)
            elif isinstance(value, float): data += b"\\2" + struct.pack("<d", value)
            else:
                content = value.encode() if isinstance(value, str) else bytes(value)
                data += (b"\\3" if isinstance(value, str) else b"\\4") + struct.pack("<q", len(content)) + content
        return struct.unpack(">q", hashlib.sha256(data).digest()[:8])[0]

    def define_seal(db):
        db.create_function("nassync_seal", -1, seal, deterministic=True)

    """

  /// Fills the queue with many queued jobs of one component each, run paths `/lab/run<n>`, equipment `EQ<n modulo equipments>`.
  func fill(_ count: Int, equipments: Int = 4, destination: String = "sftp://nas") throws {
    let connection = try foreign()
    try connection.execute("PRAGMA synchronous = OFF")
    try connection.execute(
      """
      BEGIN;
      INSERT INTO job (id, run_path, equipment_id, relative_path, destination, remote_path, generation, state, files_total, bytes_total,
        created_at, updated_at)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < \(count))
        SELECT 'job-' || i, '/lab/run' || i, 'EQ' || (i % \(equipments)), CAST('run' || i AS BLOB), '\(destination)', '/srv/run' || i,
          1, 'queued', 1, 100, 1000000, 1000000 FROM n;
      INSERT INTO component (job, path, kind, device, inode, size, modified, changed, mode)
        SELECT number, CAST('data.bin' AS BLOB), 0, 1, number, 100, 1, 1, 420 FROM job;
      INSERT INTO history (job, at, event, to_state, detail)
        SELECT number, 1000000, 'registered', 'queued', 'generation 1, 1 components' FROM job;
      COMMIT;
      """)
  }
}

/// Expects a failure of a kind, with a hint, whose sentence has a text.
func expectFailure(
  _ kind: SyncFailure.Kind, saying text: String = "", sourceLocation: SourceLocation = #_sourceLocation,
  isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Void
) async {
  do {
    try await body()
    Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  } catch let failure as SyncFailure {
    #expect(failure.kind == kind && !failure.hint.isEmpty, "\(failure)", sourceLocation: sourceLocation)
    #expect(text.isEmpty || failure.message.contains(text), "\(failure)", sourceLocation: sourceLocation)
  } catch {
    Issue.record("\(error)", sourceLocation: sourceLocation)
  }
}
