import Foundation
import JobQueue
import SQLite
import SyncModel
import TestSupport
import Testing

/// Many clients on one file: actors on threads of their own, and real processes that keep the file's rules.
@Suite struct ContentionTests {
  /// A process that claims as the queue does: under the lock, by compare-and-set, with a history row. Prints what it got.
  static let claimer = """
    import fcntl, sqlite3, struct, sys
    state, worker = sys.argv[1], sys.argv[2]
    lock = open(state + "/queue.lock", "r+")
    SETLKW = 38  # F_OFD_SETLKW
    def flock(kind): fcntl.fcntl(lock, SETLKW, struct.pack("hhqqi", kind, 0, 0, 0, 0))
    db = sqlite3.connect(state + "/queue.db", isolation_level=None, timeout=60)
    define_seal(db)
    db.execute("PRAGMA synchronous = FULL"); db.execute("PRAGMA wal_autocheckpoint = 0")
    while True:
        flock(fcntl.F_WRLCK)
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT number, id FROM job WHERE state = 'queued' AND claimed_by IS NULL ORDER BY number LIMIT 1").fetchone()
        if row:
            n = db.execute("UPDATE job SET state = 'running', claimed_by = ? WHERE number = ? AND state = 'queued' AND claimed_by IS NULL",
                (worker, row[0])).rowcount
            assert n == 1
            db.execute("INSERT INTO history (job, at, event, from_state, to_state, detail) "
                "VALUES (?, 0, 'claimed', 'queued', 'running', 'x')", (row[0],))
        db.execute("COMMIT")
        flock(fcntl.F_UNLCK)
        if not row: break
        print(row[1])
    """

  /// A foreign program that knows nothing of the lock and holds SQLite's own for a while, again and again.
  static let intruder = """
    import sqlite3, sys, time
    db = sqlite3.connect(sys.argv[1] + "/queue.db", isolation_level=None, timeout=60)
    db.execute("PRAGMA wal_autocheckpoint = 0")
    for i in range(10):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO blocked_run VALUES (?, 'EQ', 0, '[]')", ("/foreign/%d" % i,))
        time.sleep(0.03)
        db.execute("COMMIT")
        time.sleep(0.02)
    """

