import CLinux
import Glibc
import SyncModel

/// A folder for one test, removed with all that is in it when the object goes.
package final class TemporaryTree: Sendable {
  /// Absolute, without symbolic links.
  package let path: String

  /// Why something could not be made.
  package struct Failure: Error { package let reason: String }

  /// - Throws: `Failure`.
  package init() throws {
    var template = Array("/tmp/nassync-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil, let text = String(validating: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self) else {
      throw Failure(reason: "mkdtemp: \(errno)")
    }
    path = text
  }

  deinit { Self.remove(AT_FDCWD, Array(path.utf8)) }

  /// Makes a file, and the folders above it.
  package func write(_ name: String, _ content: [UInt8]) throws { try write(bytes: Array(name.utf8), content) }

  /// The same with text.
  package func write(_ name: String, _ text: String = "data") throws { try write(name, Array(text.utf8)) }

  /// The same with any bytes as the name.
  package func write(bytes name: [UInt8], _ content: [UInt8] = [1]) throws {
    if let slash = name.lastIndex(of: UInt8(ascii: "/")) { try makeFolder(bytes: Array(name[..<slash])) }
    let raw = Self.withName(absolute(name)) { clinux_openat(AT_FDCWD, $0, O_WRONLY | O_CREAT | O_TRUNC, 0o644) }
    guard raw >= 0 else { throw Failure(reason: "open: \(errno)") }
    defer { close(raw) }
    let written = content.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
    guard written == content.count else { throw Failure(reason: "write: \(errno)") }
  }

  /// Makes a folder and those above it.
  package func makeFolder(_ name: String) throws { try makeFolder(bytes: Array(name.utf8)) }

  private func makeFolder(bytes name: [UInt8]) throws {
    var end = 0
    while end < name.count {
      end = name[(end + 1)...].firstIndex(of: UInt8(ascii: "/")) ?? name.count
      let status = Self.withName(absolute(Array(name[..<end]))) { mkdir($0, 0o755) }
      if status != 0, errno != EEXIST { throw Failure(reason: "mkdir: \(errno)") }
    }
  }

  /// Makes a symbolic link.
  package func link(_ name: String, to target: String) throws {
    guard symlink(target, "\(path)/\(name)") == 0 else { throw Failure(reason: "symlink: \(errno)") }
  }

  /// The bytes of a file.
  package func read(_ name: String) throws -> [UInt8] {
    let raw = clinux_openat(AT_FDCWD, "\(path)/\(name)", O_RDONLY, 0)
    guard raw >= 0 else { throw Failure(reason: "open: \(errno)") }
    defer { close(raw) }
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
      let got = Glibc.read(raw, &buffer, buffer.count)
      if got <= 0 { return result }
      result += buffer[..<got]
    }
  }

  private func absolute(_ name: [UInt8]) -> [UInt8] { Array(path.utf8) + [UInt8(ascii: "/")] + name }

  private static func withName<Result>(_ name: [UInt8], _ body: (UnsafePointer<CChar>) -> Result) -> Result {
    let terminated = name.map { CChar(bitPattern: $0) } + [0]
    return terminated.withUnsafeBufferPointer { buffer in
      if let base = buffer.baseAddress { body(base) } else { "".withCString(body) }
    }
  }

  /// By descriptor, so that trees deeper than PATH_MAX go too.
  private static func remove(_ parent: Int32, _ name: [UInt8]) {
    let raw = withName(name) { clinux_openat(parent, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0) }
    guard raw >= 0 else {
      _ = withName(name) { unlinkat(parent, $0, 0) }
      return
    }
    fchmod(raw, 0o755)
    if let stream = fdopendir(dup(raw)) {
      let offset = MemoryLayout<dirent>.offset(of: \.d_name) ?? 19
      var names: [[UInt8]] = []
      while let item = readdir(stream) {
        let pointer = UnsafeRawPointer(item).advanced(by: offset)
        let length = strlen(pointer.assumingMemoryBound(to: CChar.self))
        let child = Array(UnsafeRawBufferPointer(start: pointer, count: length))
        if child != [0x2e] && child != [0x2e, 0x2e] { names.append(child) }
      }
      closedir(stream)
      for child in names { remove(raw, child) }
    }
    close(raw)
    _ = withName(name) { unlinkat(parent, $0, AT_REMOVEDIR) }
  }
}
