import SyncModel
import Transport

/// What only trying shows of a store.
struct S3Findings: Hashable, Sendable {
  /// A body that is not the one that was signed is refused for that, and nothing is kept of it: what the store has then was compared by it. Nil
  /// where it could not be tried, or the answer may be another one in a moment.
  var refusesWrongHash: Bool?
  /// `If-None-Match: *` keeps what is there, and lets through what is new. Nil as above.
  var honoursIfNoneMatch: Bool?
  /// Uploads below the root that were begun and not ended; nil where the store does not tell.
  var openUploads: Int?
  /// How many of them were so old that they were ended.
  var endedUploads = 0
  /// Why the uploads could not be looked at.
  var uploadsHidden: String?

  /// Nothing needs to be tried again.
  var isDecided: Bool { refusesWrongHash != nil && honoursIfNoneMatch != nil }

  /// Of a store that could not be tried: nothing is taken for granted.
  static let unknown = S3Findings()
}

extension S3Session {
  /// Tries what must be known, with objects in a folder of the root that are removed again.
  /// - Returns: Nil where nothing can be written.
  func tryOut(in root: RemotePath) async throws(TransportError) -> S3Findings? {
    let found = try await ProbeName.lend(in: root) { (scratch) throws(TransportError) in try await tryOut(with: scratch) }
    guard var findings = found else { return nil }
    try await endOldUploads(below: root, &findings)
    return findings
  }

  private func tryOut(with scratch: RemotePath) async throws(TransportError) -> S3Findings? {
    var paths: [RemotePath] = []
    for name in ["a", "b", "c"] { paths.append(try Self.child(scratch, Array(name.utf8))) }
    guard try await ask("PUT", try key(paths[0]), body: [1]).isSuccess else {
      ProbeName.leave(scratch)
      return nil
    }
    var findings = S3Findings()
    let tried: Result<Void, TransportError>
    do throws(TransportError) {
      findings.refusesWrongHash = try await refusesWrongHash(at: paths[1])
      findings.honoursIfNoneMatch = try await honoursIfNoneMatch(at: paths[0], new: paths[2])
      tried = .success(())
    } catch { tried = .failure(error) }
    if case .failure(let error) = tried, error.sessionLost { throw error }
    do throws(TransportError) {
      for path in paths { try await delete(try key(path), path) }
    } catch {
      // What kept it from being tried says more than what followed from it.
      try tried.get()
      throw error
    }
    try tried.get()
    return findings
  }

  /// Believed only of a refusal that names the digest, and where the same with the right one is taken right afterwards.
  private func refusesWrongHash(at path: RemotePath) async throws(TransportError) -> Bool? {
    let key = try key(path)
    let forged = try await ask("PUT", key, body: [1], hash: try Self.hash([2]))
    if forged.isSuccess { return false }
    if try await head(key, path) != nil { return false }
    guard try await ask("PUT", key, body: [1]).isSuccess else { return nil }
    let refusal = S3Failures.refusal(forged)
    return refusal.isOfDigest ? true : refusal.isFinal ? false : nil
  }

  /// - Parameters:
  ///   - path: Of an object of one byte.
  ///   - new: Of none.
  private func honoursIfNoneMatch(at path: RemotePath, new: RemotePath) async throws(TransportError) -> Bool? {
    let condition = [(name: "If-None-Match", value: "*")]
    let key = try key(path)
    let repeated = try await ask("PUT", key, headers: condition, body: [1, 2, 3])
    let isKept = try await head(key, path)?.size == 1
    if repeated.isSuccess || !isKept { return false }
    guard repeated.status == 412 else { return S3Failures.refusal(repeated).isFinal ? false : nil }
    let allowed = try await ask("PUT", try self.key(new), headers: condition, body: [1, 2, 3])
    return allowed.isSuccess ? true : S3Failures.refusal(allowed).isFinal ? false : nil
  }

  /// Ends what nobody has gone on with for long. Who may not, or a store that cannot, is no reason to fail.
  private func endOldUploads(below root: RemotePath, _ findings: inout S3Findings) async throws(TransportError) {
    do throws(TransportError) {
      let (open, now) = try await openUploads(under: root)
      findings.openUploads = open.count
      guard let age = settings.abortsUploadsAfter else { return }
      // The store's clock: it dated the uploads.
      let limit = (now ?? Int64(settings.clock.wallSeconds)) - Int64(age)
      for upload in open {
        guard let initiated = upload.initiated, initiated < limit, !common.isLive(upload.id) else { continue }
        // A large file over a slow line may take longer than that: it is its newest part that counts.
        guard let parts = try await parts(of: upload.id, upload.key, root) else { continue }
        if let newest = parts.values.compactMap(\.modified).max(), newest >= limit { continue }
        try await abortUpload(upload.key, upload.id, root)
        findings.endedUploads += 1
        findings.openUploads = open.count - findings.endedUploads
      }
    } catch {
      if error.sessionLost { throw error }
      findings.uploadsHidden = error.failure.message
    }
  }
}
