import Configuration
import Foundation
import Glibc
import Intake
import JobQueue
import SyncModel
import Transport

extension NASSyncClient {
  /// Brings a run back from the NAS and proves every file of it against its manifest.
  ///
  /// Nothing that exists is overwritten. What was interrupted goes on where it was when asked for again. Cancelling the task stops it within a
  /// moment. The queue is only looked at, and need not be there.
  /// - Parameters:
  ///   - run: A path of this workstation, whether the run is still there or not; or `EQUIPMENT:PATH`, a place on that instrument's NAS, below its
  ///     `remote_root` or relative to it, which takes the NAS's own word for the manifest.
  ///   - destination: The folder that becomes the run's root: one that does not exist, an empty one, one of the same restore interrupted, or the
  ///     run's own, where what is missing there is added.
  ///   - equipment: The instrument, where a path of this workstation does not say.
  ///   - progress: Called often, from any thread; must not block.
  /// - Returns: What was restored, and what on the NAS was not as it should be. Only where `ok` is true the whole run is there.
  /// - Throws: `SyncFailure`: `misconfigured` where there is no such run or the destination holds other things; `remote_corrupted` where the
  ///   manifest on the NAS proves nothing; `local` where the disk refuses something; what kept the NAS from answering.
  public func restore(
    _ run: String, to destination: String, equipment: String? = nil, progress: @escaping @Sendable (RestoreProgress) -> Void = { _ in }
  ) async throws(SyncFailure) -> RestoreReport {
    try await restore(run, to: destination, equipment: equipment, pauses: [1, 2, 4, 8, 15], progress: progress)
  }

  /// - Parameter pauses: Seconds to wait before each further try where the NAS does not answer and nothing arrived meanwhile.
  package func restore(
    _ run: String, to destination: String, equipment: String?, pauses: [Double], progress: @escaping @Sendable (RestoreProgress) -> Void
  ) async throws(SyncFailure) -> RestoreReport {
    let place = try await restorePlace(run, equipment: equipment)
    let route = route(for: place.profile)
    let layout = RemoteLayout(
      relative: place.relative, stagingName: ".nassync-none", root: route.root, metadataFolder: configuration.metadataFolder)
    let known = try await knownOfRun(place.localRun)
    let pool = route.pool
    let result: Result<RestoreReport, SyncFailure> = await withTaskCancellationHandler {
      do throws(SyncFailure) {
        let source = try await retrying(pauses) { () async throws(TransportError) in
          try await pool.withSession(width: 1) { (session) throws(TransportError) in
            try await RestoreSource.load(layout, known: known, session: session)
          }
        }
        return .success(try await bringBack(source, place, to: destination, route: route, pauses: pauses, progress: progress))
      } catch { return .failure(error) }
    } onCancel: {
      pool.interrupt()
    }
    return try result.get()
  }

  // MARK: - Where from

  private struct RestorePlace: Sendable {
    let profile: EquipmentProfile
    /// Below `remote_root`.
    let relative: RelativePath
    /// Where the run lay on this workstation, where the caller said so.
    let localRun: String?
  }

  private func restorePlace(_ run: String, equipment: String?) async throws(SyncFailure) -> RestorePlace {
    guard let colon = run.utf8.firstIndex(of: UInt8(ascii: ":")), Self.isEquipmentID(run[..<colon]) else {
      let (location, profile) = try await locate(run, equipment: equipment, mayBeGone: true)
      return RestorePlace(profile: profile, relative: location.relative, localRun: location.root)
    }
    let id = String(run[..<colon])
    guard let profile = configuration.equipment(id: id) else {
      throw RunLocationError.unknownEquipment(id, known: configuration.equipment.map(\.id)).failure
    }
    guard equipment == nil || equipment == id else {
      throw SyncFailure(
        .misconfigured, "\(displayText(run)) names \(id) and --equipment \(displayText(equipment ?? ""))", hint: "Leave --equipment out.")
    }
    let root = route(for: profile).root
    var path = Array(run.utf8[run.utf8.index(after: colon)...])
    if path.first == UInt8(ascii: "/") {
      guard path.starts(with: root.root + [UInt8(ascii: "/")]) else {
        throw SyncFailure(
          .misconfigured, "\(displayText(of: path)) does not lie below the remote_root of \(id), \(root)",
          hint: "Give a folder below it; a path without a leading / is taken from there.")
      }
      path.removeFirst(root.root.count + 1)
    }
    while path.last == UInt8(ascii: "/") { path.removeLast() }
    do {
      return RestorePlace(profile: profile, relative: try RelativePath(bytes: path), localRun: nil)
    } catch {
      throw SyncFailure(
        .misconfigured, "\(displayText(run)) names no folder below the remote_root of \(id)",
        hint: "After the colon stands the run's path on the NAS, such as \(id):\(id)/Project/Runs/Run_2026-11-20.")
    }
  }

