import JobQueue
import SQLite
import SyncModel
import TestSupport
import Testing

@Suite struct RegistrationTests {
  @Test func aJobAndItsComponentsAreThereTogether() async throws {
    try await QueueFixture.with { fixture in
      let entries = [
        QueueFixture.file("a.bin", size: 10), QueueFixture.entry("folder", .folder, size: 4_096),
        QueueFixture.file("folder/b.bin", size: 5),
        QueueFixture.entry("link", .symlink(target: [0x61, 0xff]), size: 2),
      ]
      let row = try await fixture.register("/lab/run", priority: 3, entries: entries)
      #expect(row.state == .queued && row.generation == 1 && row.priority == 3 && row.claimedBy == nil && !row.frozen)
      #expect(row.filesTotal == 2 && row.bytesTotal == 15 && row.filesDone == 0 && row.bytesSent == 0 && row.attempts == 0)
      #expect(row.createdAt == 1_000_000 && row.stagingName == ".nassync-\(row.id)")
      let components = try await fixture.queue.components(of: row)
      #expect(components.map(\.entry) == entries)
      #expect(components.allSatisfy { $0.state == .pending && $0.bytesDurable == 0 && $0.localDigest == nil && $0.evidence == nil })
      let history = try await fixture.queue.history(ofRun: "/lab/run")
      #expect(history.map(\.event) == ["registered"] && history.first?.to == .queued && history.first?.from == nil)
    }
  }

  @Test func namesThatAreNoTextAndLargeInodesSurvive() async throws {
    try await QueueFixture.with { fixture in
      let entry = RunEntry(
        path: try RelativePath(bytes: [0xff, 0x0a, 0x27]), kind: .file,
        fingerprint: FileFingerprint(
          device: .max, inode: .max - 1, size: UInt64(Int64.max), modified: .min, changed: .max, mode: 0o7777))
      let row = try await fixture.register("/lab/it's \u{e9} \"run\"\n", entries: [entry])
      #expect(try await fixture.queue.components(of: row).map(\.entry) == [entry])
      #expect(try await fixture.queue.latestJob(ofRun: "/lab/it's \u{e9} \"run\"\n")?.number == row.number)
      #expect(try await fixture.queue.latestJob(ofRun: "/lab/it's e\u{301} \"run\"\n") == nil)
    }
  }

  @Test func whatFailsHalfWayLeavesNothing() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.queue.recordBlocked(runPath: "/lab/run", equipmentID: "EQ", findings: "[]")
      let twice = [QueueFixture.file("a"), QueueFixture.file("b"), QueueFixture.file("a")]
      await #expect(throws: SyncFailure.self) { try await fixture.register("/lab/run", entries: twice) }
      #expect(try fixture.count("job") == 0)
      #expect(try fixture.count("component") == 0)
      #expect(try fixture.count("history") == 0)
      #expect(try await fixture.queue.blockedRuns().count == 1)
      try await fixture.register("/lab/run")
      #expect(try await fixture.queue.blockedRuns().isEmpty)
    }
  }

  @Test func anIdThatIsTakenLeavesNothing() async throws {
    try await QueueFixture.with { fixture in
      let first = try await fixture.register("/lab/one")
      let draft = try QueueFixture.draft("/lab/two", id: first.id)
      await #expect(throws: SyncFailure.self) { try await fixture.queue.register(draft, entries: [QueueFixture.file("a")]) }
      #expect(try fixture.count("job") == 1)
      #expect(try fixture.count("component") == 1)
      #expect(try await fixture.queue.latestJob(ofRun: "/lab/two") == nil)
    }
  }

  @Test func aRunThatIsOnItsWayKeepsItsJob() async throws {
    try await QueueFixture.with { fixture in
      let first = try await fixture.register("/lab/run")
      let again = try await fixture.queue.register(try QueueFixture.draft("/lab/run"), entries: [QueueFixture.file("other")])
      guard case .active(let row) = again else {
        Issue.record("a second job was registered")
        return
      }
      #expect(row == first)
      #expect(try fixture.count("job") == 1)
      #expect(try await fixture.queue.components(of: row).map(\.entry.path.description) == ["data.bin"])
    }
  }

  @Test func twoProducersAtOnceRegisterOneJob() async throws {
    try await QueueFixture.with { fixture in
      let other = try await fixture.another()
      let registered = try await withThrowingTaskGroup(of: Bool.self) { group in
        for number in 0..<20 {
          let queue = number % 2 == 0 ? fixture.queue : other
          group.addTask {
            if case .registered = try await queue.register(try QueueFixture.draft("/lab/run"), entries: [QueueFixture.file("a")]) {
              return true
            }
            return false
          }
        }
        return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
      }
      await other.close()
      #expect(registered == 1)
      #expect(try fixture.count("job") == 1)
    }
  }

  @Test func afterVerifiedComesTheNextGeneration() async throws {
    try await QueueFixture.with { fixture in
      let first = try await fixture.verified(entries: [QueueFixture.file("a"), QueueFixture.file("b")])
      let second = try await fixture.register(
        "/lab/run", entries: [QueueFixture.file("a"), QueueFixture.file("b"), QueueFixture.file("c")])
      #expect(first.generation == 1 && second.generation == 2 && second.id != first.id)
      #expect(try await fixture.queue.latestJob(ofRun: "/lab/run") == second)
      #expect(try await fixture.queue.latestJobs() == [second])
      #expect(try await fixture.queue.publishedComponents(ofRun: "/lab/run").map(\.entry.path.description) == ["a", "b"])
      #expect(try await fixture.queue.history(ofRun: "/lab/run").map(\.generation) == [1, 1, 1, 1, 2])
    }
  }

  @Test func ofAPublishedPathTheNewestGenerationCounts() async throws {
    try await QueueFixture.with { fixture in
      try await fixture.verified(entries: [QueueFixture.file("a", inode: 1), QueueFixture.file("gone")])
      try await fixture.verified(entries: [QueueFixture.file("a", inode: 2), QueueFixture.file("new")])
      let published = try await fixture.queue.publishedComponents(ofRun: "/lab/run")
      #expect(published.map(\.entry.path.description) == ["a", "gone", "new"])
      #expect(published.first?.entry.fingerprint.inode == 2)
      #expect(published.allSatisfy { $0.state == .verified && $0.evidence == .server && $0.remoteDigest == $0.localDigest })
    }
  }

  @Test(arguments: [[], [QueueFixture.entry("folder", .folder), QueueFixture.entry("folder/inner", .folder)]])
  func aRunWithoutAComponentIsRefused(_ entries: [RunEntry]) async throws {
    try await QueueFixture.with { (fixture) async throws in
      await expectFailure(.blocked, saying: "empty_run") { _ = try await fixture.register("/lab/run", entries: entries) }
      #expect(try fixture.count("job") == 0)
      #expect(try fixture.count("history") == 0)
    }
  }

  @Test func aJobThatIsNotThereIsSaidSo() async throws {
    try await QueueFixture.with { (fixture) async throws in
      await expectFailure(.local, saying: "not in the queue") { _ = try await fixture.queue.job(number: 99) }
      #expect(try await fixture.queue.latestJob(ofRun: "/nowhere") == nil)
      #expect(try await fixture.queue.history(ofRun: "/nowhere").isEmpty)
      #expect(try await fixture.queue.latestJobs().isEmpty)
    }
  }
}
