import CLinux
import Glibc
import SyncModel

/// The bytes of a run's `creation.json`, read from the open metadata folder.
package enum RecordFile {
  /// What reading came to.
  package enum Content: Sendable {
    case bytes([UInt8])
    case absent
    /// It exists and cannot be read; why.
    case unreadable(String)
  }

  /// A record is a page or two of text; what is larger is no record.
  package static let maxBytes = 16 << 20

  /// Reads the record. A symbolic link, a folder or a special file in its place is refused.
  /// - Parameter folder: Descriptor of the metadata folder.
  package static func read(in folder: Int32) -> Content {
    let raw = openName(folder, Array("creation.json".utf8), O_RDONLY | O_NONBLOCK | O_NOFOLLOW)
    guard raw >= 0 else {
      let code = errno
      if code == ENOENT { return .absent }
      return .unreadable(code == ELOOP ? "creation.json is a symbolic link" : "creation.json cannot be opened: \(errorText(code))")
    }
    let file = Descriptor(owning: raw)
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { return .unreadable("creation.json cannot be examined: \(errorText(errno))") }
    guard fileType(status) == S_IFREG else { return .unreadable("creation.json is not a regular file") }
    guard status.st_size <= maxBytes else { return .unreadable("creation.json is larger than \(maxBytes >> 20) MiB") }
    var bytes: [UInt8] = []
    while true {
      let chunk: [UInt8]
      switch readChunk(file.raw, offset: UInt64(bytes.count), count: 1 << 16) {
      case .success(let read): chunk = read
      case .failure(let code): return .unreadable("creation.json cannot be read: \(errorText(code.code))")
      }
      if chunk.isEmpty { return .bytes(bytes) }
      bytes += chunk
      guard bytes.count <= maxBytes else { return .unreadable("creation.json is larger than \(maxBytes >> 20) MiB") }
    }
  }
}

/// An `errno` value.
struct ErrorCode: Error { let code: Int32 }

/// `pread(2)` until `count` bytes or the end of the file.
func readChunk(_ descriptor: Int32, offset: UInt64, count: Int) -> Result<[UInt8], ErrorCode> {
  guard let start = off_t(exactly: offset), count > 0 else { return .success([]) }
  var failure: Int32 = 0
  let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
    filled = 0
    while filled < count {
      guard let base = buffer.baseAddress else { return }
      let (position, overflow) = start.addingReportingOverflow(off_t(filled))
      if overflow { return }
      let got = pread(descriptor, base + filled, count - filled, position)
      if got < 0 {
        if errno == EINTR { continue }
        failure = errno
        return
      }
      if got == 0 { return }
      filled += got
    }
  }
  return failure == 0 ? .success(bytes) : .failure(ErrorCode(code: failure))
}
