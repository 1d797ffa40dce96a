import SyncModel
import Synchronization
import Transport

/// Hashing by two processes on the far side at once: no hashing program uses more than one processor, and a NAS has more.
extension RemoteShell {
  /// As `hash`, with a companion that takes its share as long as there is any. Where that fails, its share is hashed here.
  func hashTogether(
    _ count: Int, with program: HashProgram, silence: Duration, _ name: @escaping @Sendable (Int) -> [UInt8],
    progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [ContentDigest?] {
    let work = SharedHashes(count)
    // Detached: a task of this actor would begin when its thread is free, and that is when there is nothing left to help with.
    let helper = Task.detached { await self.help(work, with: program, silence: silence, name) }
    let ended = await withTaskCancellationHandler {
      do throws(TransportError) {
        try await hashShares(of: work, with: program, silence: silence, name, progress)
        // One that is still logging in is of no use any more.
        if !work.isHelping { helper.cancel() }
        await helper.value
        // What it did not come to.
        try await hashShares(of: work, with: program, silence: silence, name, progress)
        return Result<Void, TransportError>.success(())
      } catch {
        helper.cancel()
        await helper.value
        return .failure(error)
      }
    } onCancel: {
      helper.cancel()
    }
    try ended.get()
    progress(count)
    return work.digests
  }

  /// All that is left, in one go: what others ask of this shell comes before it or after it.
  private func hashShares(
    of work: SharedHashes, with program: HashProgram, silence: Duration, _ name: @escaping @Sendable (Int) -> [UInt8],
    _ progress: @Sendable (Int) -> Void
  ) async throws(TransportError) {
    guard !work.isEmpty else { return }
    try await interruptibly { (shell) throws(TransportError) in
      while let share = work.take() {
        let digests = try shell.hash(share.count, with: program, silence: silence, { name(share.lowerBound + $0) }, progress: { _ in })
        progress(work.done(share, digests))
      }
    }
  }

  private nonisolated func help(
    _ work: SharedHashes, with program: HashProgram, silence: Duration, _ name: @escaping @Sendable (Int) -> [UInt8]
  ) async {
    do throws(TransportError) {
      try await withCompanion { (shell) throws(TransportError) in
        // One channel for all shares, where that is possible.
        shell.conversing = .untried
        while let share = work.takeToHelp() {
          do throws(TransportError) {
            let digests = try shell.hash(share.count, with: program, silence: silence, { name(share.lowerBound + $0) }, progress: { _ in })
            _ = work.done(share, digests)
            work.helped()
          } catch {
            work.giveBack(share)
            throw error
          }
        }
      }
    } catch {}  // whoever asked hashes what is left, and is told what is wrong
  }
}

/// Files to be hashed by whoever has time, some at a time.
private final class SharedHashes: Sendable {
  private struct State {
    var open: [Range<Int>]
    var done = 0
    var isHelping = false
    var digests: [ContentDigest?]
  }
  private let state: Mutex<State>

  /// So many shares: each is a command, and the last one may have to be waited for.
  private static let shares = 12

  init(_ count: Int) {
    let size = max(1, (count + Self.shares - 1) / Self.shares)
    let all = stride(from: 0, to: count, by: size).map { $0..<min($0 + size, count) }
    state = Mutex(State(open: all.reversed(), digests: Array(repeating: nil, count: count)))
  }

  func take() -> Range<Int>? { state.withLock { $0.open.popLast() } }

  /// The helper's next share.
  func takeToHelp() -> Range<Int>? {
    state.withLock { state in
      let share = state.open.popLast()
      state.isHelping = share != nil
      return share
    }
  }

  func helped() { state.withLock { $0.isHelping = false } }

  func giveBack(_ share: Range<Int>) {
    state.withLock { state in
      state.open.append(share)
      state.isHelping = false
    }
  }

  /// Whether the helper has a share in its hands.
  var isHelping: Bool { state.withLock { $0.isHelping } }

  /// - Returns: How many files are hashed now.
  func done(_ share: Range<Int>, _ digests: [ContentDigest?]) -> Int {
    state.withLock { state in
      state.digests.replaceSubrange(share, with: digests)
      state.done += share.count
      return state.done
    }
  }

  /// Whether nothing is left to take.
  var isEmpty: Bool { state.withLock { $0.open.isEmpty } }

  var digests: [ContentDigest?] { state.withLock { $0.digests } }
}
