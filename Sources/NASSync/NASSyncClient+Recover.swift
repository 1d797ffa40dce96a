import Configuration
import Foundation
import Intake
import JobQueue
import SyncModel
import Transport

extension NASSyncClient {
  /// Rebuilds what a lost or damaged queue file knew: from the runs and their records here, and from the manifests and receipts on the NAS.
  ///
  /// A damaged file is moved aside, never removed. A run that the queue knows is left alone. One that is published is compared with its manifest
  /// byte by byte on the NAS, and by content here, and then stands where it stood: VERIFIED, or CLEANED where nothing of it is here; its verifications
  /// start to count anew, so that nothing is deleted on the word of what was lost. One that had been enqueued and is not published is enqueued.
  /// A run that never was is left to whoever enqueues it.
  /// - Parameters:
  ///   - runs: Only these; empty is every run of the usual layout, here and on the NAS.
  ///   - equipment: The instrument, where a path does not say; without runs, only this instrument's.
  ///   - dryRun: Looks, and writes nothing.
  /// - Throws: `SyncFailure`: `local` where a service works on the queue, or the disk gives an error; `misconfigured` for a run of no known instrument.
  public func recover(runs: [String] = [], equipment: String? = nil, dryRun: Bool = false) async throws(SyncFailure) -> RecoverReport {
    guard work == nil, let lock = try lockForRecovery() else {
      throw SyncFailure(
        .local, "a service works on \(configuration.stateDirectory)", hint: "Stop it first: what it has in hand is not lost.", retry: false)
    }
    defer { withExtendedLifetime(lock) {} }
    if isClosed { throw SyncFailure(.local, "this client is closed", hint: "Make another one.", retry: false) }
    let damage = try await SyncQueue.damage(stateDirectory: configuration.stateDirectory, clock: clock)
    var setAside: String?
    if damage != nil, !dryRun {
      await closeQueue()
      setAside = try SyncQueue.setAside(stateDirectory: configuration.stateDirectory, suffix: "damaged-\(Self.stamp(clock.wallSeconds))")
    }
    // A dry run beside a damaged file knows of no job, and makes no file in the state folder.
    let present = dryRun ? (damage == nil ? try await queueIfPresent() : nil) : try await queue()
    guard let present else {
      let scratch = FileManager.default.temporaryDirectory.path + "/nassync-recover-\(UUID().uuidString)"
      let queue = try await SyncQueue.open(stateDirectory: scratch, clock: clock)
      let result: Result<RecoverReport, SyncFailure>
      do throws(SyncFailure) {
        result = .success(try await recover(runs, equipment, Recovery(queue: queue, dryRun: true, damage: damage, setAside: nil)))
      } catch { result = .failure(error) }
      await queue.close()
      try? FileManager.default.removeItem(atPath: scratch)  // an empty file in the temporary folder does no harm
      return try result.get()
    }
    return try await recover(runs, equipment, Recovery(queue: present, dryRun: dryRun, damage: damage, setAside: setAside))
  }

  private struct Recovery {
    let queue: SyncQueue
    let dryRun: Bool
    let damage: String?
    let setAside: String?
  }

  private func recover(_ runs: [String], _ equipment: String?, _ recovery: Recovery) async throws(SyncFailure) -> RecoverReport {
    let environment = environment(queue: recovery.queue, bandwidth: try bandwidth(), stop: StopFlag())
    var search = RecoverySearch(configuration: configuration)
    if runs.isEmpty {
      let roots = search.roots(of: equipment)
      search.add(await readers.next().run { RunFinder.find(roots) })
      for profile in configuration.equipment where equipment == nil || profile.id == equipment {
        await search.addRemote(profile, route(for: profile), known: Set(try await recovery.queue.jobIDs().map(JobRow.stagingName)))
      }
    } else {
      for run in runs { search.add(try await locate(run, equipment: equipment, mayBeGone: true).0, isNamed: true) }
    }
    var found: [RecoverReport.Run] = []
    for candidate in search.candidates.values.sorted(by: { $0.location.root < $1.location.root }) {
      if let outcome = await recover(candidate, recovery, environment) { found.append(outcome) }
    }
    return RecoverReport(
      dryRun: recovery.dryRun, damage: recovery.damage, setAside: recovery.setAside, runs: found, obstacles: search.obstacles,
      leftovers: search.leftovers.sorted())
  }

