import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// What the NAS hashes while the run is still on its way.
@Suite struct EarlyDigestTests {
  private static let files = Dictionary(uniqueKeysWithValues: (0..<1_300).map { ("f\($0 / 100)/\($0).dat", Array("measured \($0)".utf8)) })

  @Test func hashingBeginsBeforeTheLastFileIsSent() async throws {
    try await LabFixture.with { lab in
      let hashes = Mutex(false)
      let plan = FaultPlan(before: { call in
        if call.name == "digests" { hashes.withLock { $0 = true } }
        // The last hundred give the hashing of what is there a while to begin.
        guard call.name == "put", call.path?.description.contains("/f12/") == true else { return }
        for _ in 0..<1_000 where !hashes.withLock({ $0 }) { try? await Task.sleep(for: .milliseconds(20)) }  // no longer is fine, too
      })
      let client = lab.client(plan)
      let run = try lab.makeRun(files: Self.files)
      try await lab.published(client, run)
      let first = try #require(plan.calls.firstIndex { $0.name == "digests" })
      let last = try #require(plan.calls.lastIndex { $0.name == "put" && $0.path?.description.hasSuffix(".dat") == true })
      #expect(first < last)
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// What changes after it was hashed there, and shows that in a listing, is hashed again.
  @Test(arguments: ["content", "size", "gone"]) func whatChangesAfterItsDigestIsNoticed(change: String) async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: Self.files)
      let changed = Mutex<String?>(nil)
      let plan = FaultPlan(after: { call in
        guard call.name == "digests", let path = call.path, path.description.hasSuffix(".dat"), changed.withLock({ $0 == nil }) else {
          return
        }
        let file = path.description
        changed.withLock { $0 = file }
        do {
          var content = try lab.bytes(file)
          if change == "gone" {
            try FileManager.default.removeItem(atPath: file)
          } else {
            if change == "content" { content[0] ^= 1 } else { content.append(0) }
            try lab.write(content, to: file)
          }
        } catch { Issue.record(error) }
      })
      let client = lab.client(plan)
      try await lab.published(client, run)
      let file = try #require(changed.withLock { $0 })
      #expect(plan.timesSent((file as NSString).lastPathComponent) == 2)
      #expect(try await lab.sameTree(run, lab.remote(run)))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  // MARK: While it is written

  /// A file so large that it is worth a log-in of its own, of which the disks hold next to nothing.
  private static func makeLargeFile(_ lab: LabFixture) throws -> (run: String, size: UInt64) {
    let run = try lab.makeRun(record: false, files: ["big.dat": []])
    let size = EarlyDigests.followLimit + 12_345
    let handle = try #require(FileHandle(forWritingAtPath: run + "/big.dat"))
    try handle.truncate(atOffset: size)
    try handle.seek(toOffset: size / 2)
    try handle.write(contentsOf: noise(100_000))
    try handle.close()
    return (run, size)
  }

  @Test func aLargeFileIsHashedWhileItIsWritten() async throws {
    try await LabFixture.with { lab in
      let plan = FaultPlan()
      let client = lab.client(plan)
      let (run, _) = try Self.makeLargeFile(lab)
      try await lab.published(client, run)
      let begun = try #require(plan.calls.first { $0.name == "digest" && $0.isFor("big.dat") })
      // Before most of it was there, and nobody asked once more.
      #expect(begun.sentBefore < Int(EarlyDigests.followLimit) / 2)
      #expect(!plan.calls.contains { $0.name == "digests" && $0.isFor("big.dat") })
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// What becomes of it decides nothing: the file is hashed when it is whole.
  @Test func whereThatFailsItIsHashedAfterwards() async throws {
    try await LabFixture.with { lab in
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        if call.name == "digest" { throw FaultPlan.lost }
      })
      let client = lab.client(plan)
      let (run, _) = try Self.makeLargeFile(lab)
      try await lab.published(client, run)
      #expect(plan.calls.contains { $0.name == "digests" && $0.isFor("big.dat") })
      #expect(plan.timesSent("big.dat") == 1)
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// Says what it is told to, once the file is whole.
  private final class Follower: RemoteHasher {
    let evidence = Evidence.server
    func digests(
      of paths: [RemotePath], progress: @Sendable (Int) -> Void
    ) async throws(TransportError) -> [RemotePath: ContentDigest] { [:] }
    func digest(of path: RemotePath, whileWritten growth: FileGrowth) async throws(TransportError) -> ContentDigest? {
      growth.begin()
      while growth.now.end == .open {
        do { try await Task.sleep(for: .milliseconds(1)) } catch { return nil }
      }
      return growth.now.end == .whole ? ContentDigest(bytes: [UInt8](repeating: 7, count: 32)) : nil
    }
    func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool { false }
    func interrupt() {}
    func close() async {}
  }

  @Test func oneFileAtATimeIsFollowed() async throws {
    let early = EarlyDigests()
    let staging = RemotePath(root: "/nas", relative: try RelativePath("staging"))
    let (first, second) = (try RelativePath("first"), try RelativePath("second"))
    let growth = try #require(early.follow(first, in: staging) { Follower() })
    #expect(early.follow(second, in: staging) { Follower() } == nil)
    // That no more is gathered ends nothing that has begun.
    early.end()
    #expect(growth.now.end == .open)
    growth.reached(3)
    growth.reached(2)
    #expect(growth.now.bytes == 3)
    // What has not begun by the end is not waited for.
    for _ in 0..<2_000 where !growth.hasBegun { try await Task.sleep(for: .milliseconds(5)) }
    growth.isWhole(10)
    await early.settled()
    #expect(early.digests[first] != nil && growth.now == (10, .whole))
    // Sent again in the same attempt it may be another: that is left to the proof.
    #expect(early.follow(first, in: staging) { Follower() } == nil)
    let given = try #require(early.follow(second, in: staging) { Follower() })
    for _ in 0..<2_000 where !given.hasBegun { try await Task.sleep(for: .milliseconds(5)) }
    early.drop()
    #expect(given.now.end == .abandoned)
    await early.settled()
    #expect(early.digests[second] == nil)
    #expect(early.follow(try RelativePath("third"), in: staging) { Follower() } == nil)
  }
}
