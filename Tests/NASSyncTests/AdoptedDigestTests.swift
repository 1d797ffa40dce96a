import Foundation
import NASSync
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

/// What lay on the NAS before is hashed there once, and again where it may have changed since.
@Suite struct AdoptedDigestTests {
  private static let file = noise(300_000)

  /// - Parameters:
  ///   - age: Seconds since the copy there was written.
  ///   - adopted: What happens to the copy once it was hashed for the first time.
  /// - Returns: How often the copy was hashed, and what became of the run.
  private func hashings(
    method: VerifySettings.Method = .server, age: Double = 100_000,
    adopted: @escaping @Sendable (LabFixture, String) throws -> Void = { _, _ in }
  ) async throws -> (count: Int, status: RunStatus) {
    let result = Mutex<(Int, RunStatus)?>(nil)
    try await LabFixture.with(method: method) { lab in
      let run = try lab.makeRun(files: ["theirs.dat": Self.file, "ours.dat": noise(900)])
      let theirs = lab.remote(run) + "/theirs.dat"
      try lab.write(Self.file, to: theirs)
      try FileManager.default.setAttributes([.modificationDate: Date(timeIntervalSinceNow: -age)], ofItemAtPath: theirs)
      let once = LocalChangeTests.Once()
      let names = ["digests", "download"]
      let plan = FaultPlan(after: { call in
        guard names.contains(call.name), call.isFor("theirs.dat") else { return }
        once { try adopted(lab, theirs) }
      })
      let client = lab.client(plan)
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
    let (count, status) = try await hashings { _, path in
      try FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: path)
    }
    #expect(count == 2)
    #expect(status.state == .job(.verified), "\(status)")
  }

  @Test func whatIsAnotherFileByThenIsAConflictAndStays() async throws {
    let (_, status) = try await hashings { lab, path in
      var content = Self.file
      content[7] ^= 1
      try lab.overwrite(path, content)
    }
    #expect(status.state == .job(.failed) && status.lastError?.kind == .remoteConflict, "\(status)")
  }

  @Test func whatIsGoneByThenIsSent() async throws {
    let (_, status) = try await hashings { _, path in try FileManager.default.removeItem(atPath: path) }
    #expect(status.state == .job(.verified), "\(status)")
  }
}
