import SyncModel
import Synchronization
import Transport

/// Hashing by two processes on the far side at once: no hashing program uses more than one processor, and a NAS has more.
extension RemoteShell {
  /// As `hash`, with a companion that takes its share as long as there is any. Where that fails, its share is hashed here.
  func hashTogether(
    _ count: Int, with program: HashProgram, silence: Duration, _ name: @escaping @Sendable (Int) -> [UInt8], progress: (Int) -> Void
  ) async throws(TransportError) -> [ContentDigest?] {
    let work = SharedHashes(count)
    async let helped: Void = help(work, with: program, silence: silence, name)
    while true {
      while let share = work.take() {
        let digests = try await interruptibly { (shell) throws(TransportError) in
          try shell.hash(share.count, with: program, silence: silence, { name(share.lowerBound + $0) }, progress: { _ in })
        }
        progress(work.done(share, digests))
      }
      await helped
      // What it did not come to.
      if work.isEmpty { return work.digests }
    }
  }

  private nonisolated func help(
    _ work: SharedHashes, with program: HashProgram, silence: Duration, _ name: @escaping @Sendable (Int) -> [UInt8]
  ) async {
    do throws(TransportError) {
      try await withCompanion { (shell) throws(TransportError) in
        while let share = work.take() {
          do throws(TransportError) {
            let digests = try shell.hash(share.count, with: program, silence: silence, { name(share.lowerBound + $0) }, progress: { _ in })
            _ = work.done(share, digests)
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

  func giveBack(_ share: Range<Int>) { state.withLock { $0.open.append(share) } }

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
