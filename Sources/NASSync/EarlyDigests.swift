import JobQueue
import Synchronization
import SyncModel
import Transport

/// Digests that the NAS makes of files which have arrived while later ones are still on the way, so that little is left to hash after the last byte.
///
/// They live as long as one attempt and are never written down. A digest of these counts only where it is the expected one and where the
/// listing that follows the last byte shows the file with the size and the time it was sent with; everything else is hashed then.
final class EarlyDigests: Sendable {
  private struct State {
    var digests: [RelativePath: ContentDigest] = [:]
    var isOver = false
  }

  /// From so much on a command of its own is worth it, and no command is given more, so that another job's hash does not wait for long.
  private static let bytes = (least: UInt64(32 << 20), most: UInt64(256 << 20))
  private static let files = (least: 1_000, most: 4_000)

  private let state = Mutex(State())
  private let arrivals: AsyncStream<[ComponentProgress]>
  private let arrival: AsyncStream<[ComponentProgress]>.Continuation

  init() { (arrivals, arrival) = AsyncStream.makeStream() }

  /// Files that are whole in the staging folder.
  func arrived(_ batch: [ComponentProgress]) { arrival.yield(batch) }

  /// Nothing more arrives: what was not asked for yet is left to the proof.
  func end() {
    state.withLock { $0.isOver = true }
    arrival.finish()
  }

  /// Every digest that came.
  var digests: [RelativePath: ContentDigest] { state.withLock { $0.digests } }

  /// Asks for digests until the end, or until one is not answered: the proof asks again then, and says what is wrong.
  func collect(from hasher: any RemoteHasher, in staging: RemotePath) async {
    var waiting: [(path: RelativePath, size: UInt64)] = []
    var bytes: UInt64 = 0
    for await batch in arrivals {
      for progress in batch {
        waiting.append((progress.path, progress.bytesDurable))
        bytes &+= progress.bytesDurable
      }
      while bytes >= Self.bytes.least || waiting.count >= Self.files.least {
        guard !state.withLock({ $0.isOver }) else { return }
        let taken = Self.portion(of: waiting)
        let size = waiting[..<taken].reduce(0) { $0 &+ $1.size }
        do throws(TransportError) {
          let paths = waiting[..<taken].map { staging.appending($0.path) }
          let found = try await hasher.digests(of: paths, bytes: size) { _ in }
          state.withLock { state in
            for (file, path) in zip(waiting, paths) { if let digest = found[path] { state.digests[file.path] = digest } }
          }
        } catch { return }
        waiting.removeFirst(taken)
        bytes &-= size
      }
    }
  }

  /// How many of the first go into one command: at least one, however large it is.
  private static func portion(of waiting: [(path: RelativePath, size: UInt64)]) -> Int {
    var count = 0
    var size: UInt64 = 0
    while count < min(waiting.count, files.most), count == 0 || size &+ waiting[count].size <= bytes.most {
      size &+= waiting[count].size
      count += 1
    }
    return count
  }
}
