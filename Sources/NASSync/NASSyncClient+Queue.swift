import Foundation
import Glibc
import Gate
import JobQueue
import SyncModel

extension NASSyncClient {
  /// Puts a run through the gate and, where it is let through, into the queue.
  ///
  /// A run that is on its way keeps its job. One that was verified and has not changed needs nothing new. One that has new files gets a job
  /// of the next generation. A failed one is queued again.
  /// - Parameters:
  ///   - path: The run's folder.
  ///   - equipment: The instrument, where the path does not say.
  ///   - priority: Higher goes first among one instrument's runs.
  /// - Throws: `SyncFailure` of kind `misconfigured` where the path is no run of a known instrument; `local` where the queue cannot be written.
  @discardableResult
  public func enqueue(_ path: String, equipment: String? = nil, priority: Int = 0) async throws(SyncFailure) -> SyncJobHandle {
    let (location, profile) = try await locate(path, equipment: equipment)
    let queue = try await queue()
    let route = route(for: profile)
    try await loadFacts()
    // A removal that is under way finishes what it set aside itself.
    _ = try await giveBackSetAside(location.root, queue: queue)
    let snapshot = try await scan(location, profile)
    // What a clean-up leaves is no empty run.
    if let latest = try await queue.latestJob(ofRun: location.root), latest.state == .cleaned,
      snapshot.entries.allSatisfy({ $0.kind == .folder }), snapshot.recordUnreadable == nil
    {
      try await queue.clearBlocked(runPath: location.root)
      return Self.handle(latest, unchanged: true)
    }
    let published = try await queue.publishedComponents(ofRun: location.root)
    let decision = await gateKeeper.evaluate(snapshot, at: location, published: published, limits: route.limits)
    if decision.isInterrupted { throw GateKeeper.interrupted }
    let verdict = decision.verdict
    guard verdict.isOpen else {
      try await queue.recordBlocked(
        runPath: location.root, equipmentID: location.equipment, findings: Self.encode(verdict.blocking))
      warn(await gateKeeper.setSyncStatus(.blockedByValidation, runPath: location.root), run: location.root)
      hub.send(.blocked(runPath: location.root, findings: verdict.blocking))
      return SyncJobHandle(
        jobID: "", state: .blocked, runPath: location.root, blockingFindings: verdict.blocking, jobState: nil, unchanged: false)
    }
    var repairs = false
    if let latest = try await queue.latestJob(ofRun: location.root) {
      if try await isMovingHouse(latest, snapshot, published: published, to: route, location) {
        // Everything that is published elsewhere is here: it goes to today's destination as a whole.
      } else {
        let overridden = verdict.overridden.contains { $0.finding.problemClass == .changedAfterSync }
        if let handle = try await existing(latest, snapshot: snapshot, changedFilesPass: overridden, queue: queue) { return handle }
        repairs = try await isKnownToDiffer(latest, queue: queue)
      }
    }
    var draft = JobDraft(
      id: UUID().uuidString.lowercased(), runPath: location.root, equipmentID: location.equipment, relative: location.relative,
      destination: route.pool.driver.address, remotePath: route.root.appending(location.relative).description, priority: priority)
    draft.repairs = repairs
    let registration = try await queue.register(draft, entries: snapshot.entries)
    let job: JobRow
    switch registration {
    case .active(let row): return Self.handle(row, unchanged: true)
    case .registered(let row): job = row
    }
    warn(await gateKeeper.setSyncStatus(.pending, runPath: location.root), run: location.root)
    let handle = Self.handle(job, unchanged: false)
    hub.send(.enqueued(handle))
    return handle
  }

  /// Whether a check or an audit has found the NAS copy of a run changed, so that its next job puts right what the queue knows as its own.
  private func isKnownToDiffer(_ job: JobRow, queue: SyncQueue) async throws(SyncFailure) -> Bool {
    if try await queue.lastCheck(of: job)?.event == "nas_mismatch_on_demand" { return true }
    return try await queue.hasFault(runPath: job.runPath)
  }