  private func lockForRecovery() throws(SyncFailure) -> WorkerLock? {
    if !FileManager.default.fileExists(atPath: configuration.stateDirectory) {
      do { try FileManager.default.createDirectory(atPath: configuration.stateDirectory, withIntermediateDirectories: true) } catch {
        throw SyncFailure(
          .local, "cannot make the state folder \(configuration.stateDirectory): \(error.localizedDescription)",
          hint: "Choose a state_dir that the user running nassync may write to.")
      }
    }
    return try WorkerLock.take(stateDirectory: configuration.stateDirectory)
  }

  /// `20261121T150102Z`, for a file's name.
  private static func stamp(_ wall: Double) -> String {
    Date(timeIntervalSince1970: wall).formatted(.iso8601.dateSeparator(.omitted).timeSeparator(.omitted))
  }

  /// - Returns: Nil where the run is nobody's business here.
  private func recover(
    _ candidate: RecoverySearch.Candidate, _ recovery: Recovery, _ environment: RunnerEnvironment
  ) async -> RecoverReport.Run? {
    let location = candidate.location
    do throws(SyncFailure) {
      if let job = try await recovery.queue.latestJob(ofRun: location.root) {
        return RecoverReport.Run(location, .known, "the queue knows it: \(job.state.rawValue)")
      }
      guard let profile = configuration.equipment(id: location.equipment) else { return nil }
      let local = try await localRun(location, profile)
      let inspection = RunRecovery(environment: environment, route: route(for: profile), location: location, local: local)
      switch try await inspection.look(isNamed: candidate.isNamed) {
      case .foreign: return nil
      case .unpublished(let status?):
        return try await enqueueAgain(inspection, because: "its record says \(status), and the NAS does not hold it", recovery)
      case .unpublished(nil):
        guard candidate.isNamed else { return nil }
        return RecoverReport.Run(location, .unclear, "it is not published, and was never enqueued", hint: "`nassync enqueue` it.")
      case .published(let run, let hasMore):
        if !recovery.dryRun, try await recovery.queue.add(run) == nil {
          return RecoverReport.Run(location, .known, "the queue knows it by now")
        }
        if hasMore { return try await enqueueAgain(inspection, because: "\(run.detail); files lie here that were not published", recovery) }
        return RecoverReport.Run(location, run.isCleaned ? .cleaned : .verified, run.detail)
      case .notWhole(let run?):
        if !recovery.dryRun { _ = try await recovery.queue.add(run) }
        return RecoverReport.Run(
          location, .notWhole, run.detail,
          hint: "Nothing of it is here. Look at the NAS's disks, and bring the folder back from its snapshots.")
      case .notWhole(nil):
        let again = try await enqueueAgain(inspection, because: "the NAS does not hold what its manifest says", recovery)
        return RecoverReport.Run(
          location, .notWhole, again.detail + "; it is \(again.outcome.rawValue) again from here",
          hint: "`nassync drain` adds what is missing there and names what differs.")
      }
    } catch {
      return RecoverReport.Run(location, .unclear, error.message, hint: error.hint, kind: error.kind)
    }
  }

  /// The run's tree here; nil where its folder is gone.
  private func localRun(_ location: RunLocation, _ profile: EquipmentProfile) async throws(SyncFailure) -> RunSnapshot? {
    do throws(SyncFailure) { return try await scan(location, profile) } catch {
      if error.kind == .localVanished { return nil }
      throw error
    }
  }

  private func enqueueAgain(
    _ inspection: RunRecovery, because reason: String, _ recovery: Recovery
  ) async throws(SyncFailure) -> RecoverReport.Run {
    let location = inspection.location
    let blocked: Bool
    if recovery.dryRun, let local = inspection.local {
      blocked = !(await gateKeeper.evaluate(local, at: location, published: [], limits: inspection.route.limits).verdict.isOpen)
    } else {
      blocked = try await enqueue(location.root, equipment: location.equipment).state == .blocked
    }
    return RecoverReport.Run(location, blocked ? .blocked : .queued, reason, hint: blocked ? "`nassync gate` says what keeps it." : nil)
  }
}
