import CLinux
import Glibc
import SyncModel

/// Lists a run's tree by descriptors: symbolic links are recorded and never followed, so nothing outside the run is ever looked at.
///
/// Blocking: call it on a `ThreadExecutor`.
package enum RunScanner {
  /// The tree as it is now.
  ///
  /// Folders are entries. A folder that an `exclude` pattern matches is listed in `excluded` by its own path, what lies below it is not
  /// looked at. The metadata folder at the top of the run and the bookkeeping files in it cannot be excluded; files there whose name
  /// starts with `.nassync-` are this program's temporary ones and are left out. A folder on another file system is recorded as unreadable.
  /// - Parameters:
  ///   - root: Absolute path of the run's folder.
  ///   - metadataFolder: One name, `.exlab-wizard` unless configured.
  ///   - patterns: See `ExcludePattern`.
  /// - Throws: `local_vanished` where the root is not there or vanishes meanwhile, `misconfigured` where it is a symbolic link or no
  ///   folder, `local` where the system refuses. What cannot be read inside is recorded, not thrown.
  package static func snapshot(
    of root: String, metadataFolder: String, excluding patterns: [String]
  ) throws(SyncFailure) -> RunSnapshot {
    let folder = try RunFolder(root: root)
    var walk = try TreeWalk(folder: folder, metadataFolder: metadataFolder, patterns: patterns.map(ExcludePattern.init))
    try walk.run()
    if folder.isGone {
      throw SyncFailure(
        .localVanished, "the run \(displayText(root)) was deleted while it was being listed",
        hint: "Put it back, or enqueue it at its new place.")
    }
    return walk.result()
  }

  /// Names in the metadata folder that only this program writes and removes again.
  package static let temporaryPrefix: [UInt8] = Array(".nassync-".utf8)

  /// Names in the metadata folder under which a removal sets a file or link aside for a moment.
  package static let setAsidePrefix: [UInt8] = Array(".nassync-removing-".utf8)
}

/// One walk. Depth first with an explicit stack, so that depth costs no call stack, and with a bounded number of open folders.
private struct TreeWalk {
  private struct Frame {
    /// Nil for the root.
    let path: RelativePath?
    var pending: [(name: [UInt8], entry: Int)]
    /// Nil where it was closed to save descriptors; opened again by its path.
    var descriptor: Descriptor?
  }

  private static let maxOpenFolders = 64
  private static let nameOffset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 19

  private let folder: RunFolder
  private let metadataName: [UInt8]
  private let metadataFolder: String
  private let patterns: [ExcludePattern]
  private let bookkeeping: Set<[UInt8]>
  private let device: UInt64
  private var entries: [RunEntry] = []
  private var excluded: [RelativePath] = []
  private var vanished: Set<Int> = []
  private var record: [UInt8]?
  private var recordUnreadable: String?

  init(folder: RunFolder, metadataFolder: String, patterns: [ExcludePattern]) throws(SyncFailure) {
    self.folder = folder
    self.metadataFolder = metadataFolder
    self.metadataName = Array(metadataFolder.utf8)
    self.patterns = patterns
    self.bookkeeping = Set(RunSnapshot.bookkeepingNames.map { Array($0.utf8) })
    var status = stat()
    guard fstat(folder.descriptor.raw, &status) == 0 else {
      throw SyncFailure(.local, "the run \(displayText(folder.root)) cannot be examined: \(errorText(errno))", hint: "Look at the disk.")
    }
    device = UInt64(status.st_dev)
  }

  /// Gives away what was found: of a run of a million files there is one list in memory, no second one.
  mutating func result() -> RunSnapshot {
    // Taken out, so that it has one owner: sorting what two own makes a copy.
    var kept: [RunEntry] = []
    swap(&kept, &entries)
    if !vanished.isEmpty { kept = kept.indices.filter { !vanished.contains($0) }.map { kept[$0] } }
    kept.sort { $0.path < $1.path }
    return RunSnapshot(
      root: folder.root, metadataFolder: metadataFolder, entries: kept, excluded: excluded.sorted(), record: record,
      recordUnreadable: recordUnreadable ?? metadataFolderProblem(kept))
  }

