import Cleanup
import Configuration
import Digests
import Executors
import Foundation
import Gate
import Intake
import JobQueue
import SyncModel
import Verification

/// Removes one run's local copy, once every condition is met: journal, removal, a last look, certificate.
struct LocalRemoval: Sendable {
  let client: NASSyncClient
  let environment: RunnerEnvironment
  let route: RunnerEnvironment.Route
  let look: CleanupLook
  let retainMetadata: Bool
  /// `serve` or `cleanup`.
  let by: String
  let hook: RunCleaner.Hook

  /// What came of it.
  struct Ending: Sendable {
    let certificate: DeletionCertificate
    let files: Int
    let bytes: UInt64
    let stopped: Bool
  }

  /// - Throws: `SyncFailure` where nothing was removed, or where the process could not go on; what was removed until then is found out by
  ///   the next attempt.
  func run(_ proof: VerifiedReceipt) async throws(SyncFailure) -> Ending {
    let job = look.job
    let began = try await environment.queue.removalBegan(job)
    let plan = try RemovalPlan(
      root: job.runPath, metadataFolder: environment.metadataFolder, retainMetadata: retainMetadata, jobID: job.id,
      listed: look.components.map { ($0.entry, $0.localDigest) }, proof: proof, removalBegan: began)
    var certificate = certificate(plan)
    // A crash after everything went, the run's folder too: there is nothing left to do but to say so.
    guard look.snapshot != nil else {
      certificate.progress = .done
      certificate.endedAt = now
      certificate.removed = look.facts.local.removedBefore
      return Ending(certificate: certificate, files: 0, bytes: 0, stopped: false)
    }
    try await write(certificate)
    try await environment.queue.beginRemoval(
      job, detail: "\(plan.items.count) files and links are being removed, on \(proof.proofs.count) proofs of this moment")

    let (stop, hook) = (environment.stop, hook)
    let executor = ThreadExecutor(name: "nassync-clean")
    defer { executor.shutdown() }
    // A removal may take hours: what an audit finds meanwhile ends it between two names.
    let doubt = StopFlag()
    let watching = Task { await watch(job, doubt) }
    defer { watching.cancel() }
    let result = try await executor.run { () throws(SyncFailure) in
      try RunCleaner(plan, hook: hook).remove(shouldStop: { stop.isSet || doubt.isSet })
    }
    var kept = result.kept.map { DeletionCertificate.Kept(path: $0.path.description, reason: $0.reason) }
    if !result.stopped { kept += try await leftOver(plan, known: Set(result.kept.map(\.path))) }
    certificate.progress = result.stopped ? .started : kept.isEmpty ? .done : .partial
    certificate.endedAt = now
    certificate.removed =
      look.facts.local.removedBefore - result.setAsideBefore + result.removedFiles.count + result.removedLinks.count
    certificate.bytesFreed = result.bytes
    certificate.kept = kept
    if !result.stopped { try await write(certificate) }
    if certificate.progress == .done { await finish(plan) }
    return Ending(certificate: certificate, files: result.removedFiles.count, bytes: result.bytes, stopped: result.stopped)
  }

  /// Sets the flag as soon as the job is no longer the run's newest, waiting for its removal.
  private func watch(_ job: JobRow, _ doubt: StopFlag) async {
    while !Task.isCancelled {
      do throws(SyncFailure) {
        let newest = try await environment.queue.latestJob(ofRun: job.runPath)
        if newest?.number != job.number || newest?.state != .cleanupEligible {
          doubt.set()
          return
        }
      } catch {
        // A queue that cannot be asked says nothing; what has begun rests on the proof of this moment.
      }
      let next = environment.clock.monotonicNanoseconds + 250_000_000
      do throws(CancellationError) { try await environment.clock.sleep(untilMonotonic: next) } catch { return }
    }
  }

  private var now: Date { Date(timeIntervalSince1970: environment.clock.wallSeconds) }

  private func certificate(_ plan: RemovalPlan) -> DeletionCertificate {
    let job = look.job
    return DeletionCertificate(
      jobID: job.id, generation: job.generation, equipmentID: job.equipmentID, runPath: job.runPath, destination: job.destination,
      remotePath: job.remotePath, startedAt: now,
      remover: DeletionCertificate.Remover(
        host: environment.sender.host, user: environment.sender.user, program: "nassync \(environment.sender.version)", by: by),
      retainMetadata: retainMetadata,
      passes: look.passes.map {
        DeletionCertificate.Pass(
          at: Date(timeIntervalSince1970: $0.reading.wall), source: $0.source.rawValue, files: $0.files, evidence: $0.evidence)
      },
      interlocks: look.interlocks, manifestSHA256: job.manifestDigest, receiptSHA256: job.receiptDigest,
      files: plan.items.compactMap { item in
        item.proof.map {
          DeletionCertificate.File(
            path: item.entry.path, size: item.entry.fingerprint.size, sha256: $0.digest, evidence: $0.evidence)
        }
      }, links: plan.items.filter { $0.proof == nil }.map(\.entry.path))
  }

