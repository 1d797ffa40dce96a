import Executors
import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// A file that the NAS hashes while it is being written.
@Suite struct GrowingFileTests {
  private static let mebibyte = 1 << 20

  @Test(arguments: ["plain", " it's a \"name\" with $(touch pwned) \\n ", "-rf"]) func theDigestIsTheWholeFiles(name: String) async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await server.shell()
      let file = server.rootFolder + "/" + name
      let path = RemotePath(root: server.remoteRoot, relative: try RelativePath(name))
      let content = noise(3 * Self.mebibyte + 4711)
      #expect(FileManager.default.createFile(atPath: file, contents: nil))
      let growth = FileGrowth()
      async let digest = shell.digest(of: path, whileWritten: growth)
      let handle = try #require(FileHandle(forWritingAtPath: file))
      for end in [1_000, Self.mebibyte, 2 * Self.mebibyte + 17, content.count] {
        try handle.write(contentsOf: content[Int(try handle.offset())..<end])
        growth.reached(UInt64(end))
        try await Task.sleep(for: .milliseconds(30))
      }
      try handle.close()
      growth.isWhole(UInt64(content.count))
      #expect(try await digest == sha256(content))
      #expect(!FileManager.default.fileExists(atPath: NSHomeDirectory() + "/pwned"))
      // Others have been served meanwhile, and are afterwards.
      #expect(try await shell.digests(of: [path]) { _ in }.count == 1)
      await shell.close()
    }
  }

  /// What is not there yet may be written twice, as a resumed upload does, or have a hole: it must not be looked at.
  @Test func nothingIsReadBeforeItIsThere() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await server.shell()
      let file = server.rootFolder + "/it"
      let path = RemotePath(root: server.remoteRoot, relative: try RelativePath("it"))
      var content = noise(4 * Self.mebibyte)
      try Data(content).write(to: URL(filePath: file))
      let growth = FileGrowth()
      growth.reached(UInt64(2 * Self.mebibyte))
      async let digest = shell.digest(of: path, whileWritten: growth)
      // Until what was told of has been read: the first byte may be changed then, and is not noticed.
      try await Task.sleep(for: .seconds(2))
      let handle = try #require(FileHandle(forUpdatingAtPath: file))
      try handle.seek(toOffset: UInt64(3 * Self.mebibyte))
      content[3 * Self.mebibyte] ^= 0xff
      try handle.write(contentsOf: [content[3 * Self.mebibyte]])
      try handle.seek(toOffset: 0)
      try handle.write(contentsOf: [content[0] ^ 0xff])
      try handle.close()
      growth.isWhole(UInt64(content.count))
      #expect(try await digest == sha256(content))
      await shell.close()
    }
  }

  @Test func whatIsGivenUpEndsAtOnce() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await server.shell()
      try Data([1]).write(to: URL(filePath: server.rootFolder + "/it"))
      let path = RemotePath(root: server.remoteRoot, relative: try RelativePath("it"))
      let growth = FileGrowth()
      async let digest = shell.digest(of: path, whileWritten: growth)
      try await Task.sleep(for: .milliseconds(300))
      growth.abandon()
      #expect(try await digest == nil)
      // One that is stopped with everything else.
      let stopped = Task { try await shell.digest(of: path, whileWritten: FileGrowth()) }
      try await Task.sleep(for: .milliseconds(300))
      shell.interrupt()
      await #expect(throws: TransportError.self) { try await stopped.value }
      // Nothing is begun any more.
      await #expect(throws: TransportError.self) { try await shell.digest(of: path, whileWritten: FileGrowth()) }
    }
  }

  /// A connection that ends takes the digest of a part with it.
  @Test func aLostConnectionIsNoEndOfTheFile() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await server.shell()
      try Data(noise(2 * Self.mebibyte)).write(to: URL(filePath: server.rootFolder + "/it"))
      let path = RemotePath(root: server.remoteRoot, relative: try RelativePath("it"))
      let growth = FileGrowth()
      growth.reached(UInt64(Self.mebibyte))
      let hashing = Task { () -> ContentDigest? in
        do throws(TransportError) { return try await shell.digest(of: path, whileWritten: growth) } catch { return nil }
      }
      for _ in 0..<2_000 where !growth.hasBegun { try await Task.sleep(for: .milliseconds(5)) }
      #expect(growth.hasBegun)
      try await server.killSessions()
      #expect(await hashing.value == nil)
      await shell.close()
    }
  }

  @Test func whatCannotBeHashedHasNoDigest() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await server.shell()
      for name in ["missing", "line\nfeed"] {
        let growth = FileGrowth()
        growth.isWhole(5)
        let path = RemotePath(root: server.remoteRoot, relative: try RelativePath(name))
        #expect(try await shell.digest(of: path, whileWritten: growth) == nil)
      }
      try await server.stop()
      await #expect(throws: TransportError.self) {
        _ = try await shell.digest(of: RemotePath(root: server.remoteRoot, relative: try RelativePath("it")), whileWritten: FileGrowth())
      }
      await shell.close()
    }
  }

  /// An answer with anything else in it is none.
  @Test(arguments: [
    ("NASSYNC-BEGIN\n\(String(repeating: "0", count: 64)) *stdin\nNASSYNC-END 0\n", true),
    ("Welcome\nNASSYNC-BEGIN\n\(String(repeating: "0", count: 64))\nNASSYNC-END 0\n", true),
    ("NASSYNC-BEGIN\n\(String(repeating: "0", count: 64))  -\nNASSYNC-END 1\n", false),
    ("NASSYNC-BEGIN\n\(String(repeating: "0", count: 65))\nNASSYNC-END 0\n", false),
    ("NASSYNC-BEGIN\n\(String(repeating: "0", count: 63)) -\nNASSYNC-END 0\n", false),
    ("NASSYNC-BEGIN\nwarning\n\(String(repeating: "0", count: 64))  -\nNASSYNC-END 0\n", false),
    ("\(String(repeating: "0", count: 64))  -\n", false), ("NASSYNC-BEGIN\nNASSYNC-END 0\n", false), ("", false),
  ]) func answers(text: String, isOne: Bool) {
    #expect((RemoteShell.digest(in: Array(text.utf8)) != nil) == isOne)
  }
}
