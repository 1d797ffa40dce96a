import Foundation
import SQLite
import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// A bit that flips inside a value leaves the file well-formed. Written here past the triggers, as a disk would.
@Suite struct SealTests {
  /// A job that is verified, with one component and one verification that counts.
  private func verified(_ fixture: QueueFixture) async throws -> JobRow {
    let job = try await fixture.register("/lab/run")
    try fixture.foreign().execute(
      """
      UPDATE job SET state = 'verified', verify_passes = 1, verified_at = 1000000.0, manifest_digest = x'\(String(repeating: "ab", count: 32))'
        WHERE number = \(job.number)
      """)
    let reading = ClockReading(wall: 1_000_000, boot: "b", uptime: 10)
    let pass = VerificationPass(reading: reading, source: .audit, evidence: .readback, files: 1, ledgerLength: 0)
    _ = try await fixture.queue.recordPass(try await fixture.queue.job(number: job.number), pass, spacing: 0)
    return try await fixture.queue.job(number: job.number)
  }

  /// What changes in the file, and what the sentence names.
  static let flips: [(sql: String, named: String)] = [
    ("UPDATE job SET verified_at = verified_at - 65536", "the row of job number 1"),
    ("UPDATE job SET verify_passes = verify_passes + 2", "the row of job number 1"),
    ("UPDATE job SET state = 'cleanup_eligible'", "the row of job number 1"),
    ("UPDATE job SET remote_path = '/srv/lab/ruo'", "the row of job number 1"),
    ("UPDATE job SET manifest_digest = x'\(String(repeating: "ac", count: 32))'", "the row of job number 1"),
    ("UPDATE component SET inode = inode + 8", "component"),
    ("UPDATE component SET size = size + 1", "component"),
    ("UPDATE component SET modified = modified + 1024", "component"),
    ("UPDATE component SET changed = changed + 1", "component"),
    ("UPDATE component SET path = x'646174612e62696f'", "component"),
    ("UPDATE component SET seal = seal + 1", "component"),
    ("UPDATE component SET seal = NULL", "component"),
    ("UPDATE verification_pass SET wall = wall - 1", "verification 1"),
    ("UPDATE verification_pass SET uptime = 0", "verification 1"),
    ("UPDATE verification_pass SET ledger_length = 1", "verification 1"),
    ("UPDATE clock_sample SET wall = wall + 1", "reading 1 of the clock"),
    ("UPDATE clock_sample SET uptime = uptime * 2", "reading 1 of the clock"),
  ]

  @Test(arguments: flips) func aChangedValueIsNamed(sql: String, named: String) async throws {
    try await QueueFixture.with { fixture in
      let job = try await verified(fixture)
      try await fixture.queue.requireWhole(job)
      try await fixture.queue.checkForDamage()
      let other = try fixture.foreign()
      try other.execute("DROP TRIGGER job_is_whole; DROP TRIGGER job_is_sealed_u")
      try other.execute(sql)
      await expectFailure(.local, saying: named) { try await fixture.queue.requireWhole(job) }
      if !sql.contains("component") {
        await expectFailure(.local, saying: "is not what was written") { try await fixture.queue.checkForDamage() }
      }
      if sql.contains("'cleanup_eligible'") {
        let eligible = try await fixture.queue.job(number: job.number)
        await expectFailure(.local, saying: named) { try await fixture.queue.beginRemoval(eligible, detail: "x") }
      }
    }
  }

  /// Digests carry no seal, because they come bit by bit; once a file is proven, three of them say the same.
  @Test(arguments: ["local_digest", "remote_digest", "published_digest"])
  func aChangedDigestOfAProvenFileIsNamed(_ column: String) async throws {
    try await QueueFixture.with { fixture in
      let job = try await verified(fixture)
      let digest = String(repeating: "5a", count: 32)
      let other = try fixture.foreign()
      try other.execute(
        """
        UPDATE component SET state = 'verified', verified_at = 1, local_digest = x'\(digest)', remote_digest = x'\(digest)',
          published_digest = x'\(digest)'
        """)
      try await fixture.queue.requireWhole(run: "/lab/run")
      try other.execute("UPDATE component SET \(column) = x'5b\(digest.dropFirst(2))'")
      await expectFailure(.local, saying: "component") { try await fixture.queue.requireWhole(run: "/lab/run") }
      await expectFailure(.local, saying: "component") { try await fixture.queue.requireWhole(job) }
      // What is to be proven again says nothing yet.
      try other.execute("UPDATE component SET state = 'sent', verified_at = NULL, remote_digest = NULL")
      try await fixture.queue.requireWhole(job)
    }
  }

  @Test func aDamagedJobIsNotChangedAndSoNotSealedAgain() async throws {
    try await QueueFixture.with { fixture in
      let job = try await verified(fixture)
      let other = try fixture.foreign()
      // As the disk does it: the trigger is put back afterwards.
      let trigger = try other.first("SELECT sql FROM sqlite_schema WHERE name = 'job_is_sealed_u'") { $0.text(0) } ?? ""
      let guardian = try other.first("SELECT sql FROM sqlite_schema WHERE name = 'job_is_whole'") { $0.text(0) } ?? ""
      try other.execute(
        "DROP TRIGGER job_is_whole; DROP TRIGGER job_is_sealed_u; UPDATE job SET verify_passes = 9; \(trigger); \(guardian)")
      let reading = ClockReading(wall: 2_000_000, boot: "b", uptime: 1_000_010)
      let pass = VerificationPass(reading: reading, source: .audit, evidence: .readback, files: 1, ledgerLength: 0)
      let seen = try await fixture.queue.job(number: job.number)
      await expectFailure(.local, saying: "damaged") { _ = try await fixture.queue.recordPass(seen, pass, spacing: 0) }
      #expect(try await fixture.queue.passes(of: job).count == 1)
    }
  }

