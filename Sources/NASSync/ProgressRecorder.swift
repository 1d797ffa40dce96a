import JobQueue
import SyncModel

/// Collects how far components have come and writes it to the queue in batches: one transaction for many small files.
actor ProgressRecorder {
  private let queue: SyncQueue
  private let job: JobRow
  private let worker: String
  private let clock: any SyncClock
  private let arrived: @Sendable ([ComponentProgress]) -> Void
  private let report: @Sendable (JobProgress) -> Void
  private var pending: [RelativePath: ComponentProgress] = [:]
  private var lastWrite: UInt64
  private var lastReport: UInt64 = 0
  private var isWriting = false
  private var failure: SyncFailure?

  private var filesDone: Int
  private var bytesDone: UInt64
  /// Acknowledged bytes of files still in flight, which are not durable yet but worth showing.
  private var inFlight: [RelativePath: UInt64] = [:]
  private var durable: [RelativePath: UInt64] = [:]
  /// Whether anything new is on the NAS since this attempt began.
  private(set) var progressed = false

  /// - Parameter arrived: Told of files that are whole on the NAS, those that were there before among them.
  init(
    queue: SyncQueue, job: JobRow, worker: String, clock: any SyncClock, components: [ComponentRow],
    arrived: @escaping @Sendable ([ComponentProgress]) -> Void = { _ in },
    report: @escaping @Sendable (JobProgress) -> Void
  ) {
    self.queue = queue
    self.job = job
    self.worker = worker
    self.clock = clock
    self.arrived = arrived
    self.report = report
    lastWrite = clock.monotonicNanoseconds
    (filesDone, bytesDone) = (0, 0)
    for row in components where row.entry.kind == .file {
      if row.state != .pending { filesDone += 1 }
      bytesDone &+= row.bytesDurable
      if row.state == .pending, row.bytesDurable > 0 { durable[row.entry.path] = row.bytesDurable }
    }
  }

  /// Components of one kind changed their state or have more durable bytes.
  /// - Throws: What the queue answered, now or for an earlier batch.
  func record(_ batch: [ComponentProgress], isFile: Bool) async throws(SyncFailure) {
    if let failure { throw failure }
    for progress in batch {
      pending[progress.path] = progress
      if isFile { count(progress) }
    }
    if isFile, batch.allSatisfy({ $0.state == .sent }) { arrived(batch) }
    if let last = batch.last { show(last.path) }
    let now = clock.monotonicNanoseconds
    if pending.count >= 512 || now - lastWrite > 500_000_000 { try await flush() }
  }

  private func count(_ progress: ComponentProgress) {
    let before = durable[progress.path] ?? 0
    // Folders are made again in every attempt: only a file that is there now, or a longer part of one, brings the run forward.
    if progress.state != .pending || progress.bytesDurable > before { progressed = true }
    bytesDone = bytesDone &+ progress.bytesDurable &- before
    inFlight[progress.path] = nil
    if progress.state == .pending {
      durable[progress.path] = progress.bytesDurable
    } else {
      durable[progress.path] = nil
      filesDone += 1
    }
  }

  /// Bytes of a file handed to the session so far: for the eye only.
  func moving(_ path: RelativePath, to offset: UInt64) {
    // Several sessions may write one file: the furthest counts.
    inFlight[path] = max(inFlight[path] ?? 0, offset - min(offset, durable[path] ?? 0))
    show(path)
  }

  private func show(_ path: RelativePath) {
    let now = clock.monotonicNanoseconds
    guard now - lastReport > 100_000_000 else { return }
    lastReport = now
    report(snapshot(current: path))
  }

  private func snapshot(current: RelativePath?) -> JobProgress {
    JobProgress(
      jobID: job.id, runPath: job.runPath, filesDone: filesDone, filesTotal: job.filesTotal,
      bytesSent: inFlight.values.reduce(bytesDone, &+), bytesTotal: job.bytesTotal, currentFile: current?.description)
  }

  /// Writes what is pending.
  func flush() async throws(SyncFailure) {
    if let failure { throw failure }
    guard !isWriting, !pending.isEmpty else { return }
    let batch = Array(pending.values)
    pending = [:]
    isWriting = true
    defer { isWriting = false }
    do {
      try await queue.checkpoint(job, worker: worker, batch)
    } catch {
      failure = error
      throw error
    }
    lastWrite = clock.monotonicNanoseconds
  }

  /// Writes everything, and shows the last figure.
  func finish() async throws(SyncFailure) {
    while isWriting { await Task.yield() }
    try await flush()
    report(snapshot(current: nil))
  }
}
