import Digests
import Intake
import JobQueue
import SyncModel
import Transport
import Verification

/// What lies on the NAS of a run, and what is known of it: all that a restore needs before it touches the local disk.
struct RestoreSource: Sendable {
  /// One file to bring back.
  struct Item: Sendable {
    let path: RelativePath
    let digest: ContentDigest
    /// As the NAS lists it.
    let size: UInt64
    /// Nanoseconds since 1970.
    let modified: Int64?
    /// Permission bits, where the queue knows them.
    let mode: UInt32?
    var temporary: String { RestoreFolder.temporaryName(path, digest) }
  }

  /// What the queue knows of a run that it published.
  struct Known: Sendable {
    let files: [RelativePath: ComponentRow]
    let others: [RelativePath: ComponentRow]
    let manifest: ContentDigest?
    let receipt: ContentDigest?
    /// A job that may have published and not learned of it.
    let activeJob: String?
  }

  let layout: RemoteLayout
  let manifest: RunManifest
  let manifestDigest: ContentDigest
  let anchor: RestoreReport.Anchor
  let items: [Item]
  /// With their modification times in nanoseconds; parents come first.
  let folders: [(path: RelativePath, modified: Int64?, mode: UInt32?)]
  let links: [(path: RelativePath, target: [UInt8], modified: Int64?)]
  /// Manifest, receipt and record, proven, by their names in the metadata folder.
  let documents: [(path: RelativePath, content: [UInt8])]
  let faults: [RestoreReport.Fault]
  let foreign: [RelativePath]

  /// Asks the NAS.
  /// - Throws: `TransportError`; `misconfigured` where no run lies there, `remote_corrupted` where its manifest proves nothing.
  static func load(_ layout: RemoteLayout, known: Known?, session: any TransportSession) async throws(TransportError) -> RestoreSource {
    guard let tree = try await RemoteTree.walk(layout.final, session: session) else {
      throw failure(
        .misconfigured, "there is no run at \(layout.final) on the NAS",
        hint: "Check the path, and whether the run was ever sent: `nassync status` shows where a run lies.")
    }
    let limit = RemoteDocument.limit(tree.entries.keys)
    func document(_ path: RelativePath) async throws(TransportError) -> [UInt8]? {
      guard tree.entries[path]?.kind == .file else { return nil }
      return try await RunPublisher.readSmall(layout.final.appending(path), limit: limit, session: session)
    }
    guard let text = try await document(layout.manifest) else {
      throw failure(
        .remoteCorrupted, "\(layout.final) on the NAS has no manifest (\(layout.manifest))",
        hint: "Without it nothing there can be proven. Bring the file back from the NAS's snapshots, or copy the run by hand.")
    }
    guard let digest = SHA256Hasher.digest(of: text) else { throw .failure(JobRunner.noSHA256, sessionLost: false) }
    let receipt = try await document(layout.receipt)
    let decoded = receipt.flatMap(Receipt.decode)
    let anchor = try anchor(of: digest, receipt: decoded, known: known, layout: layout)
    let manifest: RunManifest
    do { manifest = try RunManifest(parsing: text) } catch {
      throw failure(
        .remoteCorrupted, "\(layout.final.appending(layout.manifest)) on the NAS is no manifest: \(error)",
        hint: "Bring the file back from the NAS's snapshots.")
    }
    var sorter = Sorter(layout: layout, tree: tree, known: known)
    sorter.sort(manifest)
    try await sorter.addLinks(session)
    var documents = [(layout.manifest, text)]
    if let receipt {
      if known?.receipt == nil || anchor != .queue || SHA256Hasher.digest(of: receipt) == known?.receipt {
        documents.append((layout.receipt, receipt))
      } else {
        sorter.add(layout.receipt, .differs, "it is not the receipt that was published")
      }
    }
    if let record = try await document(layout.record) {
      if decoded == nil || SHA256Hasher.digest(of: record) == decoded?.recordSHA256 {
        documents.append((layout.record, record))
      } else {
        sorter.add(layout.record, .differs, "it is not the record that the receipt speaks of")
      }
    } else if decoded?.recordSHA256 != nil {
      sorter.add(layout.record, .missing, "missing on the NAS")
    }
    return RestoreSource(
      layout: layout, manifest: manifest, manifestDigest: digest, anchor: anchor, items: sorter.items, folders: sorter.folders,
      links: sorter.links, documents: documents, faults: sorter.faults, foreign: sorter.foreign)
  }

  /// What vouches for the manifest.
  private static func anchor(
    of digest: ContentDigest, receipt: Receipt?, known: Known?, layout: RemoteLayout
  ) throws(TransportError) -> RestoreReport.Anchor {
    if let published = known?.manifest {
      if published == digest { return .queue }
      guard let receipt, receipt.manifestSHA256 == digest, receipt.jobID == known?.activeJob else {
        throw failure(
          .remoteCorrupted,
          "\(layout.final.appending(layout.manifest)) on the NAS is not the manifest that this workstation published there "
            + "(SHA-256 \(digest.hex.prefix(16))…, published \(published.hex.prefix(16))…)",
          hint: "Find out who changed it. To take the NAS's word for it, give the run as EQUIPMENT:PATH.")
      }
      return .receipt
    }
    guard let receipt else { return .manifest }
    guard receipt.manifestSHA256 == digest else {
      throw failure(
        .remoteCorrupted, "\(layout.final.appending(layout.manifest)) on the NAS is not the manifest that the receipt beside it speaks of",
        hint: "One of the two was changed or damaged. Bring them back from the NAS's snapshots.")
    }
    return .receipt
  }

