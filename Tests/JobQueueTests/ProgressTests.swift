import JobQueue
import SyncModel
import TestSupport
import Testing

/// How far a job's components are, and what becomes of that.
@Suite struct ProgressTests {
  static let entries = [
    QueueFixture.file("a", size: 100), QueueFixture.file("b", size: 200), QueueFixture.entry("c", .folder, size: 4_096),
    QueueFixture.entry("d", .symlink(target: [0x61]), size: 1),
  ]

  static func progress(_ name: String, _ state: ComponentRow.State, _ bytes: UInt64, digest: Bool = false) -> ComponentProgress {
    let path = QueueFixture.path(name)
    return ComponentProgress(path: path, state: state, bytesDurable: bytes, localDigest: digest ? QueueFixture.digest(path) : nil)
  }

  @Test func countersFollowTheFiles() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running(entries: Self.entries)
      func counters() async throws -> [UInt64] {
        let row = try await fixture.queue.job(number: job.number)
        return [UInt64(row.filesDone), row.bytesSent]
      }
      func record(_ items: ComponentProgress...) async throws { try await fixture.queue.checkpoint(job, worker: "w", items) }
      try await record(Self.progress("a", .pending, 60))
      #expect(try await counters() == [0, 60])
      try await record(Self.progress("a", .pending, 90), Self.progress("a", .sent, 100, digest: true), Self.progress("b", .pending, 10))
      #expect(try await counters() == [1, 110])
      try await record(Self.progress("a", .sent, 100))
      #expect(try await counters() == [1, 110], "the same twice counts once")
      try await record(Self.progress("c", .sent, 0), Self.progress("d", .sent, 1))
      #expect(try await counters() == [1, 110], "folders and links are no files")
      try await record(Self.progress("b", .adopted, 200))
      #expect(try await counters() == [2, 300])
      try await record(Self.progress("nowhere", .sent, 7))
      try await record()
      #expect(try await counters() == [2, 300])
      let rows = try await fixture.queue.components(of: job)
      #expect(rows.map(\.state) == [.sent, .adopted, .sent, .sent])
      #expect(rows[0].localDigest == QueueFixture.digest(QueueFixture.path("a")), "a checkpoint without a digest keeps the known one")
      #expect(rows[0].bytesDurable == 100)
    }
  }

  @Test func sizesBeyondWhatSQLiteHoldsDoNotTrap() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running(entries: [QueueFixture.file("a", size: .max), QueueFixture.file("b", size: .max)])
      #expect(job.bytesTotal > 0)
      for bytes in [UInt64.max, 0, UInt64(Int64.max), 1] {
        try await fixture.queue.checkpoint(job, worker: "w", [Self.progress("a", .pending, bytes)])
      }
      #expect(try await fixture.queue.job(number: job.number).bytesSent == 1)
    }
  }

  @Test func aResetComponentCountsNoMore() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running(entries: Self.entries)
      try await fixture.queue.checkpoint(job, worker: "w", [Self.progress("a", .sent, 100), Self.progress("b", .sent, 200)])
      try await fixture.queue.resetComponents(job, worker: "w", paths: [QueueFixture.path("a")])
      let row = try await fixture.queue.job(number: job.number)
      #expect(row.filesDone == 1 && row.bytesSent == 200)
      let rows = try await fixture.queue.components(of: job)
      #expect(rows[0].state == .pending && rows[0].bytesDurable == 0)
      #expect(rows[1].state == .sent)
      await expectFailure(.local) { try await fixture.queue.resetComponents(job, worker: "x", paths: [QueueFixture.path("b")]) }
      #expect(try await fixture.queue.job(number: job.number).filesDone == 1)
    }
  }

  @Test func aNewSnapshotKeepsTheProgressOfWhatIsTheSame() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running(
        entries: ["changed", "gone", "part", "same", "untouched"].map { QueueFixture.file($0, size: 100, inode: 1) })
      try await fixture.queue.checkpoint(
        job, worker: "w",
        ["changed", "gone", "same"].map { Self.progress($0, .sent, 100, digest: true) } + [Self.progress("part", .pending, 40)])
      try await fixture.queue.freeze(job, worker: "w")
      let now =
        [QueueFixture.file("changed", size: 101, inode: 2), QueueFixture.file("new", size: 7)]
        + ["part", "same", "untouched"].map { QueueFixture.file($0, size: 100, inode: 1) }
      let row = try await fixture.queue.replaceSnapshot(of: job, worker: "w", entries: now, reason: "1 changed, 1 new, 1 gone") { $0 == $1 }
      #expect(row.filesTotal == 5 && row.bytesTotal == 408 && row.filesDone == 1 && row.bytesSent == 140 && !row.frozen)
      let rows = try await fixture.queue.components(of: job)
      #expect(rows.map(\.entry) == now)
      #expect(rows.map(\.state) == [.pending, .pending, .pending, .sent, .pending])
      #expect(rows.map(\.bytesDurable) == [0, 0, 40, 100, 0])
      #expect(rows.map { $0.localDigest != nil } == [false, false, false, true, false])
      let note = try #require(try await fixture.queue.history(ofRun: "/lab/run").last)
      #expect(note.event == "snapshot_replaced" && note.detail == "1 changed, 1 new, 1 gone")
    }
  }

  @Test func aSnapshotIsReplacedByTheHolderOfARunningJobOnlyAndNeverByNothing() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running(entries: Self.entries)
      let before = try await fixture.queue.components(of: job)
      func attempt(_ row: JobRow, _ worker: String, _ entries: [RunEntry]) async throws {
        try await fixture.queue.replaceSnapshot(of: row, worker: worker, entries: entries, reason: "x") { $0 == $1 }
      }
      await expectFailure(.local) { try await attempt(job, "other", [QueueFixture.file("z")]) }
      await expectFailure(.blocked, saying: "empty_run") { try await attempt(job, "w", [QueueFixture.entry("folder", .folder)]) }
      await expectFailure(.local) { try await attempt(job, "w", [QueueFixture.file("z"), QueueFixture.file("z")]) }
      #expect(try await fixture.queue.components(of: job) == before)
      let sent = try await fixture.queue.transition(job, on: .sent, worker: "w", detail: "sent")
      await expectFailure(.local) { try await attempt(sent, "w", [QueueFixture.file("z")]) }
      #expect(try await fixture.queue.components(of: job) == before)
    }
  }

  @Test func anotherDestinationStartsAnew() async throws {
    try await QueueFixture.with { fixture in
      let job = try await fixture.running(entries: Self.entries)
      try await fixture.queue.checkpoint(job, worker: "w", [Self.progress("a", .sent, 100, digest: true), Self.progress("b", .pending, 5)])
      try await fixture.queue.freeze(job, worker: "w")
      await expectFailure(.local) { _ = try await fixture.queue.retarget(job, worker: "x", destination: "sftp://new", remotePath: "/n") }
      #expect(try await fixture.queue.job(number: job.number).bytesSent == 105)
      let row = try await fixture.queue.retarget(job, worker: "w", destination: "sftp://new", remotePath: "/new/run")
      #expect(row.destination == "sftp://new" && row.remotePath == "/new/run" && row.filesDone == 0 && row.bytesSent == 0 && !row.frozen)
      #expect(try await fixture.queue.components(of: job).allSatisfy { $0.state == .pending && $0.bytesDurable == 0 })
      #expect(try await fixture.queue.history(ofRun: "/lab/run").last?.event == "retargeted")
    }
  }

  @Test func theStartFreesWhatADeadProcessHeldAndKeepsItsProgress() async throws {
    try await QueueFixture.with { fixture in
      let running = try await fixture.running("/lab/running", entries: Self.entries)
      try await fixture.queue.checkpoint(
        running, worker: "w", [Self.progress("a", .sent, 100, digest: true), Self.progress("b", .pending, 5)])
      let components = try await fixture.queue.components(of: running)
      let awaiting = try await fixture.awaiting("/lab/awaiting")
      let verified = try await fixture.verified("/lab/verified")
      let queued = try await fixture.register("/lab/queued")
      await fixture.queue.close()

      let queue = try await fixture.another()
      #expect(try await queue.claimNext(worker: "new")?.number == queued.number, "only what nobody held is due before the replay")
      #expect(try await queue.replay() == 3)
      let freed = try await queue.job(number: running.number)
      #expect(freed.state == .queued && freed.claimedBy == nil && freed.filesDone == 1 && freed.bytesSent == 105 && freed.attempts == 0)
      #expect(try await queue.components(of: freed) == components)
      let last = try #require(try await queue.history(ofRun: "/lab/running").last)
      #expect(last.event == "interrupted" && last.from == .running && last.to == .queued)
      let waiting = try await queue.job(number: awaiting.number)
      #expect(waiting.state == .awaitingVerify && waiting.claimedBy == nil)
      #expect(try await queue.job(number: verified.number) == verified)
      #expect(try await queue.replay() == 0)
      var claimed: [Int64] = []
      while let job = try await queue.claimNext(worker: "new") { claimed.append(job.number) }
      #expect(claimed == [running.number, awaiting.number, queued.number])
      await queue.close()
    }
  }
}
