import Bandwidth
import Configuration
import Executors
import Foundation
import Gate
import Glibc
import Intake
import JobQueue
import Synchronization
import SyncModel
import Transport

/// The durable, per-instrument NAS sync queue with its Pre-Sync Gate.
///
/// A client that only looks or enqueues needs no `start()`: any number of processes may do so at once on one state folder. `start()` makes
/// this client the worker of the state folder, of which there is one at a time; `drain()` works until nothing is due.
public actor NASSyncClient {
  /// The version of the library and the program.
  public static let version = "0.1.0"

  /// What the client was made with, or what `reload(_:)` gave it since.
  public nonisolated var configuration: ServiceConfiguration { current.withLock { $0 } }
  /// Written by `reload` alone; behind a lock so that those who only look need not wait for the actor.
  let current: Mutex<ServiceConfiguration>
  let clock: any SyncClock
  let registry: DriverRegistry
  let hub = EventHub()
  let readers: ReaderThreads
  private let space = SpaceLedger()
  let validator: any RunValidator
  var gateKeeper: GateKeeper
  /// The lab's own programs that the gate asks.
  var programs: [ExternalValidator] { Self.programs(configuration) }
  private var openedQueue: SyncQueue?
  var routes: [String: RunnerEnvironment.Route] = [:]
  /// Destinations that the configuration no longer leads to, while somebody may still be using them.
  var retiredPools: [SessionPool] = []
  var scheduler: BandwidthScheduler?
  private(set) var isClosed = false
  /// Set while this client is the worker.
  var work: Work?
  /// Set while this client watches for finished runs.
  var watcher: RunWatcher?

  /// What a working client holds.
  struct Work {
    let lock: WorkerLock
    let stop: StopFlag
    var endsWhenIdle = false
    var task: Task<Void, Never>?
    let audits = AuditDesk()
  }

  /// Nothing is opened and nothing connects yet.
  /// - Parameters:
  ///   - configuration: Loaded from files, or built in code.
  ///   - validator: Replaces the built-in gate rules. The programs of `gate.validators` are asked after it in either case.
  ///   - clock: Replaces the machine's clocks.
  ///   - driver: Gives a transport driver of one's own for an instrument; nil takes the one its profile names.
  public init(
    configuration: ServiceConfiguration, validator: any RunValidator = BuiltInValidator(), clock: any SyncClock = SystemClock(),
    driver: (@Sendable (EquipmentProfile) -> (any TransportDriver)?)? = nil
  ) {
    current = Mutex(configuration)
    self.clock = clock
    self.validator = validator
    registry = DriverRegistry(custom: driver, metadataFolder: configuration.metadataFolder, clock: clock)
    let readers = ReaderThreads(count: 2)
    self.readers = readers
    gateKeeper = Self.gateKeeper(configuration, validator: validator, clock: clock, readers: readers)
  }

  private static func programs(_ configuration: ServiceConfiguration) -> [ExternalValidator] {
    configuration.gate.validators.map { ExternalValidator(command: $0.command, timeout: $0.timeout) }
  }

  static func gateKeeper(
    _ configuration: ServiceConfiguration, validator: any RunValidator, clock: any SyncClock, readers: ReaderThreads
  ) -> GateKeeper {
    let programs = programs(configuration)
    return GateKeeper(
      gate: PreSyncGate(validator: programs.isEmpty ? validator : CompositeValidator([validator] + programs)),
      content: ContentScanSettings(
        extensions: configuration.gate.contentScanExtensions, maxBytes: UInt64(max(0, configuration.gate.contentScanMaxMiB)) << 20),
      clock: clock, metadataFolder: configuration.metadataFolder, threads: readers,
      rules: (validator is BuiltInValidator ? FindingClass.builtIn.map(\.rawValue) : [String(describing: type(of: validator))])
        + programs.map { "validator \($0.name)" })
  }

  /// What happens, from now on. Each call gives a stream of its own, which ends when the client is closed.
  public nonisolated var events: AsyncStream<SyncEvent> { hub.listen() }

  /// Becomes the worker of the state folder: replays what a former worker left, then sends, proves and publishes whatever is and will be
  /// queued, by this process or another, until `close()`. Runs that their instruments have finished it enqueues by itself.
  /// - Throws: `SyncFailure`, e.g. where another process is the worker already.
  public func start() async throws(SyncFailure) {
    if let work {
      // Called twice, it works already; beside a drain of this client nobody would go on once that ends.
      guard !work.endsWhenIdle else {
        throw SyncFailure(.local, "this client is draining", hint: "Wait for `drain()` to return, then start.", retry: false)
      }
      return
    }
    guard try await becomeWorker() else {
      throw SyncFailure(
        .local, "another process works on \(configuration.stateDirectory) already",
        hint: "One service a state folder is enough: enqueue beside it, or stop it first.", retry: false)
    }
    let environment = try await environment()
    let audits = work?.audits ?? AuditDesk()
    work?.task = Task { [weak self] in
      await withTaskGroup(of: Void.self) { group in
        group.addTask { await self?.runWorkers(environment, untilIdle: false) }
        group.addTask { await self?.witnessTime(environment) }
        group.addTask { await self?.watchForRuns(environment) }
        group.addTask { await self?.runReaper(environment) }
        group.addTask { await self?.runAudits(environment, audits) }
        await group.waitForAll()
      }
    }
  }

  /// Stops the work in order and closes everything. What was sent and not recorded yet is made durable first, within seconds.
  public func close() async {
    guard !isClosed else { return }
    isClosed = true
    await stopWork()
    for pool in pools() { await pool.close() }
    routes = [:]
    retiredPools = []
    await closeQueue()
    hub.finish()
  }

  /// Lets running jobs save their progress, then interrupts what still blocks.
  func stopWork(grace: Double = 5) async {
    guard let work else { return }
    work.stop.set()
    work.task?.cancel()
    // An audit has no progress to save.
    work.audits.interrupt()
    let pools = pools()
    let clock = clock
    let interrupter = Task.detached {
      // Cancelled as soon as the work has ended by itself.
      do throws(CancellationError) {
        try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds + UInt64(grace * 1e9))
      } catch { return }
      for pool in pools { pool.interrupt() }
    }
    await work.task?.value
    interrupter.cancel()
    self.work = nil
  }

  /// Takes the worker lock and replays; false where another process has it.
  func becomeWorker() async throws(SyncFailure) -> Bool {
    let queue = try await queue()
    guard let lock = try WorkerLock.take(stateDirectory: configuration.stateDirectory) else { return false }
    work = Work(lock: lock, stop: StopFlag(), task: nil)
    do {
      try await queue.checkForDamage()
      try await queue.replay()
    } catch {
      work = nil
      throw error
    }
    return true
  }

  // MARK: - Parts, made when first needed

  func queue() async throws(SyncFailure) -> SyncQueue {
    if isClosed {
      throw SyncFailure(.local, "this client is closed", hint: "Make another one.", retry: false)
    }
    if let openedQueue { return openedQueue }
    // A configuration built in code has not been through the loader.
    do throws(ConfigurationError) { try configuration.validate() } catch {
      throw SyncFailure(.misconfigured, "the configuration cannot be used: \(error)", hint: "Correct it and make another client.")
    }
    let queue = try await SyncQueue.open(stateDirectory: configuration.stateDirectory, clock: clock)
    if let other = openedQueue {
      await queue.close()
      return other
    }
    openedQueue = queue
    return queue
  }

  /// So that the next use opens the file anew.
  func closeQueue() async {
    await openedQueue?.close()
    openedQueue = nil
  }

  func route(for profile: EquipmentProfile) -> RunnerEnvironment.Route {
    if let route = routes[profile.id] { return route }
    let route = registry.route(for: profile)
    routes[profile.id] = route
    return route
  }

  /// The open destinations.
  func pools() -> [SessionPool] { routes.values.map(\.pool) + retiredPools }

  func bandwidth() throws(SyncFailure) -> BandwidthScheduler {
    if let scheduler { return scheduler }
    do {
      let made = try BandwidthScheduler(
        serviceMbps: configuration.uploadMbps, profiles: configuration.bandwidthProfiles, clock: clock)
      scheduler = made
      return made
    } catch {
      throw SyncFailure(.misconfigured, "the bandwidth settings cannot be used: \(error)", hint: "Correct them in the configuration.")
    }
  }

  func environment() async throws(SyncFailure) -> RunnerEnvironment {
    try await loadFacts()
    return environment(queue: try await queue(), bandwidth: try bandwidth(), stop: work?.stop ?? StopFlag())
  }

  /// The same with the settings that are in force now.
  func renewed(_ environment: RunnerEnvironment) -> RunnerEnvironment {
    self.environment(queue: environment.queue, bandwidth: environment.bandwidth, stop: environment.stop)
  }

  func environment(queue: SyncQueue, bandwidth: BandwidthScheduler, stop: StopFlag) -> RunnerEnvironment {
    let configuration = configuration
    return RunnerEnvironment(
      queue: queue, clock: clock, events: hub, bandwidth: bandwidth, readers: readers, gate: gateKeeper,
      policy: FailurePolicy(backoff: configuration.retry.backoff), stop: stop, worker: Self.workerName,
      verifyMethod: configuration.verify.method, metadataFolder: configuration.metadataFolder, sender: Self.identity, space: space)
  }

  static let workerName = "\(identity.host):\(ProcessInfo.processInfo.processIdentifier)"
  static let identity = SenderIdentity(host: hostName(), user: OperatorName.current, version: version)

  /// The kernel's own answer: Foundation's may ask a name server, and hang.
  private static func hostName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "unknown" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  func locator() -> RunLocator {
    RunLocator(equipments: configuration.equipment.map { EquipmentRoot(id: $0.id, localRoot: $0.localRoot) })
  }

  /// Finds the run and its instrument: from the path, from what the caller says, or, for a run outside the usual layout, from the instrument
  /// that was named when it was enqueued.
  func locate(_ path: String, equipment: String?, mayBeGone: Bool = false) async throws(SyncFailure) -> (RunLocation, EquipmentProfile) {
    let location: RunLocation
    do throws(RunLocationError) {
      location = try await resolve(path, equipment: equipment, mayBeGone: mayBeGone)
    } catch {
      guard equipment == nil, case .outsideEveryEquipment = error, let known = try await enqueuedBefore(path, mayBeGone: mayBeGone) else {
        throw error.failure
      }
      location = known
    }
    guard let profile = configuration.equipment(id: location.equipment) else {
      throw RunLocationError.unknownEquipment(location.equipment, known: configuration.equipment.map(\.id)).failure
    }
    return (location, profile)
  }

  private func resolve(_ path: String, equipment: String?, mayBeGone: Bool) async throws(RunLocationError) -> RunLocation {
    let locator = locator()
    return try await readers.next().run { () throws(RunLocationError) in
      try locator.locate(path, equipment: equipment, mayBeGone: mayBeGone)
    }
  }

  private func enqueuedBefore(_ path: String, mayBeGone: Bool) async throws(SyncFailure) -> RunLocation? {
    guard let queue = try await queueIfPresent() else { return nil }
    for profile in configuration.equipment {
      let location: RunLocation
      do throws(RunLocationError) { location = try await resolve(path, equipment: profile.id, mayBeGone: mayBeGone) } catch { continue }
      if try await queue.latestJob(ofRun: location.root)?.equipmentID == profile.id { return location }
      let blocked = try await queue.blockedRun(path: location.root)
      if blocked?.equipmentID == profile.id { return location }
    }
    return nil
  }

  /// The run's tree as it is now.
  func scan(_ location: RunLocation, _ profile: EquipmentProfile) async throws(SyncFailure) -> RunSnapshot {
    let folder = configuration.metadataFolder
    let exclude = profile.exclude
    return try await readers.next().run { () throws(SyncFailure) in
      try RunScanner.snapshot(of: location.root, metadataFolder: folder, excluding: exclude)
    }
  }
}
