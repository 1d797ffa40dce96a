import Cleanup
import Configuration
import Digests
import Foundation
import Gate
import Glibc
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

/// Finds out where a run stands that the queue does not know: from its folder here, its manifest and receipt on the NAS, and what the NAS holds.
struct RunRecovery {
  /// What was found.
  enum Finding {
    /// No receipt of this program lies there.
    /// - `status`: What the run's own record, or its receipt, says; nil for a run that was never enqueued.
    case unpublished(status: String?)
    /// Another workstation's.
    case foreign
    /// Proven just now.
    /// - `hasMore`: Files lie here that are not published, or differ from what is.
    case published(FoundRun, hasMore: Bool)
    /// The NAS's copy is not what its manifest says; with what is to be remembered where nothing is here to send again.
    case notWhole(FoundRun?)
  }

  let environment: RunnerEnvironment
  let route: RunnerEnvironment.Route
  let location: RunLocation
  /// The run's tree here; nil where its folder is gone.
  let local: RunSnapshot?

  private var layout: RemoteLayout {
    RemoteLayout(
      relative: location.relative, stagingName: ".nassync-none", root: route.root, metadataFolder: environment.metadataFolder)
  }

  func look(isNamed: Bool) async throws(SyncFailure) -> Finding {
    let runner = JobRunner(environment: environment, route: route)
    let layout = layout
    do throws(StepFailure) {
      guard let receiptText = try await runner.readSmall(layout.final.appending(layout.receipt), limit: RemoteDocument.receiptLimit),
        let receipt = Receipt.decode(receiptText)
      else {
        let status = try await ownStatus()
        if status == SyncStatus.synced.rawValue || status == SyncStatus.cleaned.rawValue, let why = try await runner.emptyRoot(layout.final)
        {
          throw StepFailure(SyncFailure(.local, "its record says \(status ?? ""), and \(why)", hint: "Then recover again.", retry: false))
        }
        return .unpublished(status: status)
      }
      guard receipt.equipmentID == location.equipment, isNamed || local != nil || receipt.sender.host == environment.sender.host else {
        return .foreign
      }
      return try await published(receipt, SHA256Hasher.digest(of: receiptText), runner)
    } catch { throw error.failure }
  }

  /// What the run's record says of it, where it has been in a queue.
  private func ownStatus() async throws(StepFailure) -> String? {
    guard let local else { return nil }
    if let record = local.record {
      do throws(RecordError) {
        if let status = try RunRecord(parsing: record).syncStatus { return status }
      } catch { return "nothing that can be read" }
    }
    let hasReceipt = try await document("receipt.json") != nil
    return hasReceipt ? "nothing, and a receipt lies here" : nil
  }

  /// A document in the run's metadata folder here.
  private func document(_ name: String) async throws(StepFailure) -> [UInt8]? {
    guard let local else { return nil }
    do throws(SyncFailure) {
      return try await environment.readers.next().run { () throws(SyncFailure) in
        let path: RelativePath
        do { path = try RelativePath("\(local.metadataFolder)/\(name)") } catch { return nil }
        do throws(SyncFailure) {
          return try LocalFileReader(in: RunFolder(root: local.root), path: path).read(at: 0, upTo: 1 << 26)
        } catch {
          if error.kind == .localVanished { return nil }
          throw error
        }
      }
    } catch { throw StepFailure(error) }
  }

  // MARK: - Published

