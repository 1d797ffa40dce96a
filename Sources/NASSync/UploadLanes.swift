import Synchronization
import Transport

/// One session's part in the upload of a file.
final class UploadLane: Sendable {
  let session: any TransportSession
  let handle: UploadHandle
  private struct State {
    var oldest: UInt64?
    var isLost = false
  }
  private let state = Mutex(State())

  init(_ session: any TransportSession, _ handle: UploadHandle) {
    self.session = session
    self.handle = handle
  }

  /// Of the first byte that was taken and is not known to have arrived; pieces are taken in order.
  var oldest: UInt64? { state.withLock { $0.oldest } }
  /// Whether its connection is gone.
  var isLost: Bool { state.withLock { $0.isLost } }

  func took(_ offset: UInt64) { state.withLock { if $0.oldest == nil { $0.oldest = offset } } }
  func settled() { state.withLock { $0.oldest = nil } }
  func lose() { state.withLock { $0.isLost = true } }
}

/// The sessions that write one file: the one that began it, and those that joined.
final class UploadLanes: Sendable {
  let main: UploadLane
  private let others = Mutex<[UploadLane]>([])

  init(_ main: UploadLane) { self.main = main }

  var joined: [UploadLane] { others.withLock { $0 } }
  var count: Int { others.withLock { 1 + $0.count } }

  func add(_ lane: UploadLane) { others.withLock { $0.append(lane) } }
  func remove(_ lane: UploadLane) { others.withLock { $0.removeAll { $0 === lane } } }
  func contains(_ session: any TransportSession) -> Bool {
    main.session === session || others.withLock { $0.contains { $0.session === session } }
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
/// A long link is filled by more windows, a short one by more cores; a link that is full, a slow NAS and a limit on the rate make it end at
/// once. What was found holds for the rest of the job.
struct LaneClimb {
  /// What one session more has to bring.
  private static let gain = 1.1
  /// How many sessions should write.
  private(set) var wants: Int
  /// Whether nothing more is tried.
  private(set) var isOver: Bool
  /// Bytes a second with one session less.
  private var best = 0.0

  init(learned: Int? = nil) {
    wants = learned ?? 2
    isOver = learned != nil
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
    }
  }
}
