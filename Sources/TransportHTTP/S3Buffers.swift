import Synchronization
import SyncModel
import Transport

/// Memory for the parts of files that are on their way to object stores: a part's SHA-256 stands in its request's head, so that it must be
/// held whole until it is acknowledged. Shared by all sessions of the process.
///
/// Whoever wants room for a part gets it for the whole part at once, first come first served; so nobody waits who holds a half.
package final class S3Buffers: Sendable {
  /// For the whole process.
  package static let shared = S3Buffers(capacity: 64 << 20)

  private struct Waiter {
    let count: Int
    let owner: ObjectIdentifier
    let continuation: CheckedContinuation<Bool, Never>
  }

  private struct State {
    var used = 0
    var waiters: [Waiter] = []
    /// The most that was ever in use.
    var peak = 0
  }

  /// Bytes in all; no part may be larger.
  package let capacity: Int
  private let state = Mutex(State())

  package init(capacity: Int) { self.capacity = capacity }

  /// The most bytes that were in use at once.
  package var peak: Int { state.withLock { $0.peak } }

  /// Waits for room; pair each true with `release`.
  /// - Parameters:
  ///   - count: Bytes, at most `capacity`.
  ///   - owner: Whose wait `wake` ends.
  /// - Returns: False where `wake` ended the wait.
  func reserve(_ count: Int, for owner: ObjectIdentifier) async -> Bool {
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        guard state.waiters.isEmpty, state.used + count <= capacity else {
          state.waiters.append(Waiter(count: count, owner: owner, continuation: continuation))
          return false
        }
        state.used += count
        state.peak = max(state.peak, state.used)
        return true
      }
      if isFree { continuation.resume(returning: true) }
    }
  }

  func release(_ count: Int) { settle { $0.used -= count } }

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
      while let first = state.waiters.first, state.used + first.count <= capacity {
        state.used += first.count
        state.peak = max(state.peak, state.used)
        served.append(state.waiters.removeFirst())
      }
      return served
    }
    for waiter in served { waiter.continuation.resume(returning: true) }
  }
}
