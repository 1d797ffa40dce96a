import Digests
import SyncModel
import Synchronization
import Transport

/// Compares what the NAS holds with what was sent, both ways, by SHA-256.
package struct RemoteVerifier: Sendable {
  /// Which way digests are got.
  package enum Method: String, Sendable { case auto, server, readback }

  let session: any TransportSession
  let hasher: (any RemoteHasher)?
  let method: Method
  /// Awaited with the number of bytes after each piece that is read back.
  package typealias Pace = @Sendable (Int) async throws(SyncFailure) -> Void
  let pace: Pace?

  /// - Parameters:
  ///   - hasher: Nil where the destination cannot hash.
  ///   - pace: Holds up reading back, or ends it; nil reads as fast as the NAS gives.
  package init(session: any TransportSession, hasher: (any RemoteHasher)?, method: Method, pace: Pace? = nil) {
    self.pace = pace
    self.session = session
    self.hasher = hasher
    self.method = method
  }

  /// Verifies entries at the places where each of them lies.
  /// - Parameters:
  ///   - expected: Every entry of the run.
  ///   - known: Digests of what the far side holds that were got before and still hold; the others are asked for.
  ///   - storeKnows: Of which files the store's own word counts: those that it took from this very job. It says what was written when, and no more,
  ///     so that everything else is read back. Matters only with a hasher that is a store.
  ///   - absent: Where an entry would lie that no listing shows; it is asked for by its name where nothing is renamed, because the listings of
  ///     some object stores come late.
  ///   - place: Where an entry lies on the NAS, and what a listing said is there; nil where nothing has its name.
  ///   - progress: Called with the number of files proven so far.
  /// - Throws: `TransportError` where the NAS could not be asked: nothing is known then, and nothing is proven.
  package func verify(
    _ expected: [ExpectedEntry], known: [RelativePath: VerifiedReceipt.Proof] = [:], storeKnows: Set<RelativePath> = [],
    absent: (@Sendable (RelativePath) -> RemotePath)? = nil,
    at place: @Sendable (RelativePath) -> (RemotePath, RemoteEntry)?,
    extras: [RelativePath] = [], progress: @escaping @Sendable (Int) -> Void = { _ in }
  ) async throws(TransportError) -> VerificationOutcome {
    var mismatches = extras.map { Mismatch(path: $0, problem: .extra) }
    // Where it lies only of what is asked for: such a path is long, and there are as many as the run has files.
    var files: [(path: RelativePath, asked: RemotePath?, digest: ContentDigest)] = []
    files.reserveCapacity(expected.count)
    var sizes: [RemotePath: UInt64] = [:]
    var fromStore: Set<RemotePath> = []
    for entry in expected {
      guard let (remote, found) = try await placed(entry.path, place, absent) else {
        mismatches.append(Mismatch(path: entry.path, problem: .missing))
        continue
      }
      switch entry.content {
      case .folder:
        if found.kind != .folder { mismatches.append(wrongKind(entry.path, found, wanted: "a folder")) }
      case .symlink(let target):
        if found.kind != .symlink {
          mismatches.append(wrongKind(entry.path, found, wanted: "a symbolic link"))
        } else if try await session.symlinkTarget(of: remote) != target {
          mismatches.append(Mismatch(path: entry.path, problem: .otherKind("a symbolic link that points elsewhere")))
        }
      case .file(let digest):
        if found.kind == .file {
          let isKnown = known[entry.path] != nil
          files.append((entry.path, isKnown ? nil : remote, digest))
          if isKnown { continue }
          sizes[remote] = entry.size ?? found.size
          if hasher?.evidence == .store, storeKnows.contains(entry.path) { fromStore.insert(remote) }
        } else {
          mismatches.append(wrongKind(entry.path, found, wanted: "a file"))
        }
      }
    }
    var proofs: [RelativePath: VerifiedReceipt.Proof] = [:]
    proofs.reserveCapacity(files.count)
    let asked = files.compactMap(\.asked)
    let before = files.count - asked.count
    if before > 0 { progress(before) }
    let digests = try await remoteDigests(asked, sizes: sizes, storeKnows: fromStore) { progress(before + $0) }
    for file in files {
      switch file.asked.map({ digests[$0] }) ?? known[file.path].map({ RemoteDigest.digest($0.digest, $0.evidence) }) {
      case .digest(let digest, let evidence)?:
        if digest == file.digest {
          proofs[file.path] = VerifiedReceipt.Proof(digest: digest, evidence: evidence)
        } else {
          mismatches.append(Mismatch(path: file.path, problem: .differs(expected: file.digest, found: digest)))
        }
      case .missing?, nil: mismatches.append(Mismatch(path: file.path, problem: .missing))
      case .unreadable(let why)?: mismatches.append(Mismatch(path: file.path, problem: .unreadable(why)))
      }
    }
    guard mismatches.isEmpty else { return .differs(mismatches.sorted { $0.path < $1.path }) }
    return .proven(VerifiedReceipt(proofs: proofs))
  }

  private func placed(
    _ path: RelativePath, _ place: (RelativePath) -> (RemotePath, RemoteEntry)?, _ absent: ((RelativePath) -> RemotePath)?
  ) async throws(TransportError) -> (RemotePath, RemoteEntry)? {
    if let listed = place(path) { return listed }
    guard let absent, !session.capabilities.renames else { return nil }
    let remote = absent(path)
    return try await session.entry(at: remote).map { (remote, $0) }
  }

  private func wrongKind(_ path: RelativePath, _ found: RemoteEntry, wanted: String) -> Mismatch {
    Mismatch(path: path, problem: .otherKind("a \(found.kind.rawValue) on the NAS where \(wanted) is expected"))
  }

  // MARK: - Digests

  /// What became of asking for one file's digest.
  package enum RemoteDigest: Sendable {
    case digest(ContentDigest, Evidence)
    case missing
    case unreadable(String)
  }

  /// The digests of files: by the far side where it can, the rest by reading back.
  /// - Parameters:
  ///   - sizes: Bytes that a file may give at most when it is read back; where it is not said, what the NAS says it has.
  ///   - storeKnows: The files of which a store's own word counts.
  package func remoteDigests(
    _ paths: [RemotePath], sizes: [RemotePath: UInt64] = [:], storeKnows: Set<RemotePath> = [],
    progress: @escaping @Sendable (Int) -> Void = { _ in }
  ) async throws(TransportError) -> [RemotePath: RemoteDigest] {
    guard !paths.isEmpty else { return [:] }
    var result: [RemotePath: RemoteDigest] = [:]
    result.reserveCapacity(paths.count)
    var rest = paths
    if method != .readback {
      if let hasher {
        let asked = hasher.evidence == .store ? paths.filter(storeKnows.contains) : paths
        let bytes = sizes.isEmpty ? nil : asked.reduce(UInt64(0)) { $0.addingReportingOverflow(sizes[$1] ?? 0).partialValue }
        var digests: [RemotePath: ContentDigest] = [:]
        if !asked.isEmpty, let bytes { digests = try await hasher.digests(of: asked, bytes: bytes, progress: progress) }
        if !asked.isEmpty, bytes == nil { digests = try await hasher.digests(of: asked, progress: progress) }
        for (path, digest) in digests { result[path] = .digest(digest, hasher.evidence) }
        // What the far side did not hash is read back, so that a name its shell tools cannot carry is still proven and a missing file
        // is told from an unreadable one.
        rest = paths.filter { digests[$0] == nil }
      } else if method == .server {
        throw .failure(
          SyncFailure(
            .misconfigured, "verify.method is server, but this destination hashes no file where it lies",
            hint: "Set verify.method: auto; over SFTP it is enough to allow the account a shell."), sessionLost: false)
      }
    }
    let done = result.count
    for (path, digest) in try await readBack(rest, sizes, progress: { progress(done + $0) }) { result[path] = digest }
    return result
  }

  private func readBack(
    _ paths: [RemotePath], _ sizes: [RemotePath: UInt64], progress: @escaping @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: RemoteDigest] {
    guard !paths.isEmpty else { return [:] }
    let session = session
    let pace = pace
    do {
      return try await withThrowingTaskGroup(of: (RemotePath, RemoteDigest).self) { group in
        var result: [RemotePath: RemoteDigest] = [:]
        var index = 0
        // Enough to hide round trips; each holds at most the session's read-ahead window.
        while index < min(24, paths.count) {
          let path = paths[index]
          index += 1
          group.addTask {
            let digest = try await Self.readBack(path, limit: sizes[path], session: session, pace: pace)
            return (path, digest)
          }
        }
        while let (path, digest) = try await group.next() {
          result[path] = digest
          progress(result.count)
          if index < paths.count {
            let path = paths[index]
            index += 1
            group.addTask {
              let digest = try await Self.readBack(path, limit: sizes[path], session: session, pace: pace)
              return (path, digest)
            }
          }
        }
        return result
      }
    } catch { throw TransportError.wrapping(error) }
  }

  /// Bytes that are read without asking how many there are.
  private static let unasked: UInt64 = 1 << 20

  private static func readBack(
    _ path: RemotePath, limit: UInt64?, session: any TransportSession, pace: Pace?
  ) async throws(TransportError) -> RemoteDigest {
    let accumulator = DigestAccumulator()
    let bound = Mutex(limit)
    // A server may send for ever: what is longer than it may be is no copy.
    let tooLong = Mutex<UInt64?>(nil)
    do {
      try await session.download(path, from: 0) { (chunk) async throws(SyncFailure) in
        try await pace?(chunk.count)
        let count = await accumulator.add(chunk)
        guard count > unasked else { return }
        let most: UInt64
        if let known = bound.withLock({ $0 }) {
          most = known
        } else {
          do throws(TransportError) { most = try await session.entry(at: path)?.size ?? 0 } catch { throw error.failure }
          bound.withLock { $0 = most }
        }
        if count > most {
          tooLong.withLock { $0 = most }
          throw SyncFailure(.protocol, "\(path) gives more than its \(most) bytes", hint: "Look at the file on the NAS.")
        }
      }
    } catch {
      if let most = tooLong.withLock({ $0 }) { return .unreadable("it gives more than its \(most) bytes") }
      switch error {
      case .notFound: return .missing
      case .failure(let failure, sessionLost: false) where failure.kind == .permission: return .unreadable(failure.message)
      default: throw error
      }
    }
    guard let digest = await accumulator.finish() else {
      throw .failure(
        SyncFailure(
          .protocol, "SHA-256 is not available in this system's libcrypto", hint: "Check the OpenSSL configuration (FIPS policy)."),
        sessionLost: false)
    }
    return .digest(digest, .readback)
  }
}

/// A SHA-256 computation shared by the chunks of one download, which come in order.
package actor DigestAccumulator {
  private var hasher: SHA256Hasher? = SHA256Hasher()
  /// Bytes so far.
  package private(set) var count: UInt64 = 0

  package init() {}

  /// - Returns: Bytes so far.
  @discardableResult
  package func add(_ chunk: [UInt8]) -> UInt64 {
    count += UInt64(chunk.count)
    hasher?.update(chunk)
    return count
  }

  /// The digest; the accumulator is used up.
  package func finish() -> ContentDigest? {
    guard let hasher = hasher.take() else { return nil }
    return hasher.finalize()
  }
}
