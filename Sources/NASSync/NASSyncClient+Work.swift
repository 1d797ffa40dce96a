import Foundation
import JobQueue
import SyncModel
import Synchronization

/// What a `drain()` did.
public struct DrainReport: Sendable, Codable {
  /// Runs that became VERIFIED meanwhile.
  public let done: [RunStatus]
  /// Runs that FAILED meanwhile.
  public let failed: [RunStatus]
  /// Runs that the gate stopped when they were claimed.
  public let blocked: [RunStatus]
  /// Runs that wait for a later try.
  public let waiting: [RunStatus]
  /// Whether another process did the work and this one watched.
  public let elsewhere: Bool
  /// Runs that had failed before and wait for a person: `problems()` lists them.
  public let failedBefore: Int
}

extension NASSyncClient {
  /// Works until nothing is due. Where another process is the worker of the state folder, its progress is followed instead, and taken over
  /// should it die.
  /// - Throws: `SyncFailure` where the queue cannot be used. What happens to single runs is in the report.
  public func drain() async throws(SyncFailure) -> DrainReport {
    let queue = try await queue()
    let before = try await queue.lastSequence()
    var elsewhere = false
    while true {
      if try await becomeWorker() {
        let environment = try await environment()
        work?.endsWhenIdle = true
        work?.task = Task { [weak self] in await self?.runWorkers(environment, untilIdle: true) }
        await work?.task?.value
        work = nil
        break
      }
      elsewhere = true
      if try await follow(queue) { break }
    }
    return try await report(since: before, queue, elsewhere: elsewhere)
  }

  /// - Parameter sequence: The last line of the history before the drain.
  private func report(since sequence: Int64, _ queue: SyncQueue, elsewhere: Bool) async throws(SyncFailure) -> DrainReport {
    var done: [RunStatus] = []
    var failed: [RunStatus] = []
    var blocked: [RunStatus] = []
    let news = try await queue.news(since: sequence).news
    for job in news.filter({ $0.former != nil && $0.former != $0.job.state }).map(\.job) {
      switch job.state {
      case .failed: if job.lastError?.kind == .blocked { blocked.append(RunStatus(job)) } else { failed.append(RunStatus(job)) }
      case .verified: done.append(RunStatus(job))
      default: break
      }
    }
    var waiting: [JobRow] = []
    for state in [JobState.queued, .running, .awaitingVerify] { waiting += try await queue.jobs(in: state) }
    waiting.sort { $0.number < $1.number }
    return DrainReport(
      done: done, failed: failed, blocked: blocked, waiting: waiting.map(RunStatus.init), elsewhere: elsewhere,
      failedBefore: max(0, (try await queue.counts()[.failed] ?? 0) - failed.count - blocked.count))
  }

