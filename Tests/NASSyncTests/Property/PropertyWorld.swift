import Digests
import Foundation
import Glibc
import NASSync
import SyncModel
import Synchronization
import TestSupport
import Transport

/// A workstation with three runs, a NAS, and everything that can happen to them. Each step is one event; after each the promises are held against
/// what lies on both disks and in the queue file.
final class PropertyWorld: Sendable {
  /// What a person, the instrument or fate does.
  enum Event: String, CaseIterable {
    case addFile, changeFile, removeFile, replaceByLink, addPlaceholder, removePlaceholder, addFolder
    case enqueue, drain, retry, audit, cleanUp, cleanUpOne, restart
    case timePasses, dayPasses, clockForward, clockBack, clockRight, machineRestarts
    case nasGone, nasBack, flipOnNAS, removeOnNAS
    case overrideAdded, overrideRevoked, overrideExpires
    case recordBroken, recordMended
    case crashNext, editNext
    case newRun, goodSpell
  }

  /// More of what leads somewhere, less of what only hinders.
  static let deck: [Event] =
    Event.allCases
    + [.addFile, .addFile, .enqueue, .enqueue, .enqueue, .drain, .drain, .drain, .drain, .audit, .audit, .audit, .cleanUp, .cleanUp]
    + [.cleanUpOne, .cleanUpOne, .dayPasses, .dayPasses, .dayPasses, .retry, .retry, .nasBack, .nasBack, .clockRight, .recordMended]
    + [.removePlaceholder, .removePlaceholder, .overrideAdded, .editNext, .crashNext, .newRun, .goodSpell, .goodSpell, .goodSpell]

  /// What the product does; the rest is done to it.
  private static let work: Set<Event> = [
    .enqueue, .drain, .retry, .audit, .cleanUp, .cleanUpOne, .overrideAdded, .overrideRevoked, .overrideExpires,
  ]

  /// What brings a run to its end where nothing comes between.
  static let wayToTheEnd: [Event] = [
    .nasBack, .clockRight, .recordMended, .removePlaceholder, .newRun, .enqueue, .drain, .dayPasses, .audit, .dayPasses, .audit, .cleanUp,
  ]

  /// What the next calls on the NAS meet.
  private struct Fate {
    var isGone = false
    /// The process dies at this call from now; nil for never.
    var diesIn: Int?
    var isDead = false
    /// Somebody edits a file of this run at this call from now.
    var edit: (callsLeft: Int, run: Int)?
    /// Files that the test itself touched while the product worked, by absolute path, with what they were given; nil for removed.
    var edited: [String: TreeImage.Node?] = [:]
  }

  struct Counts: Sendable {
    var steps = 0
    var deletions = 0
    var cleaned = 0
    var crashes = 0
    var violations: [String] = []
    var events: [String: Int] = [:]
  }

  let lab: LabFixture
  let destination: LentDestination
  let clock = ShiftedClock()
  let name: String
  /// All runs there ever were; what happens happens to the last three.
  private let made = Mutex<[String]>([])
  private let fate = Mutex(Fate())
  private let counted = Mutex(Counts())

  var counts: Counts { counted.withLock { $0 } }

  init(_ lab: LabFixture, _ destination: LentDestination, seed: UInt64) throws {
    self.lab = lab
    self.destination = destination
    name = "Seed\(seed)"
    for _ in 1...3 { try makeRun() }
  }

  private var runs: [String] { made.withLock { $0 } }

  private func makeRun() throws {
    let number = runs.count + 1
    let run = try lab.makeRun(
      number % 3 == 1 ? "CONFOCAL_01" : "CYTOMETER_01", project: "\(name)-\(number)",
      files: ["data.fcs": Array("measured \(name) \(number)".utf8), "sub/notes.txt": Array("fine\n".utf8)])
    made.withLock { $0.append(run) }
  }

  // MARK: - The product

  private actor Life {
    var client: NASSyncClient?
    var stateFolder: String
    var lives = 1
    init(stateFolder: String) { self.stateFolder = stateFolder }
    func set(_ client: NASSyncClient?) { self.client = client }
    func next(_ folder: String) {
      stateFolder = folder
      lives += 1
    }
  }

