import Foundation
import SQLite
import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// What counts as a damaged file, and what is another trouble in which a good file must stay where it is.
@Suite(.serialized) struct QueueDamageTests {
  private func closed(_ body: (QueueFixture) async throws -> Void) async throws {
    try await QueueFixture.with { fixture in
      for number in 0..<50 { try await fixture.register("/lab/run \(number)", entries: (0..<12).map { Self.file(number, $0) }) }
      try fixture.foreign().execute("PRAGMA wal_checkpoint(TRUNCATE)")
      await fixture.queue.close()
      try await body(fixture)
    }
  }

  private static func file(_ run: Int, _ number: Int) -> RunEntry {
    QueueFixture.file("data/of/run/\(run)/file \(number).bin", size: 100)
  }

  private func damage(_ fixture: QueueFixture) async throws -> String? {
    try await SyncQueue.damage(stateDirectory: fixture.state, clock: fixture.clock)
  }

  /// SQLite calls what cannot be read malformed.
  @Test(arguments: [0, 1, 3, 8, 20]) func aDiskThatDoesNotReadIsNoDamage(after reads: Int) async throws {
    try await closed { fixture in
      #expect(try await damage(fixture) == nil)
      try await FailingDisk.with(fixture.state, before: reads) {
        await expectFailure(.local, saying: "cannot be read") { _ = try await damage(fixture) }
      }
      #expect(try await damage(fixture) == nil)
    }
  }

