import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// Hashing by two processes at once.
@Suite struct SharedHashingTests {
  private func shell(_ server: LoopbackSSHD) async throws -> RemoteShell {
    let shell = try await server.shell()
    await shell.pretend(processors: 2)
    return shell
  }

  /// Files of which every seventh is not there, with what `sha256sum` says of the others.
  private func files(_ server: LoopbackSSHD, _ count: Int) async throws -> [(path: RemotePath, digest: ContentDigest?)] {
    var files: [(path: RemotePath, digest: ContentDigest?)] = []
    for number in 0..<count {
      let name = "file \(number)"
      let path = RemotePath(root: server.remoteRoot, relative: try RelativePath(name))
      guard number % 7 != 3 else {
        files.append((path, nil))
        continue
      }
      try Data("content of \(number)".utf8).write(to: URL(filePath: server.rootFolder + "/" + name))
      let said = try await runProcess(["sha256sum", server.rootFolder + "/" + name])
      files.append((path, ContentDigest(hex: String(said.text.prefix(64)).utf8)))
    }
    return files
  }

  @Test(arguments: [2, 5, 12, 40]) func eachFileHasItsOwnDigest(count: Int) async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let files = try await files(server, count)
      let progress = Mutex<[Int]>([])
      let found = try await shell.digests(of: files.map(\.path), bytes: 256 << 20) { done in progress.withLock { $0.append(done) } }
      for file in files { #expect(found[file.path] == file.digest, "\(file.path)") }
      #expect(found.count == files.count { $0.digest != nil })
      let seen = progress.withLock { $0 }
      #expect(seen == seen.sorted() && seen.last == count)
      await shell.close()
    }
  }

  /// Where nobody else is let in, all is hashed over the connection that there is, and nobody asks again.
  @Test func withoutAHelperAllIsHashedAllTheSame() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let files = try await files(server, 30)
      try FileManager.default.removeItem(atPath: server.folder.path + "/authorized_keys")
      for _ in 1...3 {
        let found = try await shell.digests(of: files.map(\.path), bytes: 256 << 20) { _ in }
        for file in files { #expect(found[file.path] == file.digest) }
      }
      // Once: sshd says it of each key that is offered.
      #expect(server.log.components(separatedBy: "Failed publickey").count == 2)
      await shell.close()
    }
  }

  @Test func itCanBeStopped() async throws {
    try await LoopbackSSHD.with { server in
      let shell = try await shell(server)
      let files = try await files(server, 30)
      for path in files.map(\.path) where files.count > 1 {
        guard let name = path.relative else { continue }
        // Whoever opens it waits for a writer.
        let file = server.rootFolder + "/" + name.description
        if FileManager.default.fileExists(atPath: file) { try FileManager.default.removeItem(atPath: file) }
        #expect(mkfifo(file, 0o600) == 0)
      }
      let hashing = Task { try await shell.digests(of: files.map(\.path), bytes: 256 << 20) { _ in } }
      // Both are at it, and at different files.
      for _ in 0..<2_000 {
        if await server.programs(named: "openssl").count == 2 { break }
        try await Task.sleep(for: .milliseconds(5))
      }
      #expect(await server.programs(named: "openssl").count == 2)
      let began = ContinuousClock.now
      hashing.cancel()
      await #expect(throws: TransportError.self) { try await hashing.value }
      #expect(ContinuousClock.now - began < .seconds(5))
      await shell.close()
    }
  }
}

extension RemoteShell {
  fileprivate func pretend(processors: Int) { self.processors = processors }
}
