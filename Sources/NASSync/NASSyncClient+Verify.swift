import Digests
import Foundation
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

extension NASSyncClient {
  /// The integrity check of the admin: the manifest against the local files and against the NAS, file by file, both ways. It never changes
  /// where the run stands.
  public func forceVerify(_ path: String) async throws(SyncFailure) -> IntegrityReport {
    try await verify(path)
  }

  /// As `forceVerify`.
  /// - Parameter localOnly: The NAS is not asked.
  /// - Throws: `SyncFailure`: `misconfigured` for a run that has no manifest yet; what kept the NAS from answering.
  public func verify(_ path: String, equipment: String? = nil, localOnly: Bool = false) async throws(SyncFailure) -> IntegrityReport {
    let (location, profile) = try await locate(path, equipment: equipment, mayBeGone: true)
    let queue = try await queue()
    let subject = try await subject(of: location, queue: queue)
    var mismatches: [IntegrityReport.Mismatch] = []
    var evidence: Evidence?
    if subject.job?.state != .cleaned { mismatches += try await compareLocally(subject, location, profile) }
    let route = route(for: profile)
    if !localOnly {
      let runner = JobRunner(environment: try await environment(), route: route)
      do throws(StepFailure) {
        let found = try await runner.compareWithNAS(subject, relative: location.relative)
        mismatches += found.mismatches
        evidence = found.evidence
      } catch { throw error.failure }
    }
    let report = IntegrityReport(
      runPath: location.root, remotePath: localOnly ? nil : route.root.appending(location.relative).description, ok: mismatches.isEmpty,
      filesChecked: subject.files.count, bytesChecked: subject.bytes, evidence: evidence,
      checkedAt: Date(timeIntervalSince1970: clock.wallSeconds),
      mismatches: mismatches.sorted { ($0.path, $0.place.rawValue) < ($1.path, $1.place.rawValue) })
    if let job = subject.job {
      let first = mismatches.first.map { ", first \($0.path) (\($0.place.rawValue): \($0.detail))" } ?? ""
      try await queue.note(
        job, event: Self.event(of: mismatches),
        detail: "\(subject.files.count) files\(localOnly ? ", local side only" : ""), \(mismatches.count) mismatches\(first)")
    }
    return report
  }

  private static func event(of mismatches: [IntegrityReport.Mismatch]) -> String {
    if mismatches.isEmpty { return "verified_on_demand" }
    return mismatches.contains { $0.place == .nas } ? "nas_mismatch_on_demand" : "local_mismatch_on_demand"
  }

  /// The runs that have been verified once: what `verify --all` checks.
  public func verifiableRuns() async throws(SyncFailure) -> [String] {
    try await queue().latestJobs().filter { $0.verifiedAt != nil || $0.generation > 1 }.map(\.runPath)
  }

  /// What a run is compared with.
  struct VerificationSubject: Sendable {
    /// The newest verified job; nil where only the manifest in the run tells.
    let job: JobRow?
    let files: [RelativePath: ContentDigest]
    let bytes: UInt64
    let others: [ExpectedEntry]
    /// What a clean-up removed here and a newer generation does not hold: nobody expects it on this workstation.
    var removedLocally: Set<RelativePath> = []

    var expected: [ExpectedEntry] { files.map { ExpectedEntry(path: $0.key, content: .file($0.value)) } + others }
  }

  func subject(of location: RunLocation, queue: SyncQueue) async throws(SyncFailure) -> VerificationSubject {
    if let job = try await queue.latestVerifiedJob(ofRun: location.root) {
      // A digest that changed in the queue would be told as a file that changed on the NAS.
      try await queue.requireWhole(run: location.root)
      var files: [RelativePath: ContentDigest] = [:]
      var bytes: UInt64 = 0
      for row in try await queue.publishedComponents(ofRun: location.root) {
        guard let digest = row.localDigest, row.entry.kind == .file else { continue }
        files[row.entry.path] = digest
        bytes &+= row.entry.fingerprint.size
      }
      var others: [ExpectedEntry] = []
      for row in try await queue.publishedOthers(ofRun: location.root) {
        switch row.entry.kind {
        case .folder: others.append(ExpectedEntry(path: row.entry.path, content: .folder))
        case .symlink(let target): others.append(ExpectedEntry(path: row.entry.path, content: .symlink(target: target)))
        case .file, .special: break
        }
      }
      let removed = try await queue.pathsRemovedLocally(ofRun: location.root)
      return VerificationSubject(
        job: job, files: files, bytes: bytes, others: others,
        removedLocally: removed.subtracting(try await queue.components(of: job).map(\.entry.path)))
    }
    guard let manifest = try await localManifest(location) else {
      throw SyncFailure(
        .misconfigured, "\(displayText(location.root)) has not been verified yet, so there is no manifest to compare with",
        hint: "`nassync enqueue` and `nassync drain` bring it to the NAS and prove it.")
    }
    return VerificationSubject(
      job: nil, files: Dictionary(manifest.entries.map { ($0.path, $0.digest) }) { $1 }, bytes: 0, others: [])
  }

