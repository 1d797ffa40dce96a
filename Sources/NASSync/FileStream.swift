import Digests
import Executors
import Intake
import SyncModel

/// One local file being read and hashed in the same pass, on a reader thread.
actor FileStream {
  private nonisolated let executor: ThreadExecutor
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let reader: LocalFileReader
  private let expected: FileFingerprint
  private var hasher: SHA256Hasher? = SHA256Hasher()
  /// Bytes read so far.
  private(set) var position: UInt64 = 0

  /// Opens the file beneath the run's folder, never through a link.
  /// - Throws: `SyncFailure`: `local_vanished`, `local_changed` where it is no longer the file of the snapshot.
  static func open(
    _ entry: RunEntry, in folder: RunFolder, on executor: ThreadExecutor
  ) async throws(SyncFailure) -> FileStream {
    let reader = try await executor.run { () throws(SyncFailure) in
      let reader = try LocalFileReader(in: folder, path: entry.path)
      try reader.requireUnchanged(since: entry.fingerprint)
      return reader
    }
    return FileStream(reader: reader, expected: entry.fingerprint, executor: executor)
  }

  private init(reader: LocalFileReader, expected: FileFingerprint, executor: ThreadExecutor) {
    self.reader = reader
    self.expected = expected
    self.executor = executor
  }

  /// The next bytes, hashed; empty at the end of the snapshot's size. Never reads past it: what was appended is not sent.
  func next(_ count: Int) throws(SyncFailure) -> [UInt8] {
    let wanted = Int(min(UInt64(count), expected.size - min(position, expected.size)))
    guard wanted > 0 else { return [] }
    let chunk = try reader.read(at: position, upTo: wanted)
    guard !chunk.isEmpty else {
      // Shorter than it was: the fingerprint says what happened, and where it does not, the file is not what was registered.
      try reader.requireUnchanged(since: expected)
      throw SyncFailure(
        .localChanged, "\(reader.path) ended \(expected.size - position) bytes early",
        hint: "The run is still being written; it goes back in the queue.")
    }
    hasher?.update(chunk)
    position += UInt64(chunk.count)
    return chunk
  }

  /// The next bytes with where they belong, for several who write them.
  func piece(_ count: Int) throws(SyncFailure) -> (offset: UInt64, bytes: [UInt8]) {
    let offset = position
    return (offset, try next(count))
  }

  /// Reads and hashes up to an offset without handing the bytes out.
  func skip(to offset: UInt64) throws(SyncFailure) {
    while position < offset {
      if try next(Int(min(offset - position, 1 << 20))).isEmpty { return }
      if Task.isCancelled {
        throw SyncFailure(.interrupted, "reading \(reader.path) was told to stop", hint: "It goes on at the next start.")
      }
    }
  }

  /// The digest of the whole file, once everything has been read, after a last look that it is still the file it was.
  func finish() throws(SyncFailure) -> ContentDigest {
    try reader.requireUnchanged(since: expected)
    guard position == expected.size, let hasher = hasher.take(), let digest = hasher.finalize() else {
      throw Self.unhashed(reader.path)
    }
    return digest
  }

  /// Small files with their digests, read one after the other in one go of the thread.
  /// - Throws: As `LocalFileReader.readWhole`, for the first that is not as it was.
  static func readWhole(
    _ entries: [RunEntry], in folder: RunFolder, on executor: ThreadExecutor
  ) async throws(SyncFailure) -> [(content: [UInt8], digest: ContentDigest)] {
    try await executor.run { () throws(SyncFailure) in
      let contents = try LocalFileReader.readWhole(entries, in: folder)
      var files: [(content: [UInt8], digest: ContentDigest)] = []
      files.reserveCapacity(contents.count)
      for (entry, content) in zip(entries, contents) {
        guard let digest = SHA256Hasher.digest(of: content) else { throw unhashed(entry.path) }
        files.append((content, digest))
      }
      return files
    }
  }

  private static func unhashed(_ path: RelativePath) -> SyncFailure {
    SyncFailure(
      .protocol, "\(path) could not be hashed to its end", hint: "Try again; check the OpenSSL configuration if it repeats.")
  }

  /// The digest of a whole file, of any size.
  static func digest(
    of entry: RunEntry, in folder: RunFolder, on executor: ThreadExecutor
  ) async throws(SyncFailure) -> ContentDigest {
    let stream = try await open(entry, in: folder, on: executor)
    try await stream.skip(to: entry.fingerprint.size)
    return try await stream.finish()
  }
}

/// The threads that read local files, handed out in turn.
final class ReaderThreads: Sendable {
  private let executors: [ThreadExecutor]
  private let turn = Turn()

  init(count: Int) { executors = (0..<max(1, count)).map { ThreadExecutor(name: "nassync-read-\($0)") } }

  deinit { for executor in executors { executor.shutdown() } }

  /// The next thread.
  func next() -> ThreadExecutor { executors[turn.advance() % executors.count] }
}
