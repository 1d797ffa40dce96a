import CLibCrypto
import Foundation
import Glibc
import SyncModel
import TestSupport
import Testing
import Transport
import TransportSFTP

@Suite struct ProbePromises {
  @Test(arguments: ConformanceSubject.all) func aProbeAnswersAndLeavesNothing(_ subject: ConformanceSubject) async throws {
    try await subject.with { running in
      let probe = try await running.driver.probe()
      #expect(!probe.lines.contains { $0.grade == .bad })
      #expect(Set(probe.lines.map(\.name)).count == probe.lines.count)
      #expect(probe.lines.contains { $0.name == "root" && $0.grade == .good })
      #expect(probe.lines.last?.detail.contains(probe.evidence.rawValue) == true)
      #expect(probe.capabilities.atomicPublish == probe.capabilities.renames)
      #expect((probe.freeSpace != nil) == probe.capabilities.reportsFreeSpace)
      #expect(try await running.eyes.names(in: "").isEmpty)
      let names = try #require(probe.names)
      #expect(names.foldsCase == false && names.foldsNormalization == false && names.maxNameBytes == 255)
      #expect(names.refused == subject.refusedNames && names.holdsSymlinks == probe.capabilities.symlinks)
      #expect(subject.longestPath.contains(try #require(names.maxPathBytes)))
      #expect(names.lines.allSatisfy(probe.lines.contains))
    }
  }

  @Test(arguments: ConformanceSubject.all + [.sshd(.otherRoot), .sshd(.otherRoot, .openssh)]) func aHasherSaysWhatIsOnTheDisk(
    _ subject: ConformanceSubject
  ) async throws {
    try await subject.withSession { session, running in
      let hasher = try await running.driver.makeHasher()
      #expect(try await running.driver.probe().evidence == hasher?.evidence ?? .readback)
      #expect(try await running.eyes.names(in: "").isEmpty)
      guard let hasher else {
        // Once known, it is not asked again.
        #expect(try await running.driver.makeHasher() == nil)
        return
      }
      var expected: [RemotePath: ContentDigest] = [:]
      for (number, name) in FilePromises.oddNames.enumerated() {
        if subject.refusedNames.contains(.notUTF8), String(validating: name, as: UTF8.self) == nil { continue }
        let content = noise(number * 1000, seed: UInt64(number))
        let path = try running.path(name)
        try await session.put(content, at: path, modified: nil, mode: nil, durable: false)
        expected[path] = digest(of: content)
      }
      let gone = try running.path("gone")
      #expect(try await hasher.digests(of: Array(expected.keys) + [gone], progress: { _ in }) == expected)
      await hasher.close()
    }
  }

  /// A file that came in a stream is as one that was put, under whatever name.
  @Test(arguments: ConformanceSubject.all + [.sshd(.otherRoot), .sshd(.otherRoot, .openssh)]) func anUnpackerWritesAsPutDoes(
    _ subject: ConformanceSubject
  ) async throws {
    try await subject.withSession { session, running in
      let hasher = try await running.driver.makeHasher()
      // Whoever has a shell that hashes has a `tar`, on this machine.
      #expect((hasher?.unpacker != nil) == (hasher?.evidence == .server))
      if let hasher, let unpacker = hasher.unpacker {
        let folder = try running.path("p/.stage")
        try await session.makeFolder(folder)
        let content = noise(5_000)
        try await session.put(content, at: try running.path("put"), modified: 1_500_000_000, mode: nil, durable: false)
        let feed = FileFeed()
        async let unpacked: Void = unpacker.unpack(feed, into: folder, isFar: false)
        async let tags = feed.confirmations.reduce(into: []) { $0 += $1 }
        for (tag, name) in FilePromises.oddNames.enumerated() {
          let file = WholeFile(content: content, path: folder.appending(try RelativePath(bytes: name)), modified: 1_500_000_000)
          #expect(await feed.give([file], weight: unpacker.weight(of: file), tag: tag))
        }
        feed.end()
        try await unpacked
        #expect(await tags == Array(FilePromises.oddNames.indices))
        #expect(try await running.eyes.names(in: "p/.stage") == Set(FilePromises.oddNames))
        let listed = try await session.list(folder)
        #expect(listed.allSatisfy { $0.kind == .file && $0.size == 5_000 && $0.modified == 1_500_000_000 })
        let disk = try #require(running.disk)
        let (put, streamed) = (try #require(disk.status(of: "put")), try #require(disk.status(of: "p/.stage/plain")))
        #expect(put.st_mode == streamed.st_mode && put.st_uid == streamed.st_uid)
      }
      await hasher?.close()
    }
  }

  @Test(arguments: ConformanceSubject.all) func severalSessionsAtOnce(_ subject: ConformanceSubject) async throws {
    try await subject.with { running in
      let sessions = try await withThrowingTaskGroup(of: (any TransportSession).self) { group in
        for _ in 0..<12 { group.addTask { try await running.driver.connect() } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      for (number, session) in sessions.enumerated() {
        try await session.put([1], at: try running.path("f\(number)"), modified: nil, mode: nil, durable: false)
      }
      for session in sessions { await session.close() }
      #expect(try await running.eyes.names(in: "").count == 12)
    }
  }

  @Test func aMissingRootIsSaidAsABadLine() async throws {
    let servers = PipeServers(command: ["/usr/lib/openssh/sftp-server"])
    let settings = SFTPSettings(host: "pipe", user: "test", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: "/nonexistent/root")
    let driver = SFTPDriver(settings: settings, connector: servers.connector)
    let probe = try await driver.probe()
    let line = try #require(probe.lines.first { $0.name == "root" })
    #expect(line.grade == .bad)
    #expect(line.detail.contains("/nonexistent/root"))
    #expect(await failure { _ = try await driver.makeHasher() }?.failure.kind == .misconfigured)
  }

  private func digest(of content: [UInt8]) -> ContentDigest? {
    var bytes = [UInt8](repeating: 0, count: 32)
    guard EVP_Digest(content, content.count, &bytes, nil, EVP_sha256(), nil) == 1 else { return nil }
    return ContentDigest(bytes: bytes)
  }
}
