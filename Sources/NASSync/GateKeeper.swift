import Executors
import Foundation
import Gate
import Intake
import JobQueue
import SyncModel

/// The gate as the pipeline uses it, together with the run's record: every blocking step on a thread of its own.
struct GateKeeper: Sendable {
  let gate: PreSyncGate
  let content: ContentScanSettings
  let clock: any SyncClock
  let metadataFolder: String
  let threads: ReaderThreads
  /// What is looked for, for the receipt.
  let rules: [String]

  /// A verdict on a run.
  struct Decision: Sendable {
    let verdict: GateVerdict
    /// A check was stopped because the caller was, so the verdict says nothing of the run.
    var isInterrupted = false
  }

  /// What an interrupted check is to its caller.
  static let interrupted = SyncFailure(
    .interrupted, "the check of the run was interrupted", hint: "It is checked again when the work goes on.")

  /// - Parameter published: What earlier generations put on the NAS.
  func evaluate(
    _ snapshot: RunSnapshot, at location: RunLocation, published: [ComponentRow], limits: DestinationLimits
  ) async -> Decision {
    var known: [RelativePath: PublishedComponent] = [:]
    for row in published where row.entry.kind == .file {
      if let digest = row.localDigest { known[row.entry.path] = PublishedComponent(digest: digest, fingerprint: row.entry.fingerprint) }
    }
    let context = GateContext(
      now: clock.wallSeconds, published: known, limits: limits, content: content,
      digestOfFile: { location, path in
        let folder = try RunFolder(root: location.root)
        return try LocalDigest.compute(path, in: folder)
      })
    let verdict = await gate.evaluate(snapshot: snapshot, location: location, context: context)
    return Decision(
      verdict: verdict,
      isInterrupted: Task.isCancelled && verdict.blocking.contains { $0.problemClass == .validatorFailed })
  }

  /// The record with `sync_status: "synced"`, as it travels; nil for a run without a record.
  func recordCopy(_ snapshot: RunSnapshot, runPath: String) async throws(StepFailure) -> [UInt8]? {
    guard let bytes = snapshot.record else { return nil }
    do {
      return try await threads.next().run { () throws(RecordError) in
        try RunRecord(parsing: bytes).setting(.synced).document.bytes
      }
    } catch {
      throw StepFailure(
        SyncFailure(
          .blocked, "the record of \(runPath) cannot be read: \(error)",
          hint: "Repair creation.json in the run's metadata folder, then `nassync retry`."))
    }
  }

  /// How many entries the record's list of overrides has: a revocation after them came later. 0 for a run without a record or with one that
  /// cannot be read, which the gate stops.
  static func ledgerLength(of snapshot: RunSnapshot) -> Int {
    guard let bytes = snapshot.record else { return 0 }
    do throws(RecordError) { return try RunRecord(parsing: bytes).overrides.count } catch { return 0 }
  }

  /// Sets `sync_status` in the run's own record, if it has one.
  /// - Returns: What went wrong, for a warning; nil when nothing did.
  func setSyncStatus(_ status: SyncStatus, runPath: String) async -> String? {
    let store = RecordStore(runRoot: runPath, metadataFolder: metadataFolder)
    do {
      try await threads.next().run { () throws(RecordError) in _ = try store.setSyncStatus(status) }
      return nil
    } catch {
      return "sync_status could not be set to \(status.rawValue) in the record of \(displayText(runPath)): \(error)"
    }
  }

  /// Writes what is not there of what belongs beside a published run: manifest, receipt, and `sync_status` where it still says `pending`.
  /// - Returns: Whether anything was written. A run that is not there any more gets nothing.
  func keepDocuments(manifest: [UInt8], receipt: [UInt8], runPath: String) async throws(SyncFailure) -> Bool {
    let folder = metadataFolder
    let store = RecordStore(runRoot: runPath, metadataFolder: folder)
    return try await threads.next().run { () throws(SyncFailure) in
      guard LocalDocuments.hasRun(at: runPath) else { return false }
      var isWritten = false
      let writer = try LocalDocuments(runPath: runPath, metadataFolder: folder)
      for (content, name) in [(manifest, "checksums.sha256"), (receipt, "receipt.json")] where !writer.holds(content, as: name) {
        try writer.write(content, as: name)
        isWritten = true
      }
      do throws(RecordError) {
        if try store.read()?.syncStatus == SyncStatus.pending.rawValue {
          try store.setSyncStatus(.synced)
          isWritten = true
        }
      } catch {
        throw SyncFailure(
          .local, "sync_status could not be set in the record of \(displayText(runPath)): \(error)",
          hint: "The run itself is safe on the NAS. The next audit tries again.")
      }
      return isWritten
    }
  }

  /// Writes the manifest and the receipt into the run's own metadata folder, each in one step.
  func writeDocuments(_ documents: RunDocuments, runPath: String) async throws(SyncFailure) {
    let folder = metadataFolder
    try await threads.next().run { () throws(SyncFailure) in
      let writer = try LocalDocuments(runPath: runPath, metadataFolder: folder)
      try writer.write(documents.manifest, as: "checksums.sha256")
      try writer.write(documents.receipt, as: "receipt.json")
    }
  }
}
