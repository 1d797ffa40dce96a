import Synchronization
import Transport

/// One session's part in the upload of a file.
final class UploadLane: Sendable {
  let session: any TransportSession
  let handle: UploadHandle
  private struct State {
    var oldest: UInt64?
    var unwritten: UInt64?
    /// Of the first byte that was taken since the checkpoint that is being made began.
    var later: UInt64?
    var isLost = false
  }
  private let state = Mutex(State())

  init(_ session: any TransportSession, _ handle: UploadHandle) {
    self.session = session
    self.handle = handle
  }

  /// Of the first byte that was taken and is not known to have arrived; pieces are taken in order.
  var oldest: UInt64? { state.withLock { $0.oldest } }
  /// Of a piece that was taken and not handed to the session.
  var unwritten: UInt64? { state.withLock { $0.unwritten } }
  /// Whether its connection is gone.
  var isLost: Bool { state.withLock { $0.isLost } }

  func took(_ offset: UInt64) {
    state.withLock { state in
      state.oldest = state.oldest ?? offset
      state.later = state.later ?? offset
      state.unwritten = offset
    }
  }
  func wrote() { state.withLock { $0.unwritten = nil } }
  /// What is taken from now on is not waited for by the checkpoint that begins.
  func begins() { state.withLock { $0.later = nil } }
  /// Everything that was handed over has arrived.
  func settled() { state.withLock { ($0.oldest, $0.later) = (nil, nil) } }
  /// Everything has arrived that was handed over before `begins`.
  func settledSince() { state.withLock { $0.oldest = $0.later } }
  func lose() { state.withLock { $0.isLost = true } }
}

/// The sessions that write one file: the one that began it, and those that joined.
final class UploadLanes: Sendable {
  let main: UploadLane
  private let others = Mutex<[UploadLane]>([])
  private let checkpoint = Mutex<Task<Result<Void, TransportError>, Never>?>(nil)
  private let flushing = Atomic<Bool>(false)

  /// Whether the file is being made durable, or could not be.
  var isFlushing: Bool {
    get { flushing.load(ordering: .relaxed) }
    set { flushing.store(newValue, ordering: .relaxed) }
  }

  /// Told how much of the file has arrived, where it is hashed meanwhile.
  let growth: FileGrowth?

  init(_ main: UploadLane, growth: FileGrowth?) {
    self.main = main
    self.growth = growth
  }

  /// Makes a part of the file durable while the sessions write on. One at a time: `checkpointed` comes before the next.
  func beginCheckpoint(_ work: @escaping @Sendable () async -> Result<Void, TransportError>) {
    for lane in [main] + joined { lane.begins() }
    checkpoint.withLock { $0 = Task { await work() } }
  }

  /// Waits for the checkpoint that is being made, if there is one, and throws what went wrong in it.
  func checkpointed() async throws(TransportError) {
    let task = checkpoint.withLock { task in
      defer { task = nil }
      return task
    }
    guard let task else { return }
    try await task.value.get()
  }

  var joined: [UploadLane] { others.withLock { $0 } }
  var count: Int { others.withLock { 1 + $0.count } }

  func add(_ lane: UploadLane) { others.withLock { $0.append(lane) } }
  func remove(_ lane: UploadLane) { others.withLock { $0.removeAll { $0 === lane } } }
  func contains(_ session: any TransportSession) -> Bool {
    main.session === session || others.withLock { $0.contains { $0.session === session } }
  }
}

/// Sessions that are on their way to a file: logging in takes a while, and the file goes on without them until they are there.
final class LaneGuests: Sendable {
  private struct State {
    var tasks: [Task<Void, Never>] = []
    var ready: [UploadLane] = []
    var claimed: [any TransportSession] = []
    var expected = 0
    var isRefused = false
    var isOver = false
    var dismiss: (@Sendable (UploadLane) async -> Void)?
  }
  private let state = Mutex(State())