  /// Whether a run that is published at another destination than the profile names today is to be sent to today's.
  /// - Throws: `misconfigured` where not all of it is here: a manifest at the new place could not cover what only the old one holds.
  private func isMovingHouse(
    _ job: JobRow, _ snapshot: RunSnapshot, published: [ComponentRow], to route: RunnerEnvironment.Route, _ location: RunLocation
  ) async throws(SyncFailure) -> Bool {
    let place = route.root.appending(location.relative).description
    guard job.state == .verified || job.state == .cleanupEligible || job.state == .cleaned,
      job.destination != route.pool.driver.address || job.remotePath != place
    else { return false }
    let here = Set(snapshot.entries.filter { $0.kind == .file }.map(\.path))
    let elsewhere = published.filter { !here.contains($0.entry.path) }
    if elsewhere.isEmpty { return true }
    // Nothing of it has come back: what a clean-up left is no wish to send.
    if job.state == .cleaned, !published.contains(where: { here.contains($0.entry.path) && !$0.entry.path.isWithin(metadataPath) }) {
      return false
    }
    throw SyncFailure(
      .misconfigured,
      "\(displayText(job.runPath)) was published on \(job.destination), the profile names \(route.pool.driver.address) today, and "
        + "\(elsewhere.count) of its files are not here, first \(elsewhere[0].entry.path)",
      hint: "Bring them back with `nassync restore` while the profile names the old destination, then enqueue the run again.")
  }

  private var metadataPath: RelativePath {
    do { return try RelativePath(configuration.metadataFolder) } catch { return .defaultMetadataFolder }  // checked when it was loaded
  }

  /// What an earlier job of the run makes of a request to enqueue it; nil where a new generation is needed.
  /// - Parameter changedFilesPass: An override lets a file pass that differs from the published one.
  private func existing(
    _ job: JobRow, snapshot: RunSnapshot, changedFilesPass: Bool, queue: SyncQueue
  ) async throws(SyncFailure) -> SyncJobHandle? {
    switch job.state {
    case .queued, .running, .awaitingVerify:
      try await queue.clearBlocked(runPath: job.runPath)
      return Self.handle(job, unchanged: true)
    case .failed:
      try await queue.clearBlocked(runPath: job.runPath)
      let moved = try await requeue(job, queue: queue)
      let handle = Self.handle(moved, unchanged: false)
      hub.send(.enqueued(handle))
      return handle
    case .verified, .cleanupEligible:
      let known = try await queue.components(of: job).map(\.entry)
      // The metadata folder of a run that had none: this program made it, for the manifest and the receipt.
      let own = Array(configuration.metadataFolder.utf8)
      let entries = snapshot.entries.filter { entry in
        entry.path.bytes != own || entry.kind != .folder || known.contains { $0.path == entry.path }
      }
      guard snapshot.replacingEntries(entries).difference(from: snapshot.replacingEntries(known)).isEmpty else { return nil }
      try await queue.clearBlocked(runPath: job.runPath)
      // A check found the NAS copy changed: a new generation sends again what is missing or wrong there.
      if try await isKnownToDiffer(job, queue: queue) { return nil }
      return Self.handle(job, unchanged: true)
    case .cleaned:
      guard !changedFilesPass, try await holdsNothingNew(snapshot, of: job, queue: queue) else { return nil }
      try await queue.clearBlocked(runPath: job.runPath)
      return Self.handle(job, unchanged: true)
    }
  }

  /// Whether everything that lies in a cleaned run again, or was kept there, is published. The gate has compared the published files by content.
  private func holdsNothingNew(_ snapshot: RunSnapshot, of job: JobRow, queue: SyncQueue) async throws(SyncFailure) -> Bool {
    let files = Set(try await queue.publishedComponents(ofRun: job.runPath).map(\.entry.path))
    var others: [RelativePath: RunEntry.Kind] = [:]
    for row in try await queue.publishedOthers(ofRun: job.runPath) { others[row.entry.path] = row.entry.kind }
    let own = Array(configuration.metadataFolder.utf8)
    return snapshot.entries.allSatisfy { entry in
      switch entry.kind {
      case .file: files.contains(entry.path)
      case .folder: others[entry.path] == .folder || entry.path.bytes == own
      case .symlink, .special: others[entry.path] == entry.kind
      }
    }
  }

  private static func handle(_ job: JobRow, unchanged: Bool) -> SyncJobHandle {
    SyncJobHandle(
      jobID: job.id, state: .queued, runPath: job.runPath, blockingFindings: [], jobState: job.state, unchanged: unchanged)
  }

  /// The gate alone: nothing is written.
  public func gate(_ path: String, equipment: String? = nil) async throws(SyncFailure) -> GateReport {
    let (location, profile) = try await locate(path, equipment: equipment)
    let snapshot = try await scan(location, profile)
    let published = try await queueIfPresent()?.publishedComponents(ofRun: location.root) ?? []
    try await loadFacts()
    let route = route(for: profile)
    let decision = await gateKeeper.evaluate(snapshot, at: location, published: published, limits: route.limits)
    if decision.isInterrupted { throw GateKeeper.interrupted }
    return GateReport(
      runPath: location.root, equipmentID: location.equipment, files: snapshot.files.count, bytes: snapshot.totalBytes,
      excluded: snapshot.excluded.map(\.description), destination: GateReport.Destination(route), verdict: decision.verdict)
  }

