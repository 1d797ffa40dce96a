import Synchronization
import SyncModel
import Transport
import Verification

/// The open sessions to one destination, shared by all jobs that go there and kept between them: logging in takes a dozen round trips.
///
/// A session serves many tasks at once; the pool hands out the least used one and opens another while there are fewer than the caller
/// wants.
actor SessionPool {
  private struct Member {
    let session: any TransportSession
    var users: Int
    /// Of the users those that ask a few questions, and leave the line to others.
    var visitors = 0
    var isFree: Bool { users == visitors }
    /// How often log-ins had been refused when it began to open.
    let epoch: Int
    /// Monotonic time of the last release.
    var idleSince: UInt64
  }

  /// A session that was idle for longer may have been dropped by the NAS or a firewall without a word; a new one costs a moment, a broken
  /// one an attempt.
  private static let longestIdle: UInt64 = 30_000_000_000

  nonisolated let driver: any TransportDriver
  private let limit: Int
  private let clock: any SyncClock
  private var members: [Member] = []
  /// Not handed out any more, and still in use.
  private var retired: [Member] = []
  private var epoch = 0
  private var opening = 0
  private var waiters: [CheckedContinuation<Void, Never>] = []
  private var knownHasher: RenewedHasher??
  /// The hasher that is being made: whoever wants one waits for it.
  private var making: Task<Result<RenewedHasher?, TransportError>, Never>?
  private let learnedSync = Mutex<Bool?>(nil)
  /// Monotonic time at which a stream failed last; nil where none has.
  private let failedStream = Mutex<UInt64?>(nil)
  /// Whatever was wrong may have been put right by then.
  private static let patienceWithStreams: UInt64 = 3_600_000_000_000
  private let shortestRoundTrip = Mutex<UInt64?>(nil)
  /// What `interrupt()` must reach without waiting for the actor.
  private let interruptible = Mutex<[any TransportSession]>([])
  private let interruptibleHasher = Mutex<(any RemoteHasher)?>(nil)
  private let interruptibleMaking = Mutex<Task<Result<RenewedHasher?, TransportError>, Never>?>(nil)
  /// Log-ins that nobody waits for.
  private let warming = Mutex<[Task<Void, Never>]>([])
  /// How long the last log-in took, nanoseconds.
  private var loginTime: UInt64 = 0
  /// A log-in that takes longer is worth beginning before anybody wants it: a dozen round trips of more than 10 ms.
  private static let longLogin: UInt64 = 150_000_000

  init(driver: any TransportDriver, limit: Int, clock: any SyncClock) {
    self.driver = driver
    self.clock = clock
    self.limit = max(1, limit)
  }

  /// A session to work with; pair each call with `release`.
  /// - Parameters:
  ///   - width: How many sessions the caller's work is worth; never more than the destination's `connections`.
  ///   - isVisit: Set for a few questions: whoever has bytes to send takes the session as a free one, and does not log in because of them.
  ///   - isAlone: Set where a session that somebody else uses is of no use: one that is being opened is waited for.
  func acquire(width: Int, isVisit: Bool = false, isAlone: Bool = false) async throws(TransportError) -> any TransportSession {
    let wanted = min(max(1, width), limit)
    while true {
      await closeIdle()
      let idle = members.contains { $0.isFree }
      let isFull = members.count + opening >= wanted && !(isAlone && opening > 0)
      if !members.isEmpty, idle || isFull { return leastUsed(isVisit) }
      if members.count + opening < wanted {
        opening += 1
        do throws(TransportError) { return try await open(users: 1, visitors: isVisit ? 1 : 0) } catch {
          // One connection is enough to go on with: a server that admits no more is slow, not broken.
          if !members.isEmpty { return leastUsed(isVisit) }
          throw error
        }
      }
      await withCheckedContinuation { waiters.append($0) }
    }
  }

  /// - Precondition: It has been counted in `opening`.
  private func open(users: Int, visitors: Int) async throws(TransportError) -> any TransportSession {
    let epoch = epoch
    let began = clock.monotonicNanoseconds
    do throws(TransportError) {
      let session = try await driver.connect()
      opening -= 1
      let now = clock.monotonicNanoseconds
      loginTime = now - min(began, now)
      interruptible.withLock { $0.append(session) }
      members.append(Member(session: session, users: users, visitors: visitors, epoch: epoch, idleSince: now))
      wakeWaiters()
      return session
    } catch {
      opening -= 1
      wakeWaiters()
      throw error
    }
  }

  /// Over a long way, logs in as often as some work is worth before it begins, and waits for nothing.
  func warm(width: Int) {
    guard loginTime > Self.longLogin else { return }
    let missing = min(width, limit) - members.count - opening
    guard missing > 0 else { return }
    opening += missing
    let tasks = (0..<missing).map { _ in
      Task {
        // Whoever wants a session finds out why there is none.
        do throws(TransportError) { _ = try await open(users: 0, visitors: 0) } catch {}
      }
    }
    warming.withLock { $0 += tasks }
  }

  /// Closes sessions that nobody has used for a while, and the hasher's connection.
  func closeIdle() async {
    if case .some(.some(let hasher)) = knownHasher { await hasher.rest(after: Self.longestIdle) }
    let now = clock.monotonicNanoseconds
    let stale = members.filter { $0.users == 0 && now - min($0.idleSince, now) > Self.longestIdle }.map(\.session)
    guard !stale.isEmpty else { return }
    for session in stale {
      members.removeAll { $0.session === session }
      interruptible.withLock { $0.removeAll { $0 === session } }
    }
    for session in stale { await session.close() }
  }

  private func leastUsed(_ isVisit: Bool) -> any TransportSession {
    var best = members.startIndex
    for index in members.indices
    where members[index].users - members[index].visitors < members[best].users - members[best].visitors { best = index }
    members[best].users += 1
    members[best].visitors += isVisit ? 1 : 0
    return members[best].session
  }

  private func wakeWaiters() {
    let waiting = waiters
    waiters = []
    for waiter in waiting { waiter.resume() }
  }

  /// Gives a session back. A broken one is closed and not handed out again.
  func release(_ session: any TransportSession, broken: Bool, isVisit: Bool = false) async {
    guard let index = members.firstIndex(where: { $0.session === session }) else { return await releaseRetired(session) }
    members[index].users -= 1
    members[index].visitors -= isVisit ? 1 : 0
    members[index].idleSince = clock.monotonicNanoseconds
    guard broken else { return }
    members.remove(at: index)
    interruptible.withLock { $0.removeAll { $0 === session } }
    wakeWaiters()
    // What ended this one may have ended the hasher's connection as well, and who hashes next would wait for it in vain and lose an attempt.
    let hasher = knownHasher ?? nil
    async let rested: Void? = hasher?.rest(after: 0)
    await session.close()
    await rested
  }

  /// Gives back a session that is let in no more: its password, key or token has been replaced or has run out. It is not handed out again, nor is
  /// any that is as old; the next one logs in with what the configuration's references hold by then. Others that use it end in peace.
  func refused(_ session: any TransportSession) async {
    guard let member = members.first(where: { $0.session === session }) else { return await releaseRetired(session) }
    epoch = max(epoch, member.epoch + 1)
    let old = members.filter { $0.epoch <= member.epoch }
    members.removeAll { $0.epoch <= member.epoch }
    retired += old.filter { $0.users > 0 }
    wakeWaiters()
    for idle in old where idle.users == 0 {
      interruptible.withLock { $0.removeAll { $0 === idle.session } }
      await idle.session.close()
    }
    await releaseRetired(session)
  }

  private func releaseRetired(_ session: any TransportSession) async {
    guard let index = retired.firstIndex(where: { $0.session === session }) else { return }
    retired[index].users -= 1
    guard retired[index].users == 0 else { return }
    retired.remove(at: index)
    interruptible.withLock { $0.removeAll { $0 === session } }
    await session.close()
  }

  /// The far side's hashing program, nil where there is none. Asked once, or until the destination has decided; who asks meanwhile waits for the
  /// same answer. Cancelling the task ends the asking.
  func hasher() async throws(TransportError) -> (any RemoteHasher)? {
    for _ in 1...2 {
      if let known = knownHasher { return known }
      let task = making ?? beginMaking()
      let result = await withTaskCancellationHandler {
        await task.value
      } onCancel: {
        task.cancel()
      }
      // Another caller was cancelled, and the asking with it: that is no answer for this one.
      if case .failure(let error) = result, error.failure.kind == .interrupted, !Task.isCancelled { continue }
      return try result.get()
    }
    throw .failure(
      SyncFailure(.interrupted, "the hashing program was being looked for", hint: "It is asked for again."), sessionLost: false)
  }

  /// Has the hasher looked for, and waits for nothing.
  /// - Parameter expectingStream: Many small files are about to be unpacked.
  func prepareHasher(expectingStream: Bool = false) {
    if knownHasher == nil, making == nil { _ = beginMaking(expectingStream: expectingStream) }
  }

  private func beginMaking(expectingStream: Bool = false) -> Task<Result<RenewedHasher?, TransportError>, Never> {
    let task = Task { await make(expectingStream) }
    making = task
    interruptibleMaking.withLock { $0 = task }
    return task
  }

  private func make(_ expectingStream: Bool) async -> Result<RenewedHasher?, TransportError> {
    defer {
      making = nil
      interruptibleMaking.withLock { $0 = nil }
    }
    let driver = driver
    do throws(TransportError) {
      let made = try await withSession(width: 1, isVisit: true) { (session) throws(TransportError) in
        try await driver.makeHasher(lending: session, expectingStream: expectingStream)
      }
      if made == nil, driver.hasherIsUndecided { return .success(nil) }
      let kept = made.map { RenewedHasher($0, driver: driver, clock: clock) { [weak self] in await self?.dropHasher($0) } }
      knownHasher = .some(kept)
      interruptibleHasher.withLock { $0 = kept }
      return .success(kept)
    } catch { return .failure(error) }
  }

  /// Whether the hasher can make the NAS write everything to its disks; nil until it was asked.
  nonisolated var canSync: Bool? { learnedSync.withLock { $0 } }

  /// Remembers the answer: asking is a whole `sync` of the NAS.
  nonisolated func learned(canSync answer: Bool) { learnedSync.withLock { $0 = answer } }

  /// Whether a stream of files was not unpacked there within the last hour, although its connection held.
  nonisolated var streamsFail: Bool {
    let now = clock.monotonicNanoseconds
    return failedStream.withLock { $0.map { now - min($0, now) < Self.patienceWithStreams } ?? false }
  }

  /// Remembers that.
  nonisolated func learnedThatStreamsFail() {
    let now = clock.monotonicNanoseconds
    failedStream.withLock { $0 = now }
  }

  /// Nanoseconds of the way there and back: of the shortest single question so far, since a busy machine is not a long way. Nil where none was timed.
  nonisolated var roundTrip: UInt64? { shortestRoundTrip.withLock { $0 } }

  /// Whether that is so long that the window of a connection is what bounds it, and not the processors.
  nonisolated var isFar: Bool { (roundTrip ?? 0) > RoundTrip.long }

  /// A question was answered after so many nanoseconds, with little else on the line.
  nonisolated func answered(after nanoseconds: UInt64) {
    shortestRoundTrip.withLock { $0 = min($0 ?? .max, nanoseconds) }
  }

  /// Forgets the hasher; the next job makes a new one.
  /// - Parameter lost: Only where it is this one still.
  private func dropHasher(_ lost: RenewedHasher? = nil) async {
    guard let known = knownHasher, lost == nil || known === lost else { return }
    knownHasher = nil
    interruptibleHasher.withLock { $0 = nil }
    await known?.close()
  }

  /// Makes everything in flight throw at once.
  nonisolated func interrupt() {
    for session in interruptible.withLock({ $0 }) { session.interrupt() }
    interruptibleHasher.withLock { $0 }?.interrupt()
    interruptibleMaking.withLock { $0 }?.cancel()
    for task in warming.withLock({ $0 }) { task.cancel() }
  }

  /// Closes every session in order.
  func close() async {
    // Whatever it is at, nobody waits for it any more.
    interruptibleHasher.withLock { $0 }?.interrupt()
    let warming = warming.withLock { tasks in
      defer { tasks = [] }
      return tasks
    }
    for task in warming { task.cancel() }
    for task in warming { await task.value }
    let closing = members + retired
    members = []
    retired = []
    interruptible.withLock { $0 = [] }
    making?.cancel()
    _ = await making?.value
    await withTaskGroup(of: Void.self) { group in
      for member in closing { group.addTask { await member.session.close() } }
      group.addTask { await self.dropHasher() }
    }
  }

  /// Runs a body with a session and gives it back, broken where the body's error says so. Where the session is let in no more the body runs once
  /// again with a new one: whatever it does must bear that, as it must bear being stopped anywhere.
  func withSession<Result: Sendable>(
    width: Int, isVisit: Bool = false, _ body: @Sendable (any TransportSession) async throws(TransportError) -> Result
  ) async throws(TransportError) -> Result {
    var isRenewed = false
    while true {
      let session = try await acquire(width: width, isVisit: isVisit)
      do throws(TransportError) {
        let result = try await body(session)
        await release(session, broken: false, isVisit: isVisit)
        return result
      } catch {
        guard error.failure.kind == .auth else {
          await release(session, broken: error.sessionLost, isVisit: isVisit)
          throw error
        }
        await refused(session)
        guard !isRenewed else { throw error }
        isRenewed = true
      }
    }
  }
}