  @Test(arguments: [0, 1, 3, 8, 20]) func oneFailedReadIsNoDamage(after reads: Int) async throws {
    try await closed { fixture in
      try await FailingDisk.with(fixture.state, before: reads, failures: 1) {
        do throws(SyncFailure) {
          let found = try await SyncQueue.damage(stateDirectory: fixture.state, clock: fixture.clock)
          #expect(found == nil)
        } catch { #expect(error.message.contains("cannot be read"), "\(error)") }
      }
    }
  }

  @Test func theWorkersLookTellsTheTwoApart() async throws {
    try await closed { fixture in
      let queue = try await fixture.another()
      try await FailingDisk.with(fixture.state, before: 2) {
        await expectFailure(.local, saying: "cannot be read") { try await queue.checkForDamage() }
      }
      await queue.close()
    }
  }

  /// The words of a row or of SQLite decide nothing: a folder's name may say anything.
  @Test func aNameThatSpeaksOfDamageIsNone() async throws {
    try await TemporaryFolder.with { folder in
      let state = folder.path + "/what is damaged"
      try folder.write("x", to: "what is damaged/queue.db/x")
      await expectFailure(.local, saying: "what is damaged") {
        _ = try await SyncQueue.damage(stateDirectory: state, clock: ManualClock())
      }
    }
  }

  @Test(arguments: ["a row in the middle", "cut to a page", "its header"]) func damageIsStillDamage(_ what: String) async throws {
    try await closed { fixture in
      let handle = try #require(FileHandle(forUpdatingAtPath: fixture.file))
      switch what {
      case "its header": try handle.write(contentsOf: Data(repeating: 0x41, count: 50))
      case "cut to a page": try handle.truncate(atOffset: 32 * 4_096)
      default:
        try handle.seek(toOffset: 20 * 4_096)
        try handle.write(contentsOf: Data(repeating: 0xff, count: 2_000))
      }
      try handle.close()
      let found = try #require(try await damage(fixture))
      #expect(found.contains("is damaged"))
    }
  }

  /// A bit in the text that describes a table: SQLite believes it, and understands this program no more.
  @Test(arguments: [
    ("clock_sample", "boot TEXT", "bood TEXT"), ("component", "remote_digest BLOB", "remote_dhgest BLOB"),
    ("job_is_whole", "BEFORE UPDATE", "BEFORE DELETE"), ("job", "next_attempt_at", "next_attempt_!t"), ("job_turn", "job_turn", "job_turm"),
  ])
  func aChangedDescriptionIsDamage(name: String, written: String, flipped: String) async throws {
    try await closed { fixture in
      let other = try fixture.foreign()
      try other.execute("PRAGMA writable_schema = ON")
      try other.execute("UPDATE sqlite_schema SET sql = replace(sql, '\(written)', '\(flipped)') WHERE name = '\(name)'")
      try other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
      #expect(try await damage(fixture) != nil)
      // A command that only looks says so, too, where it stumbles over it.
      do throws(SyncFailure) {
        let queue = try await SyncQueue.open(stateDirectory: fixture.state, clock: fixture.clock)
        do throws(SyncFailure) { try await queue.checkForDamage() } catch { #expect(error.message.contains("damaged"), "\(error)") }
        await queue.close()
      } catch { #expect(error.message.contains("damaged"), "\(error)") }
    }
  }

  /// A file of this program is never empty: it gets its name when it has its tables.
  @Test func anEmptyFileIsDamage() async throws {
    try await closed { fixture in
      let log = fixture.file + "-wal"
      try Data("kept".utf8).write(to: URL(fileURLWithPath: log))
      #expect(truncate(fixture.file, 0) == 0)
      await expectFailure(.local, saying: "is damaged (it is empty") { _ = try await fixture.another() }
      #expect(try await damage(fixture)?.contains("it is empty") == true)
      // Its log may hold what was last written.
      #expect(try Data(contentsOf: URL(fileURLWithPath: log)) == Data("kept".utf8))
    }
  }

  @Test func aLogWithoutItsFileIsDamage() async throws {
    try await closed { fixture in
      try await fixture.register(in: try await fixture.another())
      try FileManager.default.removeItem(atPath: fixture.file)
      #expect(SyncQueue.isPresent(stateDirectory: fixture.state))
      #expect(try await damage(fixture)?.contains("its log") == true)
      let aside = try SyncQueue.setAside(stateDirectory: fixture.state, suffix: "damaged-x")
      #expect(FileManager.default.fileExists(atPath: aside + "-wal"))
      let queue = try await fixture.another()
      #expect(try await queue.latestJobs().isEmpty)
      await queue.close()
    }
  }

  /// A process that died while it made the file left it under another name.
  @Test func aHalfMadeFileIsMadeAnew() async throws {
    try await TemporaryFolder.with { folder in
      try folder.write([], to: "queue.db.new")
      try folder.write("half", to: "queue.db.new-journal")
      let queue = try await SyncQueue.open(stateDirectory: folder.path, clock: ManualClock())
      #expect(try await queue.latestJobs().isEmpty)
      await queue.close()
      let left = try FileManager.default.contentsOfDirectory(atPath: folder.path)
      #expect(!left.contains { $0.hasPrefix("queue.db.new") }, "\(left)")
    }
  }

  @Test func whatIsNoFileIsSaidAndLeftAlone() async throws {
    try await TemporaryFolder.with { folder in
      #expect(mkfifo(folder.path + "/queue.db", 0o600) == 0)
      await expectFailure(.local, saying: "no file") { _ = try await SyncQueue.open(stateDirectory: folder.path, clock: ManualClock()) }
      try FileManager.default.removeItem(atPath: folder.path + "/queue.db")
      try FileManager.default.createSymbolicLink(atPath: folder.path + "/queue.db", withDestinationPath: folder.path + "/away/queue.db")
      #expect(SyncQueue.isPresent(stateDirectory: folder.path))
      await expectFailure(.local, saying: "leads nowhere") {
        _ = try await SyncQueue.open(stateDirectory: folder.path, clock: ManualClock())
      }
      await expectFailure(.local, saying: "leads nowhere") {
        _ = try await SyncQueue.damage(stateDirectory: folder.path, clock: ManualClock())
      }
    }
  }
}

extension QueueFixture {
  /// A job, so that the log holds something.
  fileprivate func register(in queue: SyncQueue) async throws {
    _ = try await queue.register(try Self.draft("/lab/run"), entries: [Self.file("data.bin", size: 100)])
    // Not closed in order: that would empty the log.
    let log = file + "-wal"
    let copy = try Data(contentsOf: URL(fileURLWithPath: log))
    await queue.close()
    try copy.write(to: URL(fileURLWithPath: log))
  }
}