  /// The queue, where there is one already: a command that writes nothing must not make the file.
  func queueIfPresent() async throws(SyncFailure) -> SyncQueue? {
    guard SyncQueue.isPresent(stateDirectory: configuration.stateDirectory) else { return nil }
    return try await queue()
  }

  /// The newest job of a path that the queue knows, whatever the configuration says of it today.
  private func knownJob(_ path: String) async throws(SyncFailure) -> JobRow? {
    guard let queue = try await queueIfPresent() else { return nil }
    let resolved = try await readers.next().run { () throws(SyncFailure) -> String in
      guard let real = realpath(path, nil) else { return URL(fileURLWithPath: path).standardizedFileURL.path }
      defer { free(real) }
      return String(cString: real)
    }
    return try await queue.latestJob(ofRun: resolved)
  }

  /// Where a run stands; `state` is `.none` for one without a job.
  public func status(of path: String, equipment: String? = nil) async throws(SyncFailure) -> RunStatus {
    if equipment == nil, let job = try await knownJob(path) { return RunStatus(job) }
    let (location, _) = try await locate(path, equipment: equipment, mayBeGone: true)
    guard let job = try await queueIfPresent()?.latestJob(ofRun: location.root) else {
      return RunStatus(runPath: location.root, equipmentID: location.equipment)
    }
    return RunStatus(job)
  }

  /// The newest job of every run, oldest first.
  public func statuses() async throws(SyncFailure) -> [RunStatus] {
    try await queueIfPresent()?.latestJobs().map(RunStatus.init) ?? []
  }

  /// How many runs there are in each state, and some of them: those that are on their way, that failed and that wait before those that are done.
  ///
  /// Where all of them are within the limit, these are all, oldest first, as `statuses()` gives them.
  /// - Parameter limit: How many runs at most; at least 1.
  public func overview(limit: Int) async throws(SyncFailure) -> QueueOverview {
    guard let queue = try await queueIfPresent() else { return QueueOverview(counts: [:], runs: []) }
    let counts = try await queue.counts()
    let isSmall = counts.values.reduce(0, +) <= limit
    let jobs = isSmall ? try await queue.latestJobs() : try await queue.jobsOfInterest(limit: max(1, limit))
    return QueueOverview(counts: counts, runs: jobs.map(RunStatus.init))
  }

  /// FAILED → QUEUED, with a fresh count of attempts.
  /// - Throws: `SyncFailure` of kind `misconfigured` for a run in any other state.
  @discardableResult
  public func retry(_ path: String, equipment: String? = nil) async throws(SyncFailure) -> RunStatus {
    let queue = try await queue()
    if equipment == nil, let job = try await knownJob(path) { return RunStatus(try await requeue(job, queue: queue)) }
    let (location, _) = try await locate(path, equipment: equipment, mayBeGone: true)
    guard let job = try await queue.latestJob(ofRun: location.root) else {
      throw SyncFailure(
        .misconfigured, "\(displayText(location.root)) has no job", hint: "`nassync enqueue` gives it one.")
    }
    return RunStatus(try await requeue(job, queue: queue))
  }

  /// Every FAILED run back to the queue.
  public func retryAllFailed() async throws(SyncFailure) -> [RunStatus] {
    let queue = try await queue()
    var moved: [RunStatus] = []
    for job in try await queue.jobs(in: .failed) { moved.append(RunStatus(try await requeue(job, queue: queue))) }
    return moved
  }

