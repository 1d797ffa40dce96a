import CLinux
import Glibc
import Intake
import SyncModel

/// The metadata folder's own files and the run's folder, which go last and only where nothing is to be retained.
extension RunCleaner {
  /// Removes one of this program's files in the metadata folder.
  /// - Parameter accepts: Whether the content may go; it is given what lies there now.
  /// - Returns: Why it stays; nil where it is gone.
  package func removeDocument(_ name: String, accepting accepts: ([UInt8]) -> Bool) -> String? {
    let aside = RunScanner.setAsidePrefix + Array("\(plan.jobID)-\(name)".utf8)
    // What a process that died had set aside gets its name back first, unless that is taken.
    _ = withCString(name.utf8) { old in withCString(aside) { clinux_rename_noreplace(metadata.raw, $0, metadata.raw, old) } }
    let raw = openName(metadata.raw, Array(name.utf8), O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
    guard raw >= 0 else { return errno == ENOENT ? nil : Self.words(errno) }
    let file = Descriptor(owning: raw)
    var before = stat()
    guard fstat(file.raw, &before) == 0, fileType(before) == S_IFREG else { return "it is no regular file" }
    guard let content = Self.content(of: file), accepts(content) else { return "it is not what the NAS holds" }
    let moved = withCString(name.utf8) { old in withCString(aside) { clinux_rename_noreplace(metadata.raw, old, metadata.raw, $0) } }
    guard moved == 0 else { return errno == ENOENT ? nil : Self.words(errno) }
    var after = stat()
    let same =
      withCString(aside) { fstatat(metadata.raw, $0, &after, AT_SYMLINK_NOFOLLOW) } == 0 && after.st_ino == before.st_ino
      && after.st_dev == before.st_dev && after.st_size == before.st_size
      && FileFingerprint(after).modified == FileFingerprint(before).modified
    if same, unlinkName(metadata.raw, aside) { return nil }
    _ = withCString(name.utf8) { old in withCString(aside) { clinux_rename_noreplace(metadata.raw, $0, metadata.raw, old) } }
    return "another program replaced it"
  }

  /// Removes the metadata folder and the run's folder, each only where it is empty.
  /// - Returns: Whether each went.
  package func removeEmptyFolders() -> (metadata: Bool, run: Bool) {
    // The lock of whoever rewrites the record where folders cannot be locked.
    unlinkName(metadata.raw, Array(".nassync-lock".utf8))
    guard withCString(plan.metadataFolder.utf8, { unlinkat(run.descriptor.raw, $0, AT_REMOVEDIR) }) == 0 else { return (false, false) }
    let bytes = Array(plan.root.utf8)
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")), slash > 0, slash + 1 < bytes.count else { return (true, false) }
    let raw = openName(AT_FDCWD, bytes[..<slash], O_RDONLY | O_DIRECTORY)
    guard raw >= 0 else { return (true, false) }
    let above = Descriptor(owning: raw)
    return (true, withCString(bytes[(slash + 1)...]) { unlinkat(above.raw, $0, AT_REMOVEDIR) } == 0)
  }

  private static func content(of file: Descriptor) -> [UInt8]? {
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while content.count <= 1 << 30 {
      let got = read(file.raw, &buffer, buffer.count)
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { return got == 0 ? content : nil }
      content += buffer[..<got]
    }
    return nil
  }
}
