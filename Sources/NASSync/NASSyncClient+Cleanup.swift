import Cleanup
import Configuration
import Foundation
import Intake
import JobQueue
import SyncModel

/// Removing local copies whose NAS copy is proven.
extension NASSyncClient {
  /// Removes the local copies of runs, each only where every condition of a deletion is met at this moment.
  ///
  /// Naming a run is an operator's word and works whatever `cleanup.enabled` says; every condition is looked at then, also where one is
  /// known to be unmet. Without names, all runs are taken that are eligible, or are verified and become so; what the queue knows to be
  /// unmet spares the look at the NAS.
  /// - Parameters:
  ///   - runs: Paths; nil is one pass over all runs.
  ///   - dryRun: Everything is looked at, and nothing is written, neither here nor in the queue.
  /// - Throws: `SyncFailure` of kind `misconfigured` for a run without a job, and without names where `cleanup.enabled` is false;
  ///   what keeps the queue from being used. What keeps a run's copy is in its outcome.
  public func cleanup(
    runs: [String]? = nil, equipment: String? = nil, dryRun: Bool = false
  ) async throws(SyncFailure) -> CleanupReport {
    try await cleanup(runs: runs, equipment: equipment, dryRun: dryRun, hook: { _, _ in })
  }

  /// As the public one.
  /// - Parameter hook: Called between the steps of each removal.
  package func cleanup(
    runs: [String]?, equipment: String? = nil, dryRun: Bool = false, hook: @escaping RunCleaner.Hook
  ) async throws(SyncFailure) -> CleanupReport {
    guard runs != nil || dryRun || configuration.cleanup.enabled else {
      throw SyncFailure(
        .misconfigured, "cleanup.enabled is false, so only runs that are named are cleaned",
        hint: "Name the runs: `nassync cleanup RUN…`; or set cleanup.enabled. `--dry-run` shows all of them.")
    }
    let queue = try await queue()
    var jobs: [JobRow] = []
    if let runs {
      for run in runs {
        let (location, _) = try await locate(run, equipment: equipment, mayBeGone: true)
        guard let job = try await queue.latestJob(ofRun: location.root) else {
          throw SyncFailure(
            .misconfigured, "\(displayText(location.root)) has no job", hint: "`nassync enqueue` and `nassync drain` bring it to the NAS.")
        }
        jobs.append(job)
      }
    } else {
      let verified = try await queue.verifiedJobs(minimumPasses: dryRun ? 0 : configuration.cleanup.minVerifyPasses)
      jobs = (verified + (try await queue.jobs(in: .cleanupEligible))).sorted { $0.number < $1.number }
      // An older generation is its newer one's matter.
      var newest: [JobRow] = []
      for job in jobs where try await queue.latestJob(ofRun: job.runPath)?.number == job.number { newest.append(job) }
      jobs = newest
    }
    var lock: WorkerLock?
    if !dryRun {
      lock = try WorkerLock.take(stateDirectory: configuration.stateDirectory, name: "cleanup.lock")
      if lock == nil { return CleanupReport(elsewhere: true, runs: []) }
    }
    defer { withExtendedLifetime(lock) {} }
    let environment = try await environment()
    var outcomes: [CleanupOutcome] = []
    for job in jobs {
      do throws(SyncFailure) {
        outcomes.append(try await clean(job, environment, asked: runs != nil, dryRun: dryRun, by: "cleanup", hook: hook))
      } catch {
        // What became of the runs before this one must be told, and those after it have nothing to do with it.
        if error.kind == .interrupted { throw error }
        outcomes.append(CleanupOutcome(job, dryRun: dryRun, result: .kept, error: error))
      }
    }
    return CleanupReport(elsewhere: false, runs: outcomes)
  }

  // MARK: - One run

  /// Two looks at the NAS count as two where so much trusted time is between them.
  var passSpacing: Double { min(configuration.verify.auditInterval, 3_600) }