  private func requeue(_ job: JobRow, queue: SyncQueue) async throws(SyncFailure) -> JobRow {
    guard job.state == .failed else {
      throw SyncFailure(
        .misconfigured, "\(displayText(job.runPath)) is \(job.state.rawValue); only a failed run can be retried",
        hint: job.state.isActive ? "It is on its way; `nassync status` shows how far." : "It needs nothing: its NAS copy is proven.")
    }
    // A file that a removal which died had set aside may be the only good copy now.
    guard try await giveBackSetAside(job.runPath, queue: queue) else {
      throw SyncFailure(
        .local, "a clean-up is under way, and a file of \(displayText(job.runPath)) is set aside for one",
        hint: "Try again when it has ended.")
    }
    var change = JobChange()
    change.attempts = 0
    change.mismatches = 0
    change.nextAttemptAt = .some(nil)
    change.frozen = false
    let moved = try await queue.transition(job, on: .retried, worker: nil, change: change, detail: "asked for by \(Self.identity.user)")
    hub.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: .failed, to: .queued))
    warn(await gateKeeper.setSyncStatus(.pending, runPath: job.runPath), run: job.runPath)
    return moved
  }

  /// Every transition, attempt and verification of a run, in order; its overrides among them by time. Last, where there are any, what is to
  /// be said of their ledger now: one line `HistoryEntry.ledgerWhole`, or a line `HistoryEntry.ledgerBroken` for each fault.
  public func history(of path: String, equipment: String? = nil) async throws(SyncFailure) -> [HistoryEntry] {
    let (location, _) = try await locate(path, equipment: equipment, mayBeGone: true)
    var entries = try await queueIfPresent()?.history(ofRun: location.root).map(HistoryEntry.init) ?? []
    // The record's own entries say the same with all there is to it.
    let noted = entries.filter { $0.event == Self.overrideNote }.map(\.detail)
    entries.removeAll { $0.event == Self.overrideNote }
    entries += await overrideHistory(of: location)
    let sorted = entries.enumerated().sorted { ($0.element.at, $0.offset) < ($1.element.at, $1.offset) }.map(\.element)
    let wasCleaned = try await queueIfPresent()?.latestJob(ofRun: location.root)?.state == .cleaned
    return sorted + (await ledgerVerdict(of: location, noted: noted, wasCleaned: wasCleaned))
  }

  func warn(_ problem: String?, run: String) {
    if let problem { hub.send(.warning(runPath: run, message: problem)) }
  }

  static func encode(_ findings: [Finding]) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(findings) else { return "[]" }  // values made of strings encode always
    return String(decoding: data, as: UTF8.self)
  }
}

/// What the gate says of a run.
public struct GateReport: Sendable, Codable {
  /// The destination as it was when it was last asked. The gate itself asks nothing.
  public struct Destination: Hashable, Sendable, Codable {
    /// Where the run would go.
    public let address: String
    /// When it was asked; nil where it never was, and careful assumptions hold.
    public let askedAt: Date?
    /// Bytes that could be written then; nil where it does not say.
    public let freeBytes: UInt64?

    private enum CodingKeys: String, CodingKey {
      case address
      case askedAt = "asked_at"
      case freeBytes = "free_bytes"
    }

    init(_ route: RunnerEnvironment.Route) {
      address = route.pool.driver.address
      askedAt = route.survey.known.map { Date(timeIntervalSince1970: $0.at) }
      freeBytes = route.survey.known?.facts.freeSpace
    }
  }

  /// Absolute path of the run.
  public let runPath: String
  /// The instrument.
  public let equipmentID: String
  /// Files that would be sent.
  public let files: Int
  /// Their bytes.
  public let bytes: UInt64
  /// Paths that `exclude` keeps back.
  public let excluded: [String]
  /// What is known of the destination.
  public let destination: Destination
  /// Findings, overrides and the decision.
  public let verdict: GateVerdict

  private enum CodingKeys: String, CodingKey {
    case runPath = "run_path"
    case equipmentID = "equipment_id"
    case files, bytes, excluded, destination, verdict
  }
}

/// One line of a run's history.
public struct HistoryEntry: Hashable, Sendable, Codable {
  /// When.
  public let at: Date
  /// The job, where the line belongs to one.
  public let jobID: String?
  /// The job's generation, where the line belongs to one.
  public let generation: Int?
  /// What happened, in snake case.
  public let event: String
  /// The state before, where it changed.
  public let fromState: JobState?
  /// The state after, where it changed.
  public let toState: JobState?
  /// One sentence.
  public let detail: String

  private enum CodingKeys: String, CodingKey {
    case at
    case jobID = "job_id"
    case generation, event
    case fromState = "from_state"
    case toState = "to_state"
    case detail
  }

  init(_ row: HistoryRow) {
    self.init(
      at: Date(timeIntervalSince1970: row.at), jobID: row.jobID, generation: row.generation, event: row.event, fromState: row.from,
      toState: row.to, detail: row.detail)
  }

  init(at: Date, jobID: String?, generation: Int?, event: String, fromState: JobState?, toState: JobState?, detail: String) {
    self.at = at
    self.jobID = jobID
    self.generation = generation
    self.event = event
    self.fromState = fromState
    self.toState = toState
    self.detail = detail
  }
}
