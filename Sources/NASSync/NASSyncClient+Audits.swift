import Bandwidth
import Foundation
import Gate
import Intake
import JobQueue
import SyncModel
import Transport

/// Audits: the whole verification of a published run again, on an interval, beside the transfers.
extension NASSyncClient {
  /// A destination with the instruments whose runs go there.
  private struct AuditPlace: Sendable {
    let address: String
    var routes: [RunnerEnvironment.Route]
  }

  /// What one audit means for the ones after it.
  private enum AuditEnd: Sendable {
    /// The next one may follow.
    case made
    /// The destination is left alone for now.
    case leave
  }

  /// Two looks that lie closer together count as one, seconds.
  private static let longestSpacing: Double = 3600
  /// The run's turn comes again after this long where its audit could not be made, seconds.
  private static let postponement: Double = 1800

  /// Audits until the service stops, one run at a time on each destination.
  func runAudits(_ environment: RunnerEnvironment, _ desk: AuditDesk) async {
    await withDiscardingTaskGroup { group in
      while !environment.stop.isSet, !Task.isCancelled {
        for place in auditPlaces() where await desk.take(place.address) {
          group.addTask { [weak self] in
            await self?.audit(place, environment, desk)
            await desk.release(place.address)
          }
        }
        let next = clock.monotonicNanoseconds + UInt64(Self.careInterval * 1e9)
        do throws(CancellationError) { try await clock.sleep(untilMonotonic: next) } catch { break }
      }
    }
  }

  /// Audits everything that is due now, all destinations at once, and returns when that is done or cannot go on.
  func auditDueRuns(_ environment: RunnerEnvironment, _ desk: AuditDesk = AuditDesk()) async {
    await withDiscardingTaskGroup { group in
      for place in auditPlaces() { group.addTask { [weak self] in await self?.audit(place, environment, desk) } }
    }
  }

  private func auditPlaces() -> [AuditPlace] {
    var places: [String: AuditPlace] = [:]
    for profile in configuration.equipment {
      let route = route(for: profile)
      let address = route.pool.driver.address
      places[address, default: AuditPlace(address: address, routes: [])].routes.append(route)
    }
    return places.values.sorted { $0.address < $1.address }
  }

  /// Audits what is due at a destination, one run after another.
  private func audit(_ place: AuditPlace, _ environment: RunnerEnvironment, _ desk: AuditDesk) async {
    var hasSession = false
    do throws(SyncFailure) {
      while !environment.stop.isSet, !Task.isCancelled {
        guard try await mayAudit(place, environment, desk), let (job, route) = try await nextAudit(place, environment) else { break }
        hasSession = true
        let start = clock.monotonicNanoseconds
        await desk.audits(place.address, since: start)
        let ended: Result<AuditEnd, SyncFailure>
        do throws(SyncFailure) { ended = .success(try await audit(job, route, environment, desk)) } catch { ended = .failure(error) }
        await desk.audited(place.address)
        try await environment.queue.recordAuditTime(Double(clock.monotonicNanoseconds - start) / 1e9)
        if try ended.get() == .leave { break }
      }
      await desk.worked(place.address)
    } catch {
      // The queue cannot be used just now: nothing is known of any copy.
      if !environment.stop.isSet, await desk.isFirstToTell(error, of: place.address) {
        hub.send(.warning(runPath: nil, message: "\(error)"))
      }
    }
    if hasSession { await desk.closePool(place.address) }
  }

  /// Whether the destination answers, as far as is known, and the limit of the audits' time is not used up.
  private func mayAudit(_ place: AuditPlace, _ environment: RunnerEnvironment, _ desk: AuditDesk) async throws(SyncFailure) -> Bool {
    let now = clock.monotonicNanoseconds
    if await desk.isPaused(place.address, at: now) { return false }
    let wall = clock.wallSeconds
    let isOut = try await environment.queue.outages().contains { $0.destination == place.address && $0.nextAttemptAt > wall }
    if isOut { return false }
    guard let limit = configuration.verify.auditTime else { return true }
    let spent = try await environment.queue.auditTime(inLast: configuration.verify.auditWindow)
    return spent + (await desk.secondsUnderWay(at: now)) < limit
  }

