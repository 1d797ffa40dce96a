import SyncModel
import Transport

/// What only trying shows of a store.
struct S3Findings: Hashable, Sendable {
  /// A body that is not the one that was signed is refused, and nothing is kept of it: what the store has then was compared by it. Nil where it
  /// could not be tried.
  var refusesWrongHash: Bool?
  /// `If-None-Match: *` keeps what is there.
  var honoursIfNoneMatch: Bool?
  /// Uploads below the root that were begun and not ended; nil where the store does not tell.
  var openUploads: Int?
  /// How many of them were so old that they were ended.
  var endedUploads = 0
  /// Why the uploads could not be looked at.
  var uploadsHidden: String?

  /// Of a store that could not be tried: nothing is taken for granted.
  static let unknown = S3Findings()
}

extension S3Session {
  /// Tries what must be known, with objects in the root that are removed again.
  /// - Returns: Nil where nothing can be written.
  func tryOut(in root: RemotePath) async throws(TransportError) -> S3Findings? {
    let (first, second) = (root.appending(try ProbeName.make()), root.appending(try ProbeName.make()))
    let (firstKey, secondKey) = (try key(first), try key(second))
    guard try await ask("PUT", firstKey, body: [1]).isSuccess else { return nil }
    var findings = S3Findings()
    let tried: Result<Void, TransportError>
    do throws(TransportError) {
      let forged = try await ask("PUT", secondKey, body: [1], hash: try Self.hash([2]))
      let isThere = try await head(secondKey, second) != nil
      findings.refusesWrongHash = !forged.isSuccess && !isThere
      let repeated = try await ask("PUT", firstKey, headers: [("If-None-Match", "*")], body: [1, 2, 3])
      let kept = try await head(firstKey, first)?.size == 1
      findings.honoursIfNoneMatch = repeated.status == 412 && kept
      tried = .success(())
    } catch { tried = .failure(error) }
    if case .failure(let error) = tried, error.sessionLost { throw error }
    for (key, path) in [(firstKey, first), (secondKey, second)] { try await delete(key, path) }
    try tried.get()
    try await endOldUploads(below: root, &findings)
    return findings
  }

  /// Ends what nobody has gone on with for long. Who may not, or a store that cannot, is no reason to fail.
  private func endOldUploads(below root: RemotePath, _ findings: inout S3Findings) async throws(TransportError) {
    guard let age = settings.abortsUploadsAfter else { return }
    do throws(TransportError) {
      let (open, now) = try await openUploads(under: root)
      // The store's clock: it dated the uploads.
      let limit = (now ?? Int64(settings.clock.wallSeconds)) - Int64(age)
      for upload in open {
        guard let initiated = upload.initiated, initiated < limit else { continue }
        try await abortUpload(upload.key, upload.id, root)
        findings.endedUploads += 1
      }
      findings.openUploads = open.count - findings.endedUploads
    } catch {
      if error.sessionLost { throw error }
      findings.uploadsHidden = error.failure.message
    }
  }
}