  /// Shows what the worker elsewhere does, until nothing is due.
  /// - Returns: False where that worker is gone and something is left to do.
  private func follow(_ queue: SyncQueue) async throws(SyncFailure) -> Bool {
    var sequence = try await queue.lastSequence()
    while !Task.isCancelled {
      // Asked before the news are read: whatever brought the last job to its end is among them.
      let isIdle = try await !isAnythingDue(queue)
      let (last, news) = try await queue.news(since: sequence)
      sequence = last
      for item in news {
        guard let former = item.former, former != item.job.state else { continue }
        hub.send(.stateChanged(jobID: item.job.id, runPath: item.job.runPath, from: former, to: item.job.state))
      }
      for job in try await queue.jobs(in: .running) {
        hub.send(
          .progress(
            JobProgress(
              jobID: job.id, runPath: job.runPath, filesDone: job.filesDone, filesTotal: job.filesTotal, bytesSent: job.bytesSent,
              bytesTotal: job.bytesTotal, currentFile: nil)))
      }
      if isIdle { return true }
      if let lock = try WorkerLock.take(stateDirectory: configuration.stateDirectory) {
        withExtendedLifetime(lock) {}
        return false
      }
      do { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + 300_000_000) } catch { return true }
    }
    return true
  }

  private func isAnythingDue(_ queue: SyncQueue) async throws(SyncFailure) -> Bool {
    try await queue.isAnythingDue(excludingDestinations: try await unreachable(queue))
  }

  /// Destinations that did not answer and whose next try is not due yet.
  private func unreachable(_ queue: SyncQueue) async throws(SyncFailure) -> Set<String> {
    let now = clock.wallSeconds
    return Set(try await queue.outages().filter { $0.nextAttemptAt > now }.map(\.destination))
  }

  // MARK: - Workers

  /// Runs `configuration.workers` jobs at a time until told to stop, or, for a drain, until nothing is due.
  func runWorkers(_ environment: RunnerEnvironment, untilIdle: Bool) async {
    let load = WorkLoad()
    await withTaskGroup(of: Void.self) { group in
      var started = 0
      repeat {
        // A reload may ask for more workers. One too many ends its job and rests.
        while started < max(1, configuration.workers) {
          let index = started
          group.addTask { [weak self] in await self?.workerLoop(index, environment, load: load, untilIdle: untilIdle) }
          started += 1
        }
        if untilIdle { break }
        do { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + 500_000_000) } catch { break }
      } while !environment.stop.isSet
      await group.waitForAll()
    }
  }

  /// How many workers one instrument, and one destination, may hold: where there are others, one is left to them, so that transfers that
  /// hang hold up nobody else while their deadline runs.
  private func lanes() -> (equipment: Int, destination: Int) {
    let fewer = max(1, configuration.workers - 1)
    let places = Set(configuration.equipment.map { route(for: $0).pool.driver.address }).count
    return (configuration.equipment.count > 1 ? fewer : .max, places > 1 ? fewer : .max)
  }

  private func workerLoop(_ index: Int, _ environment: RunnerEnvironment, load: WorkLoad, untilIdle: Bool) async {
    var failingSince: UInt64?
    while !environment.stop.isSet, !Task.isCancelled {
      if index >= max(1, configuration.workers), !untilIdle {
        do { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + 500_000_000) } catch { return }
        continue
      }
      do throws(SyncFailure) {
        let excluded = try await unreachable(environment.queue)
        let lanes = lanes()
        let claimed = try await load.claim { (inFlight) async throws(SyncFailure) in
          try await environment.queue.claimNext(
            worker: environment.worker, inFlight: inFlight.equipments,
            excludingDestinations: excluded.union(inFlight.destinations.filter { $0.value >= lanes.destination }.keys),
            atMost: lanes.equipment)
        }
        failingSince = nil
        if let job = claimed {
          await work(on: job, renewed(environment))
          await load.finished(job)
          continue
        }
        for pool in pools() { await pool.closeIdle() }
        await closeUnusedPools()
        if try await environment.queue.forgetTimes(beyond: environment.policy.longestWait) > 0 { continue }
        if untilIdle, await load.isIdle, try await !isAnythingDue(environment.queue) { return }
      } catch {
        // A full disk or a held lock: the queue is asked again until it answers; nothing is claimed meanwhile.
        let now = clock.monotonicNanoseconds
        if failingSince == nil, await load.isFirstToTell(error) { hub.send(.warning(runPath: nil, message: "\(error)")) }
        let since = failingSince ?? now
        failingSince = since
        // Whoever started a drain waits for its end, a service for better times.
        if untilIdle, !error.retry || now - since > 60_000_000_000 { return }
      }
      do { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + (untilIdle ? 50_000_000 : 250_000_000)) } catch { return }
    }
  }

  private func work(on job: JobRow, _ environment: RunnerEnvironment) async {
    if job.state == .running { hub.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: .queued, to: .running)) }
    guard let profile = configuration.equipment(id: job.equipmentID) else {
      await settleUnknown(job, environment)
      return
    }
    await JobRunner(environment: environment, route: route(for: profile)).run(job)
  }

  /// An instrument that is no longer configured: nobody guesses where its runs go.
  private func settleUnknown(_ job: JobRow, _ environment: RunnerEnvironment) async {
    let failure = SyncFailure(
      .misconfigured, "the instrument \(job.equipmentID) of \(displayText(job.runPath)) is not configured any more",
      hint: "Put its file back into \(configuration.equipmentDirectory ?? "equipment_dir"), then `nassync retry`.")
    var change = JobChange()
    change.releasesClaim = true
    change.lastError = .some(failure)
    do throws(SyncFailure) {
      try await environment.queue.transition(job, on: .gaveUp, worker: environment.worker, change: change, detail: failure.description)
      hub.send(.failed(jobID: job.id, runPath: job.runPath, failure: failure, nextAttemptAt: nil))
    } catch { hub.send(.warning(runPath: job.runPath, message: "\(error)")) }
  }
}

/// How many jobs of each instrument, and to each destination, are in flight. One claim at a time, so that two workers do not both see the same instrument as idle.
private actor WorkLoad {
  struct InFlight: Sendable {
    var equipments: [String: Int] = [:]
    var destinations: [String: Int] = [:]

    mutating func add(_ job: JobRow, _ count: Int) {
      equipments[job.equipmentID, default: 0] += count
      destinations[job.destination, default: 0] += count
      if equipments[job.equipmentID] == 0 { equipments[job.equipmentID] = nil }
      if destinations[job.destination] == 0 { destinations[job.destination] = nil }
    }
  }

  private var inFlight = InFlight()
  /// Claims that are made or wait for their turn.
  private var claiming = 0
  private var told: SyncFailure?

  /// Whether no other worker has told this failure just now.
  func isFirstToTell(_ failure: SyncFailure) -> Bool {
    defer { told = failure }
    return told != failure
  }
  private var isTaken = false
  private var waiters: [CheckedContinuation<Void, Never>] = []

  func claim(
    _ body: @Sendable (InFlight) async throws(SyncFailure) -> JobRow?
  ) async throws(SyncFailure) -> JobRow? {
    claiming += 1
    // An actor takes the next call while the body waits; the turn is handed on explicitly.
    if isTaken { await withCheckedContinuation { waiters.append($0) } } else { isTaken = true }
    defer {
      claiming -= 1
      if waiters.isEmpty { isTaken = false } else { waiters.removeFirst().resume() }
    }
    guard let job = try await body(inFlight) else { return nil }
    inFlight.add(job, 1)
    return job
  }

  /// - Parameter job: As it was claimed.
  func finished(_ job: JobRow) { inFlight.add(job, -1) }

  /// Whether nothing is running and nobody is just claiming.
  var isIdle: Bool { inFlight.equipments.isEmpty && claiming == 0 }
}