/// A hasher that logs in once more where it is let in no more. What its own connection fails of says nothing of the session that its caller holds.
private final class RenewedHasher: RemoteHasher, RemoteUnpacker {
  private struct State {
    var hasher: any RemoteHasher
    var isOver = false
    var users = 0
    /// Monotonic time of the last use; nil where its connection was let go since.
    var idleSince: UInt64?
  }

  let evidence: Evidence
  private let driver: any TransportDriver
  private let clock: any SyncClock
  private let state: Mutex<State>
  private let wasLost: @Sendable (RenewedHasher) async -> Void

  init(
    _ hasher: any RemoteHasher, driver: any TransportDriver, clock: any SyncClock,
    wasLost: @escaping @Sendable (RenewedHasher) async -> Void
  ) {
    self.wasLost = wasLost
    evidence = hasher.evidence
    self.driver = driver
    self.clock = clock
    state = Mutex(State(hasher: hasher, idleSince: clock.monotonicNanoseconds))
  }

  /// Lets go of the connection where nobody has used it for so many nanoseconds.
  func rest(after nanoseconds: UInt64) async {
    let now = clock.monotonicNanoseconds
    let idle: (any RemoteHasher)? = state.withLock { state in
      guard state.users == 0, let since = state.idleSince, now - min(since, now) > nanoseconds else { return nil }
      state.idleSince = nil
      return state.hasher
    }
    await idle?.rest()
  }

