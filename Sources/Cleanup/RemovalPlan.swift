import SyncModel
import Verification

/// What may be removed of one run, and nothing else: it cannot be made without a proof for each file.
package struct RemovalPlan: Sendable {
  /// One listed thing.
  package struct Item: Sendable {
    package let entry: RunEntry
    package let proof: VerifiedReceipt.Proof?
  }

  package let root: String
  package let metadataFolder: String
  package let retainMetadata: Bool
  package let jobID: String
  /// Files and links by their path's bytes; their place in this list names what is set aside, so it must be the same in every attempt.
  package let items: [Item]
  /// The listed folders, the deepest first. The metadata folder is none of them.
  package let folders: [RunEntry]
  /// Inodes that more than one listed file has: hard links.
  private let shared: Set<UInt64>
  /// Whether an earlier attempt of the same job may have set something aside and put it back.
  private let removalBegan: Bool

  /// - Parameters:
  ///   - listed: What was verified, with the digest of each file.
  ///   - proof: Earned at this moment.
  ///   - removalBegan: Whether this is not the first attempt.
  /// - Throws: `SyncFailure` of kind `protocol` where a file has no proof of exactly its digest: then nothing is removed at all.
  package init(
    root: String, metadataFolder: String, retainMetadata: Bool, jobID: String, listed: [(entry: RunEntry, digest: ContentDigest?)],
    proof: VerifiedReceipt, removalBegan: Bool = false
  ) throws(SyncFailure) {
    var items: [Item] = []
    var folders: [RunEntry] = []
    for (entry, digest) in listed {
      switch entry.kind {
      case .file:
        guard let digest, let proven = proof.proofs[entry.path], proven.digest == digest else {
          throw Self.refusal("\(entry.path) has no proof on the NAS")
        }
        items.append(Item(entry: entry, proof: proven))
      case .symlink: items.append(Item(entry: entry, proof: nil))
      case .folder: folders.append(entry)
      case .special(let what): throw Self.refusal("\(entry.path) is a \(what)")
      }
    }
    guard !items.isEmpty else { throw Self.refusal("there is no file that was proven") }
    self.root = root
    self.metadataFolder = metadataFolder
    self.retainMetadata = retainMetadata
    self.jobID = jobID
    self.removalBegan = removalBegan
    self.items = items.sorted { $0.entry.path < $1.entry.path }
    var inodes: Set<UInt64> = []
    shared = Set(items.filter { $0.proof != nil && !inodes.insert($0.entry.fingerprint.inode).inserted }.map(\.entry.fingerprint.inode))
    let metadata = Array(metadataFolder.utf8)
    // Longer paths first: what lies in a folder has a longer one.
    self.folders = folders.filter { $0.path.bytes != metadata }.sorted { ($0.path.bytes.count, $1.path) > ($1.path.bytes.count, $0.path) }
  }

  /// Whether this program itself may have moved the change time: by removing another name of the file, or by setting aside and putting back.
  func mayHaveMovedChangeTime(of entry: RunEntry) -> Bool {
    removalBegan || (entry.kind == .file && shared.contains(entry.fingerprint.inode))
  }

  /// Whether the metadata folder's rule keeps this.
  func isRetained(_ path: RelativePath) -> Bool { retainMetadata && isInMetadata(path) }

  func isInMetadata(_ path: RelativePath) -> Bool { path.segments.first?.elementsEqual(metadataFolder.utf8) ?? false }

  private static func refusal(_ why: String) -> SyncFailure {
    SyncFailure(
      .protocol, "nothing is removed: \(why)", hint: "`nassync verify` shows what the NAS holds. The local copy stays.", retry: false)
  }
}

/// What came of a removal.
package struct RemovalResult: Sendable {
  /// Something listed that stays, and why.
  package struct Kept: Hashable, Sendable {
    package let path: RelativePath
    package let reason: String
  }
  /// Paths of the files that were removed now.
  package var removedFiles: [RelativePath] = []
  package var removedLinks: [RelativePath] = []
  package var removedFolders: [RelativePath] = []
  /// Of those that were removed now, how many a process that died had set aside: they were gone from their place before.
  package var setAsideBefore = 0
  /// Listed and gone before anything was done.
  package var alreadyGone = 0
  /// Bytes of the removed files.
  package var bytes: UInt64 = 0
  package var kept: [Kept] = []
  /// Whether it was told to stop before its end.
  package var stopped = false
  package init() {}
}