  /// How many are on their way.
  var expected: Int { state.withLock { $0.expected } }
  /// Whether one did not come: no more are asked.
  var isRefused: Bool { state.withLock { $0.isRefused } }

  /// Those that have come since the last question.
  func arrived() -> [UploadLane] {
    state.withLock { state in
      defer { state.ready = [] }
      return state.ready
    }
  }

  /// Whether a session is nobody else's of this file.
  func claim(_ session: any TransportSession) -> Bool {
    state.withLock { state in
      guard !state.claimed.contains(where: { $0 === session }) else { return false }
      state.claimed.append(session)
      return true
    }
  }

  /// - Parameters:
  ///   - join: Brings one; nil where none is to be had.
  ///   - dismiss: For one that comes when it is over.
  func invite(_ join: @escaping @Sendable () async -> UploadLane?, dismiss: @escaping @Sendable (UploadLane) async -> Void) {
    state.withLock { state in
      state.expected += 1
      state.tasks.append(
        Task {
          let lane = await join()
          let late = self.state.withLock { state -> UploadLane? in
            state.expected -= 1
            guard let lane else {
              state.isRefused = true
              return nil
            }
            if state.isOver { return lane }
            state.ready.append(lane)
            return nil
          }
          if let late { await dismiss(late) }
        })
      state.dismiss = dismiss
    }
  }

  /// Nobody is waited for any more; returns once everyone is gone.
  func sendAway() async {
    let (tasks, ready, dismiss) = state.withLock { state in
      state.isOver = true
      defer { state.ready = [] }
      return (state.tasks, state.ready, state.dismiss)
    }
    for task in tasks { task.cancel() }
    for task in tasks { await task.value }
    for lane in ready { await dismiss?(lane) }
  }
}

/// The sessions of a job that no large file uses at the moment, and how many served one file best.
final class SpareSessions: Sendable {
  private let state: Mutex<(free: Int, learned: Int?)>

  init(_ free: Int) { state = Mutex((max(0, free), nil)) }

  /// What an earlier file of the job settled on; nil before.
  var learned: Int? {
    get { state.withLock { $0.learned } }
    set { state.withLock { $0.learned = newValue } }
  }

  func take() -> Bool {
    state.withLock { state in
      guard state.free > 0 else { return false }
      state.free -= 1
      return true
    }
  }

  func give() { state.withLock { $0.free += 1 } }
}

/// Finds out how many sessions a file is worth, by trying one more for as long as that brings it forward.
///
/// A long link is filled by windows, so there all come at once; a short one by cores: a NAS that is slow, a link that is full and a limit on
/// the rate make it end at once. What was found holds for the rest of the job.
struct LaneClimb {
  /// What one session more has to bring.
  private static let gain = 1.1
  /// How many sessions should write.
  private(set) var wants: Int
  /// Whether nothing more is tried.
  private(set) var isOver: Bool
  /// Whether what it ended with is worth remembering.
  private(set) var isLearned: Bool
  /// Bytes a second with one session less.
  private var best = 0.0

  /// - Parameters:
  ///   - isLong: Whether the way is so long that a connection's window bounds it.
  ///   - most: Sessions that the job is worth.
  init(learned: Int? = nil, isLong: Bool = false, most: Int = .max) {
    wants = learned ?? (isLong ? most : 2)
    isOver = learned != nil || isLong
    isLearned = false
  }

  /// No more than so many are to be had.
  mutating func settle(at count: Int) {
    wants = count
    isOver = true
  }

  /// What a round brought.
  mutating func learn(bytes: UInt64, nanoseconds: UInt64, lanes: Int) {
    guard !isOver, lanes == wants, nanoseconds > 0 else { return }
    let rate = Double(bytes) / Double(nanoseconds) * 1e9
    if rate > best * Self.gain {
      best = rate
      wants += 1
    } else {
      settle(at: lanes - 1)
      isLearned = true
    }
  }
}
