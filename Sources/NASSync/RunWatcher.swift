import Configuration
import Executors
import Foundation
import Gate
import Intake
import JobQueue
import SyncModel

/// Finds the runs that their instruments have finished, and has them enqueued.
///
/// Polls, so that it works on network mounts too. A round costs one listing of the folders that hold runs, one `lstat` a run and, of the queue,
/// what has changed since; into the trees of single runs it looks at their own pace, never for more than a quarter of a second
/// a round. Everything that blocks happens on a thread of its own, hashing on the readers'.
actor RunWatcher {
  /// Gate and queue, as for a person who asks for it.
  typealias Enqueue = @Sendable (_ path: String, _ equipment: String) async throws(SyncFailure) -> SyncJobHandle

  /// What is known of an instrument whose runs are watched.
  private struct Instrument {
    let signal: CompletenessSignal
    let exclude: [String]
  }

  private struct Subject {
    let key: [UInt8]
    let candidate: RunFinder.Candidate
    let standing: RunObservation.Standing
    let dueAt: UInt64
  }

  /// Nanoseconds of one round that go into looks at single runs.
  private static let lookBudget: UInt64 = 250_000_000
  /// Nanoseconds between two rounds: at least the first, at most the last, and the listing takes a twentieth of the time.
  private static let shortestPause: UInt64 = 1_000_000_000
  private static let longestPause: UInt64 = 300_000_000_000

  private let queue: SyncQueue
  private let clock: any SyncClock
  private let events: EventHub
  private let readers: ReaderThreads
  private let enqueue: Enqueue
  /// A tree on a disk that hangs must not hold up those who send.
  private let thread = ThreadExecutor(name: "nassync-watch")

  private var observations: [[UInt8]: RunObservation] = [:]
  private var standings: [[UInt8]: SyncQueue.RunStanding] = [:]
  /// The last line of the queue's history that `standings` knows of.
  private var sequence: Int64?
  private var told: Set<String> = []
  private var proving: Task<Void, Never>?

  init(queue: SyncQueue, clock: any SyncClock, events: EventHub, readers: ReaderThreads, enqueue: @escaping Enqueue) {
    self.queue = queue
    self.clock = clock
    self.events = events
    self.readers = readers
    self.enqueue = enqueue
  }

  deinit { thread.shutdown() }

  /// The signal of a profile; nil for an instrument that is not watched.
  static func signal(of profile: EquipmentProfile) -> CompletenessSignal? {
    switch profile.completeness {
    case .manual: nil
    case .quiet(let seconds): .quiet(seconds: seconds)
    case .sentinel(let file): path(file).map { .sentinel($0) }
    case .manifest(let file): path(file ?? CompletenessSignal.defaultList).map { .manifest($0) }
    }
  }

  private static func path(_ name: String) -> RelativePath? {
    // The configuration check has found it to be a path inside the run.
    do throws(RelativePath.Invalid) { return try RelativePath(name) } catch { return nil }
  }

  /// The configuration changed: what the gate refused may pass now, and a signal may be another one.
  func reconsider() {
    for key in observations.keys { observations[key]?.reconsider() }
  }

  /// Ends what still hashes.
  func stop() async {
    proving?.cancel()
    await proving?.value
    proving = nil
  }

  /// One round.
  /// - Returns: Nanoseconds until the next.
  func round(_ configuration: ServiceConfiguration, stop: StopFlag) async throws(SyncFailure) -> UInt64 {
    var instruments: [String: Instrument] = [:]
    for profile in configuration.equipment {
      guard let signal = Self.signal(of: profile) else { continue }
      instruments[profile.id] = Instrument(signal: signal, exclude: profile.exclude)
    }
    guard !instruments.isEmpty else {
      observations = [:]
      return Self.shortestPause
    }
    // Before anything on the disk is looked at: a run that is being cleaned up must not seem to be a cleaned one with files.
    try await readNews()
    let roots = configuration.equipment.filter { instruments[$0.id] != nil }.map { EquipmentRoot(id: $0.id, localRoot: $0.localRoot) }
    let metadataFolder = configuration.metadataFolder
    let refused = Set(observations.filter { $0.value.isRefused }.keys)
    let (found, records, cost) = await thread.run { [clock] () -> (RunFinder.Found, [[UInt8]: RunFinder.Stamp], UInt64) in
      let began = clock.monotonicNanoseconds
      let found = RunFinder.find(roots)
      var records: [[UInt8]: RunFinder.Stamp] = [:]
      for candidate in found.candidates where !refused.isEmpty {
        let key = Array(candidate.path.utf8)
        if refused.contains(key) { records[key] = RunFinder.Stamp(of: "\(candidate.path)/\(metadataFolder)/creation.json") }
      }
      return (found, records, clock.monotonicNanoseconds - began)
    }
    try await meet(found.candidates)
    tell(found.obstacles)
    let due = merge(found.candidates, records, now: clock.monotonicNanoseconds)
    await look(at: due, instruments, metadataFolder: metadataFolder, stop: stop)
    return min(max(Self.shortestPause, cost &* 20), Self.longestPause)
  }

  /// Where the runs that are known stand now.
  private func readNews() async throws(SyncFailure) {
    guard let sequence else {
      sequence = try await queue.lastSequence()
      return
    }
    let (last, news) = try await queue.news(since: sequence)
    for job in news.map(\.job) {
      let key = Array(job.runPath.utf8)
      // Of others nobody has asked yet, and of most, which are no longer here, nobody will.
      if observations[key] != nil { standings[key] = SyncQueue.RunStanding(job) }
    }
    self.sequence = last
  }

  /// Asks where runs stand that were not here in the round before, and forgets those that are gone. Their folders are only known by name yet.
  private func meet(_ candidates: [RunFinder.Candidate]) async throws(SyncFailure) {
    let unknown = candidates.map(\.path).filter { observations[Array($0.utf8)] == nil }
    let asked = try await queue.standings(ofRuns: unknown)
    var kept: [[UInt8]: SyncQueue.RunStanding] = [:]
    for candidate in candidates {
      let key = Array(candidate.path.utf8)
      if let standing = asked[key] ?? (observations[key] == nil ? nil : standings[key]) { kept[key] = standing }
    }
    standings = kept
  }

  /// Each obstacle is said when it turns up; `problems` keeps showing it.
  private func tell(_ obstacles: [RunFinder.Obstacle]) {
    var standing: Set<String> = []
    for obstacle in obstacles {
      let line = "\(obstacle.path) cannot be searched for runs: \(obstacle.reason). \(obstacle.hint)"
      standing.insert(line)
      if !told.contains(line) { events.send(.warning(runPath: nil, message: line)) }
    }
    told = standing
  }

  /// Forgets what is gone, and picks what is due, those that wait for their first job before those that have been sent.
  private func merge(_ candidates: [RunFinder.Candidate], _ records: [[UInt8]: RunFinder.Stamp], now: UInt64) -> [Subject] {
    var kept: [[UInt8]: RunObservation] = [:]
    kept.reserveCapacity(candidates.count)
    var due: [Subject] = []
    for candidate in candidates {
      let key = Array(candidate.path.utf8)
      let standing = standing(of: key)
      var observation = observations.removeValue(forKey: key) ?? RunObservation()
      observation.meet(standing, stamps: [candidate.stamp, records[key]])
      if let at = observation.dueAt, at <= now {
        due.append(Subject(key: key, candidate: candidate, standing: standing, dueAt: at))
      }
      kept[key] = observation
    }
    observations = kept
    func rank(_ subject: Subject) -> Int { subject.standing == .unsent ? 0 : 1 }
    return due.sorted { (rank($0), $0.dueAt) < (rank($1), $1.dueAt) }
  }

  private func standing(of key: [UInt8]) -> RunObservation.Standing {
    guard let job = standings[key] else { return .unsent }
    switch job.state {
    case .verified, .cleanupEligible, .cleaned: return .sent(job: job.number)
    case .queued, .running, .awaitingVerify, .failed: return .resting
    }
  }

  private func look(at due: [Subject], _ instruments: [String: Instrument], metadataFolder: String, stop: StopFlag) async {
    let began = clock.monotonicNanoseconds
    for subject in due {
      guard !stop.isSet, !Task.isCancelled, clock.monotonicNanoseconds - began < Self.lookBudget else { return }
      guard let instrument = instruments[subject.candidate.equipment] else { continue }
      let started = clock.monotonicNanoseconds
      var pace = RunObservation.Pace.refused
      do throws(SyncFailure) {
        pace = try await look(at: subject, instrument, metadataFolder: metadataFolder, started: started)
        observations[subject.key]?.succeeded()
      } catch {
        // One that was removed meanwhile is missing in the next listing.
        if error.kind != .localVanished, observations[subject.key]?.failed(error.message) == true {
          events.send(.warning(runPath: subject.candidate.path, message: error.description))
        }
      }
      observations[subject.key]?.looked(at: started, cost: clock.monotonicNanoseconds - started, pace: pace)
    }
  }

  // MARK: - One run

  private func look(
    at subject: Subject, _ instrument: Instrument, metadataFolder: String, started: UInt64
  ) async throws(SyncFailure) -> RunObservation.Pace {
    let root = subject.candidate.path
    let signal = instrument.signal
    if subject.standing == .unsent, !signal.isQuiet {
      let isGiven = try await thread.run { () throws(SyncFailure) in try signal.isGiven(at: root) }
      guard isGiven else { return .awaited }
    }
    let look = try await thread.run { () throws(SyncFailure) in try signal.look(at: root, metadataFolder: metadataFolder) }
    observations[subject.key]?.saw(look.pulse, ended: clock.monotonicNanoseconds)
    guard case .sent(let job) = subject.standing else { return try await consider(look, subject, instrument, wasSent: false, started) }
    guard let observation = observations[subject.key], !observation.isSettled(look.pulse) else { return .sent }
    guard try await hasNews(root, job: job, exclude: instrument.exclude, metadataFolder: metadataFolder) else {
      observations[subject.key]?.hasNoNews(look.pulse)
      return .sent
    }
    return try await consider(look, subject, instrument, wasSent: true, started)
  }

  /// Whether the run has something that none of its published generations has.
  private func hasNews(_ root: String, job number: Int64, exclude: [String], metadataFolder: String) async throws(SyncFailure) -> Bool {
    let snapshot = try await thread.run { () throws(SyncFailure) in
      try RunScanner.snapshot(of: root, metadataFolder: metadataFolder, excluding: exclude)
    }
    let published = try await queue.publishedComponents(ofRun: root)
    let known = published + (try await queue.components(of: try await queue.job(number: number)))
    return snapshot.hasNews(beside: known.map(\.entry))
  }

  private func consider(
    _ look: RunLook, _ subject: Subject, _ instrument: Instrument, wasSent: Bool, _ started: UInt64
  ) async throws(SyncFailure) -> RunObservation.Pace {
    guard let observation = observations[subject.key] else { return .refused }
    let mark = RunObservation.Mark(pulse: look.pulse, record: Self.recordHash(look.snapshot))
    if observation.isRefused(mark) { return .refused }
    let readiness = instrument.signal.readiness(
      look, stillness: observation.stillness, wasSent: wasSent, proof: observation.proof, monotonic: started, wall: clock.wallSeconds)
    switch readiness {
    case .unfinished:
      if case .quiet(let seconds) = instrument.signal { return .quiet(seconds) }
      return wasSent ? .renewed : .awaited
    case .provable(let list):
      prove(list, subject)
      return .awaited
    case .finished:
      let handle = try await enqueue(subject.candidate.path, subject.candidate.equipment)
      if handle.state == .blocked {
        observations[subject.key]?.wasRefused(mark)
        return .refused
      }
      if handle.unchanged { observations[subject.key]?.hasNoNews(look.pulse) }
      return .sent
    }
  }

  /// Of the record without its `sync_status`, which this program itself writes.
  private static func recordHash(_ snapshot: RunSnapshot) -> Int {
    var bytes = snapshot.record
    if let raw = bytes {
      do throws(RecordError) { bytes = try RunRecord(parsing: raw).setting(.pending).document.bytes } catch { bytes = raw }
    }
    var hasher = Hasher()
    hasher.combine(bytes)
    hasher.combine(snapshot.recordUnreadable)
    return hasher.finalize()
  }

  // MARK: - Lists

  /// Hashes what a list names, one run at a time; the result is there for a later look.
  private func prove(_ list: RunList, _ subject: Subject) {
    guard proving == nil else { return }
    let root = subject.candidate.path
    proving = Task { [readers] in
      let problem = await Self.hash(list, root: root, readers: readers)
      self.proved(subject, problem.map { ListProof(fingerprint: list.fingerprint, problem: $0) })
    }
  }

  private func proved(_ subject: Subject, _ proof: ListProof?) {
    proving = nil
    guard let proof else { return }
    observations[subject.key]?.wasProven(proof)
    if let problem = proof.problem { events.send(.warning(runPath: subject.candidate.path, message: problem)) }
  }

  /// - Returns: `.some(nil)` where every file has its digest, what is wrong where one has not, nil where it cannot be said now.
  private static func hash(_ list: RunList, root: String, readers: ReaderThreads) async -> String?? {
    do throws(SyncFailure) {
      let folder = try await readers.next().run { () throws(SyncFailure) in try RunFolder(root: root) }
      for item in list.items {
        let digest = try await FileStream.digest(of: item.entry, in: folder, on: readers.next())
        if digest != item.digest {
          return .some(
            "\(item.entry.path) has not the digest that the instrument's list of files gives: it is damaged, or still being written")
        }
      }
      return .some(nil)
    } catch {
      // What changed meanwhile is looked at anew; a disk that cannot be read is no finished run.
      return error.kind == .local ? .some(error.message) : nil
    }
  }
}

extension CompletenessSignal {
  fileprivate var isQuiet: Bool { if case .quiet = self { true } else { false } }
}
