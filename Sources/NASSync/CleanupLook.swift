import Cleanup
import Configuration
import Digests
import Foundation
import Gate
import Glibc
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

/// Everything that was found about one run when its local copy was to be removed.
struct CleanupLook: Sendable {
  var job: JobRow
  let location: RunLocation
  let components: [ComponentRow]
  /// Nil where the run's folder is gone.
  let snapshot: RunSnapshot?
  let receipt: Receipt?
  let passes: [VerificationPass]
  /// Differences on the NAS that mean that its copy is not what was published.
  let corrupted: [IntegrityReport.Mismatch]
  /// The NAS gave no answer at all.
  let unreachable: SyncFailure?
  var facts: CleanupFacts

  var interlocks: [CleanupInterlock] { CleanupInterlocks.all(facts) }
}

/// Gathers the facts of one run. Nothing is removed and no state changes here; a verification that counts is recorded.
struct CleanupInspector: Sendable {
  let client: NASSyncClient
  let environment: RunnerEnvironment
  let route: RunnerEnvironment.Route
  let settings: CleanupSettings
  /// Seconds of trusted time between two verifications that count as two.
  let passSpacing: Double
  /// Whether a verification that is due is recorded as one that counts.
  let recordsPass: Bool

  /// What the queue alone says: passes and age, without a look at the NAS or the disk.
  func facts(of job: JobRow, passes: [VerificationPass], reference: VerificationPass?) async throws(SyncFailure) -> CleanupFacts {
    let newest = try await environment.queue.latestJob(ofRun: job.runPath)
    let why = "what the queue knows speaks against it already"
    return CleanupFacts(
      state: job.state, newerJob: newest?.number == job.number ? nil : newest?.id ?? "unknown", passes: passes.map(CleanupFacts.Pass.init),
      reference: reference.map(CleanupFacts.Pass.init), requiredPasses: settings.minVerifyPasses, passSpacing: passSpacing,
      minimumAge: settings.minAgeHours * 3_600, now: environment.clock.reading, clockSamples: try await environment.queue.clockSamples(),
      nas: .unasked(why), record: .unreadable("it was not read"), overrides: .unknown(why), gate: .unasked(why),
      local: LocalComparison(unreadable: why), expected: [:])
  }

  /// The NAS first, because its proof may take hours; then the disk, so that what is decided on is fresh.
  func look(at job: JobRow, asksNAS: Bool) async throws(SyncFailure) -> CleanupLook {
    let location = RunLocation(root: job.runPath, equipment: job.equipmentID, relative: job.relative)
    try await environment.queue.requireWhole(job)
    let before = try await environment.queue.passes(of: job)
    let nas = asksNAS ? try await askNAS(job, location) : NASAnswer(.unasked("another condition is unmet already"))
    let provenAt = environment.clock.reading
    let removalBegan = try await environment.queue.removalBegan(job)
    let components = try await environment.queue.components(of: job)
    let published = try await environment.queue.publishedComponents(ofRun: job.runPath)

    var (snapshot, problem) = await scan(location)
    if snapshot == nil, problem == nil, removalBegan { problem = try await unexplainedAbsence(of: location) }
    var receipt = nas.receipt
    if receipt == nil, let snapshot { receipt = await localReceipt(job, snapshot) }
    var passes = before
    if case .compared(_, _, let proof?) = nas.answer, try await isDue(provenAt, after: before.last) {
      let pass = VerificationPass(
        // A second try must not turn a doubt into a permission: what the record held at the verification before stays the measure.
        reading: provenAt, source: .cleanup, evidence: proof.evidence, files: proof.proofs.count,
        ledgerLength: before.last?.ledgerLength ?? 0)
      passes.append(pass)
      if recordsPass { try await record(pass, job) }
    }
    let current = try await environment.queue.job(number: job.number)
    var facts = try await facts(of: current, passes: passes, reference: before.last)
    facts.nas = nas.answer
    facts.expected = Dictionary(
      components.compactMap { row in row.localDigest.flatMap { row.entry.kind == .file ? (row.entry.path, $0) : nil } }
    ) { $1 }
    facts.record = recordFacts(snapshot, receipt, removalBegan: removalBegan, problem: problem)
    facts.overrides =
      receipt.map { .named($0.gate.overrides.map(\.id)) } ?? .unknown("the receipt that was published could not be read")
    facts.gate = await gateFacts(snapshot, location, published: published, removalBegan: removalBegan, problem: problem)
    facts.local = await compare(components.map(\.entry), snapshot, problem: problem, removalBegan: removalBegan)
    facts.now = environment.clock.reading
    return CleanupLook(
      job: current, location: location, components: components, snapshot: snapshot, receipt: receipt, passes: passes,
      corrupted: nas.corrupted, unreachable: nas.unreachable, facts: facts)
  }

