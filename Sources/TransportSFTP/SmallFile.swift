import CLinux
import Glibc

/// Reads small local files: keys and known hosts.
enum SmallFile {
  enum Problem: Error {
    case missing
    case unreadable(String)
    case notAFile
    case tooBig
  }

  /// A file's bytes and permission bits, of the same file.
  static func read(_ path: String, limit: Int) throws(Problem) -> (bytes: [UInt8], mode: mode_t) {
    // O_NONBLOCK: a pipe of that name must not block.
    let number = clinux_openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0)
    guard number >= 0 else {
      if errno == ENOENT || errno == ENOTDIR { throw .missing }
      throw .unreadable(String(cString: strerror(errno)))
    }
    let descriptor = FileDescriptor(number)
    var status = stat()
    guard fstat(descriptor.number, &status) == 0 else { throw .unreadable(String(cString: strerror(errno))) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 * 1024)
    while true {
      let count = Glibc.read(descriptor.number, &buffer, buffer.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw .unreadable(String(cString: strerror(errno)))
      }
      if count == 0 { return (bytes, status.st_mode & 0o7777) }
      bytes += buffer.prefix(count)
      if bytes.count > limit { throw .tooBig }
    }
  }
}
