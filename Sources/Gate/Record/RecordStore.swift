import CLinux
import Glibc
import Intake
import SyncModel

/// A run's record on the disk, read and rewritten so that no concurrent writer loses anything and no crash leaves half a file.
///
/// A rewrite happens under a lock on the metadata folder: read, edit, write a temporary file beside the record, flush it, rename it over
/// the record, flush the folder. Mode and owner are kept as far as the system allows. A program that does not take the lock is
/// noticed by the record having changed between reading and renaming; then the edit is made again on what is there.
///
/// Blocking: call it on a `ThreadExecutor`.
package struct RecordStore: Sendable {
  private let runRoot: String
  private let metadataFolder: String
  /// How long to wait for other writers.
  private let patience: Double

  /// - Parameters:
  ///   - runRoot: Absolute path of the run's folder.
  ///   - metadataFolder: One name, `.exlab-wizard` unless configured.
  ///   - patience: Seconds.
  package init(runRoot: String, metadataFolder: String, patience: Double = 30) {
    self.runRoot = runRoot
    self.metadataFolder = metadataFolder
    self.patience = patience
  }

  /// The record as it is now; nil where the run has none.
  /// - Throws: `RecordError` where there is one that cannot be read, or no run.
  package func read() throws(RecordError) -> RunRecord? {
    guard let folder = try openFolder(creating: false) else { return nil }
    return try Self.read(folder)
  }

  /// Writes `sync_status`.
  /// - Returns: false where the run has no record; then nothing is written.
  /// - Throws: `RecordError`.
  @discardableResult
  package func setSyncStatus(_ status: SyncStatus) throws(RecordError) -> Bool {
    guard let folder = try openFolder(creating: false) else { return false }
    return try rewrite(folder) { (record) throws(RecordError) in
      guard let record else { return nil }
      return record.syncStatus == status.rawValue ? record : try record.setting(status)
    }
  }

  /// Appends an override. A run without a record gets a minimal one: `schema_version` 1.8 and the list.
  /// - Throws: `RecordError`; `malformed` for a class that no override may let pass.
  package func appendOverride(_ entry: Override) throws(RecordError) {
    if FindingClass.withoutOverride.contains(entry.problemClass) {
      throw .malformed("no override can let \(entry.problemClass) pass")
    }
    guard let folder = try openFolder(creating: true) else { throw .absent("the folder \(displayText(metadataFolder)) vanished") }
    _ = try rewrite(folder) { (record) throws(RecordError) in
      if let record { return try record.appending(.override(entry)) }
      return try RunRecord(parsing: RunRecord.minimal).appending(.override(entry))
    }
  }

  /// Appends the revocation of an override.
  /// - Throws: `RecordError`; `absent` where the record has no override with that id.
  package func appendRevocation(_ entry: Revocation) throws(RecordError) {
    guard let folder = try openFolder(creating: false) else {
      throw .absent("the run has no record, so there is no override to revoke")
    }
    _ = try rewrite(folder) { (record) throws(RecordError) in
      guard let record else { throw .absent("the run has no record, so there is no override to revoke") }
      guard Overrides.unknownRevocations(record.overrides + [.revocation(entry)]).allSatisfy({ $0.id != entry.id }) else {
        throw .absent("the record has no override \(displayText(entry.revokes))")
      }
      return try record.appending(.revocation(entry))
    }
  }

  private func openFolder(creating: Bool) throws(RecordError) -> Descriptor? {
    guard !metadataFolder.isEmpty, metadataFolder != ".", metadataFolder != "..", !metadataFolder.utf8.contains(UInt8(ascii: "/")) else {
      throw .malformed("the metadata folder is not one name: \(displayText(metadataFolder))")
    }
    let run: RunFolder
    do { run = try RunFolder(root: runRoot) } catch { throw .absent(error.message) }
    if creating, mkdirat(run.descriptor.raw, metadataFolder, 0o755) != 0, errno != EEXIST {
      throw Self.system("the folder \(displayText(metadataFolder)) cannot be made", errno)
    }
    let raw = clinux_openat(run.descriptor.raw, metadataFolder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
    if raw >= 0 { return Descriptor(owning: raw) }
    let code = errno
    if code == ENOENT { return nil }
    if code == ELOOP || code == ENOTDIR { throw .malformed("\(displayText(metadataFolder)) is a symbolic link or no folder") }
    throw .malformed("the folder \(displayText(metadataFolder)) cannot be opened: \(errorText(code))")
  }

  private static func read(_ folder: Descriptor) throws(RecordError) -> RunRecord? {
    switch RecordFile.read(in: folder.raw) {
    case .absent: return nil
    case .unreadable(let reason): throw .malformed(reason)
    case .bytes(let bytes): return try RunRecord(parsing: bytes)
    }
  }

  /// - Returns: false where the edit gave nothing to write.
  private func rewrite(
    _ folder: Descriptor, _ edit: (RunRecord?) throws(RecordError) -> RunRecord?
  ) throws(RecordError) -> Bool {
    let lock = try RecordLock(folder: folder, patience: patience)
    defer { lock.release() }
    for _ in 0..<8 {
      let before = RecordReplacement.status(in: folder)
      let record = try Self.read(folder)
      guard let edited = try edit(record) else { return false }
      if let record, record.document.bytes == edited.document.bytes { return true }
      let replacement = try RecordReplacement(folder: folder, bytes: edited.document.bytes, like: before)
      if try replacement.commit(ifStill: before) { return true }
    }
    throw .busy("creation.json is being rewritten by another program; try again when it has finished")
  }

  static func system(_ what: String, _ code: Int32) -> RecordError { .system("\(what): \(errorText(code))") }
}
