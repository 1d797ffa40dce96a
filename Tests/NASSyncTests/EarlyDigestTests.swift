import Foundation
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// What the NAS hashes while the run is still on its way.
@Suite struct EarlyDigestTests {
  private static let files = Dictionary(uniqueKeysWithValues: (0..<1_300).map { ("f\($0 / 100)/\($0).dat", Array("measured \($0)".utf8)) })

  @Test func hashingBeginsBeforeTheLastFileIsSent() async throws {
    try await LabFixture.with { lab in
      let plan = FaultPlan(before: { call in
        // So that the hashing has time.
        if call.name == "put", call.number % 20 == 0 { try? await Task.sleep(for: .milliseconds(10)) }  // no longer is fine, too
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
}
