import Foundation
import SQLite
import SyncModel
import TestSupport
import Testing

@testable import JobQueue

/// Every SQL statement of this room is run here, and none of them reads a table from end to end that grows with the years, but for those that
/// are to read all of it.
@Suite struct StatementCoverageTests {
  /// Tables of which there is a row for each destination, start of the machine or thing that wants a person.
  private static let small: Set<String> = ["outage", "destination_fact", "clock_sample", "run_count", "blocked_run", "nas_fault"]
  /// Indexes of what wants a person, and nothing else.
  private static let narrow = ["history_of_doubts", "job_in_trouble", "job_kept", "asset_component_incomplete", "asset_upload_one_open"]
  /// Statements that are to read everything, by how they begin, and why.
  private static let whole: [(start: String, why: String)] = [
    (SyncQueue.LookStatement.latest, "`status --all` lists every run"),
    ("SELECT number FROM job WHERE seal IS NOT", "a worker compares every job with its seal before it believes one"),
    ("SELECT sequence FROM verification_pass WHERE seal IS NOT", "likewise every verification"),
    ("SELECT number FROM job", "`recover` reads every row of a file that may be damaged"),
    ("SELECT id FROM job", "`recover` compares what lies on a NAS with every job"),
    ("SELECT EXISTS (SELECT 1 FROM asset)", "the first row answers"),
    (
      "SELECT number, identity, service, type, idempotency_key, asset_id, state, attempts, next_attempt_at, error_kind, error_message, error_retry, "
        + "error_hint, created_at, updated_at FROM asset_upload ORDER BY number", "`asset list` lists every asset"
    ),
    ("SELECT type, name, tbl_name", "SQLite's own table of tables"),
  ]

