import JobQueue
import SyncModel
import TestSupport
import Testing

/// Large queues. The limits are wide, for slow disks and debug builds; they are there to catch what grows with the number of jobs.
@Suite(.serialized) struct QueueScaleTests {
  @Test func aRunOfAHundredThousandFilesIsRegisteredAtOnce() async throws {
    try await QueueFixture.with { fixture in
      let entries = (0..<100_000).map { QueueFixture.file("plate_\($0 / 1_000)/well_\($0).tif", size: 4_096, inode: UInt64($0)) }
      var job = try await timed("register 100,000 components", limit: 20) { try await fixture.register("/lab/run", entries: entries) }
      #expect(job.filesTotal == 100_000 && job.bytesTotal == 409_600_000)
      #expect(try fixture.count("component") == 100_000)
      job = try #require(try await fixture.queue.claimNext(worker: "w"))
      let running = job
      try await timed("checkpoint all of them in batches of 1,000", limit: 20) {
        for start in stride(from: 0, to: entries.count, by: 1_000) {
          try await fixture.queue.checkpoint(
            running, worker: "w",
            entries[start..<start + 1_000].map {
              ComponentProgress(path: $0.path, state: .sent, bytesDurable: 4_096, localDigest: QueueFixture.digest($0.path))
            })
        }
      }
      job = try await fixture.queue.transition(job, on: .sent, worker: "w", detail: "sent")
      #expect(job.filesDone == 100_000 && job.bytesSent == job.bytesTotal)
      let sent = job
      let proofs = entries.map { ComponentProof(path: $0.path, remoteDigest: QueueFixture.digest($0.path), evidence: .server) }
      job = try await timed("settle as verified with 100,000 proofs", limit: 20) {
        try await fixture.queue.transition(sent, on: .proven, worker: "w", proofs: proofs, detail: "proven")
      }
      #expect(job.state == .verified)
      try await timed("read 100,000 published components", limit: 20) {
        let rows = try await fixture.queue.publishedComponents(ofRun: "/lab/run")
        #expect(rows.count == 100_000)
      }
    }
  }

  @Test func aHundredThousandJobsDoNotSlowAClaim() async throws {
    try await QueueFixture.with { fixture in
      try fixture.fill(100_000)
      // Half of them wait for a later time, which must not have to be read one by one for long.
      try fixture.foreign().execute("UPDATE job SET next_attempt_at = 2000000 WHERE number <= 50000")
      var jobs: [JobRow] = []
      try await timed("200 claims among 100,000 jobs", limit: 10) {
        for _ in 0..<200 { jobs.append(try #require(try await fixture.queue.claimNext(worker: "w"))) }
      }
      #expect(jobs.allSatisfy { $0.number > 50_000 })
      let claimed = jobs
      try await timed("200 settlements (sent, given up) among 100,000 jobs", limit: 10) {
        for job in claimed {
          let sent = try await fixture.queue.transition(job, on: .sent, worker: "w", detail: "sent")
          try await fixture.queue.transition(sent, on: .gaveUp, worker: "w", detail: "no")
        }
      }
      try await timed("the backlog of 100,000 jobs, 20 times", limit: 5) {
        for _ in 0..<20 {
          let backlog = try await fixture.queue.backlog()
          #expect(backlog == (99_800, 49_800, nil))
        }
      }
      try await timed("1,000 looks at one run", limit: 5) {
        for number in 1...1_000 {
          let job = try await fixture.queue.latestJob(ofRun: "/lab/run\(number)")
          #expect(job?.number == Int64(number))
        }
      }
      try await timed("the newest job of each of 100,000 runs", limit: 20) {
        let rows = try await fixture.queue.latestJobs()
        #expect(rows.count == 100_000)
      }
      try await timed("opening a queue of 100,000 jobs", limit: 10) { await (try fixture.another()).close() }
    }
  }

  private func timed<Result>(
    _ what: String, limit: Double, isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
  ) async throws -> Result {
    let clock = SystemClock()
    let start = clock.monotonicNanoseconds
    let result = try await body()
    let seconds = Double(clock.monotonicNanoseconds - start) / 1e9
    print("\(what): \((seconds * 1e5).rounded() / 100) ms")
    #expect(seconds < limit * Patience.factor, "\(what)")
    return result
  }
}