  private func configuration(_ stateFolder: String) -> ServiceConfiguration {
    var configuration = lab.configuration
    configuration.stateDirectory = stateFolder
    configuration.verify.auditInterval = 6 * 3600
    configuration.cleanup = CleanupSettings(enabled: true, minVerifyPasses: 2, minAgeHours: 24)
    configuration.workers = 2
    return configuration
  }

  private func makeClient(_ life: Life) async -> NASSyncClient {
    if let client = await life.client { return client }
    let plan = FaultPlan(before: { [self] call throws(TransportError) in try await meet(call, life) })
    let driver = await destination.driver(plan)
    let client = NASSyncClient(configuration: configuration(await life.stateFolder), clock: clock, driver: { _ in driver })
    await life.set(client)
    return client
  }

  /// What a call on the NAS meets, before it reaches the real one.
  private func meet(_ call: FaultPlan.Call, _ life: Life) async throws(TransportError) {
    let (stop, dies, run) = fate.withLock { fate -> (Bool, Bool, Int?) in
      if fate.isDead || fate.isGone { return (true, false, nil) }
      var run: Int?
      if let edit = fate.edit {
        fate.edit = edit.callsLeft > 1 ? (edit.callsLeft - 1, edit.run) : nil
        if edit.callsLeft <= 1 { run = edit.run }
      }
      if let left = fate.diesIn {
        fate.diesIn = left > 1 ? left - 1 : nil
        if left <= 1 {
          fate.isDead = true
          return (true, true, nil)
        }
      }
      return (false, false, run)
    }
    if dies {
      let from = await life.stateFolder
      let to = lab.folder + "/\(name)-life\(await life.lives + 1)"
      do { try await CrashTests.copyQueue(from, to) } catch { violated("the queue could not be copied: \(error)") }
      await life.next(to)
      counted.withLock { $0.crashes += 1 }
    }
    if stop { throw FaultPlan.lost }
    if let run { edit(runs[run] + "/meanwhile-\(call.number).dat", .file([1, 2, 3, UInt8(truncatingIfNeeded: call.number)])) }
  }

  /// An edit that the test makes while the product works.
  private func edit(_ path: String, _ node: TreeImage.Node) {
    if case .file(let bytes) = node {
      fate.withLock { $0.edited[path] = .some(node) }
      do { try lab.write(bytes, to: path) } catch { violated("the test could not write: \(error)") }
    }
  }

  // MARK: - Steps

  /// So many events in the order that the seed gives; then everything is healed and must come to rest.
  func live(steps: Int, seed: UInt64) async throws {
    var random = SeededGenerator(seed: seed)
    let life = Life(stateFolder: lab.folder + "/\(name)-life1")
    var plan: [Event] = []
    for _ in 0..<steps {
      var event = random.pick(Self.deck)
      // A plan goes on unless something comes between.
      if !plan.isEmpty, random.chance(90) { event = plan.removeFirst() }
      if event == .goodSpell { plan = Self.wayToTheEnd }
      counted.withLock {
        $0.steps += 1
        $0.events[event.rawValue, default: 0] += 1
      }
      try await happen(event, &random, life)
      if !counts.violations.isEmpty { return }
    }
    try await comeToRest(life)
    await life.client?.close()
  }

