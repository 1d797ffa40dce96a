import Foundation
import Glibc
import TestSupport
import Transport

/// What a test sees of a destination past every driver, and what it plants there. Names are relative to the root; `""` is the root.
protocol DestinationEyes: Sendable {
  /// What a file holds.
  /// - Throws: where there is none.
  func bytes(of name: String) async throws -> [UInt8]
  /// What is there, nil for nothing. Links are not followed.
  func kind(of name: String) async throws -> RemoteEntry.Kind?
  /// The names in a folder.
  func names(in folder: String) async throws -> Set<[UInt8]>
  /// Puts a file there, with the folders above it.
  func plant(_ content: [UInt8], at name: String) async throws
  /// Puts many empty files `file-0`, `file-1`, … into a new folder.
  func plantMany(_ count: Int, in folder: String) async throws
  /// Removes an empty folder.
  func removeFolder(_ name: String) async throws
  /// Inverts a bit in the middle of a file; a second time restores it.
  func corrupt(_ name: String) async throws
}

extension DestinationEyes {
  func exists(_ name: String) async throws -> Bool { try await kind(of: name) != nil }
}

/// A folder on this machine.
struct FolderEyes: DestinationEyes {
  let folder: String

  func path(_ name: String) -> String { name.isEmpty ? folder : folder + "/" + name }

  func bytes(of name: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path(name)))) }

  func kind(of name: String) -> RemoteEntry.Kind? {
    guard let status = status(of: name) else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .folder
    case S_IFLNK: return .symlink
    default: return .other
    }
  }

  /// Sizes, times and permission bits; nil for nothing.
  func status(of name: String) -> stat? {
    var status = stat()
    return lstat(path(name), &status) == 0 ? status : nil
  }

  func names(in folder: String) throws -> Set<[UInt8]> {
    guard let stream = opendir(path(folder)) else { throw TemporaryFolder.Failure("opendir \(path(folder)): \(errno)") }
    defer { closedir(stream) }
    var names: Set<[UInt8]> = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
      if name != [0x2e], name != [0x2e, 0x2e] { names.insert(name) }
    }
    return names
  }

  func plant(_ content: [UInt8], at name: String) throws { try TemporaryFolder.at(folder).write(content, to: name) }

  func plantMany(_ count: Int, in folder: String) throws {
    guard mkdir(path(folder), 0o755) == 0 else { throw TemporaryFolder.Failure("mkdir \(path(folder)): \(errno)") }
    for number in 0..<count { close(creat(path("\(folder)/file-\(number)"), 0o644)) }
  }

  func removeFolder(_ name: String) throws {
    guard rmdir(path(name)) == 0 else { throw TemporaryFolder.Failure("rmdir \(path(name)): \(errno)") }
  }

  func corrupt(_ name: String) throws {
    let file = try FileHandle(forUpdating: URL(fileURLWithPath: path(name)))
    defer { file.closeFile() }
    let middle = try file.seekToEnd() / 2
    try file.seek(toOffset: middle)
    guard let byte = try file.read(upToCount: 1)?.first else { throw TemporaryFolder.Failure("\(name) is empty") }
    try file.seek(toOffset: middle)
    try file.write(contentsOf: [byte ^ 1])
  }

  /// Makes a symbolic link.
  func link(_ name: String, to target: String) throws {
    guard symlink(target, path(name)) == 0 else { throw TemporaryFolder.Failure("symlink \(path(name)): \(errno)") }
  }
}

/// A bucket, below a prefix. A folder is a key that ends in `/`, or whatever lies below one.
struct BucketEyes: DestinationEyes {
  let store: LoopbackS3
  /// Without `/` at its ends; not empty.
  let prefix: String

  private func key(_ name: String) -> String { name.isEmpty ? prefix : prefix + "/" + name }

  func bytes(of name: String) async throws -> [UInt8] { try await store.object(key(name)) }

  func kind(of name: String) async throws -> RemoteEntry.Kind? {
    if !name.isEmpty, try await store.exists(key(name)) { return .file }
    return try await store.objects(Array((key(name) + "/").utf8)).isEmpty ? nil : .folder
  }

  func names(in folder: String) async throws -> Set<[UInt8]> {
    let above = Array((key(folder) + "/").utf8)
    let rests = try await store.objects(above).map { $0.key.dropFirst(above.count) }
    return Set(rests.filter { !$0.isEmpty }.map { Array($0.prefix { $0 != UInt8(ascii: "/") }) })
  }

  func plant(_ content: [UInt8], at name: String) async throws { try await store.plant(content, at: key(name)) }

  func plantMany(_ count: Int, in folder: String) async throws { try await store.plantMany(count, below: key(folder) + "/file-") }

  func removeFolder(_ name: String) async throws { try await store.remove(key(name) + "/") }

  func corrupt(_ name: String) async throws { try await store.corrupt(key(name)) }
}