  private func nextAudit(
    _ place: AuditPlace, _ environment: RunnerEnvironment
  ) async throws(SyncFailure) -> (JobRow, RunnerEnvironment.Route)? {
    let before = clock.wallSeconds - configuration.verify.auditInterval
    var oldest: (JobRow, RunnerEnvironment.Route)?
    for route in place.routes {
      let due = try await environment.queue.nextAudit(
        equipment: route.profile.id, destination: place.address, auditedBefore: before)
      guard let due, (due.auditedAt ?? 0) < (oldest?.0.auditedAt ?? .infinity) else { continue }
      oldest = (due, route)
    }
    return oldest
  }

  // MARK: - One audit

  private func audit(
    _ job: JobRow, _ route: RunnerEnvironment.Route, _ environment: RunnerEnvironment, _ desk: AuditDesk
  ) async throws(SyncFailure) -> AuditEnd {
    let address = route.pool.driver.address
    guard route.root.appending(job.relative).description == job.remotePath else {
      try await notMade(
        job, "it was published as \(job.remotePath), and the configuration sends its instrument's runs elsewhere now", environment,
        delay: configuration.verify.auditInterval)
      return .made
    }
    // Revocations that come while the audit goes on came after it.
    let ledger = await ledgerLength(of: job)
    let subject = try await subject(of: JobRunner.location(of: job), queue: environment.queue)
    guard subject.job?.number == job.number else { return .made }
    let limiter = try await desk.bandwidth(configuration.verify.auditDownloadMbps, clock: clock)
    let runner = JobRunner(environment: environment, route: route)
    let comparison: NASComparison
    do throws(StepFailure) {
      try await runner.reach(job)
      comparison = try await auditor(of: route, environment, desk, limiter).compareWithNAS(
        subject, relative: job.relative, toleratesExtras: true)
    } catch {
      return try await unanswered(job, error, runner, desk)
    }
    await desk.resume(address)
    if !comparison.extras.isEmpty { try await tellExtras(comparison.extras, job, environment) }
    if let proof = comparison.proof {
      let pass = VerificationPass(
        reading: clock.reading, source: .audit, evidence: proof.evidence, files: proof.proofs.count, ledgerLength: ledger)
      try await settle(job, pass, environment)
      if let papers = comparison.papers { await keepPapers(job, papers, environment) }
      return .made
    }
    let unreadable = comparison.mismatches.filter { $0.problem == .unreadable }
    if unreadable.count == comparison.mismatches.count, let first = unreadable.first {
      try await notMade(job, "\(unreadable.count) files could not be read, the first is \(first.path): \(first.detail)", environment)
      return .made
    }
    let unmounted: String?
    do throws(StepFailure) { unmounted = try await runner.emptyRoot(job) } catch { return try await unanswered(job, error, runner, desk) }
    if let unmounted {
      try await notMade(job, unmounted, environment)
      await desk.pause(address, backoff: configuration.retry.backoff, at: clock.monotonicNanoseconds)
      return .leave
    }
    try await settle(job, comparison.mismatches, environment, desk)
    return .made
  }

  /// A runner over the audits' own session, held back by their limit and ended by the service's end.
  private func auditor(
    of route: RunnerEnvironment.Route, _ environment: RunnerEnvironment, _ desk: AuditDesk, _ limiter: BandwidthScheduler?
  ) -> JobRunner {
    var own = environment
    let stop = environment.stop
    own.readBackPace = { (bytes) async throws(SyncFailure) in
      let stopped = SyncFailure(.interrupted, "the audit was told to stop", hint: "It is made again after the next start.")
      if stop.isSet || Task.isCancelled { throw stopped }
      do throws(CancellationError) { try await limiter?.acquire(bytes: bytes, equipment: "audit") } catch { throw stopped }
    }
    return JobRunner(
      environment: own,
      route: RunnerEnvironment.Route(
        profile: route.profile, pool: desk.pool(like: route.pool, clock: clock), root: route.root, connections: 1, survey: route.survey))
  }

  /// The NAS could not be asked to the end. A silent one is out, which says nothing about the copy.
  private func unanswered(
    _ job: JobRow, _ error: StepFailure, _ runner: JobRunner, _ desk: AuditDesk
  ) async throws(SyncFailure) -> AuditEnd {
    let environment = runner.environment
    let failure = error.failure
    if environment.stop.isSet || Task.isCancelled || failure.kind == .interrupted { return .leave }
    // Something else than a folder has the run's name: that is an answer.
    if failure.kind == .remoteConflict {
      try await settle(
        job, [IntegrityReport.Mismatch(path: ".", place: .nas, problem: .otherKind, detail: failure.message)], environment, desk)
      return .made
    }
    let broken = failure.isUnanswered
    var silent = error.unreachable
    if broken, !silent { silent = await runner.isSilent() }
    let address = runner.route.pool.driver.address
    if silent {
      let next = clock.wallSeconds + (configuration.retry.backoff.first ?? 30)
      try await environment.queue.recordOutage(address, failure: failure, nextAttemptAt: next)
      hub.send(.outage(destination: address, failure: failure))
      return .leave
    }
    try await notMade(job, failure.description, environment)
    await desk.pause(address, backoff: configuration.retry.backoff, at: clock.monotonicNanoseconds)
    return .leave
  }

