import Glibc

/// Reads a regular file of bounded size.
enum SmallFile {
  enum Failure: Error, Hashable {
    case notFound
    case system(Int32)
    case notRegular
    case tooLarge

    var reason: String {
      switch self {
      case .notFound: "there is no such file"
      case .system(let code): SmallFile.text(of: code)
      case .notRegular: "it is not a regular file"
      case .tooLarge: "it is too large"
      }
    }
  }

  /// The bytes and the mode (file type and permission bits).
  static func read(_ path: String, limit: Int) throws(Failure) -> (bytes: [UInt8], mode: UInt32) {
    // A FIFO would hang without O_NONBLOCK; fstat then tells what was opened.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else {
      let code = errno
      throw code == ENOENT || code == ENOTDIR ? .notFound : .system(code)
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .system(errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notRegular }
    guard status.st_size <= limit else { throw .tooLarge }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = Glibc.read(descriptor, &buffer, buffer.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw .system(errno)
      }
      if count == 0 { return (bytes, status.st_mode) }
      bytes += buffer[..<count]
      if bytes.count > limit { throw .tooLarge }
    }
  }

  /// The names in a folder, sorted by their bytes, without the hidden ones.
  static func names(in folder: String) throws(Failure) -> [[UInt8]] {
    guard let stream = opendir(folder) else {
      let code = errno
      if code == ENOTDIR { throw .notRegular }
      throw code == ENOENT ? .notFound : .system(code)
    }
    defer { closedir(stream) }
    var names: [[UInt8]] = []
    while true {
      errno = 0
      guard let entry = readdir(stream) else {
        let code = errno
        if code != 0 { throw .system(code) }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
      }
      // The name ends with a NUL; the record may be shorter than the structure, so the whole field is never copied.
      guard let offset = MemoryLayout<dirent>.offset(of: \.d_name) else { throw .system(ENOSYS) }
      let start = UnsafeRawPointer(entry).advanced(by: offset).assumingMemoryBound(to: CChar.self)
      let name = UnsafeRawBufferPointer(start: start, count: strlen(start)).map { $0 }
      if name.first != 0x2e { names.append(name) }
    }
  }

  static func text(of code: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    _ = strerror_r(code, &buffer, buffer.count)
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