  /// `^[A-Z][A-Z0-9_]{0,31}$`
  private static func isEquipmentID(_ text: Substring) -> Bool {
    guard let first = text.utf8.first, (0x41...0x5a).contains(first), text.utf8.count <= 32 else { return false }
    return text.utf8.allSatisfy { (0x41...0x5a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
  }

  /// What the queue knows of the run, where there is a queue and it does.
  private func knownOfRun(_ localRun: String?) async throws(SyncFailure) -> RestoreSource.Known? {
    guard let localRun, let queue = try await queueIfPresent(), let job = try await queue.latestVerifiedJob(ofRun: localRun) else {
      return nil
    }
    var files: [RelativePath: ComponentRow] = [:]
    for row in try await queue.publishedComponents(ofRun: localRun) where row.entry.kind == .file { files[row.entry.path] = row }
    var others: [RelativePath: ComponentRow] = [:]
    for row in try await queue.publishedOthers(ofRun: localRun) { others[row.entry.path] = row }
    let latest = try await queue.latestJob(ofRun: localRun)
    return RestoreSource.Known(
      files: files, others: others, manifest: job.manifestDigest, receipt: job.receiptDigest,
      activeJob: latest?.state.isActive == true || latest?.state == .failed ? latest?.id : nil)
  }

  // MARK: - Bringing it back

  private func bringBack(
    _ source: RestoreSource, _ place: RestorePlace, to destination: String, route: RunnerEnvironment.Route, pauses: [Double],
    progress: @escaping @Sendable (RestoreProgress) -> Void
  ) async throws(SyncFailure) -> RestoreReport {
    let metadataFolder = configuration.metadataFolder
    let identity = RestoreFolder.Identity(manifestSHA256: source.manifestDigest, remotePath: source.layout.final.description)
    let target = RestoreTarget(path: destination, metadataFolder: metadataFolder, run: place.localRun)
    let present = try await readers.next().run { () throws(SyncFailure) in try target.survey(identity) }
    let tracker = RestoreTracker(items: source.items, tell: progress)
    try await compare(present, source, tracker, shown: displayText(destination))

    let folder = try await readers.next().run { () throws(SyncFailure) in
      let folder = try RestoreFolder(root: destination, metadataFolder: metadataFolder)
      try folder.mark(identity)
      for made in source.folders where present?[made.path] == nil { try folder.makeFolder(made.path) }
      return folder
    }
    let restorer = Restorer(source: source, folder: folder, route: route, readers: readers, tracker: tracker)
    try await retrying(pauses, progressed: { await tracker.downloaded }) { () async throws(TransportError) in try await restorer.pass() }

    let faults = (source.faults + (await tracker.faults)).sorted { $0.path < $1.path }
    let whole = faults.allSatisfy { $0.problem == .leadsOut }
    let root = try await readers.next().run { () throws(SyncFailure) -> String in
      for link in source.links where present?[link.path] == nil { try folder.makeLink(link.path, to: link.target, modified: link.modified) }
      for document in source.documents {
        let name = RestoreFolder.temporaryName(document.path, source.manifestDigest)
        try folder.write(document.content, as: name, modified: nil, mode: nil)
        // The run's own, newer record stays.
        if try !folder.place(name, as: document.path) { folder.discard(name) }
      }
      // Last: every file that was put into a folder has moved its time. Those that were there keep theirs.
      for made in source.folders.reversed() where present?[made.path] == nil || present?.isResumed == true {
        try folder.setFolder(made.path, modified: made.modified, mode: made.mode)
      }
      // What cannot be whole yet keeps its note, so that the same command goes on once the NAS is mended.
      if whole { try folder.finish(temporaries: source.items.map(\.temporary)) } else { try folder.syncAll() }
      return target.absolutePath
    }
    return RestoreReport(
      ok: faults.isEmpty, remotePath: source.layout.final.description, destination: root, equipmentID: place.profile.id,
      filesTotal: source.manifest.entries.count, filesRestored: await tracker.restored, filesKept: await tracker.kept,
      bytes: await tracker.bytesProven, bytesDownloaded: await tracker.downloaded, links: source.links.count,
      manifestSHA256: source.manifestDigest, anchor: source.anchor, evidence: source.manifest.entries.isEmpty ? nil : .readback,
      faults: faults, foreign: source.foreign.map(\.description))
  }

  /// Reads what is there already: all of it is equal, or nothing is touched.
  private func compare(
    _ present: RestoreTarget.Present?, _ source: RestoreSource, _ tracker: RestoreTracker, shown: String
  ) async throws(SyncFailure) {
    guard let present else { return }
    var differing: [RelativePath] = source.folders.map(\.path).filter { present[$0] != nil && present[$0] != .folder }
    for link in source.links where present[link.path] != nil && present[link.path] != .symlink(target: link.target) {
      differing.append(link.path)
    }
    var toRead: [RestoreSource.Item] = []
    for item in source.items {
      switch present[item.path] {
      case nil: break
      case .file?: toRead.append(item)
      default: differing.append(item.path)
      }
    }
    let readers = readers
    let folder = present.folder
    for start in stride(from: 0, to: toRead.count, by: 64) {
      let slice = Array(toRead[start..<min(start + 64, toRead.count)])
      if Task.isCancelled { throw Restorer.interrupted }
      do {
        try await withThrowingTaskGroup(of: (RestoreSource.Item, Bool).self) { group in
          for item in slice {
            group.addTask {
              (
                item,
                try await readers.next().run { () throws(SyncFailure) in try LocalDigest.compute(item.path, in: folder) } == item.digest
              )
            }
          }
          for try await (item, equal) in group { if equal { await tracker.kept(item) } else { differing.append(item.path) } }
        }
      } catch { throw TransportError.wrapping(error).failure }
    }
    guard !differing.isEmpty else { return }
    let sorted = differing.sorted()
    let named = sorted.prefix(5).map(\.description).joined(separator: ", ") + (sorted.count > 5 ? " and \(sorted.count - 5) more" : "")
    throw SyncFailure(
      .misconfigured, "\(shown) holds something else than the NAS does: \(named)",
      hint: "Nothing was overwritten. Move it away, or restore into another folder and compare.")
  }

  /// Does something on the NAS, and again after a pause where it stopped answering.
  private func retrying<Result: Sendable>(
    _ pauses: [Double], progressed: @Sendable () async -> UInt64 = { 0 }, _ body: @Sendable () async throws(TransportError) -> Result
  ) async throws(SyncFailure) -> Result {
    var failures = 0
    var before = await progressed()
    while true {
      do throws(TransportError) { return try await body() } catch {
        if Task.isCancelled || isClosed { throw Restorer.interrupted }
        let failure = error.failure
        let now = await progressed()
        failures = now > before ? 0 : failures
        before = now
        guard failure.isUnanswered, failures < pauses.count else { throw failure }
        let pause = UInt64(pauses[failures] * 1e9)
        failures += 1
        do { try await clock.sleep(untilMonotonic: clock.monotonicNanoseconds &+ pause) } catch { throw Restorer.interrupted }
      }
    }
  }
}