  /// Others go before this run until its turn comes again.
  private func notMade(
    _ job: JobRow, _ reason: String, _ environment: RunnerEnvironment, delay: Double? = nil
  ) async throws(SyncFailure) {
    let interval = configuration.verify.auditInterval
    let at = clock.wallSeconds - interval + min(interval, delay ?? Self.postponement)
    guard try await environment.queue.postponeAudit(job, auditedAt: at, detail: reason) else { return }
    hub.send(.audited(jobID: job.id, runPath: job.runPath, outcome: .notMade(reason: reason)))
  }

  private func tellExtras(_ extras: [RelativePath], _ job: JobRow, _ environment: RunnerEnvironment) async throws(SyncFailure) {
    let named = extras.prefix(5).map(\.description).joined(separator: ", ") + (extras.count > 5 ? " and \(extras.count - 5) more" : "")
    let message = "\(job.remotePath) holds \(extras.count) files that are none of the run's: \(named); they are left alone"
    hub.send(.warning(runPath: job.runPath, message: message))
    try await environment.queue.note(job, event: "audit_extra_files", detail: message)
  }

  /// The copy is whole.
  private func settle(_ job: JobRow, _ pass: VerificationPass, _ environment: RunnerEnvironment) async throws(SyncFailure) {
    let spacing = min(configuration.verify.auditInterval, Self.longestSpacing)
    do throws(SyncFailure) {
      let (moved, counted) = try await environment.queue.recordPass(job, pass, spacing: spacing)
      hub.send(
        .audited(
          jobID: job.id, runPath: job.runPath,
          outcome: .whole(files: pass.files, evidence: pass.evidence, passes: moved.verifyPasses, counted: counted)))
    } catch {
      guard try await hasMoved(job, environment) else { throw error }
    }
  }

  /// Manifest, receipt and `sync_status` are written beside the run when it is published; where that could not be done (a full disk, a folder
  /// that was not writable) each audit makes up for it.
  private func keepPapers(_ job: JobRow, _ papers: NASComparison.Papers, _ environment: RunnerEnvironment) async {
    do throws(SyncFailure) {
      let now = try await environment.queue.latestJob(ofRun: job.runPath)
      // What is enqueued anew has papers of its own before long, and what is cleaned is told so.
      guard let now, now.number == job.number, now.state == .verified || now.state == .cleanupEligible else { return }
      guard try await gateKeeper.keepDocuments(manifest: papers.manifest, receipt: papers.receipt, runPath: job.runPath) else { return }
      try await environment.queue.note(
        job, event: "documents_written", detail: "manifest, receipt or sync_status were missing beside the run, or older; they are written")
    } catch { warn("\(error)", run: job.runPath) }
  }

