import Gate
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

/// One job's steps, from the claim to the settlement, in the order in which they happen:
/// look again → gate, and reach the NAS meanwhile → adopt or send → look once more → prove → publish → settle.
struct JobRunner: Sendable {
  let environment: RunnerEnvironment
  let route: RunnerEnvironment.Route

  /// Runs a claimed job as far as it gets and settles it, whatever happens.
  func run(_ claimed: JobRow) async {
    let attempt = Attempt(claimed)
    do throws(StepFailure) {
      if claimed.state == .running { try await bringOver(attempt) }
      try await proveAndPublish(attempt)
    } catch {
      var ended = error
      await attempt.isOver()
      if !ended.unreachable, ended.failure.isUnanswered, !environment.stop.isSet {
        ended.unreachable = await isSilent()
      }
      if ended.failure.kind == .misconfigured, !environment.stop.isSet, let gone = await isGone(claimed) { ended = gone }
      await settle(attempt, ended)
    }
  }

  /// Whether the destination, having broken off, does not answer a new connection either: then it is out, and the attempt does not count.
  /// One that is going down may still do so for a moment: it is asked twice.
  func isSilent() async -> Bool {
    for pause in [0, 0.5] {
      let clock = environment.clock
      do { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + UInt64(pause * 1e9)) } catch { return false }
      do throws(TransportError) {
        let session = try await route.pool.driver.connect()
        await session.close()
      } catch {
        return error.failure.isUnanswered
      }
    }
    return false
  }

  /// Whether the destination answers and its root, which was there before, is not there: a volume that goes away in the midst of an attempt looks like a
  /// wrong `remote_root`, and nobody has to correct that.
  private func isGone(_ job: JobRow) async -> StepFailure? {
    do throws(TransportError) {
      let isThere = try await route.pool.withSession(width: 1) { (session) throws(TransportError) in try await offersRoot(session, job) }
      return isThere ? nil : rootIsGone
    } catch {
      // Then it is not known, and what the attempt failed of stands.
      return nil
    }
  }

  private var rootIsGone: StepFailure {
    StepFailure(
      SyncFailure(
        .network, "the NAS answers, but \(route.root) is not there now",
        hint: "Look whether its volume is mounted: what is queued waits for it. Where the folder was moved, correct remote_root."),
      unreachable: true)
  }

  /// What one attempt knows, as it goes along.
  final actor Attempt {
    private(set) var job: JobRow
    private(set) var recorder: ProgressRecorder?
    /// What the NAS hashed while the run was sent, where this attempt sent it.
    private(set) var early: EarlyDigests?
    /// What the NAS had already, hashed in this attempt.
    private(set) var adopted: AdoptedDigests?
    /// Gathers what the NAS hashes while the run is sent.
    private var gathering: Task<Void, Never>?
    /// What lies there, asked since this attempt brought the run over.
    private(set) var asking: Task<Result<Trees, StepFailure>, Never>?
    /// The run as it was found here once everything had been sent.
    private var lastLook: RunSnapshot?
    init(_ job: JobRow) { self.job = job }
    func move(to job: JobRow) { self.job = job }
    func watch(_ recorder: ProgressRecorder, _ early: EarlyDigests) {
      self.recorder = recorder
      self.early = early
    }
    func adopted(_ digests: AdoptedDigests) { adopted = digests }
    func looked(_ snapshot: RunSnapshot) { lastLook = snapshot }
    /// That, once: it is large where the run is.
    func takeLastLook() -> RunSnapshot? { lastLook.take() }
    func broughtOver(_ gathering: Task<Void, Never>, _ asking: Task<Result<Trees, StepFailure>, Never>) {
      self.gathering = gathering
      self.asking = asking
    }
    /// What the NAS hashed, once it has hashed all that arrived.
    var arrivedDigests: [RelativePath: ContentDigest] {
      get async {
        let (early, gathering) = (early, gathering)
        await withTaskCancellationHandler {
          await gathering?.value
          await early?.settled()
        } onCancel: {
          // Nobody is cancelled but by whoever stops everything.
          early?.drop()
          gathering?.cancel()
        }
        return early?.digests ?? [:]
      }
    }
    /// They were compared: with many files they take much room.
    func forgetDigests() {
      early?.forget()
      adopted = nil
      asking = nil
    }
    /// It has failed: nobody wants what is still being asked.
    func isOver() async {
      early?.drop()
      asking?.cancel()
      _ = await asking?.value
    }
    var progressed: Bool {
      get async { await recorder?.progressed ?? false }
    }
  }

  // MARK: - Sending

  private func bringOver(_ attempt: Attempt) async throws(StepFailure) {
    var job = await attempt.job
    job = try await followDestination(job)
    let location = Self.location(of: job)

    let folder = try await openFolder(job)
    // Not before the folder was found: what is wrong here must not wait for the NAS.
    let unanswered = try await surveyDestination(job)
    // Logging in takes a while, and so does finding a shell: the run is looked through meanwhile.
    // A task of its own, for what is wrong here must not wait for a NAS that is not there.
    let claimed = job
    let reaching = unanswered == nil ? Task { await Self.attempted { () async throws(StepFailure) in try await setOut(claimed) } } : nil
    defer { reaching?.cancel() }
    let snapshot = try await scan(job)
    let published = try await publishedComponents(of: job)
    let limits = route.limits
    var decision = await environment.gate.evaluate(snapshot, at: location, published: published, limits: limits)
    if !decision.isInterrupted, !decision.verdict.isOpen, try await surveyAnew(job, limits) {
      decision = await environment.gate.evaluate(snapshot, at: location, published: published, limits: route.limits)
    }
    if decision.isInterrupted { throw StepFailure(GateKeeper.interrupted) }
    guard decision.verdict.isOpen else {
      // What a destination is only assumed to make of two names is no reason to refuse them while it cannot be asked.
      let isAssumed = !route.limits.isKnown && decision.verdict.blocking.allSatisfy { $0.problemClass == .caseCollision }
      if let unanswered, isAssumed { throw unanswered }
      throw StepFailure(Self.repairStopped(job, decision.verdict), findings: decision.verdict.blocking)
    }
    // An enqueue that was refused meanwhile is settled by this: the gate lets the run through now.
    try await queued { () async throws(SyncFailure) in try await environment.queue.clearBlocked(runPath: job.runPath) }
    var registered = try await queued { () async throws(SyncFailure) in try await environment.queue.components(of: job) }
    let ground = try await repairGround(job, snapshot: snapshot)
    let wanted = ground?.completing(snapshot) ?? snapshot
    let difference = wanted.difference(from: snapshot.replacingEntries(registered.map(\.entry)))
    if !difference.isEmpty {
      let current = job
      job = try await queued { () async throws(SyncFailure) in
        try await environment.queue.replaceSnapshot(
          of: current, worker: environment.worker, entries: wanted.entries, reason: "\(difference)", isSame: Self.isSame)
      }
      let replaced = job
      registered = try await queued { () async throws(SyncFailure) in try await environment.queue.components(of: replaced) }
    }
    registered.sharePaths(with: wanted.entries)
    await attempt.move(to: job)

    if let unanswered { throw unanswered }
    if let reached = try await reaching?.value.get(), environment.clock.monotonicNanoseconds - reached > Self.freshlyReached {
      // Looking through the run took longer than a session may be believed.
      try await reach(job)
    }
    await route.pool.warm(width: width(for: registered))
    let layout = try await layout(of: job)
    let trees = try await listTrees(layout, known: registered.count)
    let (rows, adopted) = try await adopt(
      job, registered, layout: layout, tree: trees.final, folder: folder, record: snapshot.record, ground: ground)
    await attempt.adopted(adopted)
    let prepared = try await prepareStaging(layout: layout, tree: trees.staging, components: rows, changed: difference.changed)
    try await requireSpace(job, rows, staged: prepared, layout: layout)
    defer { environment.space.remove(job.id) }
    let early = EarlyDigests()
    let recorder = ProgressRecorder(
      queue: environment.queue, job: job, worker: environment.worker, clock: environment.clock, components: rows, arrived: early.arrived
    ) { [events = environment.events, space = environment.space] progress in
      space.lower(progress.jobID, to: progress.bytesTotal - min(progress.bytesSent, progress.bytesTotal))
      events.send(.progress(progress))
    }
    await attempt.watch(recorder, early)
    try await queued { () async throws(SyncFailure) in try await environment.queue.freeze(job, worker: environment.worker) }
    let current = job
    let unpacker = FoundUnpacker()
    let sender = ComponentSender(
      folder: folder, pool: route.pool, bandwidth: environment.bandwidth, equipment: job.equipmentID, staging: layout.staging,
      recorder: recorder, readers: environment.readers, clock: environment.clock, stop: environment.stop, width: width(for: rows),
      staged: prepared, flushesSmallFiles: { [pool = route.pool] in pool.canSync != true }, flushed: FlushLedger(rows),
      follow: { early.follow($0, in: layout.staging) { await hasherForEarly(layout) } },
      unpacker: unpacker, forgetDigests: { early.forget() })
    // Where the sending fails, nobody waits for it: another job's hash may be before it.
    let preparing = Task {
      await prepareProof(layout)
      // Who unpacks flushes nothing. And what came out wrong is sent in the plainest way the second time.
      let mayStream = route.pool.canSync == true && !route.pool.streamsFail && current.mismatches == 0
      let hasher = await hasherForEarly(layout)
      unpacker.decide(mayStream ? hasher?.unpacker : nil)
      await hashEarly(early, layout)
    }
    do { try await sender.send(rows) } catch { throw StepFailure(error) }
    try await makeDurable(rows, sender.flushed, layout: layout)
    early.end()
    await returnMemory(ofEntries: rows.count)

    // What the proof asks first is asked meanwhile: whether the destination is still there, and what lies there.
    // The number alone: the rows would stay until the last answer.
    let count = rows.count
    let asking = Task { await Self.attempted { () async throws(StepFailure) in try await look(current, layout, known: count) } }
    await attempt.broughtOver(preparing, asking)
    // The run may have grown while it was sent: what is published must be what lies on the disk.
    let now = try await scan(job)
    let moved = now.difference(from: snapshot)
    guard moved.isEmpty else {
      throw StepFailure(
        SyncFailure(
          .localChanged, "\(job.runPath) changed while it was being sent: \(moved)",
          hint: "Wait until the instrument has finished writing; it is tried again, and what is unchanged is not sent twice."))
    }
    await attempt.looked(now)
    job = try await queued { () async throws(SyncFailure) in
      try await environment.queue.transition(
        current, on: .sent, worker: environment.worker,
        detail: "\(current.filesTotal) files, \(current.bytesTotal) bytes in \(layout.staging)")
    }
    environment.events.send(.stateChanged(jobID: job.id, runPath: job.runPath, from: .running, to: job.state))
    await attempt.move(to: job)
  }

  /// Whether the destination answers, and what lies there, in one go.
  private func look(_ job: JobRow, _ layout: RemoteLayout, known: Int) async throws(StepFailure) -> Trees {
    async let reached = Self.attempted { () async throws(StepFailure) in try await reach(job) }
    async let listed = Self.attempted { () async throws(StepFailure) in try await listTrees(layout, known: known) }
    let trees = await listed
    // A volume that is not mounted any more shows no folder, either.
    try await reached.get()
    return try trees.get()
  }

  /// Looks for the hashing program, and whether the NAS can be told to write everything to its disks at once, while the run is already sent: that takes
  /// a log-in and a few commands. Where it can, small files are not flushed one by one any more.
  private func prepareProof(_ layout: RemoteLayout) async {
    if route.pool.canSync == nil {
      _ = try? await syncRemote(layout.staging)  // whoever needs the answer asks again, and is told what went wrong
    } else {
      _ = try? await route.pool.hasher()  // the same
    }
  }

  /// Lets the NAS hash what has arrived, where it can and is asked to.
  private func hashEarly(_ early: EarlyDigests, _ layout: RemoteLayout) async {
    // What arrives after that is not gathered any more.
    defer { early.end() }
    guard let hasher = await hasherForEarly(layout) else { return }
    await early.collect(from: hasher, in: layout.staging)
  }

  private func hasherForEarly(_ layout: RemoteLayout) async -> (any RemoteHasher)? {
    guard !layout.inPlace, environment.verifyMethod != .readback,
      let hasher = try? await route.pool.hasher(),  // the proof asks again and is told what went wrong
      hasher.evidence == .server
    else { return nil }
    return hasher
  }

  /// Makes the NAS write what lies below a folder to its disks.
  /// - Returns: False where it has no way to be told.
  @discardableResult
  func syncRemote(_ folder: RemotePath) async throws(StepFailure) -> Bool {
    do throws(TransportError) {
      let done = try await route.pool.hasher()?.syncFileSystem(of: folder) ?? false
      route.pool.learned(canSync: done)
      return done
    } catch { throw StepFailure(error) }
  }

  /// Brings what was sent to the NAS's disks before anything of it is proven: by one sync, or, where that is not confirmed, file by file.
  private func makeDurable(_ rows: [ComponentRow], _ ledger: FlushLedger, layout: RemoteLayout) async throws(StepFailure) {
    if try await syncRemote(layout.staging) || !ledger.isIncomplete { return }
    let files = rows.filter { $0.entry.kind == .file && ($0.state == .pending || $0.state == .sent) }
    let stop = environment.stop
    do {
      try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        guard session.capabilities.joinsUploads else { return }
        try await Turn.each(of: files, atOnce: 32) { (row) throws(TransportError) in
          if stop.isSet { throw .failure(ComponentSender.stopped, sessionLost: false) }
          let handle = try await session.joinUpload(layout.staging.appending(row.entry.path))
          do throws(TransportError) { try await session.flush(handle, durable: true) } catch {
            await session.abandonUpload(handle)
            throw error
          }
          await session.abandonUpload(handle)
        }
      }
    } catch { throw StepFailure(error) }
  }

  /// A job registered for another destination than the configuration names today goes to today's, from the start.
  private func followDestination(_ job: JobRow) async throws(StepFailure) -> JobRow {
    let remotePath = route.root.appending(job.relative).description
    let address = route.pool.driver.address
    guard job.destination != address || job.remotePath != remotePath else { return job }
    return try await queued { () async throws(SyncFailure) in
      try await environment.queue.retarget(job, worker: environment.worker, destination: address, remotePath: remotePath)
    }
  }

  static func location(of job: JobRow) -> RunLocation {
    RunLocation(root: job.runPath, equipment: job.equipmentID, relative: job.relative)
  }

  private func openFolder(_ job: JobRow) async throws(StepFailure) -> RunFolder {
    do {
      return try await environment.readers.next().run { () throws(SyncFailure) in try RunFolder(root: job.runPath) }
    } catch { throw StepFailure(error) }
  }

  func scan(_ job: JobRow) async throws(StepFailure) -> RunSnapshot {
    let exclude = route.profile.exclude
    let metadataFolder = environment.metadataFolder
    do {
      return try await environment.readers.next().run { () throws(SyncFailure) in
        try RunScanner.snapshot(of: job.runPath, metadataFolder: metadataFolder, excluding: exclude)
      }
    } catch { throw StepFailure(error) }
  }

  /// What earlier generations published, and this job itself where it puts that right, for the rule that a published file must not change.
  func publishedComponents(of job: JobRow) async throws(StepFailure) -> [ComponentRow] {
    guard job.generation > 1 || job.repairs else { return [] }
    return try await queued { () async throws(SyncFailure) in try await environment.queue.publishedComponents(ofRun: job.runPath) }
  }

  static func blocked(_ job: JobRow, _ verdict: GateVerdict) -> SyncFailure {
    let first = verdict.blocking.first
    let what = first.map { "\($0.problemClass)\($0.path.map { " at \($0)" } ?? ""): \($0.detail)" } ?? "a finding"
    let more = verdict.blocking.count > 1 ? " (and \(verdict.blocking.count - 1) more)" : ""
    var step = "Repair it"
    if let first, !verdict.blocking.contains(where: \.overrideIsVain) {
      step += ", or let it pass with `nassync override add --class \(shellWord(first.problemClass.rawValue)) --reason 'WHY'`"
    }
    return SyncFailure(
      .blocked, "the gate stops \(job.runPath): \(what)\(more)", hint: step + ", then `nassync retry`. `nassync gate` shows every finding.")
  }

  @Sendable static func isSame(_ old: RunEntry, _ new: RunEntry) -> Bool {
    old.kind == new.kind && (old.kind == .folder || new.fingerprint.contentDifference(from: old.fingerprint) == nil)
  }

  /// How many sessions a job is worth: one for a small one, more for many files or many bytes.
  private func width(for rows: [ComponentRow]) -> Int {
    let pending = rows.filter { $0.state == .pending && $0.entry.kind == .file }
    let bytes = pending.reduce(UInt64(0)) { $0 &+ $1.entry.fingerprint.size }
    let wanted = max(1 + pending.count / 1_000, 1 + Int(clamping: bytes / (32 << 20)))
    return min(wanted, route.connections)
  }

  /// Nanoseconds for which a destination that has answered is taken to be there.
  private static let freshlyReached: UInt64 = 2_000_000_000

  /// Reaches the destination, and begins what takes time there and is not needed yet.
  /// - Returns: Monotonic time of the answer.
  private func setOut(_ job: JobRow) async throws(StepFailure) -> UInt64 {
    try await reach(job)
    let reached = environment.clock.monotonicNanoseconds
    // Nobody is waiting any more, where the run was refused here.
    guard !Task.isCancelled else { return reached }
    let streams =
      environment.verifyMethod != .readback && job.mismatches == 0 && !route.pool.streamsFail
      && ComponentSender.isWorthStreaming(job.filesTotal, bytes: job.bytesTotal, isFar: route.pool.isFar)
    // Finding a hashing program takes two dozen round trips, which is longer than sending many a run. Nobody waits for it here, and who needs it asks
    // again. Over a short way the processors are wanted for the run, unless it goes through the same shell.
    if route.pool.isFar || streams { await route.pool.prepareHasher(expectingStream: streams) }
    return reached
  }

  /// The destination answers, or the job waits without burning an attempt.
  func reach(_ job: JobRow) async throws(StepFailure) {
    // A session kept from an earlier job may have died since: only a question that comes back shows that it is alive. Each that does not
    // answer is dropped; once they are used up, a connection that cannot be made anew is an outage.
    var suspects = route.connections
    let isThere: Bool
    while true {
      let session: any TransportSession
      do { session = try await route.pool.acquire(width: 1) } catch { throw Self.unanswered(error) }
      do throws(TransportError) {
        isThere = try await offersRoot(session, job)
        await route.pool.release(session, broken: false)
        break
      } catch {
        // Nor is one let in for ever: a key that was replaced meanwhile is fetched anew.
        let isRefused = error.failure.kind == .auth
        if isRefused { await route.pool.refused(session) } else { await route.pool.release(session, broken: error.sessionLost) }
        guard error.sessionLost || isRefused, suspects > 0, !environment.stop.isSet, !Task.isCancelled else { throw Self.unanswered(error) }
        suspects -= 1
      }
    }
    guard isThere else { throw rootIsGone }
    let destination = route.pool.driver.address
    let outage = try await queued { () async throws(SyncFailure) in try await environment.queue.clearOutage(destination) }
    if outage { environment.events.send(.recovered(destination: destination)) }
  }

  /// Asks the destination something. A root that was there before and is not now is a volume that is not mounted yet, and no mistake in the
  /// configuration: that a person would have to mend.
  private func offersRoot(_ session: any TransportSession, _ job: JobRow) async throws(TransportError) -> Bool {
    let place = route.root.appending(job.relative)
    guard route.survey.known != nil, session.capabilities.renames else {
      _ = try await timed(place, session)
      return true
    }
    // Side by side, so that it takes no longer than one question.
    do {
      async let run = timed(place, session)
      async let root = timed(route.root, session)
      let found = (try await run, try await root)
      return found.0 != nil || found.1 != nil
    } catch { throw TransportError.wrapping(error) }
  }

  /// Asks for an entry, and has the pool know how long that took.
  private func timed(_ path: RemotePath, _ session: any TransportSession) async throws(TransportError) -> RemoteEntry? {
    let began = environment.clock.monotonicNanoseconds
    let entry = try await session.entry(at: path)
    route.pool.answered(after: environment.clock.monotonicNanoseconds - began)
    return entry
  }

  static func unanswered(_ error: TransportError) -> StepFailure {
    StepFailure(error.failure, unreachable: error.failure.isUnanswered)
  }

  /// Where the job's things go at this destination.
  func layout(of job: JobRow) async throws(StepFailure) -> RemoteLayout {
    do {
      let renames = try await route.pool.withSession(width: 1) { (session) throws(TransportError) in session.capabilities.renames }
      return RemoteLayout(job: job, root: route.root, metadataFolder: environment.metadataFolder, inPlace: !renames)
    } catch { throw StepFailure(error) }
  }

  /// For what goes on beside something else: a child task cannot say what it throws.
  static func attempted<Result: Sendable>(
    _ body: () async throws(StepFailure) -> Result
  ) async -> Swift.Result<Result, StepFailure> {
    do throws(StepFailure) { return .success(try await body()) } catch { return .failure(error) }
  }

  /// A call on the queue, whose failure is one of this workstation and no fault of the run.
  func queued<Result: Sendable>(
    _ body: () async throws(SyncFailure) -> Result
  ) async throws(StepFailure) -> Result {
    do { return try await body() } catch { throw StepFailure(error) }
  }
}