  /// Why there may be a record that was not seen: the gate must not take that for a run without one.
  private func metadataFolderProblem(_ kept: [RunEntry]) -> String? {
    guard let entry = kept.first(where: { isMetadataFolder($0.path) }) else { return nil }
    if entry.kind != .folder { return "\(displayText(metadataFolder)) is not a folder" }
    return entry.unreadable.map { "the folder \(displayText(metadataFolder)) cannot be read: \($0)" }
  }

  mutating func run() throws(SyncFailure) {
    var stack: [Frame] = []
    if let code = try list(folder.descriptor, path: nil, onto: &stack) {
      throw SyncFailure(
        .local, "the run \(displayText(folder.root)) cannot be listed: \(errorText(code))",
        hint: "Look at the permissions and the disk of this workstation.")
    }
    while let top = stack.indices.last {
      guard let child = stack[top].pending.popLast() else {
        stack.removeLast()
        continue
      }
      let parent = stack[top].descriptor ?? reopened(stack[top].path)
      // A folder whose last child is being entered is not needed any more: a chain of any depth holds one descriptor.
      if stack[top].pending.isEmpty { stack.removeLast() } else { stack[top].descriptor = parent }
      guard let parent else {
        markUnreadable(child.entry, ENOENT)
        continue
      }
      let raw = openName(parent.raw, child.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
      guard raw >= 0 else {
        let code = errno
        try refuseExhaustion(code)
        markUnreadable(child.entry, code)
        continue
      }
      if let code = try list(Descriptor(owning: raw), path: entries[child.entry].path, onto: &stack) {
        markUnreadable(child.entry, code)
      }
      if stack.count > Self.maxOpenFolders { stack[stack.count - 1 - Self.maxOpenFolders].descriptor = nil }
    }
  }

  private func reopened(_ path: RelativePath?) -> Descriptor? {
    guard let path else { return folder.descriptor }
    return folder.openBySegments(path, O_RDONLY | O_DIRECTORY)
  }

  private func refuseExhaustion(_ code: Int32) throws(SyncFailure) {
    guard code == EMFILE || code == ENFILE || code == ENOMEM else { return }
    throw SyncFailure(
      .local, "the run \(displayText(folder.root)) cannot be listed: \(errorText(code))",
      hint: "The system is short of descriptors or memory (ulimit -n); it is tried again.")
  }

  private mutating func markUnreadable(_ index: Int, _ code: Int32) {
    if code == ENOENT {
      vanished.insert(index)
      return
    }
    let reason = code == ENOTDIR || code == ELOOP ? "it was replaced while the run was being listed" : errorText(code)
    let old = entries[index]
    entries[index] = RunEntry(path: old.path, kind: old.kind, fingerprint: old.fingerprint, unreadable: reason)
  }

  private func isMetadataFolder(_ path: RelativePath?) -> Bool { path?.bytes == metadataName }

  /// Lists one folder and pushes a frame for its subfolders.
  /// - Returns: the error code where the folder cannot be listed.
  private mutating func list(_ opened: Descriptor, path: RelativePath?, onto stack: inout [Frame]) throws(SyncFailure) -> Int32? {
    // readdir moves the offset of the descriptor it owns, so it gets its own.
    let own = fcntl(opened.raw, F_DUPFD_CLOEXEC, 0)
    guard own >= 0 else {
      let code = errno
      try refuseExhaustion(code)
      return code
    }
    guard let stream = fdopendir(own) else {
      let code = errno
      close(own)
      return code
    }
    defer { closedir(stream) }
    var frame = Frame(path: path, pending: [], descriptor: opened)
    while true {
      errno = 0
      guard let item = readdir(stream) else {
        if errno != 0 { return errno }
        break
      }
      let pointer = UnsafeRawPointer(item).advanced(by: Self.nameOffset)
      let name = Array(UnsafeRawBufferPointer(start: pointer, count: strlen(pointer.assumingMemoryBound(to: CChar.self))))
      if name == [0x2e] || name == [0x2e, 0x2e] { continue }
      try add(name, in: opened, parent: path, to: &frame)
    }
    if !frame.pending.isEmpty { stack.append(frame) }
    return nil
  }

  private mutating func add(_ name: [UInt8], in opened: Descriptor, parent: RelativePath?, to frame: inout Frame) throws(SyncFailure) {
    let path: RelativePath
    do {
      let own = try RelativePath(bytes: name)
      path = parent.map { $0.appending(own) } ?? own
    } catch {
      throw SyncFailure(.local, "the file system listed an impossible name: \(displayText(of: name))", hint: "Check the disk (fsck).")
    }
    var status = stat()
    guard withCString(name, { fstatat(opened.raw, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else {
      let code = errno
      if code == ENOENT { return }
      let nothing = FileFingerprint(device: 0, inode: 0, size: 0, modified: 0, changed: 0, mode: 0)
      entries.append(RunEntry(path: path, kind: .file, fingerprint: nothing, unreadable: errorText(code)))
      if isMetadataFolder(parent) { recordUnreadable = "the folder \(displayText(metadataFolder)) cannot be searched: \(errorText(code))" }
      return
    }
    let type = fileType(status)
    if isMetadataFolder(parent), takesAsBookkeeping(name, type, in: opened) { return }
    if !isMetadataFolder(path), patterns.contains(where: { $0.matches(path, isFolder: type == S_IFDIR) }) {
      excluded.append(path)
      return
    }
    addEntry(path, name, type, status, in: opened, to: &frame)
  }

  private mutating func addEntry(
    _ path: RelativePath, _ name: [UInt8], _ type: mode_t, _ status: stat, in opened: Descriptor, to frame: inout Frame
  ) {
    let fingerprint = FileFingerprint(status)
    var unreadable: String?
    let kind: RunEntry.Kind
    switch type {
    case S_IFREG:
      kind = .file
      // Opening each of 100,000 files would cost more than all the rest; the reader finds out what this call cannot know.
      if withCString(name, { faccessat(opened.raw, $0, R_OK, Int32(AT_EACCESS)) }) != 0 { unreadable = errorText(errno) }
    case S_IFDIR:
      kind = .folder
      if fingerprint.device != device {
        unreadable = "another file system is mounted here"
      } else {
        frame.pending.append((name, entries.count))
      }
    case S_IFLNK:
      if let target = linkTarget(name, in: opened, size: status.st_size) {
        kind = .symlink(target: target)
      } else {
        kind = .symlink(target: [])
        unreadable = errorText(errno)
      }
    default:
      kind = .special(Self.specialName(type))
    }
    entries.append(RunEntry(path: path, kind: kind, fingerprint: fingerprint, unreadable: unreadable))
  }

  /// Whether the name in the metadata folder is no component of the run. Of the record the bytes are kept.
  private mutating func takesAsBookkeeping(
    _ name: [UInt8], _ type: mode_t, in opened: Descriptor
  ) -> Bool {
    if name == Array("creation.json".utf8) {
      switch RecordFile.read(in: opened.raw) {
      case .bytes(let bytes): record = bytes
      case .absent: return true
      case .unreadable(let reason): recordUnreadable = reason
      }
      return type == S_IFREG
    }
    // A link that a removal set aside and a crash left there; the next removal goes on with it.
    if type == S_IFLNK { return name.starts(with: RunScanner.setAsidePrefix) }
    guard type == S_IFREG else { return false }
    return bookkeeping.contains(name) || name.starts(with: RunScanner.temporaryPrefix)
  }

  private func linkTarget(_ name: [UInt8], in opened: Descriptor, size: off_t) -> [UInt8]? {
    var capacity = max(256, Int(clamping: size).addingReportingOverflow(1).partialValue)
    while capacity <= 1 << 20 {
      var length = -1
      let target = [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
        guard let base = buffer.baseAddress else { return }
        length = withCString(name) { name in
          base.withMemoryRebound(to: CChar.self, capacity: capacity) { readlinkat(opened.raw, name, $0, capacity) }
        }
        count = max(0, length)
      }
      if length < 0 { return nil }
      if length < capacity { return target }
      capacity *= 4
    }
    errno = ENAMETOOLONG
    return nil
  }

  private static func specialName(_ type: mode_t) -> String {
    switch type {
    case S_IFSOCK: "socket"
    case S_IFIFO: "named pipe"
    case S_IFCHR: "character device"
    case S_IFBLK: "block device"
    default: "special file"
    }
  }
}
