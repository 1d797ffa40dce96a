import Digests
import Intake
import SyncModel
import Synchronization
import Transport

/// Brings a run's files from the NAS into a folder: each is hashed as it arrives, and gets its name only when it is the one of the manifest.
struct Restorer: Sendable {
  let source: RestoreSource
  let folder: RestoreFolder
  let route: RunnerEnvironment.Route
  let readers: ReaderThreads
  let tracker: RestoreTracker

  /// A file of more bytes is written to the disk as it arrives, and goes on there after an interruption.
  private static let wholeInMemory: UInt64 = 256 << 10
  /// Small files that are brought to the disk at once.
  private static let batch = 512

  static let interrupted = SyncFailure(.interrupted, "the restore was told to stop", hint: "The same command goes on where it was.")
  static let tooLong = SyncFailure(
    .remoteCorrupted, "the file goes on beyond its size", hint: "Look at the file on the NAS.")

  /// One pass over what is not there yet.
  /// - Throws: What ended the pass: what has arrived by then is kept.
  func pass() async throws(TransportError) {
    let rest = await tracker.remaining(of: source.items)
    let small = rest.filter { $0.size <= Self.wholeInMemory }
    let large = rest.filter { $0.size > Self.wholeInMemory }
    let bytes = rest.reduce(UInt64(0)) { $0 &+ $1.size }
    let width = min(max(1 + rest.count / 1_000, 1 + Int(clamping: bytes / (64 << 20))), route.connections)
    do throws(TransportError) {
      try await each(small, atOnce: 24 * width) { (item) throws(TransportError) in try await restoreSmall(item, width: width) }
      try await nameBatch(minimum: 1)
      // Each reads megabytes ahead.
      try await each(large, atOnce: 2 * width) { (item) throws(TransportError) in try await restoreLarge(item, width: width) }
    } catch {
      // What is whole is worth keeping; the first failure is the one to tell.
      do throws(TransportError) { try await nameBatch(minimum: 1) } catch {}
      throw error
    }
  }

