import Foundation
import Glibc

/// A folder of a test's own, gone when the test is over.
public struct TemporaryFolder: Sendable {
  /// Absolute, without symbolic links, without a trailing `/`.
  public let path: String

  /// The same as a URL.
  public var url: URL { URL(fileURLWithPath: path, isDirectory: true) }

  /// Why a fixture could not be made.
  public struct Failure: Error, CustomStringConvertible {
    /// One sentence.
    public let description: String
    /// - Parameter description: One sentence.
    public init(_ description: String) { self.description = description }
  }

  /// Makes a folder, runs the body, removes the folder whatever the body did.
  /// - Parameter base: Where to make it; `/tmp` is a good place except for chroot folders, which must be owned by root all the way up.
  public static func with<Result>(
    in base: String = "/tmp", isolation: isolated (any Actor)? = #isolation, _ body: (TemporaryFolder) async throws -> Result
  ) async throws -> Result {
    let folder = try TemporaryFolder(in: base)
    do {
      let result = try await body(folder)
      try folder.remove()
      return result
    } catch {
      try folder.remove()
      throw error
    }
  }

  init(in base: String) throws {
    var template = Array("\(base)/nassync-test-XXXXXX".utf8CString)
    let made = template.withUnsafeMutableBufferPointer { buffer -> String? in
      guard let start = buffer.baseAddress, let result = mkdtemp(start) else { return nil }
      return String(cString: result)
    }
    guard let made, let real = realpath(made, nil) else {
      throw Failure("no folder can be made in \(base): \(String(cString: strerror(errno)))")
    }
    defer { free(real) }
    path = String(cString: real)
  }

  /// A folder that somebody else made and removes.
  public static func at(_ path: String) -> TemporaryFolder { TemporaryFolder(existing: path) }

  /// A folder that somebody else made and removes.
  init(existing path: String) { self.path = path }

  func remove() throws { try FileManager.default.removeItem(atPath: path) }

  /// Writes a file below the folder, with the folders above it.
  /// - Returns: Its absolute path.
  @discardableResult
  public func write(_ content: [UInt8], to name: String, mode: mode_t = 0o644) throws -> String {
    let file = "\(path)/\(name)"
    try FileManager.default.createDirectory(at: URL(fileURLWithPath: file).deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(content).write(to: URL(fileURLWithPath: file))
    guard chmod(file, mode) == 0 else { throw Failure("chmod \(file): \(String(cString: strerror(errno)))") }
    return file
  }

  /// Writes a text file below the folder.
  @discardableResult
  public func write(_ text: String, to name: String, mode: mode_t = 0o644) throws -> String {
    try write(Array(text.utf8), to: name, mode: mode)
  }
}