  private func isDue(_ now: ClockReading, after last: VerificationPass?) async throws(SyncFailure) -> Bool {
    guard let last else { return true }
    return TrustedTime.elapsed(from: last.reading, to: now, samples: try await environment.queue.clockSamples()) >= passSpacing
  }

  private func record(_ pass: VerificationPass, _ job: JobRow) async throws(SyncFailure) {
    guard job.state == .verified || job.state == .cleanupEligible else { return }
    _ = try await environment.queue.recordPass(job, pass, spacing: passSpacing)
  }

  // MARK: - The NAS

  private struct NASAnswer {
    let answer: CleanupFacts.NAS
    var corrupted: [IntegrityReport.Mismatch] = []
    var receipt: Receipt?
    var unreachable: SyncFailure?
    init(_ answer: CleanupFacts.NAS) { self.answer = answer }
  }

  private func askNAS(_ job: JobRow, _ location: RunLocation) async throws(SyncFailure) -> NASAnswer {
    let place = route.root.appending(job.relative).description
    guard job.destination == route.pool.driver.address, job.remotePath == place else {
      return NASAnswer(
        .failed("the run was verified at \(job.remotePath) on \(job.destination), and the profile names \(place) today"))
    }
    guard let verified = try await environment.queue.latestVerifiedJob(ofRun: job.runPath), verified.number == job.number else {
      return NASAnswer(.failed("the job was never verified"))
    }
    let subject = try await client.subject(of: location, queue: environment.queue)
    let runner = JobRunner(environment: environment, route: route)
    do throws(StepFailure) { try await runner.reach(job) } catch {
      return try refused(error, whole: error.unreachable)
    }
    do throws(StepFailure) {
      let found = try await runner.compareWithNAS(subject, relative: job.relative)
      let layout = RemoteLayout(job: job, root: route.root, metadataFolder: environment.metadataFolder)
      let receipt = try await runner.readSmall(layout.final.appending(layout.receipt), limit: RemoteDocument.receiptLimit)
      let documents = found.mismatches.filter { $0.problem == .damagedManifest || isDocument($0.path, layout) }
      let files = found.mismatches.filter { mismatch in !documents.contains(mismatch) }
      var answer = NASAnswer(
        .compared(
          differences: files.map { "\($0.path) (\($0.detail))" }, documents: documents.map { "\($0.path) (\($0.detail))" },
          proof: found.proof))
      // A file too many, or one that may not be read just now, is a doubt and no damage.
      answer.corrupted = found.mismatches.filter { $0.problem != .extra && $0.problem != .unreadable }
      if !answer.corrupted.isEmpty, let unmounted = try await runner.emptyRoot(job) { return NASAnswer(.failed(unmounted)) }
      if let receipt, let digest = job.receiptDigest, SHA256Hasher.digest(of: receipt) == digest {
        answer.receipt = Receipt.decode(receipt)
      }
      return answer
    } catch {
      return try refused(error, whole: error.failure.isUnanswered)
    }
  }

  private func isDocument(_ path: String, _ layout: RemoteLayout) -> Bool {
    [layout.manifest, layout.receipt, layout.record].contains { $0.description.utf8.elementsEqual(path.utf8) }
  }

  private func refused(_ error: StepFailure, whole: Bool) throws(SyncFailure) -> NASAnswer {
    if environment.stop.isSet || error.failure.kind == .interrupted {
      throw SyncFailure(.interrupted, "the clean-up was told to stop", hint: "It goes on at the next start.")
    }
    guard whole else { return NASAnswer(.failed(error.failure.message)) }
    var answer = NASAnswer(.unreachable(error.failure.message))
    answer.unreachable = error.failure
    return answer
  }

