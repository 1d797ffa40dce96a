import Intake
import JobQueue
import Synchronization
import SyncModel
import Transport

/// Who unpacks a stream on the far side, once that was found out.
final class FoundUnpacker: Sendable {
  private enum State {
    case unknown
    case found(any RemoteUnpacker)
    /// Nobody does, or somebody looks after the stream already.
    case none
  }
  private let state = Mutex(State.unknown)

  func decide(_ unpacker: (any RemoteUnpacker)?) { state.withLock { $0 = unpacker.map { .found($0) } ?? .none } }

  /// Whether it was found out.
  var isDecided: Bool { state.withLock { if case .unknown = $0 { false } else { true } } }

  /// Whether there is one that nobody has taken.
  var isThere: Bool { state.withLock { if case .found = $0 { true } else { false } } }

  /// The first who asks gets it.
  func take() -> (any RemoteUnpacker)? {
    state.withLock { state in
      guard case .found(let unpacker) = state else { return nil }
      state = .none
      return unpacker
    }
  }
}

/// What was given to a stream and is not confirmed yet.
private final class StreamLedger: Sendable {
  typealias Given = (row: ComponentRow, progress: ComponentProgress)
  private let underway = Mutex<[Int: [Given]]>([:])

  /// Before it can be confirmed.
  func gives(_ files: [Given], tag: Int) { underway.withLock { $0[tag] = files } }

  /// Takes out what has arrived.
  func confirmed(_ tags: [Int]) -> [ComponentProgress] {
    underway.withLock { underway in tags.flatMap { underway.removeValue(forKey: $0) ?? [] }.map(\.progress) }
  }

  /// What was given and did not arrive, as far as anybody knows, in the order in which it was given.
  var lost: [ComponentSender.Handful] { underway.withLock { $0.sorted { $0.key < $1.key }.map { $0.value.map(\.row)[...] } } }
}

