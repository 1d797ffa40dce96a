import CLinux
import Glibc
import Intake
import SyncModel

/// What a removal that died left under a name of its own in a run's metadata folder, where nobody looks for it.
///
/// The next clean-up of the same job goes on with it. Whatever else is to rest on the run's folder needs it back under its own name first: it
/// may be the only good copy by then. Blocking; the caller holds the lock of the clean-ups, so that no living removal loses what it looks at.
package struct SetAside: Sendable {
  private let run: RunFolder
  private let metadata: Descriptor
  private let names: [[UInt8]]

  /// Nil where nothing is set aside, or the folder cannot be looked at.
  package init?(root: String, metadataFolder: String) {
    do throws(SyncFailure) { run = try RunFolder(root: root) } catch { return nil }
    let raw = openName(run.descriptor.raw, Array(metadataFolder.utf8), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    guard raw >= 0 else { return nil }
    metadata = Descriptor(owning: raw)
    // readdir moves the offset of the descriptor it owns.
    let own = fcntl(raw, F_DUPFD_CLOEXEC, 0)
    guard own >= 0 else { return nil }
    guard let stream = fdopendir(own) else {
      close(own)
      return nil
    }
    defer { closedir(stream) }
    var found: [[UInt8]] = []
    let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 19
    while let item = readdir(stream) {
      let pointer = UnsafeRawPointer(item).advanced(by: offset)
      let name = Array(UnsafeRawBufferPointer(start: pointer, count: strlen(pointer.assumingMemoryBound(to: CChar.self))))
      if name.starts(with: RunScanner.setAsidePrefix) { found.append(name) }
    }
    guard !found.isEmpty else { return nil }
    names = found.sorted { $0.lexicographicallyPrecedes($1) }
  }

  /// Whether a job's removal left something.
  package func isLeft(byJob id: String) -> Bool { names.contains { $0.starts(with: Self.prefix(id)) } }

  /// Gives what a job's removal left its own name back, where it is what the job verified and the name is free.
  /// - Parameter listed: What the job verified.
  /// - Returns: The names it has again.
  package func giveBack(job id: String, listed: [RunEntry]) -> [RelativePath] {
    var given: [RelativePath] = []
    for name in names where name.starts(with: Self.prefix(id)) {
      var status = stat()
      guard withCString(name, { fstatat(metadata.raw, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else { continue }
      // By what it is: its number in the list may have moved since. Names of one file are as good as each other.
      let place = listed.first { entry in isSame(entry, status) && rename(name, to: entry.path) }
      if let place { given.append(place.path) }
    }
    return given
  }

  private static func prefix(_ job: String) -> [UInt8] { RunScanner.setAsidePrefix + Array("\(job)-".utf8) }

  private func isSame(_ entry: RunEntry, _ status: stat) -> Bool {
    let wanted: mode_t
    switch entry.kind {
    case .file: wanted = S_IFREG
    case .symlink: wanted = S_IFLNK
    case .folder, .special: return false
    }
    return fileType(status) == wanted && FileFingerprint(status).isSameButForChangeTime(as: entry.fingerprint)
  }

  private func rename(_ name: [UInt8], to path: RelativePath) -> Bool {
    guard let place = Place(path, in: run) else { return false }
    return withCString(name) { old in
      withCString(place.name) { clinux_rename_noreplace(metadata.raw, old, place.folder.raw, $0) }
    } == 0
  }
}