  /// - Parameter asked: An operator named the run, and wants every condition looked at.
  private func clean(
    _ job: JobRow, _ environment: RunnerEnvironment, asked: Bool, dryRun: Bool, by: String, hook: @escaping RunCleaner.Hook
  ) async throws(SyncFailure) -> CleanupOutcome {
    if job.state == .cleaned { return CleanupOutcome(job, dryRun: dryRun, result: .nothingToDo) }
    guard let profile = configuration.equipment(id: job.equipmentID) else {
      return CleanupOutcome(
        job, dryRun: dryRun, result: .kept,
        error: SyncFailure(
          .misconfigured, "the instrument \(job.equipmentID) of \(displayText(job.runPath)) is not configured any more",
          hint: "Put its file back into equipment_dir: without it nobody knows which NAS to ask."))
    }
    let route = route(for: profile)
    let inspector = CleanupInspector(
      client: self, environment: environment, route: route, settings: configuration.cleanup, passSpacing: passSpacing, recordsPass: !dryRun)
    // What an older job's removal left goes on under no other; this job's own is finished by its removal.
    if !dryRun { try await giveBackSetAside(job.runPath, except: job.id, queue: environment.queue) }
    let passes = try await environment.queue.passes(of: job)
    let known = try await inspector.facts(of: job, passes: passes, reference: passes.last)
    let worthAsking = known.newerJob == nil && CleanupInterlocks.isEligible(known)
    var look = try await inspector.look(at: job, asksNAS: asked || worthAsking)
    guard !dryRun else { return dryOutcome(look) }

    if look.job.state == .verified, look.facts.newerJob == nil, CleanupInterlocks.isEligible(look.facts) {
      look.job = try await becomeEligible(look.job, environment)
      look.facts.state = look.job.state
    }
    if !look.corrupted.isEmpty, look.job.state == .verified || look.job.state == .cleanupEligible {
      return try await settleCorrupted(look, environment)
    }
    guard let proof = CleanupInterlocks.permission(look.facts), look.job.state == .cleanupEligible else {
      return try await keep(look, environment, asked: asked)
    }
    let removal = LocalRemoval(
      client: self, environment: environment, route: route, look: look, retainMetadata: configuration.cleanup.retainMetadata, by: by,
      hook: hook)
    let ending: LocalRemoval.Ending
    do throws(SyncFailure) { ending = try await removal.run(proof) } catch {
      // The queue may be what failed; then its own failure is the one to tell.
      try await environment.queue.noteKept(look.job, reason: error.message)
      return CleanupOutcome(look.job, dryRun: false, result: .kept, interlocks: look.interlocks, error: error)
    }
    return try await settle(look, ending, environment)
  }

  private func dryOutcome(_ look: CleanupLook) -> CleanupOutcome {
    let there = Set(look.snapshot?.entries.map(\.path) ?? [])
    let keepsMetadata = configuration.cleanup.retainMetadata
    let metadata = Array(configuration.metadataFolder.utf8)
    let files = look.components.filter { row in
      row.entry.kind == .file && there.contains(row.entry.path)
        && !(keepsMetadata && row.entry.path.segments.first?.elementsEqual(metadata) ?? false)
    }
    let open = CleanupInterlocks.permission(look.facts) != nil
    return CleanupOutcome(
      look.job, dryRun: true, result: open ? .wouldClean : .kept, interlocks: look.interlocks, files: files.count,
      bytes: files.reduce(0) { $0 &+ $1.entry.fingerprint.size })
  }

  private static func counted(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }

  private func becomeEligible(_ job: JobRow, _ environment: RunnerEnvironment) async throws(SyncFailure) -> JobRow {
    let moved = try await environment.queue.transition(
      job, on: .becameEligible, worker: nil, detail: "\(Self.counted(job.verifyPasses, "verification")), the age is reached")
    hub.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: job.state, to: moved.state))
    return moved
  }

  private func keep(_ look: CleanupLook, _ environment: RunnerEnvironment, asked: Bool) async throws(SyncFailure) -> CleanupOutcome {
    let unmet = look.interlocks.filter { !$0.met }
    let reason = "kept: " + unmet.map { "\($0.name.rawValue) (\($0.detail))" }.joined(separator: "; ")
    if look.job.state == .cleanupEligible, look.unreachable == nil || asked {
      try await environment.queue.noteKept(look.job, reason: reason)
      if !asked { hub.send(.warning(runPath: look.job.runPath, message: "the local copy stays: \(reason)")) }
    } else if asked {
      try await environment.queue.note(look.job, event: "cleanup_refused", detail: reason)
    }
    if let failure = look.unreachable { try await noteOutage(look.job, failure, environment) }
    return CleanupOutcome(look.job, dryRun: false, result: .kept, interlocks: look.interlocks)
  }

  private func noteOutage(_ job: JobRow, _ failure: SyncFailure, _ environment: RunnerEnvironment) async throws(SyncFailure) {
    let pause = configuration.retry.backoff.first ?? 30
    try await environment.queue.recordOutage(job.destination, failure: failure, nextAttemptAt: clock.wallSeconds + pause)
    hub.send(.outage(destination: job.destination, failure: failure))
  }

  /// The NAS's copy is not what was published: the local one is the good one, and it stays.
  private func settleCorrupted(_ look: CleanupLook, _ environment: RunnerEnvironment) async throws(SyncFailure) -> CleanupOutcome {
    let first = look.corrupted.prefix(3).map { "\($0.path) (\($0.detail))" }.joined(separator: ", ")
    let failure = SyncFailure(
      .remoteCorrupted, "the NAS copy of \(displayText(look.job.runPath)) is not what was published: \(first)",
      hint: "Nothing was removed here. Look at the NAS's disks, then `nassync retry` sends what is wrong there again from here.")
    var change = JobChange()
    change.attempts = 0
    change.mismatches = 0
    change.lastError = .some(failure)
    change.repairs = true
    change.fault = failure.message
    let moved = try await environment.queue.transition(
      look.job, on: .remoteCorrupted, worker: nil, change: change, detail: failure.message)
    hub.send(.stateChanged(jobID: look.job.id, runPath: look.job.runPath, from: look.job.state, to: moved.state))
    warn(await gateKeeper.setSyncStatus(.failed, runPath: look.job.runPath), run: look.job.runPath)
    hub.send(.failed(jobID: look.job.id, runPath: look.job.runPath, failure: failure, nextAttemptAt: nil))
    return CleanupOutcome(moved, dryRun: false, result: .kept, interlocks: look.interlocks, error: failure)
  }

  private func settle(
    _ look: CleanupLook, _ ending: LocalRemoval.Ending, _ environment: RunnerEnvironment
  ) async throws(SyncFailure) -> CleanupOutcome {
    let certificate = ending.certificate
    func outcome(_ job: JobRow, _ result: CleanupOutcome.Result, _ error: SyncFailure? = nil) -> CleanupOutcome {
      CleanupOutcome(
        job, dryRun: false, result: result, interlocks: look.interlocks, files: ending.files, bytes: ending.bytes, kept: certificate.kept,
        error: error, certificate: certificate)
    }
    switch certificate.progress {
    case .started:
      return outcome(
        look.job, .partial,
        SyncFailure(.interrupted, "the clean-up was told to stop", hint: "It goes on where it was, after the same questions."))
    case .partial:
      let named = certificate.kept.prefix(3).map { "\($0.path) (\($0.reason))" }.joined(separator: ", ")
      let reason = "\(certificate.removed) removed, \(certificate.kept.count) stay: \(named)"
      try await environment.queue.noteKept(look.job, reason: reason)
      hub.send(.warning(runPath: look.job.runPath, message: "the local copy is removed in part: \(reason)"))
      return outcome(
        try await environment.queue.job(number: look.job.number), .partial,
        SyncFailure(
          .local, reason,
          hint: "What was never sent is sent by `nassync enqueue`. Look at the rest; the next clean-up tries it again."))
    case .done:
      let moved = try await environment.queue.transition(
        look.job, on: .removedLocally, worker: nil,
        detail: "\(certificate.removed) files and links removed, \(ending.bytes) bytes in this attempt; "
          + "\(Self.counted(certificate.files.count, "file")) "
          + "proven at \(certificate.remotePath) before, after \(Self.counted(certificate.passes.count, "verification")), by "
          + "\(certificate.remover.user)@\(certificate.remover.host) with \(certificate.remover.by)")
      hub.send(.stateChanged(jobID: moved.id, runPath: moved.runPath, from: look.job.state, to: moved.state))
      return outcome(moved, .cleaned)
    }
  }

  // MARK: - The service

  /// Looks for runs whose local copy may go, until the service stops. Apart from the other rounds of care, because a proof can take hours.
  func runReaper(_ environment: RunnerEnvironment) async {
    var told: SyncFailure?
    while !environment.stop.isSet, !Task.isCancelled {
      do throws(SyncFailure) {
        try await reapEligibleRuns(environment)
        told = nil
      } catch {
        if told != error, error.kind != .interrupted { hub.send(.warning(runPath: nil, message: "\(error)")) }
        told = error
      }
      // An age of a day is not met a second sooner for being asked every second.
      let pause = min(60, max(Self.careInterval, configuration.cleanup.minAgeHours * 60))
      let next = clock.monotonicNanoseconds + UInt64(pause * 1e9)
      do throws(CancellationError) { try await clock.sleep(untilMonotonic: next) } catch { return }
    }
  }

  /// Marks runs whose passes and age are met as eligible and, where `cleanup.enabled`, removes their local copies.
  func reapEligibleRuns(_ environment: RunnerEnvironment) async throws(SyncFailure) {
    let queue = environment.queue
    try await markEligibleRuns(environment)
    guard configuration.cleanup.enabled else { return }
    var lock: WorkerLock?
    defer { withExtendedLifetime(lock) {} }
    var first: SyncFailure?
    var last: Int64 = 0
    while !environment.stop.isSet {
      let some = try await queue.removableJobs(after: last, notKeptFor: Self.shortestPause)
      guard let end = some.last?.number else { break }
      last = end
      for job in try await dueForRemoval(some, queue) {
        guard !environment.stop.isSet else { return }
        if lock == nil { lock = try WorkerLock.take(stateDirectory: configuration.stateDirectory, name: "cleanup.lock") }
        guard lock != nil else { return }
        // A NAS that did not answer the run before does not answer this one either.
        if try await isOut(job.destination, queue) { continue }
        let fresh = try await queue.job(number: job.number)
        guard fresh.state == .cleanupEligible else { continue }
        do throws(SyncFailure) {
          _ = try await clean(fresh, environment, asked: false, dryRun: false, by: "serve", hook: { _, _ in })
        } catch {
          // One run that cannot be cleaned must not hold up those behind it.
          if error.kind == .interrupted { throw error }
          first = first ?? error
        }
      }
    }
    if let first { throw first }
  }

  /// A piece at a time, so that however many runs wait for their age, they are not all in memory.
  private func markEligibleRuns(_ environment: RunnerEnvironment) async throws(SyncFailure) {
    let queue = environment.queue
    let settings = configuration.cleanup
    // A second more: the clock is read again for the decision itself. No clock lets an age be longer than the wall's.
    let before = clock.wallSeconds - settings.minAgeHours * 3_600 + 1
    var last: Int64 = 0
    while !environment.stop.isSet {
      let some = try await queue.ripeningJobs(after: last, minimumPasses: settings.minVerifyPasses, before: before)
      guard let end = some.last?.number else { return }
      last = end
      for job in some {
        guard !environment.stop.isSet, let profile = configuration.equipment(id: job.equipmentID) else { continue }
        let inspector = CleanupInspector(
          client: self, environment: environment, route: route(for: profile), settings: settings, passSpacing: passSpacing,
          recordsPass: false)
        let passes = try await queue.passes(of: job)
        let known = try await inspector.facts(of: job, passes: passes, reference: passes.last)
        if known.newerJob == nil, CleanupInterlocks.isEligible(known) { _ = try await becomeEligible(job, environment) }
      }
    }
  }

  /// Seconds until a run that was kept is tried again for the first time.
  private static let shortestPause: Double = 900

  /// Of eligible runs those whose next try is due: at once, and after each time that they were kept a quarter of an hour, doubled up to a day.
  private func dueForRemoval(_ jobs: [JobRow], _ queue: SyncQueue) async throws(SyncFailure) -> [JobRow] {
    let now = clock.wallSeconds
    var due: [JobRow] = []
    for job in jobs {
      if let at = job.cleanupNotedAt, at <= now {
        let times = try await queue.timesKept(job)
        let pause = min(86_400, Self.shortestPause * Double(1 << min(max(0, times - 1), 7)))
        guard now - at >= pause else { continue }
      }
      guard try await queue.latestJob(ofRun: job.runPath)?.number == job.number else { continue }
      due.append(job)
    }
    return due
  }

  private func isOut(_ destination: String, _ queue: SyncQueue) async throws(SyncFailure) -> Bool {
    let now = clock.wallSeconds
    return try await queue.outages().contains { $0.destination == destination && $0.nextAttemptAt > now }
  }

  // MARK: - What was set aside

  /// Gives files that a removal which died had set aside their own names back. The caller holds the lock of the clean-ups.
  /// - Parameter except: Job whose own removal goes on with them.
  private func giveBackSetAside(_ runPath: String, except: String?, queue: SyncQueue) async throws(SyncFailure) {
    let folder = configuration.metadataFolder
    let left = try await readers.next().run { () throws(SyncFailure) in SetAside(root: runPath, metadataFolder: folder) }
    guard let left else { return }
    for job in try await queue.jobs(ofRun: runPath) where job.id != except && left.isLeft(byJob: job.id) {
      let listed = try await queue.components(of: job).map(\.entry)
      let given = try await readers.next().run { () throws(SyncFailure) in left.giveBack(job: job.id, listed: listed) }
      guard !given.isEmpty else { continue }
      let named = given.prefix(5).map(\.description).joined(separator: ", ")
      try await queue.note(job, event: "set_aside_given_back", detail: "a removal that ended early had set it aside: \(named)")
    }
  }

  /// As above, for whoever is about to rest on the run's folder.
  /// - Returns: False where a clean-up is under way, which what is set aside may belong to.
  func giveBackSetAside(_ runPath: String, queue: SyncQueue) async throws(SyncFailure) -> Bool {
    let folder = configuration.metadataFolder
    let isLeft = try await readers.next().run { () throws(SyncFailure) in SetAside(root: runPath, metadataFolder: folder) != nil }
    guard isLeft else { return true }
    guard let lock = try WorkerLock.take(stateDirectory: configuration.stateDirectory, name: "cleanup.lock") else { return false }
    defer { withExtendedLifetime(lock) {} }
    try await giveBackSetAside(runPath, except: nil, queue: queue)
    return true
  }

  // MARK: - Problems

  /// A run that may be cleaned and was not, because a person is needed.
  static func cleanupProblem(_ job: JobRow) -> Problem? {
    guard job.state == .cleanupEligible, let note = job.cleanupNote, let at = job.cleanupNotedAt else { return nil }
    return Problem(
      problemClass: "cleanup_kept", severity: .warning, runPath: job.runPath, equipmentID: job.equipmentID, destination: job.destination,
      since: Date(timeIntervalSince1970: at), message: note, blocks: "nothing; the local copy stays on this workstation",
      nextStep: "`nassync cleanup --dry-run \(shellWord(job.runPath))` shows every condition. New files are sent by "
        + "`nassync enqueue \(shellWord(job.runPath))`.")
  }
}