  @Test func everyOrdinaryChangeKeepsTheSeals() async throws {
    try await QueueFixture.with { fixture in
      let job = try await verified(fixture)
      for step in 1...3 {
        let reading = ClockReading(wall: 1_000_000 + Double(step) * 100_000.5, boot: "b\(step)", uptime: Double(step))
        let pass = VerificationPass(reading: reading, source: .audit, evidence: nil, files: 1, ledgerLength: step)
        _ = try await fixture.queue.recordPass(try await fixture.queue.job(number: job.number), pass, spacing: 0)
        try await fixture.queue.sampleClock()
        try await fixture.queue.requireWhole(job)
        try await fixture.queue.checkForDamage()
      }
    }
  }

  /// A queue file as an older program left it, in a state folder.
  static func withFile(ofSchema version: Int64, _ body: (_ state: String, _ old: Connection) async throws -> Void) async throws {
    try await TemporaryFolder.with { folder in
      let state = folder.path + "/state"
      try FileManager.default.createDirectory(atPath: state, withIntermediateDirectories: false)
      let old = try Connection(path: state + "/queue.db")
      try QueueSeals.define(on: old)
      let known = QueueSchema.migrations.filter { $0.version <= version }
      try Migrator.migrate(old, applicationID: QueueSchema.applicationID, migrations: known)
      try await body(state, old)
    }
  }

  /// A file of schema 4 gets its seals when it is opened.
  @Test func anOlderFileIsSealed() async throws {
    try await Self.withFile(ofSchema: 4) { state, old in
      try old.execute(
        """
        INSERT INTO job (id, run_path, equipment_id, relative_path, destination, remote_path, generation, state, created_at, updated_at)
          VALUES ('j', '/lab/r', 'EQ', x'72', 'sftp://nas', '/srv/r', 1, 'queued', 1, 1);
        INSERT INTO component (job, path, kind, device, inode, size, modified, changed, mode) VALUES (1, x'61', 0, 1, 2, 3, 4, 5, 6);
        INSERT INTO clock_sample (boot, uptime, wall) VALUES ('b', 1, 2);
        """)
      let queue = try await SyncQueue.open(stateDirectory: state, clock: ManualClock())
      try await queue.checkForDamage()
      try await queue.requireWhole(try #require(try await queue.latestJobs().first))
      await queue.close()
    }
  }

  /// In a file of schema 6 the conditions of a component's row cost a table each; the same conditions hold afterwards.
  @Test func anOlderFilesConditionsAreWordedAnew() async throws {
    try await Self.withFile(ofSchema: 6) { state, old in
      let component = "INSERT INTO component (job, path, kind, device, inode, size, modified, changed, mode, state) VALUES"
      try old.execute(
        """
        INSERT INTO job (id, run_path, equipment_id, relative_path, destination, remote_path, generation, state, created_at, updated_at)
          VALUES ('j', '/lab/r', 'EQ', x'72', 'sftp://nas', '/srv/r', 1, 'queued', 1, 1);
        \(component) (1, x'61', 2, 1, 2, 3, 4, 5, 6, 'adopted');
        UPDATE component SET seal = \(QueueSeals.ofComponent);
        """)
      func plan(_ when: String) throws -> Set<String> {
        var steps: Set<String> = []
        let insertion = "\(component) (1, x'62', 0, 1, 2, 3, 4, 5, 6, 'sent')"
        for statement in [insertion, "UPDATE component SET state = 'sent', kind = 1 WHERE job = 1"] {
          steps.formUnion(try old.query("EXPLAIN \(statement) -- \(when)") { $0.text(1) })
        }
        return steps
      }
      #expect(try plan("before").contains("OpenEphemeral"))
      let queue = try await SyncQueue.open(stateDirectory: state, clock: ManualClock())
      try await queue.checkForDamage()
      try await queue.requireWhole(try #require(try await queue.latestJobs().first))
      for (kind, state) in [("3", "'sent'"), ("-1", "'sent'"), ("0", "'Sent'"), ("0", "''"), ("0", "'verifie'")] {
        #expect(throws: SQLiteError.self, "\(kind) \(state)") {
          try old.execute("\(component) (1, x'63', \(kind), 1, 2, 3, 4, 5, 6, \(state))")
        }
      }
      for (number, state) in ["pending", "sent", "adopted", "verified"].enumerated() {
        for kind in 0...2 { try old.execute("\(component) (1, x'7\(number)6\(kind)', \(kind), 1, 2, 3, 4, 5, 6, '\(state)')") }
      }
      // This connection was open all the while, and has noticed.
      #expect(try !plan("afterwards").contains("OpenEphemeral"))
      #expect(throws: SQLiteError.self) {
        try Connection(path: state + "/queue.db").execute("UPDATE sqlite_schema SET sql = '' WHERE name = 'component'")
      }
      await queue.close()
    }
  }

  /// A program that has had the file open since before a newer one came does not call it damaged.
  @Test func whatANewerProgramMadeOfTheFileIsNoDamage() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.register("/lab/r")
      let newer = try fixture.foreign()
      try newer.execute("DROP INDEX job_kept")
      await #expect { try await fixture.queue.checkForDamage() } throws: { ($0 as? SyncFailure)?.message.contains("damaged") == true }
      try newer.execute("PRAGMA user_version = 8")
      await #expect { try await fixture.queue.checkForDamage() } throws: {
        guard let failure = $0 as? SyncFailure else { return false }
        return failure.kind == .misconfigured && failure.message.contains("newer nassync") && !failure.message.contains("damaged")
      }
    }
  }
}