extension ComponentSender {
  /// Sends small files, in handfuls: over the sessions, and, where there are many and the far side unpacks, in one stream as soon as that has begun.
  func sendSmall(_ handfuls: [Handful], lanes: Int) async throws(TransportError) {
    let turn = Turn()
    let stream = FileFeed()
    var rest: [Handful] = []
    // Over a long way the files are there before anybody knows who unpacks. Over a short one a moment's patience saves both sides half of their work.
    let isPatient = !pool.isFar && isWorthStreaming(handfuls[...])
    if isPatient { await waitShortly(for: { unpacker.isDecided }) }
    let streamsFirst = isPatient && unpacker.isThere
    do {
      rest = try await withThrowingTaskGroup(of: [Handful].self) { group in
        for number in 0..<min(handfuls.count, lanes) {
          group.addTask {
            // Nor are sessions opened for what little they would send: their log-ins would come before the stream's.
            if number > 0, streamsFirst { await waitShortly(for: { stream.hasBegun || stream.isClosed }) }
            while !stream.hasBegun {
              // One looks after the stream; the others go on until it takes something.
              if let unpacker = unpacker.take(), isWorthStreaming(handfuls[min(turn.value, handfuls.count)...]) {
                return try await sendStream(handfuls, turn, stream, by: unpacker)
              }
              let index = turn.advance()
              guard index < handfuls.count else { break }
              try checkStop()
              try await sendHandful(handfuls[index])
            }
            return []
          }
        }
        return try await group.reduce(into: []) { $0 += $1 }
      }
    } catch { throw TransportError.wrapping(error) }
    // What the stream did not bring there, and what it left.
    rest += handfuls[min(turn.value, handfuls.count)...]
    guard !rest.isEmpty else { return }
    let left = rest
    let leftTurn = Turn()
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<min(left.count, lanes) {
          group.addTask { try await drain(left, leftTurn) { (rows) throws(TransportError) in try await sendHandful(rows) } }
        }
        try await group.waitForAll()
      }
    } catch { throw TransportError.wrapping(error) }
  }

  /// Waits for something that comes in a moment, as a rule, and costs nothing but that.
  private func waitShortly(for isThere: () -> Bool) async {
    for _ in 0..<60 where !isThere() && !Task.isCancelled {
      do { try await Task.sleep(for: .milliseconds(5)) } catch { return }
    }
  }

  // MARK: - Over the sessions

  private func sendHandful(_ rows: Handful) async throws(TransportError) {
    let (known, unsent) = try await read(rows)
    let arrived = Atomic<Int>(0)
    var failure: TransportError?
    do throws(TransportError) { try await put(unsent, arrived) } catch { failure = error }
    // What arrived before a failure is there, and the failure is the one to report.
    let progress = known + unsent.prefix(arrived.load(ordering: .relaxed)).map(\.progress)
    do { try await recorder.record(progress, isFile: true) } catch {
      throw failure ?? .failure(error, sessionLost: false)
    }
    if let failure { throw failure }
  }

  private typealias SmallFile = (row: ComponentRow, file: WholeFile, progress: ComponentProgress)

  /// Reads and hashes files.
  /// - Returns: Those that an earlier attempt put there, and those that are to be sent.
  private func read(_ rows: Handful) async throws(TransportError) -> (known: [ComponentProgress], unsent: [SmallFile]) {
    let files: [(content: [UInt8], digest: ContentDigest)]
    do { files = try await FileStream.readWhole(rows.map(\.entry), in: folder, on: readers.next()) } catch {
      throw .failure(error, sessionLost: false)
    }
    var known: [ComponentProgress] = []
    var unsent: [SmallFile] = []
    for (row, file) in zip(rows, files) {
      let entry = row.entry
      let progress = ComponentProgress(path: entry.path, state: .sent, bytesDurable: entry.fingerprint.size, localDigest: file.digest)
      if isStaged(entry) {
        known.append(progress)
      } else {
        let whole = WholeFile(content: file.content, path: staging.appending(entry.path), modified: seconds(entry.fingerprint.modified))
        unsent.append((row, whole, progress))
      }
    }
    return (known, unsent)
  }

  /// Puts files one after the other. `arrived` counts them.
  private func put(_ files: [SmallFile], _ arrived: borrowing Atomic<Int>) async throws(TransportError) {
    guard !files.isEmpty else { return }
    try await awaitBandwidth(files.reduce(0) { $0 + $1.file.content.count })
    try await pool.withSession(width: width) { (session) throws(TransportError) in
      // Where a session is let in no more, the next one goes on after what arrived.
      let before = arrived.load(ordering: .relaxed)
      let durable = flushesSmallFiles()
      if !durable { flushed.leaveOut() }
      try await session.put(files[before...].map(\.file), durable: durable) { (index) throws(TransportError) in
        arrived.store(before + index, ordering: .relaxed)
        try checkStop()
      }
      arrived.store(files.count, ordering: .relaxed)
    }
  }

  // MARK: - In one stream

  /// So many files are worth a log-in.
  private static let leastStreamed = 1_000
  /// And so small they have to be, on average: one stream has one window and one core, the sessions together have more of both. Over a long way that
  /// counts earlier.
  private static let meanSize = (short: UInt64(32 << 10), long: UInt64(4 << 10))

  private func isWorthStreaming(_ handfuls: ArraySlice<Handful>) -> Bool {
    var count = 0
    var bytes: UInt64 = 0
    for handful in handfuls {
      count += handful.count
      for row in handful { bytes &+= row.entry.fingerprint.size }
    }
    return Self.isWorthStreaming(count, bytes: bytes, isFar: pool.isFar)
  }

  /// Whether so many files with so many bytes in all go in one stream, where the far side unpacks.
  static func isWorthStreaming(_ count: Int, bytes: UInt64, isFar: Bool) -> Bool {
    count >= leastStreamed && bytes / UInt64(count) <= (isFar ? meanSize.long : meanSize.short)
  }

  /// Sends what nobody has taken yet in one stream.
  /// - Returns: What was taken and is not known to have arrived.
  private func sendStream(
    _ handfuls: [Handful], _ turn: Turn, _ stream: FileFeed, by unpacker: any RemoteUnpacker
  ) async throws(TransportError) -> [Handful] {
    // Whoever unpacks flushes nothing.
    flushed.leaveOut()
    let ledger = StreamLedger()
    async let wasCutOff = unpack(stream, by: unpacker)
    do {
      try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask {
          for await tags in stream.confirmations { try await record(ledger.confirmed(tags)) }
        }
        group.addTask {
          defer { stream.end() }
          try await withThrowingTaskGroup(of: Void.self) { givers in
            for _ in 0..<Self.givers {
              givers.addTask {
                while case let index = turn.advance(), index < handfuls.count {
                  try checkStop()
                  guard try await give(handfuls[index], index, to: stream, for: unpacker, ledger) else { return }
                }
              }
            }
            try await givers.waitForAll()
          }
        }
        try await group.waitForAll()
      }
    } catch { throw TransportError.wrapping(error) }
    let isBroken = await wasCutOff
    let lost = ledger.lost
    guard stream.hasBegun, !lost.isEmpty, !Task.isCancelled else { return lost }
    // Where it was the NAS that went down, what it hashed before says nothing of what it has now.
    forgetDigests()
    if !isBroken {
      try await remove(lost)
      // It takes time each time, and never works.
      pool.learnedThatStreamsFail()
    }
    return lost
  }

  /// - Returns: Whether the connection failed, and not the far side's program. The sessions send what was not confirmed, and say what is wrong.
  private func unpack(_ stream: FileFeed, by unpacker: any RemoteUnpacker) async -> Bool {
    defer { stream.close() }
    do throws(TransportError) { try await unpacker.unpack(stream, into: staging, isFar: pool.isFar) } catch { return true }
    return false
  }

  /// What a far side could not write may have its size and its time, and must not be taken for whole by a later attempt: a disk says only once that it could
  /// not take something.
  private func remove(_ lost: [Handful]) async throws(TransportError) {
    let paths = lost.joined().map { staging.appending($0.entry.path) }
    try await pool.withSession(width: width) { (session) throws(TransportError) in
      try await Turn.each(of: paths, atOnce: 64) { (path) throws(TransportError) in
        try checkStop()
        try await session.removeFile(path)
      }
    }
  }

  /// How many read and give: as many as there are processors to a small workstation.
  private static let givers = 2

  /// - Returns: False where the stream takes nothing any more.
  private func give(
    _ rows: Handful, _ tag: Int, to stream: FileFeed, for unpacker: any RemoteUnpacker, _ ledger: StreamLedger
  ) async throws(TransportError) -> Bool {
    let (known, unsent) = try await read(rows)
    if !known.isEmpty { try await record(known) }
    guard !unsent.isEmpty else { return true }
    let weight = unsent.reduce(0) { $0 + unpacker.weight(of: $1.file) }
    try await awaitBandwidth(weight)
    ledger.gives(unsent.map { ($0.row, $0.progress) }, tag: tag)
    return await stream.give(unsent.map(\.file), weight: weight, tag: tag)
  }

  private func record(_ files: [ComponentProgress]) async throws(TransportError) {
    do { try await recorder.record(files, isFile: true) } catch { throw .failure(error, sessionLost: false) }
  }
}