  private func happen(_ event: Event, _ random: inout SeededGenerator, _ life: Life) async throws {
    let recent = Array(runs.suffix(3))
    let run = random.pick(recent)
    let number = random.next()
    if !Self.work.contains(event) { images.withLock { for run in recent { $0[run] = nil } } }
    switch event {
    case .addFile:
      let path = "\(run)/\(random.chance(50) ? "sub/" : "")file-\(number % 7).dat"
      try? FileManager.default.removeItem(atPath: path)  // a link there must not lead the test itself astray
      try lab.write(Self.content(number), to: path)
    case .changeFile:
      try change(run, &random) { path in
        // A link must not lead the test itself astray.
        try FileManager.default.removeItem(atPath: path)
        try self.lab.write(Self.content(number), to: path)
      }
    case .removeFile: try change(run, &random) { path in try FileManager.default.removeItem(atPath: path) }
    case .replaceByLink:
      try change(run, &random) { path in
        try FileManager.default.removeItem(atPath: path)
        try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: number % 2 == 0 ? "sub" : "../../outside")
      }
    case .addPlaceholder: try lab.write([1], to: run + "/<sample>.dat")
    case .newRun: try makeRun()
    case .goodSpell: break
    case .removePlaceholder: for run in recent { try? FileManager.default.removeItem(atPath: run + "/<sample>.dat") }  // where it is there
    case .addFolder: try FileManager.default.createDirectory(atPath: "\(run)/empty-\(number % 3)", withIntermediateDirectories: true)
    case .timePasses: clock.advance(seconds: Double(number % 7200))
    case .dayPasses: clock.advance(seconds: 25 * 3600)
    case .clockForward: clock.set(by: Double(number % 20) * 86_400)
    case .clockBack: clock.set(by: -Double(number % 20) * 86_400)
    case .clockRight: clock.setRight()
    case .machineRestarts:
      await life.client?.close()
      await life.set(nil)
      clock.restart(after: Double(number % 86_400))
    case .nasGone: fate.withLock { $0.isGone = random.chance(50) }
    case .nasBack: fate.withLock { $0.isGone = false }
    case .flipOnNAS: try tamper(run, &random) { path in try self.lab.flip(path) }
    case .removeOnNAS:
      try tamper(run, &random) { path in
        try FileManager.default.removeItem(atPath: path)
        if path.hasSuffix("/checksums.sha256") { _ = self.manifests.withLock { $0.insert(run) } }
      }
    case .recordBroken: try lab.write(Array("{ half".utf8), to: run + "/.exlab-wizard/creation.json")
    case .recordMended:
      try lab.write(
        Array(#"{"schema_version":"1.8","level":"run","run_kind":"experimental","validation_overrides":[]}"#.utf8),
        to: run + "/.exlab-wizard/creation.json")
    case .crashNext: fate.withLock { $0.diesIn = 1 + random.below(25) }
    case .editNext: fate.withLock { $0.edit = (1 + random.below(25), runs.count - 1 - random.below(3)) }
    case .restart:
      await life.client?.close()
      await life.set(nil)
    case .enqueue, .drain, .retry, .audit, .cleanUp, .cleanUpOne, .overrideAdded, .overrideRevoked, .overrideExpires:
      try await work(event, run, life)
    }
  }

  private static func content(_ number: UInt64) -> [UInt8] { Array("content \(number)".utf8) }

  /// A data file of the run, at the seed's choice.
  private func change(_ run: String, _ random: inout SeededGenerator, _ body: (String) throws -> Void) throws {
    let files = try TreeImage(of: run).data.keys.filter { !$0.hasPrefix(".exlab-wizard/") }.sorted()
    if files.isEmpty { return }
    try body(run + "/" + random.pick(files))
  }

  /// A file of the run's published copy, bookkeeping too.
  private func tamper(_ run: String, _ random: inout SeededGenerator, _ body: (String) throws -> Void) throws {
    let remote = lab.remote(run)
    let files = try TreeImage(of: remote).nodes.filter { if case .file(let bytes) = $0.value { !bytes.isEmpty } else { false } }.keys
      .sorted()
    if files.isEmpty { return }
    try body(remote + "/" + random.pick(files))
  }

  // MARK: - What the product does, and what it must not do

  private func work(_ event: Event, _ run: String, _ life: Life) async throws {
    // A run that nobody has touched since the last look has to be as that found it.
    let seen = images.withLock { $0 }
    let before = try runs.map { run in try seen[run] ?? TreeImage(of: run) }
    let client = await makeClient(life)
    do throws(SyncFailure) { try await act(event, run, client) } catch {
      // Whatever it says, it must have lost nothing: that is looked at below.
    }
    if fate.withLock({ $0.isDead }) {
      await client.close()
      await life.set(nil)
      fate.withLock {
        $0.isDead = false
        $0.edit = nil
      }
    }
    let edited = fate.withLock { fate in
      defer { fate.edited = [:] }
      return fate.edited
    }
    let checker = QueueChecker(path: await life.stateFolder + "/queue.db")
    for (index, run) in runs.enumerated() { try check(run, before[index], edited, checker, after: event) }
    guard FileManager.default.fileExists(atPath: checker.path) else { return }
    for fault in try checker.faults() { violated("\(fault) (after \(event))") }
  }

