import Bandwidth
import Executors
import Intake
import JobQueue
import Synchronization
import SyncModel
import Transport

/// Brings a job's components into its staging folder: the data path.
///
/// Every file is read once and hashed in the same pass. Bandwidth is awaited here and nowhere else. Small files travel many at a time, each in
/// one burst or all in one stream that is unpacked there (`ComponentSender+Small`); large ones as a stream of chunks over as many sessions as
/// the link asks for (`ComponentSender+Large`), with their progress made durable on the NAS and in the queue as they go.
struct ComponentSender: Sendable {
  let folder: RunFolder
  let pool: SessionPool
  let bandwidth: BandwidthScheduler
  let equipment: String
  let staging: RemotePath
  let recorder: ProgressRecorder
  let readers: ReaderThreads
  let clock: any SyncClock
  let stop: StopFlag
  /// How many sessions this job is worth.
  let width: Int
  /// What lies in the staging folder from an earlier attempt.
  let staged: [RelativePath: RemoteEntry]
  /// Whether each small file is made durable by itself, because nothing else on the NAS can do it for all of them.
  let flushesSmallFiles: @Sendable () -> Bool
  let flushed: FlushLedger
  /// Has a large file hashed while it is written; see `EarlyDigests.follow`.
  let follow: @Sendable (RelativePath) -> FileGrowth?
  /// Who writes many small files there from one stream.
  let unpacker: FoundUnpacker
  /// Has the digests forgotten that the NAS gave so far in this attempt.
  let forgetDigests: @Sendable () -> Void

  /// Files up to this size are sent in one piece.
  static let pieceSize = 255 * 1024

  /// Small files that follow each other in one list of them, which they share.
  typealias Handful = ArraySlice<ComponentRow>

