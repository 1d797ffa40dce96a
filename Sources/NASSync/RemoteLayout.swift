import JobQueue
import SyncModel

/// Where a job's things lie on the NAS.
struct RemoteLayout: Sendable {
  /// The run as readers see it.
  let final: RemotePath
  /// The hidden sibling that everything is sent to and verified in; `final` itself where things go to their place at once.
  let staging: RemotePath
  /// Nothing can be renamed there: the run's files are sent to where readers look, under a claim, and the manifest, written last, says that
  /// the run is there.
  let inPlace: Bool
  /// What keeps others out of the run's place while it is being filled.
  let claim: RemotePath
  /// Name of the metadata folder in a run.
  let metadata: RelativePath
  let manifest: RelativePath
  let receipt: RelativePath
  let record: RelativePath

  init(job: JobRow, root: RemotePath, metadataFolder: String, inPlace: Bool = false) {
    self.init(relative: job.relative, stagingName: job.stagingName, root: root, metadataFolder: metadataFolder, inPlace: inPlace)
  }

  init(relative: RelativePath, stagingName: String, root: RemotePath, metadataFolder: String, inPlace: Bool = false) {
    final = root.appending(relative)
    metadata = Self.segment(metadataFolder)
    self.inPlace = inPlace
    let folder = final.parent ?? root
    staging = inPlace ? final : folder.appending(Self.segment(stagingName))
    claim = folder.appending(Self.claimName(relative.lastSegment))
    manifest = metadata.appending(Self.segment("checksums.sha256"))
    receipt = metadata.appending(Self.segment("receipt.json"))
    record = metadata.appending(Self.segment("creation.json"))
  }

  /// The hidden sibling that a repair moves to what it finds wrong. One that is there already is left as it is: the next number is taken.
  func replaced(byJob id: String, number: Int) -> RemotePath {
    let name = ".nassync-replaced-\(id)" + (number == 1 ? "" : "-\(number)")
    return (final.parent ?? final).appending(Self.segment(name))
  }

  /// What this program writes beside a run's own components.
  func isBookkeeping(_ path: RelativePath) -> Bool {
    guard path.parent == metadata, let name = String(validating: path.lastSegment, as: UTF8.self) else { return path == metadata }
    return RunSnapshot.bookkeepingNames.contains(name)
  }

  private static func claimName(_ leaf: some Sequence<UInt8>) -> RelativePath {
    do { return try RelativePath(bytes: Array(".nassync-claim-".utf8) + leaf) } catch { return segment(".nassync-claim") }
  }

  /// A name that the configuration check has already found to be one segment.
  private static func segment(_ name: String) -> RelativePath {
    do { return try RelativePath(name) } catch { return .defaultMetadataFolder }
  }
}

extension RunSnapshot {
  /// This snapshot's place with another list of entries.
  func replacingEntries(_ entries: [RunEntry]) -> RunSnapshot {
    RunSnapshot(
      root: root, metadataFolder: metadataFolder, entries: entries, excluded: excluded, record: record, recordUnreadable: recordUnreadable)
  }
}