  func digests(
    of paths: [RemotePath], progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    try await renewing { (hasher) throws(TransportError) in try await hasher.digests(of: paths, progress: progress) }
  }

  func digests(
    of paths: [RemotePath], bytes: UInt64, progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    try await renewing { (hasher) throws(TransportError) in try await hasher.digests(of: paths, bytes: bytes, progress: progress) }
  }

  /// Not tried again: what comes of it is no more than a start for `digests`, and says nothing about the hasher's own connection.
  func digest(of path: RemotePath, whileWritten growth: FileGrowth) async throws(TransportError) -> ContentDigest? {
    do throws(TransportError) { return try await current.digest(of: path, whileWritten: growth) } catch {
      throw .failure(error.failure, sessionLost: false)
    }
  }

  var unpacker: (any RemoteUnpacker)? { current.unpacker == nil ? nil : self }

  func weight(of file: WholeFile) -> Int { current.unpacker?.weight(of: file) ?? file.content.count }

  /// Not tried again: what was not confirmed is sent one by one.
  func unpack(_ feed: FileFeed, into folder: RemotePath, isFar: Bool) async throws(TransportError) {
    guard let unpacker = current.unpacker else { return feed.close() }
    do throws(TransportError) { try await unpacker.unpack(feed, into: folder, isFar: isFar) } catch {
      throw .failure(error.failure, sessionLost: false)
    }
  }

