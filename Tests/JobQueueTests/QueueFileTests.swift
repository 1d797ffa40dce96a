import Foundation
import SQLite
import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// The file itself: what it promises to other programs, and what is refused in its place.
@Suite struct QueueFileTests {
  @Test func theHeaderIsAsPromised() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.register("/lab/run")
      let script = """
        import sqlite3, sys
        db = sqlite3.connect(sys.argv[1])
        for name in ("application_id", "user_version", "journal_mode", "quick_check", "foreign_key_check"):
            print(name, db.execute("PRAGMA " + name).fetchall())
        loose = "SELECT name FROM pragma_table_list WHERE schema = 'main' AND strict = 0 AND name NOT LIKE 'sqlite%'"
        print(db.execute(loose).fetchall())
        """
      let result = try await runProcess(["python3", "-c", script, fixture.file])
      #expect(result.status == 0, "\(result.errorText)")
      #expect(
        result.text == """
          application_id [(\(0x4e53_5131),)]
          user_version [(7,)]
          journal_mode [('wal',)]
          quick_check [('ok',)]
          foreign_key_check []
          []

          """)
      #expect(try await fixture.queue.pragma("synchronous") == "2")
      #expect(try await fixture.queue.pragma("foreign_keys") == "1")
      #expect(try await fixture.queue.pragma("wal_autocheckpoint") == "0")
      #expect(try await fixture.queue.pragma("trusted_schema") == "0")
    }
  }

  @Test func theStateFolderIsPrivate() async throws {
    try await TemporaryFolder.with { folder in
      let queue = try await SyncQueue.open(stateDirectory: folder.path + "/a/b/state", clock: ManualClock())
      await queue.close()
      for name in ["a", "a/b", "a/b/state"] { #expect(try mode(folder.path + "/" + name) == 0o700) }
      #expect(try mode(folder.path + "/a/b/state/queue.lock") == 0o600)
    }
  }

  @Test func closingMovesTheLogIntoTheFileAndMayBeRepeated() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.register("/lab/run")
      await fixture.queue.close()
      await fixture.queue.close()
      try FileManager.default.removeItem(atPath: fixture.file + "-wal")
      let queue = try await fixture.another()
      #expect(try await queue.latestJobs().count == 1)
      await queue.close()
    }
  }

  @Test func anotherProgramsFileIsRefusedAndNotTouched() async throws {
    try await inFolder { folder in
      let other = try Connection(path: folder.path + "/queue.db")
      try other.execute("PRAGMA application_id = 4711; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
    } refused: { kind, failure in
      #expect(kind == .misconfigured)
      #expect(failure.message.contains("belongs to another program") && failure.hint.contains("state_dir"))
    }
  }

  @Test func aFileWithTablesAndNoApplicationIsRefusedAndNotTouched() async throws {
    try await inFolder { folder in
      try Connection(path: folder.path + "/queue.db").execute("CREATE TABLE theirs (x)")
    } refused: { kind, _ in
      #expect(kind == .misconfigured)
    }
  }

  @Test func aNewerSchemaIsRefusedAndNotTouched() async throws {
    try await inFolder { folder in
      let newer = try Connection(path: folder.path + "/queue.db")
      try newer.execute("CREATE TABLE job (x); PRAGMA application_id = \(0x4e53_5131); PRAGMA user_version = 99")
    } refused: { kind, failure in
      #expect(kind == .misconfigured)
      #expect(failure.message.contains("schema 99") && failure.hint.contains("newer nassync"))
    }
  }

  @Test func garbageIsRefusedAndNotTouched() async throws {
    try await inFolder { folder in
      try folder.write([UInt8](repeating: 0x78, count: 8_192), to: "queue.db")
    } refused: { kind, failure in
      #expect(kind == .local && !failure.retry)
      #expect(failure.message.contains("damaged") && failure.hint.contains("backup"))
    }
  }

  @Test func aTruncatedQueueIsRefused() async throws {
    try await QueueFixture.with { fixture in
      try fixture.fill(2_000)
      try fixture.foreign().execute("PRAGMA wal_checkpoint(TRUNCATE)")
      await fixture.queue.close()
      let handle = try #require(FileHandle(forUpdatingAtPath: fixture.file))
      try handle.truncate(atOffset: 64 * 1_024)
      try handle.close()
      await expectFailure(.local, saying: "damaged") { _ = try await fixture.another() }
    }
  }

  @Test func aFolderThatCannotBeWrittenIsSaid() async throws {
    // /sys takes no file from anybody, root included.
    await expectFailure(.local, saying: "/sys/queue.lock") { _ = try await SyncQueue.open(stateDirectory: "/sys", clock: ManualClock()) }
    await expectFailure(.local, saying: "/proc/nowhere") {
      _ = try await SyncQueue.open(stateDirectory: "/proc/nowhere/x", clock: ManualClock())
    }
    try await TemporaryFolder.with { folder in
      try folder.write("x", to: "file")
      await expectFailure(.local, saying: "/file") {
        _ = try await SyncQueue.open(stateDirectory: folder.path + "/file/state", clock: ManualClock())
      }
      await expectFailure(.local, saying: "/file") {
        _ = try await SyncQueue.open(stateDirectory: folder.path + "/file", clock: ManualClock())
      }
      try folder.write("x", to: "state/queue.db/x")
      await expectFailure(.local, saying: "it is a folder") {
        _ = try await SyncQueue.open(stateDirectory: folder.path + "/state", clock: ManualClock())
      }
    }
  }

  private func mode(_ path: String) throws -> Int {
    try #require(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int)
  }

  private func inFolder(
    prepare: (TemporaryFolder) throws -> Void, refused: (SyncFailure.Kind, SyncFailure) -> Void
  ) async throws {
    try await TemporaryFolder.with { folder in
      try prepare(folder)
      let before = try Data(contentsOf: URL(fileURLWithPath: folder.path + "/queue.db"))
      do throws(SyncFailure) {
        _ = try await SyncQueue.open(stateDirectory: folder.path, clock: ManualClock())
        Issue.record("the file was accepted")
      } catch {
        refused(error.kind, error)
        #expect(!error.hint.isEmpty)
      }
      #expect(try Data(contentsOf: URL(fileURLWithPath: folder.path + "/queue.db")) == before, "the file was changed")
      let left = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
      #expect(left == ["queue.db", "queue.lock"])
    }
  }
}

extension SyncQueue {
  /// A setting of the queue's own connection.
  func pragma(_ name: String) throws(SyncFailure) -> String {
    try read { (connection) throws(SQLiteError) in try connection.first("PRAGMA \(name)") { $0.text(0) } ?? "" }
  }
}
