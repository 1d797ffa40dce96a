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
/// one burst; large ones as a stream of chunks, with their progress made durable on the NAS and in the queue as they go.
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
  let flushesSmallFiles: Bool

  /// Files up to this size are sent in one piece.
  static let pieceSize = 255 * 1024
  /// How long at most bytes are on the way before they are made durable and recorded.
  static let checkpointInterval: UInt64 = 1_000_000_000

  /// Sends everything that is still pending.
  /// - Throws: The first failure, as `TransportError`; what was sent before it is recorded.
  func send(_ components: [ComponentRow]) async throws(TransportError) {
    let folders = components.filter { $0.entry.kind == .folder }.map(\.entry.path)
    try await makeFolders(folders)
    let pending = components.filter { $0.state == .pending }
    let (small, large) = Self.partition(pending.filter { $0.entry.kind == .file }, limit: UInt64(smallLimit))
    let links = pending.filter { if case .symlink = $0.entry.kind { true } else { false } }
    let smallTurn = Turn()
    let largeTurn = Turn()
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<min(large.count, width) {
          group.addTask { try await drain(large, largeTurn) { (row) throws(TransportError) in try await sendLarge(row) } }
        }
        for _ in 0..<min(small.count, 48 * width) {
          group.addTask { try await drain(small, smallTurn) { (row) throws(TransportError) in try await sendSmall(row) } }
        }
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

  private var smallLimit: Int { Self.pieceSize }

  private static func partition(_ rows: [ComponentRow], limit: UInt64) -> (small: [ComponentRow], large: [ComponentRow]) {
    var small: [ComponentRow] = []
    var large: [ComponentRow] = []
    for row in rows {
      if row.entry.fingerprint.size <= limit { small.append(row) } else { large.append(row) }
    }
    // The largest first, so that no session is left with a big one at the end.
    large.sort { $0.entry.fingerprint.size > $1.entry.fingerprint.size }
    return (small, large)
  }

  private func drain(
    _ rows: [ComponentRow], _ turn: Turn, _ body: (ComponentRow) async throws(TransportError) -> Void
  ) async throws(TransportError) {
    while true {
      let index = turn.advance()
      guard index < rows.count else { return }
      try checkStop()
      try await body(rows[index])
    }
  }

  private func checkStop() throws(TransportError) {
    if stop.isSet || Task.isCancelled { throw .failure(Self.stopped, sessionLost: false) }
  }

  private static let stopped = SyncFailure(
    .interrupted, "sending was told to stop", hint: "It goes on where it was at the next start.")

  // MARK: - One component

  private func makeFolders(_ folders: [RelativePath]) async throws(TransportError) {
    // Parents come before children in path order; folders of one depth are made together.
    let byDepth = Dictionary(grouping: folders) { $0.segments.count }
    for depth in byDepth.keys.sorted() {
      let level = byDepth[depth] ?? []
      var index = 0
      while index < level.count {
        let slice = level[index..<min(index + 64, level.count)]
        index += slice.count
        try checkStop()
        try await pool.withSession(width: width) { (session) throws(TransportError) in
          do {
            try await withThrowingTaskGroup(of: Void.self) { group in
              for path in slice { group.addTask { try await session.makeFolder(staging.appending(path)) } }
              try await group.waitForAll()
            }
          } catch { throw TransportError.wrapping(error) }
        }
      }
    }
    do {
      for path in folders {
        try await recorder.record(ComponentProgress(path: path, state: .sent, bytesDurable: 0, localDigest: nil), isFile: false)
      }
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

  private func sendSmall(_ row: ComponentRow) async throws(TransportError) {
    let entry = row.entry
    let content: [UInt8]
    let digest: ContentDigest
    do { (content, digest) = try await FileStream.readWhole(entry, in: folder, on: readers.next()) } catch {
      throw .failure(error, sessionLost: false)
    }
    if !isStaged(entry) {
      try await awaitBandwidth(content.count)
      try await pool.withSession(width: width) { (session) throws(TransportError) in
        try await session.put(
          content, at: staging.appending(entry.path), modified: seconds(entry.fingerprint.modified), mode: nil, durable: flushesSmallFiles)
      }
    }
    try await record(row, state: .sent, durable: entry.fingerprint.size, digest: digest, isFile: true)
  }

  /// Whether an earlier attempt already put the whole file there: its time is set after its last byte, so the right time and size mean that
  /// nothing needs to be sent again. It is no proof, and none is made of it: the digest on the NAS is compared like every other.
  private func isStaged(_ entry: RunEntry) -> Bool {
    guard let found = staged[entry.path], found.kind == .file, let modified = found.modified else { return false }
    return found.size == entry.fingerprint.size && modified == seconds(entry.fingerprint.modified)
  }

  private func sendLarge(_ row: ComponentRow) async throws(TransportError) {
    let entry = row.entry
    let size = entry.fingerprint.size
    let stream: FileStream
    do {
      stream = try await FileStream.open(entry, in: folder, on: readers.next())
      if isStaged(entry) {
        try await stream.skip(to: size)
        let digest = try await stream.finish()
        try await recorder.record(
          ComponentProgress(path: entry.path, state: .sent, bytesDurable: size, localDigest: digest), isFile: true)
        return
      }
    } catch { throw .failure(error, sessionLost: false) }
    try await pool.withSession(width: width) { (session) throws(TransportError) in
      let path = staging.appending(entry.path)
      let mark = resumePoint(row, capabilities: session.capabilities)
      var stream = stream
      do throws(SyncFailure) {
        // A session before this one was let in no more after some of it.
        if await stream.position > mark.bytes { stream = try await FileStream.open(entry, in: folder, on: readers.next()) }
        try await stream.skip(to: mark.bytes)
      } catch { throw .failure(error, sessionLost: false) }
      let handle = try await session.beginUpload(path, resumingAt: mark, size: size, modified: seconds(entry.fingerprint.modified))
      do throws(TransportError) {
        let start = min(handle.offset ?? mark.bytes, size)
        if start != mark.bytes {
          do throws(SyncFailure) {
            // What lay there is gone: those bytes are read once more.
            if start < mark.bytes { stream = try await FileStream.open(entry, in: folder, on: readers.next()) }
            try await stream.skip(to: start)
          } catch { throw .failure(error, sessionLost: false) }
        }
        try await pump(row, from: start, stream: stream, session: session, handle: handle)
        let digest: ContentDigest
        do throws(SyncFailure) { digest = try await stream.finish() } catch { throw .failure(error, sessionLost: false) }
        try await session.finishUpload(handle, modified: seconds(entry.fingerprint.modified), mode: nil, durable: true)
        try await record(row, state: .sent, durable: size, digest: digest, isFile: true)
      } catch {
        await leave(row, session: session, handle: handle, after: error)
        throw error
      }
    }
  }

  /// Where a file goes on: what the queue knows to be durable, or further where the staged file is longer (one writer writes in order,
  /// and the flush before the next checkpoint makes those bytes durable too). Where the driver gave a mark, it is the mark that counts.
  private func resumePoint(_ row: ComponentRow, capabilities: TransportCapabilities) -> UploadMark {
    let anew = UploadMark(bytes: 0)
    guard capabilities.resumesFiles else { return anew }
    if let token = row.uploadToken { return UploadMark(bytes: min(row.bytesDurable, row.entry.fingerprint.size), token: token) }
    // No durable byte on record: the staged file, if there is one, may be of an earlier state of the run.
    guard row.bytesDurable > 0 else { return anew }
    guard let found = staged[row.entry.path], found.kind == .file, found.size >= row.bytesDurable else { return anew }
    return UploadMark(bytes: min(found.size, row.entry.fingerprint.size))
  }

  private func pump(
    _ row: ComponentRow, from start: UInt64, stream: FileStream, session: any TransportSession, handle: UploadHandle
  ) async throws(TransportError) {
    let path = row.entry.path
    var offset = start
    var lastCheckpoint = clock.monotonicNanoseconds
    var chunk = try await read(stream)
    while !chunk.isEmpty {
      try checkStop()
      let current = chunk
      // The next piece is read and hashed on its own thread while this one waits for bandwidth and for room in the window.
      async let upcoming = stream.next(await pieceSize)
      do throws(TransportError) {
        try await awaitBandwidth(current.count)
        try await session.write(current, at: offset, to: handle)
      } catch {
        _ = try? await upcoming  // the failure of the write is the one to report; the read must end before the file is closed
        throw error
      }
      offset += UInt64(current.count)
      await recorder.moving(path, to: offset)
      let now = clock.monotonicNanoseconds
      // Where a file that was cut off is sent whole, no part of it is worth recording.
      if session.capabilities.resumesFiles, now - lastCheckpoint > Self.checkpointInterval {
        if let mark = try await session.mark(of: handle) {
          try await record(row, state: .pending, durable: mark.bytes, digest: nil, isFile: true, token: mark.token)
        } else {
          try await session.flush(handle, durable: true)
          try await record(row, state: .pending, durable: offset, digest: nil, isFile: true)
        }
        lastCheckpoint = clock.monotonicNanoseconds
      }
      do { chunk = try await upcoming } catch { throw TransportError.wrapping(error) }
    }
  }

  private var pieceSize: Int {
    get async { max(1_024, min(await bandwidth.preferredPiece(for: equipment), Self.pieceSize)) }
  }

  private func read(_ stream: FileStream) async throws(TransportError) -> [UInt8] {
    do { return try await stream.next(await pieceSize) } catch { throw .failure(error, sessionLost: false) }
  }

  /// On the way out of a failure: what has been acknowledged is made durable and recorded, so that it is not sent again.
  private func leave(_ row: ComponentRow, session: any TransportSession, handle: UploadHandle, after error: TransportError) async {
    if !error.sessionLost, session.capabilities.resumesFiles {
      // In a task of its own: this one may be cancelled, and the progress is worth the last round trip.
      let recorder = recorder
      let staging = staging
      let path = row.entry.path
      await Task.detached {
        do {
          try await session.flush(handle, durable: true)
          if let mark = try await session.mark(of: handle) {
            try await recorder.record(
              ComponentProgress(path: path, state: .pending, bytesDurable: mark.bytes, localDigest: nil, uploadToken: mark.token),
              isFile: true)
          } else if let found = try await session.entry(at: staging.appending(path)), found.kind == .file {
            try await recorder.record(
              ComponentProgress(path: path, state: .pending, bytesDurable: min(found.size, row.entry.fingerprint.size), localDigest: nil),
              isFile: true)
          }
        } catch {
          // The last checkpoint stands; at most one interval of bytes is sent again.
        }
      }.value
    }
    await session.abandonUpload(handle)
  }

  private func awaitBandwidth(_ bytes: Int) async throws(TransportError) {
    do { try await bandwidth.acquire(bytes: bytes, equipment: equipment) } catch { throw .failure(Self.stopped, sessionLost: false) }
  }

  private func record(
    _ row: ComponentRow, state: ComponentRow.State, durable: UInt64, digest: ContentDigest?, isFile: Bool, token: String? = nil
  ) async throws(TransportError) {
    do {
      try await recorder.record(
        ComponentProgress(path: row.entry.path, state: state, bytesDurable: durable, localDigest: digest, uploadToken: token),
        isFile: isFile)
    } catch { throw .failure(error, sessionLost: false) }
  }
}

/// Whole seconds of a time in nanoseconds, rounded down as `stat` and SFTP do.
func seconds(_ nanoseconds: Int64) -> Int64 {
  let (quotient, remainder) = nanoseconds.quotientAndRemainder(dividingBy: 1_000_000_000)
  return remainder < 0 ? quotient - 1 : quotient
}