  private func each(
    _ items: [RestoreSource.Item], atOnce: Int, _ body: @escaping @Sendable (RestoreSource.Item) async throws(TransportError) -> Void
  ) async throws(TransportError) {
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        var index = 0
        while index < items.count || !group.isEmpty {
          if Task.isCancelled { throw Self.interrupted }
          if index < min(atOnce, items.count) {
            let item = items[index]
            index += 1
            group.addTask { try await body(item) }
            continue
          }
          try await group.next()
          if index < items.count {
            let item = items[index]
            index += 1
            group.addTask { try await body(item) }
          }
        }
      }
    } catch { throw TransportError.wrapping(error) }
  }

  /// Nanoseconds since 1970. A store whose listings tell no times may tell one that is asked for by its name.
  private func modified(_ item: RestoreSource.Item, width: Int) async throws(TransportError) -> Int64? {
    if let known = item.modified { return known }
    let path = source.layout.final.appending(item.path)
    let found = try await route.pool.withSession(width: width) { (session) throws(TransportError) in
      try await session.entry(at: path)
    }
    return found?.modified.map(RestoreSource.nanoseconds)
  }

  // MARK: - Small files

  private func restoreSmall(_ item: RestoreSource.Item, width: Int) async throws(TransportError) {
    let content = Content(limit: item.size)
    guard try await download(item, from: 0, width: width, { (chunk) async throws(SyncFailure) in try await content.add(chunk) }) else {
      return
    }
    let bytes = await content.bytes
    guard SHA256Hasher.digest(of: bytes) == item.digest else { return await tracker.damaged(item, Self.differs) }
    let modified = try await modified(item, width: width)
    try await locally { () throws(SyncFailure) in
      try folder.write(bytes, as: item.temporary, modified: modified, mode: item.mode)
    }
    await tracker.arrived(UInt64(bytes.count), item)
    if await tracker.wait(item) >= Self.batch { try await nameBatch(minimum: Self.batch) }
  }

  /// Brings what waits to the disk with one call, and names it then: a name never stands for a file that a power cut could empty.
  private func nameBatch(minimum: Int) async throws(TransportError) {
    let waiting = await tracker.takeWaiting(minimum: minimum)
    guard !waiting.isEmpty else { return }
    let taken = try await locally { () throws(SyncFailure) -> [RestoreSource.Item] in
      try folder.syncAll()
      var taken: [RestoreSource.Item] = []
      for item in waiting where try !folder.place(item.temporary, as: item.path) { taken.append(item) }
      return taken
    }
    if let first = taken.first { throw .failure(Self.nameTaken(first), sessionLost: false) }
    for item in waiting { await tracker.restored(item) }
  }

  private actor Content {
    private(set) var bytes: [UInt8] = []
    private let limit: UInt64
    init(limit: UInt64) { self.limit = limit }
    func add(_ chunk: [UInt8]) throws(SyncFailure) {
      guard UInt64(bytes.count + chunk.count) <= limit else { throw Restorer.tooLong }
      bytes += chunk
    }
  }

  // MARK: - Large files

  private func restoreLarge(_ item: RestoreSource.Item, width: Int) async throws(TransportError) {
    let thread = readers.next()
    let temporary = item.temporary
    let file = try await locally { () throws(SyncFailure) in try folder.openPart(temporary) }
    let part = RestoredPart(file, shown: item.path.description, limit: item.size, on: thread)
    var from = try await local { () async throws(SyncFailure) in try await part.takeUp() }
    await tracker.tookUp(from, item)
    while true {
      let whole = try await download(item, from: from, width: width) { (chunk) async throws(SyncFailure) in
        try await part.append(chunk)
        await tracker.arrived(UInt64(chunk.count), item)
      }
      guard whole else {
        return try await locally { () throws(SyncFailure) in folder.discard(temporary) }
      }
      if try await local({ () async throws(SyncFailure) in try await part.digest() }) == item.digest { break }
      // What an interrupted restore left may have suffered from a power cut: once more, whole.
      guard from > 0 else {
        try await locally { () throws(SyncFailure) in folder.discard(temporary) }
        return await tracker.damaged(item, Self.differs)
      }
      from = 0
      try await local { () async throws(SyncFailure) in try await part.startAnew() }
      await tracker.tookUp(0, item)
    }
    let modified = try await modified(item, width: width)
    try await local { () async throws(SyncFailure) in try await part.seal(modified: modified, mode: item.mode) }
    guard try await locally({ () throws(SyncFailure) in try folder.place(temporary, as: item.path) }) else {
      throw .failure(Self.nameTaken(item), sessionLost: false)
    }
    await tracker.restored(item)
  }

  // MARK: - Steps

  /// - Returns: False where the NAS does not have the file, or not so: the tracker knows then.
  private func download(
    _ item: RestoreSource.Item, from offset: UInt64, width: Int, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) -> Bool {
    // Where the pool logs in once more in the middle of a file, the rest is asked for, not what has been taken already.
    let taken = Mutex<UInt64>(0)
    do throws(TransportError) {
      try await route.pool.withSession(width: width) { (session) throws(TransportError) in
        try await session.download(source.layout.final.appending(item.path), from: offset + taken.withLock { $0 }) {
          (chunk) async throws(SyncFailure) in
          try await body(chunk)
          taken.withLock { $0 += UInt64(chunk.count) }
        }
      }
      return true
    } catch {
      switch error {
      case .notFound: await tracker.fault(item, .missing, "it vanished from the NAS")
      case .failure(let failure, sessionLost: false) where failure == Self.tooLong: await tracker.damaged(item, failure.message)
      case .failure(let failure, sessionLost: false) where failure.kind == .permission:
        await tracker.fault(item, .unreadable, failure.message)
      default: throw error
      }
      return false
    }
  }

  private func locally<Result: Sendable>(_ body: @escaping @Sendable () throws(SyncFailure) -> Result) async throws(TransportError)
    -> Result
  {
    do throws(SyncFailure) { return try await readers.next().run(body) } catch { throw .failure(error, sessionLost: false) }
  }

  private func local<Result: Sendable>(_ body: () async throws(SyncFailure) -> Result) async throws(TransportError) -> Result {
    do throws(SyncFailure) { return try await body() } catch { throw .failure(error, sessionLost: false) }
  }

  private static let differs = "the NAS holds another content than the manifest says"

  private static func nameTaken(_ item: RestoreSource.Item) -> SyncFailure {
    SyncFailure(
      .local, "\(item.path) cannot be restored: something has that name already",
      hint:
        "Nothing was overwritten. A file system that takes two spellings of a name for one cannot hold this run: restore it to another. "
        + "Else look who writes there.", retry: false)
  }
}