  /// The copy is not what was published.
  private func settle(
    _ job: JobRow, _ mismatches: [IntegrityReport.Mismatch], _ environment: RunnerEnvironment, _ desk: AuditDesk
  ) async throws(SyncFailure) {
    let lost = job.state == .cleaned ? [] : try await withoutGoodCopy(job, mismatches, environment, desk)
    // What is found while the service ends is found again after the next start.
    if environment.stop.isSet { return }
    let failure = Self.corruption(job, mismatches, lost: lost)
    do throws(SyncFailure) {
      if job.state == .cleaned {
        guard try await environment.queue.recordFault(ofCleaned: job, failure) else { return }
      } else {
        var change = JobChange()
        change.attempts = 0
        change.mismatches = 0
        change.lastError = .some(failure)
        change.repairs = true
        change.fault = failure.message
        let moved = try await environment.queue.transition(
          job, on: .remoteCorrupted, worker: nil, change: change, detail: failure.description)
        hub.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: job.state, to: moved.state))
        warn(await gateKeeper.setSyncStatus(.failed, runPath: job.runPath), run: job.runPath)
      }
      hub.send(.audited(jobID: job.id, runPath: job.runPath, outcome: .corrupted(failure)))
    } catch {
      guard try await hasMoved(job, environment) else { throw error }
    }
  }

  /// Somebody enqueued, cleaned or failed the run while it was audited: what was found then says nothing any more.
  private func hasMoved(_ job: JobRow, _ environment: RunnerEnvironment) async throws(SyncFailure) -> Bool {
    let now = try await environment.queue.latestJob(ofRun: job.runPath)
    return now?.number != job.number || now?.state != job.state || now?.verifyPasses != job.verifyPasses
  }

  static func corruption(_ job: JobRow, _ mismatches: [IntegrityReport.Mismatch], lost: [String]) -> SyncFailure {
    let named = mismatches.prefix(5).map { "\($0.path) (\($0.detail))" }.joined(separator: ", ")
    let more = mismatches.count > 5 ? " and \(mismatches.count - 5) more" : ""
    var message = "the NAS copy \(job.remotePath) is no longer what was published, in \(mismatches.count) places: \(named)\(more)"
    let run = displayText(job.runPath)
    if job.state == .cleaned {
      return SyncFailure(
        .remoteCorrupted, message + "; the local copy was removed, and the NAS held the only one",
        hint: "Restore the files from the NAS's own snapshots or a backup, then `nassync verify \(run)`. Check the NAS's disks.")
    }
    guard lost.isEmpty else {
      let names = lost.prefix(5).joined(separator: ", ") + (lost.count > 5 ? " and \(lost.count - 5) more" : "")
      message += "; NO GOOD COPY is known of \(names): on this workstation it is gone or another one too"
      return SyncFailure(
        .remoteCorrupted, message,
        hint: "Restore these files here or on the NAS from its own snapshots or a backup, then `nassync retry \(run)`: "
          + "the others are sent again from here.")
    }
    return SyncFailure(
      .remoteCorrupted, message,
      hint: "The local copy is good: `nassync retry \(run)` sends these files again, and what is wrong on the NAS is moved aside there. "
        + "Check the NAS's disks.")
  }

  /// Of the files that are wrong on the NAS, those that this workstation does not have as they were published.
  private func withoutGoodCopy(
    _ job: JobRow, _ mismatches: [IntegrityReport.Mismatch], _ environment: RunnerEnvironment, _ desk: AuditDesk
  ) async throws(SyncFailure) -> [String] {
    let wrong = Set(mismatches.map(\.path))
    let published = try await environment.queue.publishedComponents(ofRun: job.runPath)
    let stop = environment.stop
    var lost: [String] = []
    for row in published where wrong.contains(row.entry.path.description) || wrong.contains(".") {
      let found: ContentDigest?
      do throws(SyncFailure) {
        found = try await desk.readers.next().run { () throws(SyncFailure) in
          try LocalDigest.compute(row.entry.path, in: try RunFolder(root: job.runPath), stop: stop)
        }
      } catch { found = nil }
      if found != row.localDigest { lost.append(row.entry.path.description) }
      if stop.isSet { break }
    }
    return lost
  }

  /// Entries of the record's list of overrides now; 0 where there is no record or none that can be read, so that every revocation counts as
  /// one that came later.
  private func ledgerLength(of job: JobRow) async -> Int {
    let store = RecordStore(runRoot: job.runPath, metadataFolder: configuration.metadataFolder)
    do {
      return try await readers.next().run { () throws(RecordError) in try store.read()?.overrides.count ?? 0 }
    } catch { return 0 }
  }
}

extension JobRunner {
  /// Whether the run is gone together with everything else: a volume that is not mounted looks like that, and says nothing about the run.
  /// - Returns: A sentence, nil where the destination's root holds something.
  func emptyRoot(_ job: JobRow) async throws(StepFailure) -> String? { try await emptyRoot(route.root.appending(job.relative)) }

  /// As for a job.
  /// - Parameter place: Where the run lies, or should.
  func emptyRoot(_ place: RemotePath) async throws(StepFailure) -> String? {
    do {
      return try await route.pool.withSession(width: 1) { (session) throws(TransportError) -> String? in
        if try await session.entry(at: place) != nil { return nil }
        guard try await session.entry(at: route.root) != nil else { return "\(route.root) is not there: is the NAS's volume mounted?" }
        let visible = try await session.list(route.root).contains { $0.name.bytes.first != UInt8(ascii: ".") }
        return visible ? nil : "\(route.root) is empty: is the NAS's volume mounted?"
      }
    } catch { throw StepFailure(error) }
  }
}
