import Digests
import Intake
import JobQueue
import SyncModel
import Verification

extension JobRunner {
  /// Files that an earlier generation published and that this job does not hold: the manifest goes on to cover them.
  ///
  /// What the queue knows of them counts. A manifest on the NAS is believed where it is the one that was published, or where this
  /// workstation never published the run there: its files are hashed before the new manifest names them in any case.
  /// - Throws: `remote_corrupted` where the manifest there is another one, or where the NAS lost a file of which there is no other copy.
  func carriedOver(
    _ job: JobRow, layout: RemoteLayout, components: [ComponentRow], final: RemoteTree?
  ) async throws(StepFailure) -> [RunManifest.Entry] {
    let known = try await published(job)
    let there = final?.entries[layout.manifest]?.kind == .file
    let limit = RemoteDocument.limit(final?.entries.map(\.key) ?? [], known?.files.map(\.key) ?? [])
    let text = there ? try await readSmall(layout.final.appending(layout.manifest), limit: limit) : nil
    var entries: [RelativePath: ContentDigest] = [:]
    if let text, try await isTrusted(text, job, known: known, components: components, layout: layout) {
      for entry in try Self.parse(text, layout).entries { entries[entry.path] = entry.digest }
    } else if let known, let text = try await manifestKeptHere(job, digest: known.manifest) {
      for entry in try Self.parse(text, layout).entries { entries[entry.path] = entry.digest }
    }
    for (path, digest) in known?.files ?? [:] { entries[path] = digest }
    for row in components { entries[row.entry.path] = nil }
    let lost = entries.keys.filter { final?.entries[$0] == nil }.sorted()
    guard lost.isEmpty else {
      let shown = lost.prefix(5).map(\.description).joined(separator: ", ") + (lost.count > 5 ? " and \(lost.count - 5) more" : "")
      throw StepFailure(
        SyncFailure(
          .remoteCorrupted, "\(layout.final) on the NAS lost files that were published and are not here any more: \(shown)",
          hint: "Bring them back on the NAS from its snapshots or backups, or put them back here, then `nassync retry`."))
    }
    return entries.map { RunManifest.Entry(path: $0.key, digest: $0.value) }
  }

  /// What this workstation published at this place.
  private struct Published: Sendable {
    let files: [RelativePath: ContentDigest]
    let manifest: ContentDigest?
  }

  private func published(_ job: JobRow) async throws(StepFailure) -> Published? {
    try await queued { () async throws(SyncFailure) -> Published? in
      guard let latest = try await environment.queue.latestVerifiedJob(ofRun: job.runPath), latest.destination == job.destination,
        latest.remotePath == job.remotePath
      else { return nil }
      var files: [RelativePath: ContentDigest] = [:]
      for row in try await environment.queue.publishedComponents(ofRun: job.runPath) where row.entry.kind == .file {
        files[row.entry.path] = row.localDigest
      }
      return Published(files: files, manifest: latest.manifestDigest)
    }
  }

  /// - Throws: `remote_corrupted` where the manifest is neither the published one nor this job's own, unless the job is there to repair that.
  private func isTrusted(
    _ text: [UInt8], _ job: JobRow, known: Published?, components: [ComponentRow], layout: RemoteLayout
  ) async throws(StepFailure) -> Bool {
    guard let known, let published = known.manifest else { return true }
    guard let found = SHA256Hasher.digest(of: text) else { throw StepFailure(Self.noSHA256) }
    if found == published { return true }
    // An attempt of this very job may have got as far as its manifest and not learned of it.
    let receiptText = try await readSmall(layout.final.appending(layout.receipt), limit: RemoteDocument.receiptLimit)
    if let receipt = receiptText.flatMap(Receipt.decode), receipt.jobID == job.id, receipt.manifestSHA256 == found {
      var wanted = known.files
      for row in components { if let digest = row.localDigest { wanted[row.entry.path] = digest } }
      let listed = Dictionary(try Self.parse(text, layout).entries.map { ($0.path, $0.digest) }) { $1 }
      if wanted.allSatisfy({ listed[$0.key] == $0.value }) { return true }
    }
    if job.repairs { return false }
    throw StepFailure(
      SyncFailure(
        .remoteCorrupted,
        "\(layout.final.appending(layout.manifest)) on the NAS is not the manifest that was published there "
          + "(SHA-256 \(found.hex.prefix(16))…, published \(published.hex.prefix(16))…)",
        hint: "Find out who changed it. Move it away on the NAS, then `nassync retry`: it is written again from what is known here."))
  }

  /// The manifest beside the run's record, where it is the published one.
  private func manifestKeptHere(_ job: JobRow, digest: ContentDigest?) async throws(StepFailure) -> [UInt8]? {
    guard let digest else { return nil }
    let name = environment.metadataFolder + "/checksums.sha256"
    do {
      return try await environment.readers.next().run { () throws(SyncFailure) -> [UInt8]? in
        let path: RelativePath
        do { path = try RelativePath(name) } catch { return nil }
        let reader: LocalFileReader
        do throws(SyncFailure) { reader = try LocalFileReader(in: RunFolder(root: job.runPath), path: path) } catch { return nil }
        var text: [UInt8] = []
        while text.count < 1 << 30 {
          let chunk = try reader.read(at: UInt64(text.count), upTo: 1 << 20)
          if chunk.isEmpty { break }
          text += chunk
        }
        return SHA256Hasher.digest(of: text) == digest ? text : nil
      }
    } catch { throw StepFailure(error) }
  }

  private static func parse(_ text: [UInt8], _ layout: RemoteLayout) throws(StepFailure) -> RunManifest {
    do { return try RunManifest(parsing: text) } catch {
      throw StepFailure(
        SyncFailure(
          .remoteConflict, "\(layout.final.appending(layout.manifest)) on the NAS is no manifest: \(error)",
          hint: "Restore the file on the NAS, or move the run's folder there away, then `nassync retry`."))
    }
  }
}
