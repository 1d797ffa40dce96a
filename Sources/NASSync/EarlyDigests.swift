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
    var isDropped = false
    /// The one large file that is hashed while it is written.
    var followed: (path: RelativePath, growth: FileGrowth)?
    /// Which have been, whatever came of it.
    var tried: Set<RelativePath> = []
    /// One came to nothing: a NAS that admits no more connections, or this key not any more, is not asked again and again.
    var followsNone = false
    var followings: [(growth: FileGrowth, task: Task<Void, Never>)] = []
    /// It has arrived, and is left to the one who follows it.
    var held: ComponentProgress?
  }

  /// A file has to be as large to be hashed while it is written: that takes a log-in.
  static let followLimit: UInt64 = 128 << 20

  /// From so much on a command of its own is worth it, and no command is given more, so that another job's hash does not wait for long.
  private static let bytes = (least: UInt64(32 << 20), most: UInt64(256 << 20))
  private static let files = (least: 1_000, most: 4_000)

  private let state = Mutex(State())
  private let arrivals: AsyncStream<[ComponentProgress]>
  private let arrival: AsyncStream<[ComponentProgress]>.Continuation

  init() { (arrivals, arrival) = AsyncStream.makeStream() }

  /// Files that are whole in the staging folder.
  func arrived(_ batch: [ComponentProgress]) { arrival.yield(batch) }

  /// Nothing more arrives: the rest is asked for, however little it is.
  func end() { arrival.finish() }

  /// Nobody wants what was not asked for yet.
  func drop() {
    let growth = state.withLock { state in
      state.isDropped = true
      return state.followed?.growth
    }
    growth?.abandon()
    arrival.finish()
  }

  /// What came so far counts no more.
  func forget() { state.withLock { $0.digests = [:] } }

  /// Has a large file hashed while it is written, one file at a time: of those that are whole before the last one is, the hash costs nobody any time.
  /// - Parameter hasher: Nil where there is none that can.
  /// - Returns: What has to be told how far it has come; nil where it is hashed when it is whole.
  func follow(
    _ path: RelativePath, in staging: RemotePath, by hasher: @escaping @Sendable () async -> (any RemoteHasher)?
  ) -> FileGrowth? {
    state.withLock { state in
      guard !state.isDropped, !state.followsNone, state.followed == nil, state.tried.insert(path).inserted else { return nil }
      let growth = FileGrowth()
      state.followed = (path, growth)
      let task = Task {
        let digest = try? await hasher()?.digest(of: staging.appending(path), whileWritten: growth)  // the proof asks for it
        followed(path, growth, digest)
      }
      state.followings.append((growth, task))
      return growth
    }
  }

  private func followed(_ path: RelativePath, _ growth: FileGrowth, _ digest: ContentDigest?) {
    let left = state.withLock { state in
      defer { (state.followed, state.held) = (nil, nil) }
      if let digest {
        state.digests[path] = digest
        return ComponentProgress?.none
      }
      if growth.now.end != .abandoned { state.followsNone = true }
      return state.held
    }
    // It is whole, and hashed like the others then.
    if let left { arrival.yield([left]) }
  }

  /// Waits until what was hashed while it was written is. What has not begun by then is not waited for.
  func settled() async {
    for (growth, task) in state.withLock({ $0.followings }) {
      if growth.hasBegun { await task.value } else { growth.abandon() }
    }
  }

  /// Whether somebody else has that file hashed, or has had.
  private func isFollowed(_ progress: ComponentProgress) -> Bool {
    state.withLock { state in
      if state.followed?.path == progress.path {
        state.held = progress
        return true
      }
      return state.digests[progress.path] != nil
    }
  }

  /// Every digest that came.
  var digests: [RelativePath: ContentDigest] { state.withLock { $0.digests } }

  /// Asks for digests until the end, or until one is not answered: the proof asks again then, and says what is wrong.
  func collect(from hasher: any RemoteHasher, in staging: RemotePath) async {
    var waiting: [(path: RelativePath, size: UInt64)] = []
    var bytes: UInt64 = 0
    for await batch in arrivals {
      for progress in batch where !isFollowed(progress) {
        waiting.append((progress.path, progress.bytesDurable))
        bytes &+= progress.bytesDurable
      }
      while bytes >= Self.bytes.least || waiting.count >= Self.files.least {
        guard let asked = await ask(hasher, &waiting, staging) else { return }
        bytes &-= asked
      }
    }
    while !waiting.isEmpty { guard await ask(hasher, &waiting, staging) != nil else { return } }
  }

  /// One command for the first of those that wait.
  /// - Returns: How many bytes they have; nil where there is no point in going on.
  private func ask(
    _ hasher: any RemoteHasher, _ waiting: inout [(path: RelativePath, size: UInt64)], _ staging: RemotePath
  ) async -> UInt64? {
    guard !state.withLock({ $0.isDropped }) else { return nil }
    let taken = Self.portion(of: waiting)
    let size = waiting[..<taken].reduce(0) { $0 &+ $1.size }
    do throws(TransportError) {
      let paths = waiting[..<taken].map { staging.appending($0.path) }
      let found = try await hasher.digests(of: paths, bytes: size) { _ in }
      state.withLock { state in
        for (file, path) in zip(waiting, paths) { if let digest = found[path] { state.digests[file.path] = digest } }
      }
    } catch { return nil }
    waiting.removeFirst(taken)
    return size
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
