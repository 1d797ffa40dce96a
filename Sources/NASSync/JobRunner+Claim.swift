import Foundation
import JobQueue
import SyncModel
import Transport
import Verification

/// What keeps others out of a run's place at a destination that renames nothing: a small file beside the run, written before the run's first
/// byte and removed once its manifest is there.
struct RunClaim: Codable, Hashable, Sendable {
  /// Version of this document.
  var version = 1
  let jobID: String
  /// Tells workstations apart; the same after a restart.
  let workstation: String
  let host: String
  /// The run here.
  let runPath: String
  /// Wall clock.
  let since: Date
  /// Components that lay there before: none of them is the job's own.
  let found: [String]

  private enum CodingKeys: String, CodingKey {
    case version
    case jobID = "job_id"
    case workstation
    case host
    case runPath = "run_path"
    case since
    case found
  }

  func encoded() throws(SyncFailure) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.dateEncodingStrategy = .iso8601
    do { return Array(try encoder.encode(self)) } catch {
      throw SyncFailure(.protocol, "the claim of \(runPath) cannot be written: \(error)", hint: "Report this.")
    }
  }

  static func decode(_ bytes: [UInt8]) -> RunClaim? {
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    do { return try decoder.decode(RunClaim.self, from: Data(bytes)) } catch { return nil }
  }
}

/// What of a place that is being filled is this job's own.
struct Possession: Sendable {
  /// Whether the claim there is this job's.
  let isOurs: Bool
  /// What lay there before the claim, and what a manifest there names.
  let others: Set<RelativePath>

  /// Whether a file there was put there by this job and is not published yet, so that it may be written over.
  func isOwn(_ path: RelativePath) -> Bool { isOurs && !others.contains(path) }
}

extension JobRunner {
  /// Looks who holds the place.
  /// - Throws: `remote_conflict` where somebody else does.
  func possession(_ job: JobRow, layout: RemoteLayout, tree: RemoteTree) async throws(StepFailure) -> Possession {
    guard let claim = try await standingClaim(job, layout: layout) else { return Possession(isOurs: false, others: []) }
    // What earlier generations published is as much theirs as what lay there before, whatever has become of the manifest.
    var others = Set(try await publishedComponents(of: job).map(\.entry.path))
    for name in claim.found {
      do { others.insert(try RelativePath(name)) } catch { continue }  // a name that is none names no component
    }
    if tree.entries[layout.manifest]?.kind == .file,
      let text = try await readSmall(layout.final.appending(layout.manifest), limit: RemoteDocument.limit(tree.entries.keys))
    {
      let manifest: RunManifest
      do { manifest = try RunManifest(parsing: text) } catch {
        // What it names is not known: nothing there is written over.
        return Possession(isOurs: true, others: Set(tree.entries.keys))
      }
      others.formUnion(manifest.entries.map(\.path))
    }
    return Possession(isOurs: true, others: others)
  }

  /// Takes the place, or finds that this job holds it already.
  ///
  /// What was looked at before the place was taken may have changed until then: another workstation may have come, published and gone. So it is
  /// looked at again, and where it is not the same, the claim is given up and everything is compared anew.
  /// - Parameters:
  ///   - found: Components that lie there.
  ///   - tree: What lay there when it was looked at; nil for nothing.
  /// - Throws: `remote_conflict` where somebody else holds it.
  func claim(_ job: JobRow, layout: RemoteLayout, found: [RelativePath], tree: RemoteTree?) async throws(StepFailure) {
    if try await standingClaim(job, layout: layout) != nil { return }
    let claim = RunClaim(
      jobID: job.id, workstation: ProbeName.workstation, host: environment.sender.host, runPath: job.runPath,
      since: Date(timeIntervalSince1970: environment.clock.wallSeconds), found: found.compactMap(\.string))
    do throws(TransportError) {
      let content: [UInt8]
      do throws(SyncFailure) { content = try claim.encoded() } catch { throw .failure(error, sessionLost: false) }
      let place = layout.claim
      try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        if let parent = place.parent, parent.relative != nil { try await session.makeFolder(parent) }
        try await session.putNew(content, at: place)
      }
    } catch {
      guard case .alreadyExists = error else { throw StepFailure(error) }
      // Somebody was faster; or this job's own request was done although its answer was lost.
      guard try await standingClaim(job, layout: layout) != nil else {
        throw StepFailure(
          SyncFailure(.remoteConflict, "\(layout.claim) came and went on the NAS", hint: "It is tried again.", retry: true))
      }
    }
    try await requireUnchanged(layout, since: tree)
  }

  private func requireUnchanged(_ layout: RemoteLayout, since tree: RemoteTree?) async throws(StepFailure) {
    do {
      let isSame = try await route.pool.withSession(width: 1) { (session) throws(TransportError) -> Bool in
        let now = try await RemoteTree.walk(layout.final, session: session)
        let same = (now?.entries ?? [:]).filter { $0.value.kind != .folder } == (tree?.entries ?? [:]).filter { $0.value.kind != .folder }
        if !same { try await session.removeFile(layout.claim) }
        return same
      }
      guard !isSame else { return }
    } catch { throw StepFailure(error) }
    throw StepFailure(
      SyncFailure(
        .remoteConflict, "\(layout.final) changed on the NAS while it was being looked at",
        hint: "Somebody else sends there. It is looked at again.", retry: true))
  }

  /// A place that somebody else has taken meanwhile is not published in, and their claim stays.
  func refuseForeignClaim(_ job: JobRow, layout: RemoteLayout) async throws(StepFailure) {
    _ = try await standingClaim(job, layout: layout)
  }

  /// The claim there, where it is this job's: one of the same run on the same workstation is, even of a queue that was lost.
  private func standingClaim(_ job: JobRow, layout: RemoteLayout) async throws(StepFailure) -> RunClaim? {
    guard let bytes = try await readSmall(layout.claim, limit: RemoteDocument.receiptLimit) else { return nil }
    guard let claim = RunClaim.decode(bytes) else {
      throw StepFailure(
        SyncFailure(
          .remoteConflict, "\(layout.claim) on the NAS keeps others out of \(layout.final), and cannot be read",
          hint: "Look at it there. If no other workstation is sending this run, remove that file, then `nassync retry`."))
    }
    if claim.jobID == job.id || (claim.workstation == ProbeName.workstation && claim.runPath == job.runPath) { return claim }
    throw StepFailure(
      SyncFailure(
        .remoteConflict,
        "\(displayText(claim.host)) has been sending \(displayText(claim.runPath)) to \(layout.final) since "
          + "\(claim.since.formatted(.iso8601))",
        hint: "Two workstations that share a destination need runs of different paths. If that one never comes back, remove "
          + "\(layout.claim) on the NAS, then `nassync retry`."))
  }
}