  @Test func everyStatementIsRunAndFindsWhatItWantsByAnIndex() async throws {
    try await QueueFixture.with { fixture in
      try await runEverything(fixture)
      let statements = await fixture.queue.preparedStatements.map(Self.normal)
      for literal in try Self.literals() {
        #expect(
          statements.contains { Self.holds($0, literal.fragments) },
          "\(literal.file) has a statement that this test does not run: \(literal.fragments)")
      }
      for sql in statements where Self.verbs.contains(where: sql.hasPrefix) {
        if Self.whole.contains(where: { Self.normal($0.start) == sql || $0.start.hasSuffix("NOT") && sql.hasPrefix($0.start) }) { continue }
        let scans = try await fixture.queue.plan(sql).filter(Self.readsAll)
        #expect(scans.isEmpty, "\(sql): \(scans)")
      }
    }
  }

  /// The test itself must be able to fail.
  @Test func aStatementWithoutAnIndexIsFound() async throws {
    try await QueueFixture.with { fixture in
      let without = [
        "SELECT number FROM job WHERE updated_at < 5", "SELECT count(*) FROM component WHERE size = 1", "DELETE FROM history WHERE at < ?1",
      ]
      for sql in without {
        let plan = try await fixture.queue.plan(sql)
        #expect(plan.contains { Self.readsAll($0) }, "\(sql)")
      }
      let plan = try await fixture.queue.plan("SELECT * FROM outage")
      #expect(!plan.contains { Self.readsAll($0) })
      #expect(Self.holds("SELECT a FROM b WHERE c", ["SELECT a FROM", "WHERE c"]))
      #expect(!Self.holds("SELECT a FROM b", ["SELECT a FROM b WHERE"]))
      let literals = try Self.literals()
      #expect(literals.count > 80)
    }
  }

  private static func readsAll(_ line: String) -> Bool {
    guard line.hasPrefix("SCAN ") else { return false }
    let words = line.split(separator: " ")
    // Common table expressions and subqueries have names that no table has.
    let tables: Set<String> = [
      "job", "component", "history", "verification_pass", "audit_spell", "asset", "asset_component", "asset_upload",
      "asset_upload_component", "j", "newer", "later", "first", "a", "c",
    ]
    guard words.count > 1, tables.contains(String(words[1])), !small.contains(String(words[1])) else { return false }
    return !narrow.contains { line.hasSuffix(" \($0)") }
  }

  // MARK: - What the source says

  private static let verbs = ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "]

  private struct Literal {
    let file: String
    /// The text between interpolations.
    let fragments: [String]
  }

  private static func normal(_ text: String) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }

  private static func holds(_ statement: String, _ fragments: [String]) -> Bool {
    var rest = statement[...]
    for fragment in fragments where !fragment.isEmpty {
      guard let found = rest.range(of: fragment) else { return false }
      rest = rest[found.upperBound...]
    }
    return true
  }

  /// Every string in the room's source that begins like a statement.
  private static func literals() throws -> [Literal] {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let folder = tests.appendingPathComponent("../../Sources/JobQueue").standardizedFileURL
    var result: [Literal] = []
    for name in try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() where name.hasSuffix(".swift") {
      // Migrations run where a file is made; what they do to an old one is tested elsewhere.
      guard name != "QueueSchema.swift" else { continue }
      let source = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
      for fragments in strings(Array(source.utf8)) {
        let first = normal(fragments.first ?? "")
        guard verbs.contains(where: (first + " ").hasPrefix) else { continue }
        result.append(Literal(file: name, fragments: fragments.map(normal)))
      }
    }
    return result
  }

  /// The string literals of a source, each cut at its interpolations; those inside interpolations too.
  private static func strings(_ source: [UInt8]) -> [[String]] {
    var result: [[String]] = []
    var index = 0
    func starts(_ text: String, at place: Int) -> Bool { source[place...].starts(with: text.utf8) }
    func code(until closing: UInt8?) {
      var depth = 0
      while index < source.count {
        if starts("//", at: index) {
          while index < source.count, source[index] != UInt8(ascii: "\n") { index += 1 }
        } else if source[index] == UInt8(ascii: "\"") {
          literal()
        } else {
          if source[index] == UInt8(ascii: "(") { depth += 1 }
          if source[index] == UInt8(ascii: ")") {
            if depth == 0, closing != nil { return }
            depth -= 1
          }
          index += 1
        }
      }
    }
    func literal() {
      let isLong = starts("\"\"\"", at: index)
      let mark = isLong ? "\"\"\"" : "\""
      index += mark.utf8.count
      var fragments: [String] = []
      var bytes: [UInt8] = []
      while index < source.count, !starts(mark, at: index) {
        if starts("\\(", at: index) {
          fragments.append(String(decoding: bytes, as: UTF8.self))
          bytes = []
          index += 2
          code(until: UInt8(ascii: ")"))
          index += 1
        } else {
          if source[index] == UInt8(ascii: "\\") { index += 1 }
          if index < source.count { bytes.append(source[index]) }
          index += 1
        }
      }
      index += mark.utf8.count
      fragments.append(String(decoding: bytes, as: UTF8.self))
      result.append(fragments)
    }
    code(until: nil)
    return result
  }

  // MARK: - Everything once

  private func runEverything(_ fixture: QueueFixture) async throws {
    let queue = fixture.queue
    try await runJobs(fixture)
    try await runPublished(fixture)
    try await runConditions(queue)
    try await runAssets(queue)
    try await queue.checkForDamage()
    try await queue.requireAllWhole()
  }

  private func runJobs(_ fixture: QueueFixture) async throws {
    let queue = fixture.queue
    let entries = [QueueFixture.file("a", size: 5), QueueFixture.file("b", size: 7), QueueFixture.entry("folder", .folder)]
    try await fixture.register("/lab/first", priority: 5, entries: entries)
    var job = try #require(try await queue.claimNext(worker: "w"))
    try await queue.freeze(job, worker: "w")
    try await fixture.send(job)
    try await queue.resetComponents(job, worker: "w", paths: [QueueFixture.path("b")])
    job = try await queue.retarget(job, worker: "w", destination: "sftp://other", remotePath: "/elsewhere")
    try await fixture.send(job)
    try fixture.foreign().execute("UPDATE component SET published_digest = zeroblob(32) WHERE kind = 0 AND path = CAST('a' AS BLOB)")
    job = try await queue.replaceSnapshot(of: job, worker: "w", entries: entries, reason: "the disk") { $0 == $1 }
    var later = QueueFixture.released()
    later.nextAttemptAt = .some(fixture.clock.wallSeconds + 1e6)
    try await queue.transition(job, on: .interrupted, worker: "w", change: later, detail: "later")
    try await fixture.register("/lab/second", priority: 1)
    #expect(try await queue.isAnythingDue())
    #expect(try await queue.claimNext(worker: "w")?.runPath == "/lab/second")
    #expect(try await queue.isAnythingDue())
    #expect(try await queue.replay() == 1)
    #expect(try await queue.forgetTimes(beyond: 100) == 1)
    _ = try await queue.backlog()
    let awaiting = try await fixture.awaitingFirst()
    try await queue.postponeVerification(awaiting, worker: "w", failure: nil, attempts: 1, nextAttemptAt: nil)
  }

  private func runPublished(_ fixture: QueueFixture) async throws {
    let queue = fixture.queue
    try fixture.foreign().execute("UPDATE job SET priority = -100, next_attempt_at = 9e9 WHERE state IN ('queued', 'awaiting_verify')")
    let job = try await fixture.awaiting("/lab/published")
    var change = QueueFixture.released()
    change.pass = VerificationPass(reading: fixture.clock.reading, source: .publish, evidence: .server, files: 1, ledgerLength: 0)
    change.verifiedAt = fixture.clock.wallSeconds
    change.fault = "something"
    var done = try await queue.transition(
      job, on: .proven, worker: "w", change: change, proofs: try await fixture.proofs(of: job), detail: "proven")
    let pass = VerificationPass(reading: fixture.clock.reading, source: .audit, evidence: .server, files: 1, ledgerLength: 0)
    done = try await queue.recordPass(done, pass, spacing: 0).job
    _ = try await queue.passes(of: done)
    try await queue.sampleClock()
    _ = try await queue.clockSamples()
    _ = try await queue.nextAudit(equipment: "EQ", destination: "sftp://nas", auditedBefore: 0)
    _ = try await queue.auditBacklog(equipment: "EQ", destination: "sftp://nas", auditedBefore: 0)
    #expect(try await queue.postponeAudit(done, auditedAt: fixture.clock.wallSeconds - 5, detail: "why"))
    #expect(try await queue.auditsNotMade().count == 1)
    try await queue.recordAuditTime(5)
    #expect(try await queue.auditTime(inLast: 100) == 5)
    #expect(try await queue.ripeningJobs(after: 0, minimumPasses: 1, before: fixture.clock.wallSeconds).count == 1)
    #expect(try await queue.verifiedJobs(minimumPasses: 1).count == 1)
    done = try await queue.transition(done, on: .becameEligible, worker: nil, detail: "old enough")
    #expect(try await queue.removableJobs(after: 0, notKeptFor: 900).count == 1)
    try await queue.noteKept(done, reason: "a file too many")
    #expect(try await queue.removableJobs(after: 0, notKeptFor: 900).isEmpty)
    #expect(try await queue.timesKept(done) == 1)
    try await queue.beginRemoval(done, detail: "now")
    #expect(try await queue.removalBegan(done))
    done = try await queue.transition(done, on: .removedLocally, worker: nil, detail: "gone")
    #expect(try await queue.recordFault(ofCleaned: done, SyncFailure(.remoteCorrupted, "changed", hint: "Look.")))
    #expect(try await queue.hasFault(runPath: "/lab/published"))
    _ = try await queue.faults()
    try await queue.note(done, event: "nas_mismatch_on_demand", detail: "one file")
    #expect(try await queue.differences().count == 1)
    #expect(try await queue.lastCheck(of: done)?.event == "nas_mismatch_on_demand")
    try await queue.requireWhole(done)
    try await queue.requireWhole(run: done.runPath)
    try await look(queue, done)
    #expect(try await !queue.hasJob(id: "nobody"))
    _ = try await queue.jobIDs()
    let found = FoundRun(
      draft: try QueueFixture.draft("/lab/found"), generation: 1, isCleaned: false, removalBegan: true, enqueuedAt: 1, publishedAt: 2,
      manifestDigest: QueueFixture.digest(QueueFixture.path("m")), receiptDigest: nil,
      components: [
        (QueueFixture.file("a"), QueueFixture.digest(QueueFixture.path("a"))), (QueueFixture.entry("folder", .folder), nil),
      ], proof: nil, detail: "found")
    #expect(try await queue.add(found) != nil)
  }

  private func look(_ queue: SyncQueue, _ job: JobRow) async throws {
    _ = try await queue.latestJobs()
    _ = try await queue.latestJob(ofRun: job.runPath)
    _ = try await queue.jobs(ofRun: job.runPath)
    _ = try await queue.jobs(in: .queued)
    _ = try await queue.job(number: job.number)
    _ = try await queue.components(of: job)
    _ = try await queue.latestVerifiedJob(ofRun: job.runPath)
    _ = try await queue.publishedComponents(ofRun: job.runPath)
    _ = try await queue.publishedOthers(ofRun: job.runPath)
    _ = try await queue.pathsRemovedLocally(ofRun: job.runPath)
    _ = try await queue.history(ofRun: job.runPath)
    _ = try await queue.counts()
    _ = try await queue.jobsOfInterest(limit: 100)
    _ = try await queue.jobsInTrouble(and: [job.number])
    _ = try await queue.bytesWanted(at: "sftp://nas")
    _ = try await queue.news(since: 0)
    _ = try await queue.standings(ofRuns: [job.runPath])
  }

  private func runConditions(_ queue: SyncQueue) async throws {
    try await queue.recordBlocked(runPath: "/lab/blocked", equipmentID: "EQ", findings: "[]")
    _ = try await queue.blockedRuns()
    #expect(try await queue.blockedRun(path: "/lab/blocked") != nil)
    try await queue.clearBlocked(runPath: "/lab/blocked")
    let failure = SyncFailure(.network, "no route", hint: "Wait.")
    try await queue.recordOutage("sftp://far", failure: failure, nextAttemptAt: 9e9)
    _ = try await queue.outages()
    #expect(try await queue.forgetTimes(beyond: 100) > 0)
    #expect(try await queue.clearOutage("sftp://far"))
    try await queue.recordFacts("{}", ofDestination: "sftp://far")
    #expect(try await queue.facts(ofDestination: "sftp://far") != nil)
  }

  private func runAssets(_ queue: SyncQueue) async throws {
    try await queue.registerComponents(asset: "A", type: "t", components: [("a", "/a", 1)])
    try await queue.setComponent(asset: "A", name: "a", state: "uploading", detail: nil)
    #expect(try await queue.incompleteComponents().count == 1)
    #expect(try await queue.incompleteComponents(asset: "A").count == 1)
    _ = try await queue.components(ofAsset: "A")
    _ = try await queue.latestPath(assetType: "t")
    #expect(try await queue.hasAssets())
    let identity = QueueFixture.digest(QueueFixture.path("identity"))
    let file = AssetUploadComponentRow(
      name: "a", localPath: "/a", contentType: "x/y",
      fingerprint: FileFingerprint(device: 1, inode: 2, size: 3, modified: 4, changed: 5, mode: 6))
    let failure = SyncFailure(.network, "no route", hint: "Wait.")
    for key in ["one", "two"] {
      let number = try await queue.assetUpload(identity: identity, service: "s", type: "t", newKey: key, components: [file]).number
      _ = try await queue.assetUpload(number: number)
      #expect(try await queue.assetUploads(openOnly: true).count == 1)
      _ = try await queue.assetUploads(openOnly: false)
      try await queue.setAssetDigests(number, [("a", identity)])
      try await queue.setAssetID(number, "asset")
      try await queue.setAssetComponent(number, name: "a", state: .uploading)
      try await queue.completeAssetComponent(number, name: "a", digest: identity, etag: nil, provenByStore: true)
      try await queue.noteAssetFailure(number, failure, attempts: 1, nextAttemptAt: nil)
      if key == "one" { try await queue.abandonAssetUpload(number, because: failure) } else { try await queue.finishAssetUpload(number) }
    }
  }
}

extension QueueFixture {
  /// What waits is sent, and awaits its verification.
  fileprivate func awaitingFirst() async throws -> JobRow {
    let job = try #require(try await queue.claimNext(worker: "w"))
    return try await queue.transition(job, on: .sent, worker: "w", detail: "sent")
  }
}

extension SyncQueue {
  /// The texts of all statements so far.
  fileprivate var preparedStatements: [String] { opened?.connection.preparedStatements ?? [] }

  /// What `recover` reads, of the file that is open.
  fileprivate func requireAllWhole() throws(SyncFailure) {
    try read { (connection) throws(SQLiteError) in try Self.requireAllWhole(connection) }
  }
}