  @Test func eightClaimersTakeAThousandJobsOnceEach() async throws {
    try await QueueFixture.with { fixture in
      let total = 1_000
      try fixture.fill(total, equipments: 7)
      let state = fixture.state
      var claims = try await withThrowingTaskGroup(of: [String].self) { group in
        for number in 0..<4 {
          group.addTask {
            let queue = try await fixture.another()
            var mine: [String] = []
            while let job = try await queue.claimNext(worker: "actor\(number)") { mine.append(job.id) }
            await queue.close()
            return mine
          }
          group.addTask {
            let result = try await runProcess(["python3", "-c", QueueFixture.sealInPython + Self.claimer, state, "process\(number)"])
            #expect(result.status == 0, "\(result.errorText)")
            return result.text.split(separator: "\n").map(String.init)
          }
        }
        group.addTask {
          let result = try await runProcess(["python3", "-c", Self.intruder, state])
          #expect(result.status == 0, "\(result.errorText)")
          return []
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      claims.removeAll { $0.isEmpty }
      let all = claims.flatMap { $0 }
      #expect(all.count == total)
      #expect(Set(all).count == total)
      #expect(claims.count >= 2, "one claimer took everything: nothing was contended")
      let foreign = try fixture.foreign()
      #expect(try foreign.first("SELECT count(*) FROM job WHERE state = 'running'") { $0.integer(0) } == Int64(total))
      #expect(try foreign.first("SELECT count(*) FROM history WHERE event = 'claimed'") { $0.integer(0) } == Int64(total))
      #expect(try fixture.count("blocked_run") == 10)
      #expect(try foreign.first("PRAGMA integrity_check") { $0.text(0) } == "ok")
    }
  }

  @Test func writesAndReadsOfManyClientsNeverMeetALockedDatabase() async throws {
    try await QueueFixture.with { fixture in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<6 {
          group.addTask {
            // Opening, writing, checkpointing at the close: what a command does.
            for turn in 0..<8 {
              let queue = try await fixture.another()
              _ = try await queue.register(try QueueFixture.draft("/lab/\(number)-\(turn)"), entries: [QueueFixture.file("a")])
              #expect(try await queue.latestJobs().contains { $0.runPath == "/lab/\(number)-\(turn)" })
              await queue.close()
            }
          }
        }
        try await group.waitForAll()
      }
      #expect(try fixture.count("job") == 48)
      #expect(try fixture.foreign().first("PRAGMA integrity_check") { $0.text(0) } == "ok")
    }
  }

  @Test func aLockThatIsNotGivenBackIsSaid() async throws {
    try await QueueFixture.with { fixture in
      let script = """
        import fcntl, struct, sys, time
        lock = open(sys.argv[1] + "/queue.lock", "r+")
        fcntl.fcntl(lock, 38, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
        print("held", flush=True)
        time.sleep(60)
        """
      let impatient = try await SyncQueue.open(stateDirectory: fixture.state, clock: fixture.clock, patience: 0.2)
      let output = fixture.folder.path + "/out"
      let child = try ChildProcess(["python3", "-c", script, fixture.state], streams: .init(output: output))
      await waitFor("held", in: output)
      await expectFailure(.local, saying: "another process has held") {
        _ = try await impatient.register(try QueueFixture.draft("/lab/run"), entries: [QueueFixture.file("a")])
      }
      #expect(try await impatient.latestJobs().isEmpty)
      kill(child.id, SIGKILL)
      #expect(await child.exitStatus() == 128 + SIGKILL)
      // The kernel gave the lock back.
      _ = try await impatient.register(try QueueFixture.draft("/lab/run"), entries: [QueueFixture.file("a")])
      await impatient.close()
    }
  }

  @Test func aProcessKilledInMidTransactionLeavesTheQueueWhole() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.register("/lab/before")
      let script = """
        import fcntl, sqlite3, struct, sys, time
        state = sys.argv[1]
        lock = open(state + "/queue.lock", "r+")
        fcntl.fcntl(lock, 38, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))
        db = sqlite3.connect(state + "/queue.db", isolation_level=None)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        define_seal(db)
        db.execute("PRAGMA cache_size = 4")  # pages of the open transaction reach the log before any commit
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE job SET state = 'failed'")
        for i in range(5000):
            db.execute("INSERT INTO component (job, path, kind, device, inode, size, modified, changed, mode) "
                "VALUES (1, ?, 0, 1, 1, 1, 1, 1, 1)", (b"file%d" % i,))
        print("half", flush=True)
        time.sleep(60)
        """
      for _ in 0..<3 {
        let output = fixture.folder.path + "/out"
        let child = try ChildProcess(["python3", "-c", QueueFixture.sealInPython + script, fixture.state], streams: .init(output: output))
        await waitFor("half", in: output)
        let log = try FileManager.default.attributesOfItem(atPath: fixture.file + "-wal")[.size] as? Int ?? 0
        #expect(log > 100_000, "nothing of the transaction was on the disk when the process died")
        kill(child.id, SIGKILL)
        #expect(await child.exitStatus() == 128 + SIGKILL)
        try FileManager.default.removeItem(atPath: output)
        let other = try await fixture.another()
        #expect(try await other.latestJobs().map(\.state) == [.queued])
        #expect(try fixture.count("component") == 1)
        await other.close()
      }
      #expect(try await fixture.queue.claimNext(worker: "w")?.runPath == "/lab/before")
      #expect(try fixture.foreign().first("PRAGMA integrity_check") { $0.text(0) } == "ok")
    }
  }

  private func waitFor(_ word: String, in file: String) async {
    for _ in 0..<1_000 {
      if let text = try? String(contentsOfFile: file, encoding: .utf8), text.contains(word) { return }  // it may not be there yet
      try? await Task.sleep(for: .milliseconds(10))  // a cancelled test goes on to its clean-up
    }
    Issue.record("the process never said `\(word)`")
  }
}