  private func published(_ receipt: Receipt, _ receiptDigest: ContentDigest?, _ runner: JobRunner) async throws(StepFailure) -> Finding {
    let layout = layout
    let source: RestoreSource
    do {
      source = try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        try await RestoreSource.load(layout, known: nil, session: session)
      }
    } catch {
      // Its manifest proves nothing.
      guard error.failure.kind == .remoteCorrupted else { throw StepFailure(error) }
      return .notWhole(nil)
    }
    var files: [RelativePath: ContentDigest] = [:]
    for entry in source.manifest.entries { files[entry.path] = entry.digest }
    let subject = NASSyncClient.VerificationSubject(job: nil, files: files, bytes: 0, others: [])
    let compared = try await runner.compareWithNAS(subject, relative: location.relative, toleratesExtras: true)
    var here = try await compareHere(files)
    // A clean-up may leave the metadata folder.
    let data = files.keys.filter { !$0.isWithin(layout.metadata) }
    let isCleaned = (data.isEmpty ? Array(files.keys) : data).allSatisfy { here.present[$0] == nil && !here.differing.contains($0) }
    if isCleaned, local == nil { try await requireParentHere() }
    compareLinks(source, &here)
    let proof = compared.proof.map { proof in
      FoundRun.Proof(evidence: proof.proofs.mapValues(\.evidence), weakest: proof.evidence)
    }
    if proof == nil, !isCleaned { return .notWhole(nil) }
    let removed = try await removedByUs(receipt)
    let missing = Set(files.keys).subtracting(here.present.keys)
    let detail = sentence(receipt, compared, files: files.count, missing: missing, removed: removed, isCleaned: isCleaned)
    let run = FoundRun(
      draft: try await draft(receipt), generation: receipt.generation, isCleaned: isCleaned,
      removalBegan: !missing.isEmpty && missing.isSubset(of: removed), enqueuedAt: receipt.enqueuedAt.timeIntervalSince1970,
      publishedAt: receipt.verifiedAt.timeIntervalSince1970, manifestDigest: source.manifestDigest, receiptDigest: receiptDigest,
      components: components(source, here), proof: proof, detail: detail)
    return proof == nil ? .notWhole(run) : .published(run, hasMore: here.hasMore)
  }

  private func draft(_ receipt: Receipt) async throws(StepFailure) -> JobDraft {
    // A copy of a run's folder on the NAS would bring its id twice.
    let isTaken: Bool
    do { isTaken = try await environment.queue.hasJob(id: receipt.jobID) } catch { throw StepFailure(error) }
    return JobDraft(
      id: isTaken || UUID(uuidString: receipt.jobID) == nil ? UUID().uuidString.lowercased() : receipt.jobID, runPath: location.root,
      equipmentID: location.equipment, relative: location.relative, destination: route.pool.driver.address,
      remotePath: route.root.appending(location.relative).description, priority: 0)
  }

  private func sentence(
    _ receipt: Receipt, _ compared: NASComparison, files: Int, missing: Set<RelativePath>, removed: Set<RelativePath>, isCleaned: Bool
  ) -> String {
    let when = receipt.verifiedAt.formatted(.iso8601)
    let published = "published \(when) as generation \(receipt.generation) by job \(receipt.jobID)"
    if let first = compared.mismatches.first {
      return "\(published); the NAS does not hold it as it was: \(first.path) (\(first.detail))"
        + (compared.mismatches.count > 1 ? " and \(compared.mismatches.count - 1) more" : "")
    }
    let proven = "\(published); \(files) files proven on the NAS again (evidence: \(compared.evidence?.rawValue ?? "none"))"
    if isCleaned { return "\(proven); nothing of it is here" }
    if missing.isEmpty { return proven }
    let whose = missing.isSubset(of: removed) ? "removed by a clean-up that had begun" : "gone from here, and no deletion.json says why"
    return "\(proven); \(missing.count) of them are \(whose)"
  }

  // MARK: - Here

  private struct Here {
    /// What is here with the published content.
    var present: [RelativePath: RunEntry] = [:]
    /// What is here with another content.
    var differing: Set<RelativePath> = []
    var others: [RelativePath: RunEntry] = [:]
    var hasMore = false
  }

  /// A disk that is not there looks like a run that was removed.
  private func requireParentHere() async throws(StepFailure) {
    let parent = (location.root as NSString).deletingLastPathComponent
    do throws(SyncFailure) {
      try await environment.readers.next().run { () throws(SyncFailure) in
        guard access(parent, F_OK) != 0 else { return }
        throw SyncFailure(
          .local, "\(displayText(location.root)) is not here, and neither is the folder above it",
          hint: "Is its disk mounted? Mount it, or make the folder if the run was removed, then recover again.", retry: false)
      }
    } catch { throw StepFailure(error) }
  }

  /// Links and folders are in no manifest: those here that the NAS does not have, or has otherwise, were not published.
  private func compareLinks(_ source: RestoreSource, _ here: inout Here) {
    let links = Dictionary(source.links.map { ($0.path, $0.target) }) { $1 }
    let folders = Set(source.folders.map(\.path))
    for (path, entry) in here.others where path != layout.metadata {
      switch entry.kind {
      case .symlink(let target) where links[path] == target: continue
      case .folder where folders.contains(path): continue
      default:
        here.others[path] = nil
        here.hasMore = true
      }
    }
  }

  /// Every file here against its published digest.
  private func compareHere(_ files: [RelativePath: ContentDigest]) async throws(StepFailure) -> Here {
    var here = Here()
    guard let local else { return here }
    do {
      let folder = try await environment.readers.next().run { () throws(SyncFailure) in try RunFolder(root: local.root) }
      for entry in local.entries {
        guard entry.kind == .file else {
          here.others[entry.path] = entry
          continue
        }
        guard let digest = files[entry.path] else {
          here.hasMore = true
          continue
        }
        if try await FileStream.digest(of: entry, in: folder, on: environment.readers.next()) == digest {
          here.present[entry.path] = entry
        } else {
          here.differing.insert(entry.path)
          here.hasMore = true
        }
      }
    } catch { throw StepFailure(error) }
    return here
  }

  /// What a clean-up's certificate here says that it was to remove.
  private func removedByUs(_ receipt: Receipt) async throws(StepFailure) -> Set<RelativePath> {
    guard let text = try await document("deletion.json") else { return [] }
    let decoder = JSONDecoder()
    decoder.dateDecodingStrategy = .iso8601
    let certificate: DeletionCertificate
    do { certificate = try decoder.decode(DeletionCertificate.self, from: Data(text)) } catch { return [] }
    guard certificate.manifestSHA256 == receipt.manifestSHA256 else { return [] }
    return Set(certificate.files.map(\.path) + certificate.links)
  }

  /// Files as they are here; what is not here as the NAS lists it, with the identity of no file.
  private func components(_ source: RestoreSource, _ here: Here) -> [(entry: RunEntry, digest: ContentDigest?)] {
    func remote(_ path: RelativePath, _ kind: RunEntry.Kind, size: UInt64 = 0, modified: Int64?, mode: UInt32?) -> RunEntry {
      RunEntry(
        path: path, kind: kind,
        fingerprint: FileFingerprint(device: 0, inode: 0, size: size, modified: modified ?? 0, changed: 0, mode: mode ?? 0))
    }
    var found: [(entry: RunEntry, digest: ContentDigest?)] = source.items.map { item in
      (here.present[item.path] ?? remote(item.path, .file, size: item.size, modified: item.modified, mode: item.mode), item.digest)
    }
    // What the manifest names and the NAS does not hold is remembered, too: an audit goes on naming it.
    let listed = Set(source.items.map(\.path))
    for entry in source.manifest.entries where !listed.contains(entry.path) {
      found.append((remote(entry.path, .file, modified: nil, mode: nil), entry.digest))
    }
    for folder in source.folders {
      found.append((here.others[folder.path] ?? remote(folder.path, .folder, modified: folder.modified, mode: folder.mode), nil))
    }
    for link in source.links {
      found.append((here.others[link.path] ?? remote(link.path, .symlink(target: link.target), modified: link.modified, mode: nil), nil))
    }
    return found
  }
}
