import Digests
import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport
import Verification

@testable import NASSync

/// What lay on the NAS before is hashed there once, and again where it may have changed since.
@Suite struct AdoptedDigestTests {
  private static let file = noise(300_000)

  /// - Parameters:
  ///   - age: Seconds since the copy there was written.
  ///   - adopted: What happens to the copy once it was hashed for the first time.
  /// - Returns: How often the copy was hashed, and what became of the run.
  private func hashings(
    method: VerifySettings.Method = .server, age: Double = 100_000,
    adopted: @escaping @Sendable (LabFixture, String, ShiftedClock) throws -> Void = { _, _, _ in }
  ) async throws -> (count: Int, status: RunStatus) {
    let result = Mutex<(Int, RunStatus)?>(nil)
    try await LabFixture.with(method: method) { lab in
      let run = try lab.makeRun(files: ["theirs.dat": Self.file, "ours.dat": noise(900)])
      let theirs = lab.remote(run) + "/theirs.dat"
      try lab.write(Self.file, to: theirs)
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: theirs)
      let once = LocalChangeTests.Once()
      let clock = ShiftedClock()
      let names = ["digests", "download"]
      let plan = FaultPlan(after: { call in
        guard names.contains(call.name), call.isFor("theirs.dat") else { return }
        once { try adopted(lab, theirs, clock) }
      })
      let client = lab.client(clock, plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      if status.state == .job(.verified) {
        #expect(try await lab.sameTree(run, lab.remote(run)))
        #expect(try await lab.checksumsHold(in: lab.remote(run)))
        #expect(try await client.forceVerify(run).ok)
      }
      await client.close()
      let beforePublication = plan.calls.prefix { $0.name != "publish" }
      let count = beforePublication.count { names.contains($0.name) && $0.isFor("theirs.dat") }
      result.withLock { $0 = (count, status) }
    }
    return try #require(result.withLock { $0 })
  }

  @Test(arguments: [VerifySettings.Method.server, .readback]) func whatIsAdoptedIsHashedOnce(method: VerifySettings.Method) async throws {
    let (count, status) = try await hashings(method: method)
    #expect(count == 1)
    #expect(status.state == .job(.verified), "\(status)")
  }

  /// Whoever writes a second time in the same second leaves the time as it is.
  @Test(arguments: [20.0, 50_000]) func whatWasWrittenOfLateIsHashedAgain(age: Double) async throws {
    let (count, status) = try await hashings(age: age)
    #expect(count == 2)
    #expect(status.state == .job(.verified), "\(status)")
  }

  /// A server without times says the same of every file.
  @Test func aTimeThatIsNoneProvesNothing() async throws {
    let (count, status) = try await hashings(age: Date().timeIntervalSince1970)
    #expect(count == 2)
    #expect(status.state == .job(.verified), "\(status)")
  }

  @Test func whatWasTouchedIsHashedAgain() async throws {
    let (count, status) = try await hashings { _, path, _ in
      try FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: path)
    }
    #expect(count == 2)
    #expect(status.state == .job(.verified), "\(status)")
  }

  /// Its time may have been put back since. The clock on the wall counts as well: the other one stands still while the workstation sleeps.
  @Test(arguments: [(500.0, 0.0, 1), (601, 0, 2), (0, 601, 2), (0, -30, 2)])
  func whatWasHashedLongAgoIsHashedAgain(passed: Double, set: Double, times: Int) async throws {
    let (count, status) = try await hashings { _, _, clock in
      clock.advance(seconds: passed)
      clock.set(by: set)
    }
    #expect(count == times)
    #expect(status.state == .job(.verified), "\(status)")
  }

  /// What gets published is the copy in the staging folder, whatever lies under its name already.
  @Test func whatIsInTheStagingFolderAsWellIsHashedAgain() throws {
    let path = try RelativePath("theirs.dat")
    let entry = RemoteEntry(name: path, kind: .file, size: 300_000, modified: 1_000_000)
    let digest = try #require(SHA256Hasher.digest(of: Self.file))
    let clock = ManualClock()
    var adopted = AdoptedDigests(clock: clock)
    adopted.add(path, VerifiedReceipt.Proof(digest: digest, evidence: .server), entry)
    let tree = RemoteTree(entries: [path: entry])
    #expect(adopted.holding(in: JobRunner.Trees(staging: RemoteTree(), final: tree), by: clock).count == 1)
    #expect(adopted.holding(in: JobRunner.Trees(staging: tree, final: tree), by: clock).isEmpty)
    #expect(adopted.holding(in: JobRunner.Trees(staging: tree, final: RemoteTree()), by: clock).isEmpty)
  }

  @Test func whatIsAnotherFileByThenIsAConflictAndStays() async throws {
    let (_, status) = try await hashings { lab, path, _ in
      var content = Self.file
      content[7] ^= 1
      try lab.overwrite(path, content)
    }
    #expect(status.state == .job(.failed) && status.lastError?.kind == .remoteConflict, "\(status)")
  }

  @Test func whatIsGoneByThenIsSent() async throws {
    let (_, status) = try await hashings { _, path, _ in try FileManager.default.removeItem(atPath: path) }
    #expect(status.state == .job(.verified), "\(status)")
  }
}
