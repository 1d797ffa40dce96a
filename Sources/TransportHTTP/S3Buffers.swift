import Synchronization
import SyncModel
import Transport

/// Memory for the parts of files that are on their way to object stores: a part's SHA-256 stands in its request's head, so that it must be
/// held whole until it is acknowledged. Shared by all destinations of the process.
///
/// Whoever wants room for a part gets it for the whole part at once; so nobody waits who holds a half. A part is held while its bytes wait for
/// bandwidth, which may be for hours. So a destination that holds nothing gets room for one part at once, also where others have taken all of it:
/// none ever waits for another. What goes beyond one part comes from the capacity that all share, and goes to whoever has least.
///
/// In use at most: the capacity, and one part of each destination but one.
package final class S3Buffers: Sendable {
  /// For the whole process: with eight destinations and parts of 8 MiB, 104 MiB at most.
  package static let shared = S3Buffers(capacity: 48 << 20, largestPart: 64 << 20)

  private struct Waiter {
    let count: Int
    let owner: ObjectIdentifier
    let destination: ObjectIdentifier
    let continuation: CheckedContinuation<Bool, Never>
  }

  private struct State {
    var used = 0
    /// By destination; nothing of those that hold none.
    var held: [ObjectIdentifier: Int] = [:]
    /// In the order of their coming.
    var waiters: [Waiter] = []
    /// The most that was ever in use.
    var peak = 0
  }

  /// Bytes that all destinations share.
  package let capacity: Int
  /// Bytes of one part at most.
  package let largestPart: Int
  private let state = Mutex(State())

  /// - Parameter largestPart: Nil: as much as the capacity.
  package init(capacity: Int, largestPart: Int? = nil) {
    self.capacity = capacity
    self.largestPart = largestPart ?? capacity
  }

  /// The most bytes that were in use at once.
  package var peak: Int { state.withLock { $0.peak } }

  /// Waits for room; pair each true with `release`.
  /// - Parameters:
  ///   - count: Bytes, at most `largestPart`.
  ///   - owner: Whose wait `wake` ends.
  ///   - destination: Whose share it is.
  /// - Returns: False where `wake` ended the wait.
  func reserve(_ count: Int, for owner: ObjectIdentifier, of destination: ObjectIdentifier) async -> Bool {
    await withCheckedContinuation { continuation in
      settle { $0.waiters.append(Waiter(count: count, owner: owner, destination: destination, continuation: continuation)) }
    }
  }

  func release(_ count: Int, of destination: ObjectIdentifier) {
    settle { state in
      state.used -= count
      let left = (state.held[destination] ?? 0) - count
      state.held[destination] = left > 0 ? left : nil
    }
  }

  /// Ends all waits of an owner.
  func wake(_ owner: ObjectIdentifier) {
    var ended: [Waiter] = []
    settle { state in
      ended = state.waiters.filter { $0.owner == owner }
      state.waiters.removeAll { $0.owner == owner }
    }
    for waiter in ended { waiter.continuation.resume(returning: false) }
  }

  private func settle(_ change: (inout State) -> Void) {
    let served = state.withLock { state in
      change(&state)
      var served: [Waiter] = []
      while let index = next(in: state) {
        let waiter = state.waiters.remove(at: index)
        state.used += waiter.count
        state.held[waiter.destination, default: 0] += waiter.count
        state.peak = max(state.peak, state.used)
        served.append(waiter)
      }
      return served
    }
    for waiter in served { waiter.continuation.resume(returning: true) }
  }

  /// Of each destination the first that waits, where there is room for it; of those, the one of the destination that has least.
  private func next(in state: State) -> Int? {
    var seen: Set<ObjectIdentifier> = []
    var best: (index: Int, held: Int)?
    for (index, waiter) in state.waiters.enumerated() where seen.insert(waiter.destination).inserted {
      let held = state.held[waiter.destination] ?? 0
      guard held == 0 || state.used + waiter.count <= capacity else { continue }
      if held < best?.held ?? .max { best = (index, held) }
    }
    return best?.index
  }
}

/// What the sessions of one destination have in common.
final class S3Common: Sendable {
  let buffers: S3Buffers
  private let live = Mutex<Set<String>>([])

  init(_ buffers: S3Buffers) { self.buffers = buffers }

  /// As `S3Buffers.reserve`.
  func reserve(_ count: Int, for session: S3Session) async -> Bool {
    await buffers.reserve(count, for: ObjectIdentifier(session), of: ObjectIdentifier(self))
  }

  func release(_ count: Int) { buffers.release(count, of: ObjectIdentifier(self)) }

  // MARK: Uploads that somebody goes on with

  /// An upload that is begun, gone on with, or kept for a job, by its id.
  func lives(_ upload: String) { live.withLock { _ = $0.insert(upload) } }
  /// It is completed or ended.
  func ended(_ upload: String) { live.withLock { _ = $0.remove(upload) } }
  func isLive(_ upload: String) -> Bool { live.withLock { $0.contains(upload) } }
}