/// How far a restore has come, told to whoever shows it.
actor RestoreTracker {
  private let total: (files: Int, bytes: UInt64)
  private let tell: @Sendable (RestoreProgress) -> Void
  private var over: Set<RelativePath> = []
  private var waiting: [RestoreSource.Item] = []
  private var waitingPaths: Set<RelativePath> = []
  /// Bytes of files that are under way.
  private var partial: [RelativePath: UInt64] = [:]
  private var bytesDone: UInt64 = 0
  private(set) var restored = 0
  private(set) var kept = 0
  private(set) var bytesProven: UInt64 = 0
  private(set) var downloaded: UInt64 = 0
  private(set) var faults: [RestoreReport.Fault] = []

  init(items: [RestoreSource.Item], tell: @escaping @Sendable (RestoreProgress) -> Void) {
    total = (items.count, items.reduce(0) { $0 &+ $1.size })
    self.tell = tell
  }

  func remaining(of items: [RestoreSource.Item]) -> [RestoreSource.Item] {
    items.filter { !over.contains($0.path) && !waitingPaths.contains($0.path) }
  }

  /// There already, and proven.
  func kept(_ item: RestoreSource.Item) {
    kept += 1
    settle(item)
  }

  func restored(_ item: RestoreSource.Item) {
    restored += 1
    waitingPaths.remove(item.path)
    settle(item)
  }

  private func settle(_ item: RestoreSource.Item) {
    over.insert(item.path)
    bytesProven &+= item.size
    bytesDone = bytesDone &- (partial.removeValue(forKey: item.path) ?? 0) &+ item.size
    report(item)
  }

  /// An interrupted restore has so much of it.
  func tookUp(_ bytes: UInt64, _ item: RestoreSource.Item) {
    bytesDone = bytesDone &- (partial[item.path] ?? 0) &+ bytes
    partial[item.path] = bytes
    report(item)
  }

  func arrived(_ bytes: UInt64, _ item: RestoreSource.Item) {
    downloaded &+= bytes
    bytesDone &+= bytes
    partial[item.path, default: 0] &+= bytes
    report(item)
  }

  /// - Returns: How many wait for their names.
  func wait(_ item: RestoreSource.Item) -> Int {
    waiting.append(item)
    waitingPaths.insert(item.path)
    return waiting.count
  }

  func takeWaiting(minimum: Int) -> [RestoreSource.Item] {
    guard waiting.count >= minimum else { return [] }
    defer { waiting = [] }
    return waiting
  }

  func damaged(_ item: RestoreSource.Item, _ detail: String) { fault(item, .differs, detail) }

  func fault(_ item: RestoreSource.Item, _ problem: RestoreReport.Fault.Problem, _ detail: String) {
    over.insert(item.path)
    bytesDone = bytesDone &- (partial.removeValue(forKey: item.path) ?? 0)
    faults.append(RestoreReport.Fault(path: item.path.description, problem: problem, detail: detail))
  }

  private func report(_ item: RestoreSource.Item) {
    tell(
      RestoreProgress(
        filesDone: restored + kept, filesTotal: total.files, bytesDone: bytesDone, bytesTotal: total.bytes, current: item.path.description))
  }
}
