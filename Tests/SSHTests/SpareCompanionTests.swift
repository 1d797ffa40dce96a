import Executors
import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// A second connection that logs in before anybody wants it.
@Suite struct SpareCompanionTests {
  /// Counts log-ins; those from `refusedFrom` on fail.
  private final class Counter: Sendable {
    private let made = Mutex(0)
    private let refusedFrom: Int
    private let kind: SyncFailure.Kind
    init(refusedFrom: Int = .max, _ kind: SyncFailure.Kind = .auth) {
      self.refusedFrom = refusedFrom
      self.kind = kind
    }
    var count: Int { made.withLock { $0 } }
    var connector: SSHConnector {
      let real = BuiltinConnection.connector()
      return { (settings, interrupter) throws(TransportError) in
        let number = self.made.withLock { made in
          made += 1
          return made
        }
        guard number < self.refusedFrom else {
          throw .failure(SyncFailure(self.kind, "the test lets nobody else in", hint: "None."), sessionLost: true)
        }
        return try real(settings, interrupter)
      }
    }
  }

  private func unpack(_ shell: RemoteShell, _ server: LoopbackSSHD, _ name: String) async throws -> Bool {
    await shell.learn(fileMode: 0o100_640)
    let folder = RemotePath(root: server.remoteRoot, relative: try RelativePath("p/.stage"))
    try FileManager.default.createDirectory(atPath: server.rootFolder + "/p/.stage", withIntermediateDirectories: true)
    let feed = FileFeed()
    async let unpacked: Void = shell.unpack(feed, into: folder, isFar: false)
    let file = WholeFile(content: Array("measured".utf8), path: folder.appending(try RelativePath(name)), modified: 5)
    _ = await feed.give([file], weight: 1_000, tag: 0)
    feed.end()
    _ = try? await unpacked  // one that is not let in throws; whether the file is there is what counts
    return FileManager.default.fileExists(atPath: server.rootFolder + "/p/.stage/" + name)
  }

  @Test func theFirstStreamNeedsNoLogIn() async throws {
    try await LoopbackSSHD.with { server in
      let counter = Counter()
      let shell = try await server.shell(by: counter.connector, expectingCompanion: true)
      for _ in 0..<2_000 where counter.count < 2 { try await Task.sleep(for: .milliseconds(5)) }
      #expect(counter.count == 2)
      #expect(try await unpack(shell, server, "first"))
      #expect(counter.count == 2)
      // It served once.
      #expect(try await unpack(shell, server, "second"))
      #expect(counter.count == 3)
      await shell.close()
      #expect(shell.companions.withLock { $0.count } == 0)
    }
  }

  /// One that nobody wants goes with the shell, and with its rest.
  @Test(arguments: [true, false]) func oneThatNobodyWantsIsClosed(rests: Bool) async throws {
    try await LoopbackSSHD.with { server in
      let counter = Counter()
      let shell = try await server.shell(by: counter.connector, expectingCompanion: true)
      if rests { await shell.rest() } else { await shell.close() }
      #expect(shell.companions.withLock { $0.count } == 0)
      #expect(shell.spare.withLock { $0 == nil })
      if rests {
        #expect(try await unpack(shell, server, "later"))
        await shell.close()
      }
    }
  }

  /// The shell does without, and the stream too; nobody is asked again and again.
  @Test func oneThatIsNotLetInCostsNothing() async throws {
    try await LoopbackSSHD.with { server in
      let counter = Counter(refusedFrom: 2)
      let shell = try await server.shell(by: counter.connector, expectingCompanion: true)
      for _ in 0..<2_000 where shell.admitsCompanions { try await Task.sleep(for: .milliseconds(5)) }
      #expect(try await !unpack(shell, server, "first"))
      #expect(counter.count == 2)
      await shell.close()
      #expect(shell.companions.withLock { $0.count } == 0)
    }
  }

  /// One that nobody asked for may fail for any reason: the stream logs in by itself.
  @Test func oneThatFailsByChanceIsForgotten() async throws {
    try await LoopbackSSHD.with { server in
      let counter = Counter(refusedFrom: 2, .network)
      let shell = try await server.shell(by: counter.connector, expectingCompanion: true)
      for _ in 0..<2_000 where counter.count < 2 { try await Task.sleep(for: .milliseconds(5)) }
      await shell.dismissSpare()
      #expect(shell.admitsCompanions)
      await shell.close()
    }
  }

  @Test func withoutAShellNothingIsLeftOfIt() async throws {
    try await LoopbackSSHD.with(.sftpOnly) { server in
      let counter = Counter()
      let outcome = try await server.lookForShell(by: counter.connector, expectingCompanion: true)
      guard case .unavailable = outcome else {
        Issue.record("a shell where there is none: \(outcome)")
        return
      }
    }
  }
}