  // MARK: - The disk

  /// - Returns: No snapshot and no problem where the run's folder is gone.
  private func scan(_ location: RunLocation) async -> (RunSnapshot?, String?) {
    do throws(SyncFailure) {
      let snapshot = try await client.scan(location, route.profile)
      return (snapshot, nil)
    } catch {
      return (nil, error.kind == .localVanished ? nil : error.message)
    }
  }

  /// Why it was not this program's removal that the run's folder went with: what is left of a run on a disk that is not there is not removed.
  private func unexplainedAbsence(of location: RunLocation) async throws(SyncFailure) -> String? {
    if settings.retainMetadata { return "it is gone, and a clean-up that retains the metadata folder leaves it: is its volume mounted?" }
    let isAboveThere = try await environment.readers.next().run { () throws(SyncFailure) -> Bool in
      var status = stat()
      return stat((location.root as NSString).deletingLastPathComponent, &status) == 0
    }
    return isAboveThere ? nil : "it is gone together with the folder above it: is its volume mounted?"
  }

  /// The receipt in the run, where it is the published one.
  private func localReceipt(_ job: JobRow, _ snapshot: RunSnapshot) async -> Receipt? {
    do throws(SyncFailure) {
      let path: RelativePath
      do { path = try RelativePath("\(snapshot.metadataFolder)/receipt.json") } catch { return nil }
      let content = try await environment.readers.next().run { () throws(SyncFailure) in
        try LocalFileReader(in: RunFolder(root: snapshot.root), path: path).read(at: 0, upTo: 1 << 26)
      }
      guard let digest = job.receiptDigest, SHA256Hasher.digest(of: content) == digest else { return nil }
      return Receipt.decode(content)
    } catch { return nil }
  }

  private func recordFacts(
    _ snapshot: RunSnapshot?, _ receipt: Receipt?, removalBegan: Bool, problem: String?
  ) -> CleanupFacts.Record {
    if let problem { return .unreadable(problem) }
    if let why = snapshot?.recordUnreadable { return .unreadable(why) }
    guard let bytes = snapshot?.record else {
      if removalBegan, !settings.retainMetadata { return .removedBefore }
      return receipt.map { $0.recordSHA256 == nil } ?? false ? .absent : .vanished
    }
    do throws(RecordError) {
      return .readable(
        try RunRecord(parsing: bytes).overrides.map { entry in
          if case .revocation(let revocation) = entry { revocation.revokes } else { nil }
        })
    } catch { return .unreadable("\(error)") }
  }

  private func gateFacts(
    _ snapshot: RunSnapshot?, _ location: RunLocation, published: [ComponentRow], removalBegan: Bool, problem: String?
  ) async -> CleanupFacts.Gate {
    guard let snapshot else {
      return removalBegan && problem == nil ? .judged(blocking: []) : .unasked(problem ?? "the run's folder is gone")
    }
    let verdict = await environment.gate.evaluate(snapshot, at: location, published: published, limits: route.limits).verdict
    // That a run has nothing left is what its clean-up is for.
    let blocking = verdict.blocking.filter { !(removalBegan && $0.problemClass == .emptyRun) }
    return .judged(
      blocking: blocking.map { "\($0.problemClass)\($0.path.map { " at \(displayText($0))" } ?? ""): \(displayText($0.detail))" })
  }

  private func compare(
    _ listed: [RunEntry], _ snapshot: RunSnapshot?, problem: String?, removalBegan: Bool
  ) async -> LocalComparison {
    if let problem { return LocalComparison(unreadable: problem) }
    var comparison = LocalComparison(listed: listed, snapshot: snapshot, removalBegan: removalBegan)
    guard let snapshot, comparison.changed.isEmpty else { return comparison }
    let files = snapshot.files.map(\.path)
    do throws(SyncFailure) {
      comparison.beingWritten = try await environment.readers.next().run { () throws(SyncFailure) in
        WriterProbe.beingWritten(files, in: try RunFolder(root: snapshot.root))
      }
    } catch { return LocalComparison(unreadable: error.message) }
    return comparison
  }
}

extension CleanupFacts.Pass {
  init(_ pass: VerificationPass) { self.init(reading: pass.reading, ledgerLength: pass.ledgerLength) }
}