  private func act(_ event: Event, _ run: String, _ client: NASSyncClient) async throws(SyncFailure) {
    switch event {
    case .enqueue:
      var failure: SyncFailure?
      for run in runs.suffix(3) { do throws(SyncFailure) { try await client.enqueue(run) } catch { failure = error } }
      if let failure { throw failure }
    case .drain: _ = try await client.drain()
    case .retry: _ = try await client.retryAllFailed()
    case .audit: try await client.careRound()
    case .cleanUp: _ = try await client.cleanup()
    case .cleanUpOne: _ = try await client.cleanup(runs: [run])
    case .overrideAdded:
      try await client.addOverride(run, problemClass: .unresolvedPlaceholderToken, reason: "a test")
      try await client.addOverride(run, problemClass: .illegalFilesystemCharacter, reason: "a test")
    case .overrideExpires:
      try await client.addOverride(
        run, problemClass: .unresolvedPlaceholderToken, reason: "a test", expiresAt: Date(timeIntervalSince1970: clock.wallSeconds + 60))
    case .overrideRevoked:
      for entry in try await client.overrides(of: run) where entry.state == .active {
        try await client.revokeOverride(run, id: entry.id, reason: "a test")
      }
    default: break
    }
  }

  /// No byte is gone that the NAS does not hold and that was not proven.
  private func check(
    _ run: String, _ before: TreeImage, _ edited: [String: TreeImage.Node?], _ checker: QueueChecker, after event: Event
  ) throws {
    let now = try TreeImage(of: run)
    images.withLock { $0[run] = now }
    var expected = before.data
    for (path, node) in edited where path.hasPrefix(run + "/") { expected[String(path.dropFirst(run.count + 1))] = node }
    let remote = try TreeImage(of: lab.remote(run))
    var removed = 0
    for (path, node) in expected {
      if let found = now.nodes[path] {
        if found != node { violated("\(event) changed \(run)/\(path)") }
        continue
      }
      removed += 1
      guard remote.nodes[path] == node else {
        violated("\(event) deleted \(run)/\(path), and the NAS does not hold it")
        continue
      }
      guard case .file(let bytes) = node else { continue }
      let proven = try checker.newest(run)
      if proven?.proven[path] != SHA256Hasher.digest(of: bytes)?.bytes || (proven?.passes ?? 0) < 2 {
        violated("\(event) deleted \(run)/\(path) without proof: \(proven?.state ?? "no job"), \(proven?.passes ?? 0) passes")
      }
    }
    if removed > 0 { counted.withLock { $0.deletions += removed } }
    if removed > 0, try checker.newest(run)?.state == "cleaned" { counted.withLock { $0.cleaned += 1 } }
    // Whoever reads the NAS sees no run, or one with its manifest.
    if !remote.nodes.isEmpty, remote.nodes[".exlab-wizard/checksums.sha256"] == nil, !tamperedManifests.contains(run) {
      violated("after \(event) the NAS shows \(run) without a manifest")
    }
  }

  /// Runs whose manifest the test itself took away.
  private var tamperedManifests: Set<String> { manifests.withLock { $0 } }
  private let manifests = Mutex<Set<String>>([])
  /// Each run as the last look found it.
  private let images = Mutex<[String: TreeImage]>([:])

  private func violated(_ what: String) { counted.withLock { $0.violations.append(what) } }

  /// With the NAS back, the clock right and time passing, nothing is stranded.
  private func comeToRest(_ life: Life) async throws {
    fate.withLock { $0 = Fate() }
    clock.setRight()
    for _ in 0..<6 {
      clock.advance(seconds: 3600)
      _ = try await makeClient(life).drain()
    }
    let path = await life.stateFolder + "/queue.db"
    guard FileManager.default.fileExists(atPath: path) else { return }
    for job in try QueueChecker(path: path).active() { violated("stranded: \(job)") }
  }
}
