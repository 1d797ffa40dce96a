import CLinux
import Glibc
import SyncModel

/// Owns one file descriptor and closes it.
package final class Descriptor: Sendable {
  /// The number the kernel knows it by; valid as long as this object lives.
  package let raw: Int32

  /// Takes over an open descriptor.
  package init(owning raw: Int32) { self.raw = raw }

  deinit { close(raw) }
}

/// What `errno` means, in words.
package func errorText(_ code: Int32) -> String {
  guard let text = strerror(code) else { return "error \(code)" }
  return String(cString: text)
}

/// Calls a body with the bytes as a C string.
package func withCString<Result>(_ bytes: some Sequence<UInt8>, _ body: (UnsafePointer<CChar>) -> Result) -> Result {
  var terminated = ContiguousArray<CChar>()
  terminated.reserveCapacity(bytes.underestimatedCount + 1)
  for byte in bytes { terminated.append(CChar(bitPattern: byte)) }
  terminated.append(0)
  // The array is never empty, so the buffer has a base address; the empty string is what remains for the compiler.
  return terminated.withUnsafeBufferPointer { buffer in
    if let base = buffer.baseAddress { body(base) } else { "".withCString(body) }
  }
}

/// `openat(2)` on one name; -1 with `errno`.
package func openName(_ folder: Int32, _ name: some Sequence<UInt8>, _ flags: Int32) -> Int32 {
  withCString(name) { clinux_openat(folder, $0, flags, 0) }
}

extension FileFingerprint {
  /// What `fstat` or `lstat` said.
  package init(_ status: stat) {
    self.init(
      device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: UInt64(clamping: status.st_size),
      modified: Self.nanoseconds(status.st_mtim), changed: Self.nanoseconds(status.st_ctim), mode: UInt32(status.st_mode) & 0o7777)
  }

  /// Saturates: a file system may hold times beyond what 64 bits of nanoseconds can say.
  private static func nanoseconds(_ time: timespec) -> Int64 {
    let (scaled, overflow) = Int64(time.tv_sec).multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return time.tv_sec < 0 ? .min : .max }
    let (sum, tooLarge) = scaled.addingReportingOverflow(Int64(time.tv_nsec))
    return tooLarge ? .max : sum
  }
}

/// The kind of thing a mode says, without the permissions.
package func fileType(_ status: stat) -> mode_t { status.st_mode & S_IFMT }

/// The root of a run, held open: what is read through it stays in the folder that was there when it was opened.
package final class RunFolder: Sendable {
  /// Absolute path, as given.
  package let root: String
  package let descriptor: Descriptor

  /// - Throws: `local_vanished` where there is nothing, `misconfigured` where the root is a symbolic link or no folder, `local` else.
  package init(root: String) throws(SyncFailure) {
    self.root = root
    // A trailing slash would make the kernel follow a link despite O_NOFOLLOW.
    var bytes = Array(root.utf8)
    while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
    let raw = openName(AT_FDCWD, bytes, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    if raw >= 0 {
      descriptor = Descriptor(owning: raw)
      return
    }
    let code = errno
    var status = stat()
    let isLink = withCString(bytes) { lstat($0, &status) } == 0 && fileType(status) == S_IFLNK
    if isLink {
      throw SyncFailure(
        .misconfigured, "the run \(displayText(root)) is a symbolic link",
        hint: "Give the folder that it points at; a link could point elsewhere tomorrow.")
    }
    throw Self.failure(code, root: root)
  }

  private static func failure(_ code: Int32, root: String) -> SyncFailure {
    let shown = displayText(root)
    switch code {
    case ENOENT:
      return SyncFailure(
        .localVanished, "the run \(shown) is not there",
        hint: "Was it moved, renamed or deleted? Put it back, or enqueue it at its new place.")
    case ENOTDIR:
      return SyncFailure(
        .misconfigured, "the run \(shown) is not a folder", hint: "A run is a folder: give the folder that holds the files.")
    default:
      return SyncFailure(
        .local, "the run \(shown) cannot be opened: \(errorText(code))",
        hint: "Look at the permissions and the disk of this workstation.")
    }
  }

  /// Whether the folder was deleted since it was opened.
  package var isGone: Bool {
    var status = stat()
    return fstat(descriptor.raw, &status) != 0 || status.st_nlink == 0
  }

  /// Opens a name below the root; no component may be a symbolic link or lead to another file system.
  /// - Returns: a descriptor, or nil with `errno` set.
  package func open(_ path: RelativePath, _ flags: Int32) -> Descriptor? {
    let raw = withCString(path.bytes) { clinux_open_beneath(descriptor.raw, $0, flags | O_NOFOLLOW, 0) }
    if raw >= 0 { return Descriptor(owning: raw) }
    // A kernel before 5.6, a sandbox that forbids the call, or a path longer than PATH_MAX: go segment by segment.
    guard errno == ENOSYS || errno == EPERM || errno == ENAMETOOLONG else { return nil }
    return openBySegments(path, flags)
  }

  func openBySegments(_ path: RelativePath, _ flags: Int32) -> Descriptor? {
    var folder = descriptor
    let segments = path.segments
    for (index, segment) in segments.enumerated() {
      let isLast = index == segments.count - 1
      let raw = openName(folder.raw, segment, (isLast ? flags : O_RDONLY | O_DIRECTORY) | O_NOFOLLOW)
      guard raw >= 0 else { return nil }
      folder = Descriptor(owning: raw)
    }
    return folder
  }
}