  /// The manifest in the run's own metadata folder: what is left when the queue file is lost.
  private func localManifest(_ location: RunLocation) async throws(SyncFailure) -> RunManifest? {
    let metadataFolder = configuration.metadataFolder
    return try await readers.next().run { () throws(SyncFailure) -> RunManifest? in
      let folder = try RunFolder(root: location.root)
      let path: RelativePath
      do { path = try RelativePath("\(metadataFolder)/checksums.sha256") } catch { return nil }
      let reader: LocalFileReader
      do throws(SyncFailure) { reader = try LocalFileReader(in: folder, path: path) } catch {
        if error.kind == .localVanished { return nil }
        throw error
      }
      var text: [UInt8] = []
      while text.count < 1 << 30 {
        let chunk = try reader.read(at: UInt64(text.count), upTo: 1 << 20)
        if chunk.isEmpty { break }
        text += chunk
      }
      do { return try RunManifest(parsing: text) } catch {
        throw SyncFailure(
          .misconfigured, "\(displayText(location.root))/\(metadataFolder)/checksums.sha256 is no manifest: \(error)",
          hint: "Restore the file, or enqueue the run again: an equal copy on the NAS is adopted and a new manifest is written.")
      }
    }
  }

  private func compareLocally(
    _ subject: VerificationSubject, _ location: RunLocation, _ profile: EquipmentProfile
  ) async throws(SyncFailure) -> [IntegrityReport.Mismatch] {
    let snapshot = try await scan(location, profile)
    let folder = try await readers.next().run { () throws(SyncFailure) in try RunFolder(root: location.root) }
    var mismatches: [IntegrityReport.Mismatch] = []
    var seen: Set<RelativePath> = []
    func add(_ path: RelativePath, _ problem: IntegrityReport.Mismatch.Problem, _ detail: String) {
      mismatches.append(IntegrityReport.Mismatch(path: path.description, place: .local, problem: problem, detail: detail))
    }
    var others: [RelativePath: ExpectedEntry.Content] = [:]
    for other in subject.others { others[other.path] = other.content }
    for entry in snapshot.entries {
      seen.insert(entry.path)
      switch (entry.kind, others[entry.path]) {
      case (.folder, _): continue
      case (.symlink(let target), .symlink(let expected)?) where target == expected: continue
      case (_, .symlink?): add(entry.path, .otherKind, "no link any more, or one that points elsewhere")
      case (_, .folder?): add(entry.path, .otherKind, "no folder any more")
      default: break
      }
      if others[entry.path] != nil { continue }
      guard let expected = subject.files[entry.path] else {
        if entry.kind == .file { add(entry.path, .extra, "here, but not in the manifest: it has never been sent") }
        continue
      }
      guard entry.kind == .file else {
        add(entry.path, .otherKind, "no file any more")
        continue
      }
      do throws(SyncFailure) {
        let found = try await FileStream.digest(of: entry, in: folder, on: readers.next())
        if found != expected {
          add(entry.path, .differs, "differs: expected \(expected.hex.prefix(16))…, this workstation holds \(found.hex.prefix(16))…")
        }
      } catch { add(entry.path, .unreadable, error.message) }
    }
    for path in Array(subject.files.keys) + Array(others.keys) where !seen.contains(path) && !subject.removedLocally.contains(path) {
      add(path, .missing, "missing on this workstation")
    }
    return mismatches
  }
}

/// What a look at a published run found.
struct NASComparison: Sendable {
  /// All differences, of the run's files and of what this program wrote beside them.
  let mismatches: [IntegrityReport.Mismatch]
  let evidence: Evidence?
  /// Of every file; nil where anything differs, the manifest, receipt and record among it.
  let proof: VerifiedReceipt?
  /// Files there that are none of the run's, where they are no mismatch.
  let extras: [RelativePath]
  /// What lies there as manifest and receipt, where they are the published ones.
  var papers: Papers?

  struct Papers: Sendable {
    let manifest: [UInt8]
    let receipt: [UInt8]
  }
}