  private var current: any RemoteHasher { state.withLock { $0.hasher } }

  func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool {
    try await renewing { (hasher) throws(TransportError) in try await hasher.syncFileSystem(of: path) }
  }

  private func renewing<Result>(
    _ body: (any RemoteHasher) async throws(TransportError) -> Result
  ) async throws(TransportError) -> Result {
    let used = state.withLock { state in
      state.users += 1
      return state.hasher
    }
    defer {
      state.withLock { state in
        state.users -= 1
        state.idleSince = clock.monotonicNanoseconds
      }
    }
    do throws(TransportError) {
      do throws(TransportError) { return try await body(used) } catch {
        guard error.failure.kind == .auth else { throw error }
        return try await body(try await renewed(after: used, error))
      }
    } catch {
      guard error.sessionLost else { throw error }
      await wasLost(self)
      throw .failure(error.failure, sessionLost: false)
    }
  }

  private func renewed(after used: any RemoteHasher, _ error: TransportError) async throws(TransportError) -> any RemoteHasher {
    // Somebody else may have been refused and logged in meanwhile.
    let current = state.withLock { $0.hasher }
    if current !== used { return current }
    guard let made = try await driver.makeHasher() else { throw error }
    let (hasher, spare) = state.withLock { state in
      if state.isOver || state.hasher !== used || made.evidence != evidence { return (state.hasher, made) }
      state.hasher = made
      return (made, used)
    }
    await spare.close()
    if hasher === used { throw error }
    return hasher
  }

  func interrupt() { current.interrupt() }

  func close() async {
    let hasher = state.withLock { state in
      state.isOver = true
      return state.hasher
    }
    await hasher.close()
  }
}