  private func write(_ certificate: DeletionCertificate) async throws(SyncFailure) {
    let (root, folder) = (look.job.runPath, environment.metadataFolder)
    let bytes = try certificate.encoded()
    try await environment.readers.next().run { () throws(SyncFailure) in
      try LocalDocuments(runPath: root, metadataFolder: folder).write(bytes, as: "deletion.json")
    }
  }

  /// What lies in the run after the removal and should not: listed things that came back, and things that were never sent.
  private func leftOver(_ plan: RemovalPlan, known: Set<RelativePath>) async throws(SyncFailure) -> [DeletionCertificate.Kept] {
    let after = try await client.scan(look.location, route.profile)
    let retained = Set(plan.items.map(\.entry.path).filter { retainMetadata && isInMetadata($0) })
    let listed = Set(plan.items.map(\.entry.path))
    var left = after.entries.filter { $0.kind != .folder && !retained.contains($0.path) && !known.contains($0.path) }.map {
      DeletionCertificate.Kept(
        path: $0.path.description,
        reason: listed.contains($0.path) ? "it appeared again while the run was being removed" : "it was never sent to the NAS")
    }
    // A listed folder that holds nothing and stays could not be removed; one that holds something is named by what it holds.
    let folders = Set(plan.folders.map(\.path))
    let holding = Set((after.entries.map(\.path) + after.excluded).compactMap(\.parent))
    for entry in after.entries where entry.kind == .folder && folders.contains(entry.path) {
      guard !(retainMetadata && isInMetadata(entry.path)) else { continue }
      if let why = entry.unreadable {
        left.append(DeletionCertificate.Kept(path: entry.path.description, reason: "it cannot be looked into: \(why)"))
      } else if !holding.contains(entry.path) {
        left.append(DeletionCertificate.Kept(path: entry.path.description, reason: "the empty folder could not be removed"))
      }
    }
    return left
  }

  private func isInMetadata(_ path: RelativePath) -> Bool { path.segments.first?.elementsEqual(environment.metadataFolder.utf8) ?? false }

  /// The record says that the run is cleaned, or goes with its folder where nothing is to be retained and the NAS holds the same record.
  private func finish(_ plan: RemovalPlan) async {
    let job = look.job
    guard !retainMetadata else {
      if let problem = await environment.gate.setSyncStatus(.cleaned, runPath: job.runPath) {
        environment.events.send(.warning(runPath: job.runPath, message: problem))
      }
      return
    }
    let (manifest, receipt, record) = (job.manifestDigest, job.receiptDigest, look.receipt?.recordSHA256)
    let problem: String?
    do throws(SyncFailure) {
      problem = try await environment.readers.next().run { () throws(SyncFailure) -> String? in
        let cleaner = try RunCleaner(plan)
        // The record first: what it holds beyond the NAS's copy is nowhere else, and then everything beside it stays too.
        if let why = cleaner.removeDocument("creation.json", accepting: { Self.isPublished($0, record) }) { return "creation.json: \(why)" }
        if let why = cleaner.removeDocument("receipt.json", accepting: { SHA256Hasher.digest(of: $0) == receipt }) {
          return "receipt.json: \(why)"
        }
        if let why = cleaner.removeDocument("checksums.sha256", accepting: { SHA256Hasher.digest(of: $0) == manifest }) {
          return "checksums.sha256: \(why)"
        }
        if let why = cleaner.removeDocument("deletion.json", accepting: { _ in true }) { return "deletion.json: \(why)" }
        _ = cleaner.removeEmptyFolders()
        return nil
      }
    } catch { problem = error.message }
    guard let problem else { return }
    environment.events.send(.warning(runPath: job.runPath, message: "the metadata folder stays, because of \(problem)"))
    if let told = await environment.gate.setSyncStatus(.cleaned, runPath: job.runPath) {
      environment.events.send(.warning(runPath: job.runPath, message: told))
    }
  }

  /// Whether the NAS's copy of the record says the same, but for where the run stands.
  private static func isPublished(_ record: [UInt8], _ published: ContentDigest?) -> Bool {
    guard let published else { return false }
    do throws(RecordError) {
      return SHA256Hasher.digest(of: try RunRecord(parsing: record).setting(.synced).document.bytes) == published
    } catch { return false }
  }
}
