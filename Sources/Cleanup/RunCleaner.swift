import CLinux
import Digests
import Glibc
import Intake
import SyncModel

/// Removes what a plan lists, name by name, and nothing that is not exactly what was verified.
///
/// Each name is set aside first: renamed, by descriptors, to a name of this program in the metadata folder, and looked at again there, where
/// nobody else looks for it. Only what is still the verified file is unlinked, there; anything else goes back to its own name, without
/// replacing what took that meanwhile. A lease on the file says whether anybody has it, or is just about to open it, for writing. Folders
/// go last, when they are empty. Whatever the process dies of, the next attempt goes on with what is set aside.
///
/// Blocking: call it on a `ThreadExecutor`.
package struct RunCleaner: Sendable {
  /// The moments of one removal, for tests of what can happen between them.
  package enum Moment: Hashable, Sendable { case before, examined, setAside, removed, beforeFolder }
  package typealias Hook = @Sendable (Moment, RelativePath) throws(SyncFailure) -> Void

  let plan: RemovalPlan
  let run: RunFolder
  let metadata: Descriptor
  let device: UInt64
  private let hook: Hook

  /// - Throws: `SyncFailure` where the run's folder or its metadata folder cannot be opened.
  package init(_ plan: RemovalPlan, hook: @escaping Hook = { _, _ in }) throws(SyncFailure) {
    self.plan = plan
    self.hook = hook
    run = try RunFolder(root: plan.root)
    let raw = openName(run.descriptor.raw, Array(plan.metadataFolder.utf8), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    guard raw >= 0 else { throw Self.failure("the metadata folder of \(displayText(plan.root)) cannot be opened", errno) }
    metadata = Descriptor(owning: raw)
    var status = stat()
    guard fstat(run.descriptor.raw, &status) == 0 else { throw Self.failure("\(displayText(plan.root)) cannot be examined", errno) }
    device = UInt64(status.st_dev)
    guard fstat(metadata.raw, &status) == 0, UInt64(status.st_dev) == device else {
      throw Self.failure("the metadata folder of \(displayText(plan.root)) lies on another file system", EXDEV)
    }
  }

  /// Removes the listed files and links, then the listed folders that are empty.
  /// - Parameter shouldStop: Asked before each name.
  /// - Throws: What a test's hook throws. What cannot be removed is in the result.
  package func remove(shouldStop: () -> Bool = { false }) throws(SyncFailure) -> RemovalResult {
    var result = RemovalResult()
    finishLeftovers(&result)
    for (index, item) in plan.items.enumerated() where !plan.isRetained(item.entry.path) {
      guard !shouldStop() else {
        result.stopped = true
        return result
      }
      try hook(.before, item.entry.path)
      switch try removeOne(item, index: index) {
      case .removed: result.add(item.entry)
      case .gone: result.alreadyGone += 1
      case .kept(let why): result.kept.append(RemovalResult.Kept(path: item.entry.path, reason: why))
      }
    }
    for folder in plan.folders where !plan.isRetained(folder.path) {
      try hook(.beforeFolder, folder.path)
      if removeFolder(folder.path) { result.removedFolders.append(folder.path) }
    }
    return result
  }

  enum Outcome {
    case removed
    case gone
    case kept(String)
  }

  // MARK: - One name

  private func removeOne(_ item: RemovalPlan.Item, index: Int) throws(SyncFailure) -> Outcome {
    let entry = item.entry
    guard let place = Place(entry.path, in: run) else {
      let code = errno
      return code == ENOENT ? .gone : .kept(Self.words(code))
    }
    // Where this program may have moved the change time itself, the content says whether it is the verified file.
    var readsAgain = false
    switch examine(entry, at: place.folder.raw, place.name, changeTime: true) {
    case .failure(.absent): return .gone
    case .failure(.differs(let why)):
      guard plan.mayHaveMovedChangeTime(of: entry),
        case .success = examine(entry, at: place.folder.raw, place.name, changeTime: false)
      else {
        return .kept(why)
      }
      readsAgain = true
    case .success: break
    }
    var held: Descriptor?
    if entry.kind == .file {
      let raw = openName(place.folder.raw, place.name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
      guard raw >= 0 else { return errno == ENOENT ? .gone : .kept(Self.words(errno)) }
      let file = Descriptor(owning: raw)
      if let why = difference(entry, open: file, changeTime: !readsAgain) { return .kept(why) }
      // Not every file system, nor every user, is given leases; where one is, it tells of writers, and holds new ones off until the end.
      let answer = clinux_read_lease(file.raw)
      if answer == 1 { return .kept("another program has it open for writing") }
      if answer == 0 { held = file }
      if readsAgain, Self.digest(of: file) != item.proof?.digest { return .kept("its change time moved, and its content is another") }
    }
    try hook(.examined, entry.path)
    let aside = Self.asideName(plan.jobID, index)
    guard renameAside(place, to: aside) else { return errno == ENOENT ? .gone : .kept(Self.words(errno)) }
    try hook(.setAside, entry.path)
    if let why = reasonToPutBack(entry, place, aside, held) {
      return .kept(putBack(aside, to: place, why: why))
    }
    guard unlinkName(metadata.raw, aside) else {
      let code = errno
      return .kept(putBack(aside, to: place, why: Self.words(code)))
    }
    withExtendedLifetime(held) {}
    try hook(.removed, entry.path)
    return .removed
  }

  /// The digest of an open file; nil where it cannot be read, or something touched it meanwhile.
  private static func digest(of file: Descriptor) -> ContentDigest? {
    var before = stat()
    var after = stat()
    guard fstat(file.raw, &before) == 0 else { return nil }
    var hasher = SHA256Hasher()
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let got = read(file.raw, &buffer, buffer.count)
      if got < 0, errno == EINTR { continue }
      guard got >= 0 else { return nil }
      if got == 0 { break }
      buffer.withUnsafeBytes { hasher.update(UnsafeRawBufferPointer(rebasing: $0[..<got])) }
    }
    guard fstat(file.raw, &after) == 0, FileFingerprint(after) == FileFingerprint(before) else { return nil }
    return hasher.finalize()
  }

  /// What speaks against unlinking what was set aside.
  private func reasonToPutBack(_ entry: RunEntry, _ place: Place, _ aside: [UInt8], _ held: Descriptor?) -> String? {
    switch examine(entry, at: metadata.raw, aside, changeTime: false) {
    case .failure(.absent): return "it was taken away while it was being removed"
    case .failure(.differs(let why)): return why
    case .success: break
    }
    if let held {
      if let why = difference(entry, open: held, changeTime: false) { return why }
      if clinux_lease_is_whole(held.raw) == 0 { return "another program opens it for writing" }
    }
    // Whoever moves the run or one of its folders elsewhere wants to keep it.
    return place.isStillThere(in: run) ? nil : "the folder that held it was moved away or replaced"
  }

  private enum Refusal: Error {
    case absent
    case differs(String)
  }

  /// Whether a name is the verified thing.
  private func examine(_ entry: RunEntry, at folder: Int32, _ name: some Sequence<UInt8>, changeTime: Bool) -> Result<Void, Refusal> {
    var status = stat()
    guard withCString(name, { fstatat(folder, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else {
      return .failure(errno == ENOENT ? .absent : .differs(Self.words(errno)))
    }
    switch entry.kind {
    case .file:
      guard fileType(status) == S_IFREG else { return .failure(.differs("it is no regular file any more")) }
    case .symlink(let target):
      guard fileType(status) == S_IFLNK else { return .failure(.differs("it is no link any more")) }
      guard Self.target(of: name, in: folder, length: target.count) == target else { return .failure(.differs("it points elsewhere")) }
    case .folder, .special: return .failure(.differs("it is neither a file nor a link"))
    }
    if let why = difference(entry, status, changeTime: changeTime) { return .failure(.differs(why)) }
    return .success(())
  }

  private func difference(_ entry: RunEntry, open file: Descriptor, changeTime: Bool) -> String? {
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { return Self.words(errno) }
    guard fileType(status) == S_IFREG else { return "it is no regular file any more" }
    return difference(entry, status, changeTime: changeTime)
  }

  /// - Parameter changeTime: Not of what was set aside: the rename moves it.
  private func difference(_ entry: RunEntry, _ status: stat, changeTime: Bool) -> String? {
    let found = FileFingerprint(status)
    guard found.device == device else { return "it lies on another file system" }
    let expected = entry.fingerprint
    return found.contentDifference(
      from: changeTime
        ? expected
        : FileFingerprint(
          device: expected.device, inode: expected.inode, size: expected.size, modified: expected.modified, changed: found.changed,
          mode: expected.mode))
  }

  // MARK: - Set aside and put back

  private static func asideName(_ job: String, _ index: Int) -> [UInt8] { RunScanner.setAsidePrefix + Array("\(job)-\(index)".utf8) }

  private func renameAside(_ place: Place, to aside: [UInt8]) -> Bool {
    rename(place.folder.raw, place.name, metadata.raw, aside)
  }

  /// Renames without replacing anything.
  private func rename(_ from: Int32, _ name: some Sequence<UInt8>, _ into: Int32, _ newName: some Sequence<UInt8>) -> Bool {
    let done = withCString(name) { old in withCString(newName) { clinux_rename_noreplace(from, old, into, $0) } } == 0
    guard !done, errno == EINVAL || errno == ENOSYS else { return done }
    // A file system that cannot: a second name, which is never given to something that exists, then the first one goes.
    guard withCString(name, { old in withCString(newName) { linkat(from, old, into, $0, 0) } }) == 0 else { return false }
    var old = stat()
    var new = stat()
    let same =
      withCString(name) { fstatat(from, $0, &old, AT_SYMLINK_NOFOLLOW) } == 0
      && withCString(newName) { fstatat(into, $0, &new, AT_SYMLINK_NOFOLLOW) } == 0 && old.st_ino == new.st_ino && old.st_dev == new.st_dev
    guard same, unlinkName(from, name) else {
      unlinkName(into, newName)
      errno = EBUSY
      return false
    }
    return true
  }

  /// Gives a thing its name back. Where that is taken by now, it gets one beside it that everybody sees.
  /// - Returns: The sentence for the result.
  private func putBack(_ aside: [UInt8], to place: Place, why: String) -> String {
    if rename(metadata.raw, aside, place.folder.raw, place.name) { return why }
    let taken = errno == EEXIST
    let beside = Array(place.name) + Array(".kept-by-nassync".utf8)
    if taken, rename(metadata.raw, aside, place.folder.raw, beside) {
      return "\(why); its name was taken meanwhile, so it is now \(displayText(of: beside))"
    }
    return "\(why); it could not be given its name back (\(errorText(errno))) and lies in \(displayText(plan.metadataFolder)) as "
      + displayText(of: aside)
  }

  /// What a process that died had set aside: removed where it is the verified thing, else given its name back.
  private func finishLeftovers(_ result: inout RemovalResult) {
    for (index, item) in plan.items.enumerated() where !plan.isRetained(item.entry.path) {
      let aside = Self.asideName(plan.jobID, index)
      switch examine(item.entry, at: metadata.raw, aside, changeTime: false) {
      case .failure(.absent): continue
      case .success:
        if unlinkName(metadata.raw, aside) {
          result.add(item.entry)
          result.setAsideBefore += 1
        } else {
          result.kept.append(RemovalResult.Kept(path: item.entry.path, reason: Self.words(errno)))
        }
      case .failure(.differs(let why)):
        var reason = "\(why); it lies in \(displayText(plan.metadataFolder)) as \(displayText(of: aside))"
        if let place = Place(item.entry.path, in: run) { reason = putBack(aside, to: place, why: why) }
        result.kept.append(RemovalResult.Kept(path: item.entry.path, reason: reason))
      }
    }
  }

  // MARK: - Folders

  /// Whether an empty folder went; one that is not empty stays, whatever it holds.
  private func removeFolder(_ path: RelativePath) -> Bool {
    guard let place = Place(path, in: run), place.isStillThere(in: run) else { return false }
    return withCString(place.name) { unlinkat(place.folder.raw, $0, AT_REMOVEDIR) } == 0
  }

  // MARK: - Calls

  @discardableResult
  func unlinkName(_ folder: Int32, _ name: some Sequence<UInt8>) -> Bool { withCString(name) { unlinkat(folder, $0, 0) } == 0 }

  private static func target(of name: some Sequence<UInt8>, in folder: Int32, length: Int) -> [UInt8] {
    let capacity = length + 1
    return [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
      count = 0
      guard let base = buffer.baseAddress else { return }
      let got = withCString(name) { name in
        base.withMemoryRebound(to: CChar.self, capacity: capacity) { readlinkat(folder, name, $0, capacity) }
      }
      count = max(0, got)
    }
  }

  static func words(_ code: Int32) -> String {
    switch code {
    case ELOOP, ENOTDIR: "a link or a file took the place of it or of a folder above it"
    case EXDEV: "it lies on another file system"
    case EACCES, EPERM, EROFS: "it may not be removed: \(errorText(code))"
    default: "it cannot be removed: \(errorText(code))"
    }
  }

  static func failure(_ what: String, _ code: Int32) -> SyncFailure {
    SyncFailure(.local, "\(what): \(errorText(code))", hint: "Nothing more is removed. Look at the run's folder and its permissions.")
  }
}

/// A name in an open folder of the run, reached without following a link.
struct Place {
  let folder: Descriptor
  let name: ArraySlice<UInt8>
  private let parent: RelativePath?

  /// Nil with `errno` where the folder cannot be reached.
  init?(_ path: RelativePath, in run: RunFolder) {
    name = path.lastSegment
    parent = path.parent
    guard let parent else {
      folder = run.descriptor
      return
    }
    guard let opened = run.open(parent, O_RDONLY | O_DIRECTORY) else { return nil }
    folder = opened
  }

  /// Whether the run is still at its path and this folder still at its own: both may have been moved while they are open.
  func isStillThere(in run: RunFolder) -> Bool {
    guard let again = openedAgain(run.root), Self.same(again, run.descriptor) else { return false }
    guard let parent else { return true }
    guard let now = run.open(parent, O_RDONLY | O_DIRECTORY) else { return false }
    return Self.same(now, folder)
  }

  private func openedAgain(_ root: String) -> Descriptor? {
    do throws(SyncFailure) { return try RunFolder(root: root).descriptor } catch { return nil }
  }

  private static func same(_ left: Descriptor, _ right: Descriptor) -> Bool {
    var one = stat()
    var other = stat()
    return fstat(left.raw, &one) == 0 && fstat(right.raw, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino
  }
}

extension RemovalResult {
  mutating func add(_ entry: RunEntry) {
    if case .file = entry.kind {
      removedFiles.append(entry.path)
      bytes &+= entry.fingerprint.size
    } else {
      removedLinks.append(entry.path)
    }
  }
}
