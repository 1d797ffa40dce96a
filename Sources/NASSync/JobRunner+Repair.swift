import Gate
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

/// What the repair of a published run may rest on: what this program published there and knows by its digest.
struct RepairGround: Sendable {
  /// The published files.
  let published: [RelativePath: ContentDigest]
  /// Those among the job's own that are gone here and whole on the NAS: they stay in the run as they are.
  let kept: [RunEntry]

  /// Whether what lies in a component's place on the NAS may be moved aside for it.
  /// - Parameter local: The digest of the file here, where it is known.
  func mayReplace(_ entry: RunEntry, local: ContentDigest?) -> Bool {
    switch entry.kind {
    case .file:
      guard let digest = published[entry.path], !kept.contains(where: { $0.path == entry.path }) else { return false }
      return local == nil || local == digest
    case .folder, .symlink: return true
    case .special: return false
    }
  }

  /// The snapshot with what is only on the NAS.
  func completing(_ snapshot: RunSnapshot) -> RunSnapshot {
    kept.isEmpty ? snapshot : snapshot.replacingEntries((snapshot.entries + kept).sorted { $0.path < $1.path })
  }
}

extension JobRunner {
  /// What a job that puts right a published run may rest on; nil for every other job.
  /// - Throws: `StepFailure` of kind `remote_corrupted` where a published file is gone here and not whole there: no good copy is known.
  func repairGround(_ job: JobRow, snapshot: RunSnapshot) async throws(StepFailure) -> RepairGround? {
    guard job.repairs else { return nil }
    let rows = try await publishedComponents(of: job)
    let here = Set(snapshot.entries.map(\.path))
    let gone = rows.filter { !here.contains($0.entry.path) }
    let layout = RemoteLayout(job: job, root: route.root, metadataFolder: environment.metadataFolder)
    if !gone.isEmpty {
      try await reach(job)
      let digests = try await remoteDigests(gone.map { layout.final.appending($0.entry.path) })
      let lost = gone.filter { row in
        if case .digest(let found, _)? = digests[layout.final.appending(row.entry.path)] { return found != row.localDigest }
        return true
      }
      if !lost.isEmpty { throw StepFailure(Self.noGoodCopy(job, lost.map(\.entry.path.description), "gone from this workstation")) }
    }
    let registered = try await queued { () async throws(SyncFailure) in try await environment.queue.components(of: job) }
    let own = Set(registered.map(\.entry.path))
    return RepairGround(
      published: Dictionary(rows.compactMap { row in row.localDigest.map { (row.entry.path, $0) } }) { $1 },
      kept: gone.filter { own.contains($0.entry.path) }.map(\.entry))
  }

  /// Nothing is repaired from a file that is not the published one.
  static func noGoodCopy(_ job: JobRow, _ names: [String], _ why: String) -> SyncFailure {
    let named = names.prefix(5).joined(separator: ", ") + (names.count > 5 ? " and \(names.count - 5) more" : "")
    return SyncFailure(
      .remoteCorrupted,
      "the NAS copy \(job.remotePath) is not what was published, and NO GOOD COPY is known of \(named): \(why). Nothing was changed",
      hint:
        "Put these files back as they were published, here or on the NAS, from its own snapshots or a backup; `nassync verify` says which "
        + "side is right. Then `nassync retry`.")
  }

  /// Why the gate stops a repair: most of all because a file here is another one by now.
  static func repairStopped(_ job: JobRow, _ verdict: GateVerdict) -> SyncFailure {
    let changed = verdict.blocking.filter { $0.problemClass == .changedAfterSync }
    guard job.repairs, !changed.isEmpty, changed.count == verdict.blocking.count else { return blocked(job, verdict) }
    return noGoodCopy(job, changed.compactMap(\.path), "on this workstation it is another one by now")
  }

  /// What was read here for publishing is what was published before, where it was: a disk may lie without a trace in the times.
  func requirePublishedContent(_ job: JobRow, _ components: [ComponentRow]) async throws(StepFailure) {
    let published = try await publishedComponents(of: job)
    guard !published.isEmpty else { return }
    var known: [RelativePath: ContentDigest] = [:]
    for row in published { known[row.entry.path] = row.localDigest }
    let changed = components.filter { row in
      guard row.entry.kind == .file, let old = known[row.entry.path], let new = row.localDigest else { return false }
      return old != new
    }
    guard !changed.isEmpty else { return }
    let names = changed.map(\.entry.path.description)
    let why = "what is read here now has another SHA-256, though nobody seems to have written to it: check this workstation's disk"
    if job.repairs { throw StepFailure(Self.noGoodCopy(job, names, why)) }
    throw StepFailure(
      SyncFailure(
        .blocked, "changed_after_sync: \(names.prefix(5).joined(separator: ", ")) of \(job.runPath) was published before, and \(why)",
        hint: "Find out which copy is right, put the published file back, then `nassync retry`."))
  }

  /// How the publisher makes room for what is put right; nil for a job that puts nothing right.
  func publisherRepair(_ job: JobRow, layout: RemoteLayout) async throws(StepFailure) -> RunPublisher.Repair? {
    guard job.repairs else { return nil }
    let rows = try await publishedComponents(of: job)
    let last = try await queued { () async throws(SyncFailure) in try await environment.queue.latestVerifiedJob(ofRun: job.runPath) }
    var documents: [RelativePath: ContentDigest] = [:]
    documents[layout.manifest] = last?.manifestDigest
    documents[layout.receipt] = last?.receiptDigest
    return RunPublisher.Repair(
      jobID: job.id, published: Dictionary(rows.compactMap { row in row.localDigest.map { (row.entry.path, $0) } }) { $1 },
      documents: documents,
      announce: { (paths, place) async throws(TransportError) in
        let named = paths.prefix(5).map(\.description).joined(separator: ", ") + (paths.count > 5 ? " and \(paths.count - 5) more" : "")
        let message = "what is wrong on the NAS is moved aside to \(place), for a person to look at and remove: \(named)"
        do throws(SyncFailure) { try await environment.queue.note(job, event: "moved_aside", detail: message) } catch {
          throw .failure(error, sessionLost: false)
        }
        environment.events.send(.warning(runPath: job.runPath, message: message))
      })
  }
}