extension JobRunner {
  /// Compares the published run with what it must be, the manifest and receipt among it.
  /// - Parameter toleratesExtras: Files that somebody else put there since are reported beside the mismatches and not as some.
  func compareWithNAS(
    _ subject: NASSyncClient.VerificationSubject, relative: RelativePath, toleratesExtras: Bool = false
  ) async throws(StepFailure) -> NASComparison {
    let layout = RemoteLayout(
      relative: relative, stagingName: ".nassync-none", root: route.root, metadataFolder: environment.metadataFolder)
    let tree: RemoteTree?
    do {
      tree = try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        try await RemoteTree.walk(layout.final, session: session, limit: Self.treeLimit(subject.files.count + subject.others.count))
      }
    } catch { throw StepFailure(error) }
    let expected = subject.expected
    let known = Set(expected.map(\.path))
    let receipt = try await document(layout.receipt, layout: layout, tree: tree, subject).content
    // What the receipt of this very publication names as foreign was there before us.
    let trusted = receipt.flatMap { SHA256Hasher.digest(of: $0) } == subject.job?.receiptDigest || subject.job == nil
    let foreign = Set(trusted ? receipt.flatMap(Receipt.decode)?.foreign ?? [] : [])
    let extras = tree.map { extraFiles(in: $0, known: known, layout: layout) }?.filter { !foreign.contains($0.description) } ?? []
    let outcome = try await withVerifier { (verifier) throws(TransportError) in
      try await verifier.verify(
        expected, absent: { layout.final.appending($0) }, at: { path in tree?.entries[path].map { (layout.final.appending(path), $0) } },
        extras: toleratesExtras ? [] : extras)
    }
    let (documents, papers) = try await compareDocuments(subject, layout: layout, tree: tree)
    let tolerated = toleratesExtras ? extras : []
    switch outcome {
    case .proven(let proof):
      return NASComparison(
        mismatches: documents, evidence: proof.evidence, proof: documents.isEmpty ? proof : nil, extras: tolerated,
        papers: documents.isEmpty ? papers : nil)
    case .differs(let found):
      return NASComparison(
        mismatches: found.map(IntegrityReport.Mismatch.init) + documents, evidence: try await usualEvidence(), proof: nil, extras: tolerated
      )
    }
  }

  /// How this destination's digests are got where a report has no proof to take it from.
  private func usualEvidence() async throws(StepFailure) -> Evidence {
    guard environment.verifyMethod != .readback else { return .readback }
    do {
      let evidence = try await route.pool.hasher()?.evidence ?? .readback
      return evidence == .store ? .readback : evidence
    } catch { throw StepFailure(error) }
  }

  private func compareDocuments(
    _ subject: NASSyncClient.VerificationSubject, layout: RemoteLayout, tree: RemoteTree?
  ) async throws(StepFailure) -> ([IntegrityReport.Mismatch], NASComparison.Papers?) {
    var mismatches: [IntegrityReport.Mismatch] = []
    func damaged(_ path: RelativePath, _ detail: String) {
      mismatches.append(IntegrityReport.Mismatch(path: path.description, place: .nas, problem: .damagedManifest, detail: detail))
    }
    func compare(_ path: RelativePath, _ document: RemoteDocument, with digest: ContentDigest?) {
      switch document {
      case .missing:
        mismatches.append(IntegrityReport.Mismatch(path: path.description, place: .nas, problem: .missing, detail: "missing on the NAS"))
      case .tooLong: damaged(path, "the NAS's copy is longer than it can be")
      case .whole(let content):
        guard let digest, SHA256Hasher.digest(of: content) != digest else { return }
        damaged(path, "the NAS's copy is not the one that was published")
      }
    }
    let manifest = try await document(layout.manifest, layout: layout, tree: tree, subject)
    compare(layout.manifest, manifest, with: subject.job?.manifestDigest)
    if subject.job == nil, let text = manifest.content {
      let same: Bool
      do { same = Dictionary(try RunManifest(parsing: text).entries.map { ($0.path, $0.digest) }) { $1 } == subject.files } catch {
        same = false
      }
      if !same { compare(layout.manifest, manifest, with: ContentDigest(bytes: [UInt8](repeating: 0, count: 32))) }
    }
    let receipt = try await document(layout.receipt, layout: layout, tree: tree, subject)
    compare(layout.receipt, receipt, with: subject.job?.receiptDigest)
    if let text = receipt.content, let record = Receipt.decode(text)?.recordSHA256 {
      compare(layout.record, try await document(layout.record, layout: layout, tree: tree, subject), with: record)
    }
    guard let first = manifest.content, let second = receipt.content else { return (mismatches, nil) }
    return (mismatches, NASComparison.Papers(manifest: first, receipt: second))
  }

  /// What this program wrote beside a run.
  private func document(
    _ path: RelativePath, layout: RemoteLayout, tree: RemoteTree?, _ subject: NASSyncClient.VerificationSubject
  ) async throws(StepFailure) -> RemoteDocument {
    guard let tree, tree.entries[path]?.kind == .file else { return .missing }
    // A manifest names what is missing there, too.
    let limit = RemoteDocument.limit(tree.entries.keys, subject.files.keys)
    do {
      return try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        try await RemoteDocument.read(layout.final.appending(path), limit: limit, session: session)
      }
    } catch { throw StepFailure(error) }
  }
}