  private static func failure(_ kind: SyncFailure.Kind, _ message: String, hint: String) -> TransportError {
    .failure(SyncFailure(kind, message, hint: hint, retry: false), sessionLost: false)
  }

  /// Whether a link's target stays in the run: relative, climbing only at its beginning, and no higher than the run's root.
  static func staysInside(_ target: [UInt8], at path: RelativePath) -> Bool {
    guard !target.isEmpty, target.first != UInt8(ascii: "/"), !target.contains(0) else { return false }
    var depth = path.segments.count - 1
    var descended = false
    for segment in target.split(separator: UInt8(ascii: "/")) where !segment.elementsEqual([0x2e]) {
      guard segment.elementsEqual([0x2e, 0x2e]) else {
        descended = true
        continue
      }
      // After a name that may be a link, nobody knows where `..` leads.
      if descended || depth == 0 { return false }
      depth -= 1
    }
    return true
  }

  /// Sorts what the NAS lists into what is brought back and what is not.
  private struct Sorter {
    let layout: RemoteLayout
    let tree: RemoteTree
    let known: Known?
    private(set) var items: [Item] = []
    private(set) var folders: [(path: RelativePath, modified: Int64?, mode: UInt32?)] = []
    private(set) var links: [(path: RelativePath, target: [UInt8], modified: Int64?)] = []
    private(set) var faults: [RestoreReport.Fault] = []
    private(set) var foreign: [RelativePath] = []

    init(layout: RemoteLayout, tree: RemoteTree, known: Known?) {
      self.layout = layout
      self.tree = tree
      self.known = known
    }

    mutating func add(_ path: RelativePath, _ problem: RestoreReport.Fault.Problem, _ detail: String) {
      faults.append(RestoreReport.Fault(path: path.description, problem: problem, detail: detail))
    }

    /// What this program writes there itself: no component of a run can have such a name.
    private func isReserved(_ path: RelativePath) -> Bool {
      layout.isBookkeeping(path) || path.parent == layout.metadata && path.lastSegment.starts(with: RestoreFolder.temporaryPrefix)
    }

    mutating func sort(_ manifest: RunManifest) {
      let listed = Set(manifest.entries.map(\.path))
      for entry in manifest.entries {
        guard !isReserved(entry.path) else {
          add(entry.path, .name, "a manifest does not list it, and this one does: NASSync keeps the name for itself")
          continue
        }
        guard let found = tree.entries[entry.path] else {
          add(entry.path, .missing, "missing on the NAS")
          continue
        }
        guard found.kind == .file else {
          add(entry.path, .otherKind, "a \(found.kind.rawValue) on the NAS")
          continue
        }
        let row = known?.files[entry.path].flatMap { $0.localDigest == entry.digest ? $0 : nil }
        items.append(
          Item(
            path: entry.path, digest: entry.digest, size: found.size,
            modified: row?.entry.fingerprint.modified ?? found.modified.map(RestoreSource.nanoseconds), mode: row?.entry.fingerprint.mode))
      }
      for (path, entry) in tree.entries where !listed.contains(path) && !isReserved(path) {
        switch entry.kind {
        case .folder:
          let row = known?.others[path]
          let modified = row?.entry.fingerprint.modified ?? entry.modified.map(RestoreSource.nanoseconds)
          folders.append((path, modified, row?.entry.fingerprint.mode))
        case .file, .other: foreign.append(path)
        case .symlink: break
        }
      }
      for (path, row) in known?.others ?? [:] where tree.entries[path] == nil && path != layout.metadata {
        add(path, .missing, row.entry.kind == .folder ? "the folder is missing on the NAS" : "the link is missing on the NAS")
      }
      folders.sort { $0.path < $1.path }
      foreign.sort()
    }

    /// Links are in no manifest: those that the queue knows are compared with it; without a queue the NAS is believed as long as they stay inside.
    mutating func addLinks(_ session: any TransportSession) async throws(TransportError) {
      for (path, entry) in tree.entries.sorted(by: { $0.key < $1.key }) where entry.kind == .symlink && !isReserved(path) {
        if known?.files[path] != nil { continue }
        let target = try await session.symlinkTarget(of: layout.final.appending(path))
        if let known {
          let sent = known.others[path]?.entry
          switch sent?.kind {
          case .symlink(let expected)? where expected == target: links.append((path, target, sent?.fingerprint.modified))
          case .symlink?: add(path, .differs, "the link points elsewhere than the one that was sent")
          case .folder?: add(path, .otherKind, "a symlink on the NAS where a folder was sent")
          case .file?, .special?, nil: foreign.append(path)
          }
        } else if RestoreSource.staysInside(target, at: path) {
          links.append((path, target, entry.modified.map(RestoreSource.nanoseconds)))
        } else {
          add(path, .leadsOut, "a link to “\(displayText(of: target))”, which leads out of the run; it is not made")
        }
      }
      foreign.sort()
    }
  }

  /// Of whole seconds; what does not fit is as far as it goes.
  static func nanoseconds(_ seconds: Int64) -> Int64 {
    let (value, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? (seconds < 0 ? .min : .max) : value
  }
}