  /// Sends everything that is still pending.
  /// - Throws: The first failure, as `TransportError`; what was sent before it is recorded.
  func send(_ components: [ComponentRow]) async throws(TransportError) {
    // Each list is made in one go: a run may have many files, and a row is not small.
    let folders = components.compactMap { $0.entry.kind == .folder ? $0.entry.path : nil }
    let (small, large) = Self.partition(components)
    let links = components.filter { if case .symlink = $0.entry.kind { $0.state == .pending } else { false } }
    let isLong = pool.isFar ? try await pipelines() : false
    let lanes = Self.lanes(small.map(\.entry.fingerprint.size), width: width, isLong: isLong)
    let handfuls = Self.handfuls(small, lanes: lanes)
    let largeTurn = Turn()
    let spare = SpareSessions(width - min(large.count, width))
    try await makeFolders(folders)
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<min(large.count, width) {
          group.addTask {
            try await drain(large, largeTurn) { (row) throws(TransportError) in try await sendLarge(row, spare) }
            spare.give()
          }
        }
        group.addTask { try await sendSmall(handfuls, lanes: lanes) }
        group.addTask { for link in links { try await sendLink(link) } }
        try await group.waitForAll()
      }
    } catch {
      let failure = TransportError.wrapping(error)
      try? await recorder.finish()  // the failure that ended the sending is the one to report
      throw failure
    }
    do { try await recorder.finish() } catch { throw .failure(error, sessionLost: false) }
  }

  /// Whether a session has many requests on the way over one connection.
  private func pipelines() async throws(TransportError) -> Bool {
    try await pool.withSession(width: 1) { (session) throws(TransportError) in session.capabilities.joinsUploads }
  }

  /// How many small files are on their way at once. Each takes two and a half round trips: over a long way it is their number that bounds the rate, up to
  /// what a server has handles for; over a short one it is the processors, and few lanes with several files each cost less.
  /// - Parameter sizes: Of the files.
  static func lanes(_ sizes: [UInt64], width: Int, isLong: Bool) -> Int {
    let few = 48 * width
    guard isLong, !sizes.isEmpty else { return few }
    // Each lane has read its file before there is room for it, and the largest may come together.
    var rest = UInt64(laneBytes * width)
    var count = 0
    for size in sizes.sorted(by: >) {
      guard count < 256 * width, size <= rest else { return max(few, count) }
      rest -= size
      count += 1
    }
    return 256 * width
  }

  /// Bytes that the lanes of one session hold at most, where they are more than few.
  private static let laneBytes = 8 << 20

  /// The files that are still to be sent.
  private static func partition(_ rows: [ComponentRow]) -> (small: [ComponentRow], large: [ComponentRow]) {
    func isSent(_ row: ComponentRow, small: Bool) -> Bool {
      row.state == .pending && row.entry.kind == .file && (row.entry.fingerprint.size <= UInt64(pieceSize)) == small
    }
    var small: [ComponentRow] = []
    small.reserveCapacity(rows.count { isSent($0, small: true) })
    for row in rows where isSent(row, small: true) { small.append(row) }
    var large = rows.filter { isSent($0, small: false) }
    // The largest first, so that no session is left with a big one at the end.
    large.sort { $0.entry.fingerprint.size > $1.entry.fingerprint.size }
    return (small, large)
  }

  /// Small files that one lane reads, sends and records in one go, in their order. Going from thread to thread costs about as much as a file of 4 KiB
  /// does otherwise; but where there are few files, each has a lane of its own, so that one round trip does for all.
  private static func handfuls(_ rows: [ComponentRow], lanes: Int) -> [Handful] {
    let most = max(1, min(16, rows.count / (4 * lanes)))
    var handfuls: [Handful] = []
    var first = 0
    var bytes: UInt64 = 0
    for (index, row) in rows.enumerated() {
      let size = row.entry.fingerprint.size
      if index > first, index - first == most || bytes + size > UInt64(pieceSize) {
        handfuls.append(rows[first..<index])
        (first, bytes) = (index, 0)
      }
      bytes += size
    }
    if first < rows.count { handfuls.append(rows[first...]) }
    return handfuls
  }

  func drain<Work>(
    _ work: [Work], _ turn: Turn, _ body: (Work) async throws(TransportError) -> Void
  ) async throws(TransportError) {
    while true {
      let index = turn.advance()
      guard index < work.count else { return }
      try checkStop()
      try await body(work[index])
    }
  }

  func checkStop() throws(TransportError) {
    if stop.isSet || Task.isCancelled { throw .failure(Self.stopped, sessionLost: false) }
  }

  static let stopped = SyncFailure(
    .interrupted, "sending was told to stop", hint: "It goes on where it was at the next start.")

  // MARK: - One component

  private func makeFolders(_ folders: [RelativePath]) async throws(TransportError) {
    // Parents come before children in path order; folders of one depth are made together.
    let byDepth = Dictionary(grouping: folders) { $0.segments.count }
    for depth in byDepth.keys.sorted() {
      let level = byDepth[depth] ?? []
      try await pool.withSession(width: width) { (session) throws(TransportError) in
        try await Turn.each(of: level, atOnce: 64) { (path) throws(TransportError) in
          try checkStop()
          try await session.makeFolder(staging.appending(path))
        }
      }
    }
    do {
      let made = folders.map { ComponentProgress(path: $0, state: .sent, bytesDurable: 0, localDigest: nil) }
      try await recorder.record(made, isFile: false)
    } catch { throw .failure(error, sessionLost: false) }
  }

  private func sendLink(_ row: ComponentRow) async throws(TransportError) {
    guard case .symlink(let target) = row.entry.kind else { return }
    let path = row.entry.path
    try await pool.withSession(width: width) { (session) throws(TransportError) in
      try await session.makeSymlink(at: staging.appending(path), target: target)
    }
    try await record(row, state: .sent, durable: 0, digest: nil, isFile: false)
  }

  /// Whether an earlier attempt already put the whole file there: its time is set after its last byte, so the right time and size mean that
  /// nothing needs to be sent again. It is no proof, and none is made of it: the digest on the NAS is compared like every other.
  func isStaged(_ entry: RunEntry) -> Bool {
    guard let found = staged[entry.path], found.kind == .file, let modified = found.modified else { return false }
    guard found.size == entry.fingerprint.size, modified == seconds(entry.fingerprint.modified) else { return false }
    // Nobody knows whether that attempt came to flushing it.
    flushed.leaveOut()
    return true
  }

  func awaitBandwidth(_ bytes: Int) async throws(TransportError) {
    do { try await bandwidth.acquire(bytes: bytes, equipment: equipment) } catch { throw .failure(Self.stopped, sessionLost: false) }
  }

  func record(
    _ row: ComponentRow, state: ComponentRow.State, durable: UInt64, digest: ContentDigest?, isFile: Bool, token: String? = nil
  ) async throws(TransportError) {
    do {
      try await recorder.record(
        [ComponentProgress(path: row.entry.path, state: state, bytesDurable: durable, localDigest: digest, uploadToken: token)],
        isFile: isFile)
    } catch { throw .failure(error, sessionLost: false) }
  }
}

/// Whole seconds of a time in nanoseconds, rounded down as `stat` and SFTP do.
func seconds(_ nanoseconds: Int64) -> Int64 {
  let (quotient, remainder) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
  return remainder < 0 ? quotient - 1 : quotient
}

/// Whether each file of an attempt was made durable as it was sent.
final class FlushLedger: Sendable {
  private let leftOut: Atomic<Bool>

  /// - Parameter rows: The components as the attempt found them: what an earlier one sent may not have been flushed.
  init(_ rows: [ComponentRow]) { leftOut = Atomic(rows.contains { $0.state == .sent && $0.entry.kind == .file }) }

  /// A file was not.
  func leaveOut() { leftOut.store(true, ordering: .relaxed) }

  /// Whether there is one that was not, or may not have been.
  var isIncomplete: Bool { leftOut.load(ordering: .relaxed) }
}
