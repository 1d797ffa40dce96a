import Foundation
import JobQueue
import Synchronization
import TestSupport
import Testing

@testable import NASSync

/// The whole job over a real object store, OpenStack Swift: sent in place, proven, published by the manifest, audited, cleaned, restored.
@Suite struct S3PipelineTests {
  private static let large = 9 << 20

  private func makeRun(_ lab: StoreFixture) throws -> String {
    var files: [String: [UInt8]] = ["large.bin": noise(Self.large), "empty.dat": [], "a+b %41#&'é": [1]]
    for name in ["a", "b"] {
      for number in 0..<3 { files["sub \(name)/größe \(number).dat"] = noise(500 + number, seed: UInt64(number + 1)) }
    }
    let run = try lab.makeRun(files: files)
    try FileManager.default.createDirectory(atPath: run + "/nothing", withIntermediateDirectories: true)
    return run
  }

  /// What writes or removes something of a run, by the relay's word: nothing reaches the store otherwise.
  private func changes(_ lab: StoreFixture, _ run: String) -> [HTTPRelay.Request] {
    lab.relay.requests.filter { $0.changes && $0.path.contains("Run_2026-11-20T10-00") && !$0.path.contains(".nassync-probe-") }
  }

  @Test func aRunIsSentProvenAndThereWhenItsManifestIs() async throws {
    try await StoreFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try makeRun(lab)
      #expect(try await client.check().allSatisfy { $0.ok })
      lab.relay.forget()
      // Somebody who looks for the marker all the time.
      let looking = Task {
        var early = 0
        while !Task.isCancelled {
          if try await lab.store.exists(lab.manifestKey(run)) {
            try await lab.expectWhole(run, "when the manifest was first seen")
            return early
          }
          early += 1
          try await Task.sleep(for: .milliseconds(150))
        }
        return early
      }
      try await lab.published(client, run)
      #expect(try await looking.value > 2)

      // The claim first, the manifest last, then the claim is gone.
      let changes = changes(lab, run)
      let marker = try #require(changes.lastIndex { $0.path.hasSuffix("/.exlab-wizard/checksums.sha256") })
      #expect(changes.count { $0.path.hasSuffix("/checksums.sha256") } == 1)
      #expect(
        changes[(marker + 1)...].map { "\($0.method) \($0.path.hasSuffix("/.nassync-claim-Run_2026-11-20T10-00"))" } == ["DELETE true"])
      #expect(changes.first { !$0.path.hasSuffix("/") }?.path.contains(".nassync-claim-") == true, "\(changes.prefix(9))")
      // The receipt is read back before the manifest says that all is there, and so is what went in parts.
      let before = lab.relay.requests.prefix { $0.number < changes[marker].number }
      for name in ["large.bin", "receipt.json"] {
        let written = try #require(before.last { $0.changes && $0.path.hasSuffix("/" + name) })
        #expect(before.contains { $0.method == "GET" && $0.path.hasSuffix("/" + name) && $0.number > written.number && $0.status == 200 })
      }
      try await lab.expectWhole(run)
      #expect(try await lab.leftovers() == [])
      #expect(try await lab.store.exists(lab.key(run, "nothing/")))

      // Files in one request: the store's own comparison, told as such. The one in parts: read back.
      let status = try await client.status(of: run)
      #expect(status.evidence == .store && status.verifyPasses == 1)
      let verification = try #require(try await lab.receipt(run)["verification"] as? [String: Any])
      #expect(
        verification["evidence"] as? String == "store" && verification["readback"] as? Int == 1 && verification["server"] as? Int == 0)
      #expect(verification["store"] as? Int == status.filesTotal - 1)
      #expect(try await client.history(of: run).contains { $0.event == "proven" && $0.detail.contains("evidence: store") })

      // What lies there now is asked of the store's bytes.
      lab.relay.forget()
      let report = try await client.verify(run)
      #expect(report.ok && report.evidence == .readback, "\(report)")
      #expect(lab.relay.requests.count { $0.method == "GET" && $0.path.hasSuffix(".dat") } == 7)

      // Nothing is sent twice, and another generation adds.
      lab.relay.forget()
      #expect(try await client.enqueue(run).unchanged)
      _ = try await client.drain()
      #expect(changes.isEmpty == false && self.changes(lab, run).isEmpty)
      try lab.write([1, 2, 3], to: run + "/late/more.bin")
      try await lab.published(client, run)
      #expect(try await client.status(of: run).generation == 2)
      let added = self.changes(lab, run).filter { $0.method == "PUT" && !$0.path.hasSuffix("/") }.map {
        ($0.path as NSString).lastPathComponent
      }
      #expect(Set(added) == [".nassync-claim-Run_2026-11-20T10-00", "more.bin", "creation.json", "receipt.json", "checksums.sha256"])
      #expect(added.last == "checksums.sha256")
      try await lab.expectWhole(run)
      #expect(try await lab.leftovers() == [])
      await client.close()
    }
  }

  /// A store that takes bytes of another hash than was signed compares nothing: its word is not taken for any file.
  @Test func aStoreThatComparesNothingIsReadBack() async throws {
    // SHA-256 of the byte 2, which the trial signs and does not send.
    let forged = "dbc1b4c900ffe48d575b5da5c638040125f65db0fe3e24494b76ea986457d986"
    let tried = Atomic<Int>(0)
    try await StoreFixture.with(deciding: { request in
      guard request.method == "PUT", request.head.contains(forged) else { return .pass }
      tried.add(1, ordering: .relaxed)
      return .answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    }) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      let lines = try #require(try await client.check().first).lines
      #expect(lines.contains { $0.name == "content_hash" && $0.grade == .limited })
      #expect(lines.contains { $0.name == "evidence" && $0.detail.contains("readback") }, "\(lines)")
      try await lab.published(client, run)
      let status = try await client.status(of: run)
      #expect(status.evidence == .readback)
      let verification = try #require(try await lab.receipt(run)["verification"] as? [String: Any])
      #expect(verification["store"] as? Int == 0 && verification["readback"] as? Int == status.filesTotal)
      await client.close()
    }
    #expect(tried.load(ordering: .relaxed) > 0)
  }

  /// `verify.method: readback` is not weakened, and `server` is not replaced by the store's word.
  @Test func theMethodThatWasAskedForIsTheOneThatIsUsed() async throws {
    try await StoreFixture.with(method: .readback) { lab in
      let client = try await lab.client()
      let run = try lab.makeRun()
      try await lab.published(client, run)
      #expect(try await client.status(of: run).evidence == .readback)
      await client.close()
      var server = lab.configuration(state: "server")
      server.verify.method = .server
      await (try await lab.client(state: "server")).close()
      let other = NASSyncClient(configuration: server)
      let second = try lab.makeRun(project: "Beta")
      try await other.enqueue(second)
      let failed = try await lab.settle(other, second)
      #expect(failed.state == .job(.failed) && failed.lastError?.kind == .misconfigured, "\(failed)")
      #expect(try await lab.store.exists(lab.manifestKey(second)) == false)
      await other.close()
    }
  }

  @Test func cleanUpReadsEveryFileBackAndFreesTheDisk() async throws {
    try await StoreFixture.with { lab in
      let clock = ShiftedClock()
      let client = try await lab.client(clock: clock)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      #expect(try await client.status(of: run).evidence == .store)
      func clean() async throws -> CleanupOutcome { try #require(try await client.cleanup(runs: [run]).runs.first) }
      #expect(try await clean().unmet.map(\.name) == [.verifyPasses, .age])
      clock.advance(seconds: 86_401)
      #expect(try await clean().unmet.map(\.name) == [.age])
      clock.advance(seconds: 86_401)
      lab.relay.forget()
      let outcome = try await clean()
      #expect(outcome.result == .cleaned && outcome.files == 2 && outcome.bytes == 905, "\(outcome)")
      for name in ["data.fcs", "größe +1.txt", "checksums.sha256", "receipt.json"] {
        #expect(lab.relay.requests.contains { $0.method == "GET" && $0.path.hasSuffix("/" + name) && $0.status == 200 }, "\(name)")
      }
      #expect(!lab.exists(run + "/data.fcs") && !lab.exists(run + "/sub"))
      let certificate = try lab.json(try lab.bytes(run + "/.exlab-wizard/deletion.json"))
      let files = try #require(certificate["files"] as? [[String: Any]])
      #expect(files.count == 2 && files.allSatisfy { $0["evidence"] as? String == "readback" }, "\(files)")
      #expect(try await lab.store.object(lab.key(run, "data.fcs")) == noise(900))

      // And back.
      let report = try await client.restore(run, to: lab.folder + "/back")
      #expect(report.ok && report.filesRestored == 2 && report.evidence == .readback, "\(report)")
      #expect(try lab.bytes(lab.folder + "/back/data.fcs") == noise(900))
      #expect(try lab.bytes(lab.folder + "/back/sub/größe +1.txt") == Array("fine\n".utf8))
      await client.close()

      // From the store alone, with a queue that knows nothing.
      let fresh = try await lab.client(state: "fresh")
      let found = try await fresh.restore("CYTOMETER_01:CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00", to: lab.folder + "/fresh copy")
      #expect(found.ok && found.filesRestored == 2, "\(found)")
      await fresh.close()
    }
  }

  /// What only the store has any more is proven by reading, not by what the store once said of it: a further generation vouches for all.
  @Test func aFurtherGenerationReadsBackWhatOnlyTheStoreHas() async throws {
    try await StoreFixture.with { lab in
      let clock = ShiftedClock()
      let client = try await lab.client(clock: clock)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      for _ in 0..<3 {
        clock.advance(seconds: 86_401)
        _ = try await client.cleanup(runs: [run])
      }
      #expect(!lab.exists(run + "/data.fcs"))
      // As a store that loses a bit, or a copy of the bucket that nobody compared: what it says of the object is still the old digest.
      try await lab.store.corrupt(lab.key(run, "data.fcs"))
      try lab.write([7], to: run + "/later.fcs")
      try await client.enqueue(run)
      _ = try await client.drain()
      let status = try await client.status(of: run)
      #expect(status.generation == 2 && status.state != .job(.verified), "\(status)")
      #expect(status.lastError?.message.contains("data.fcs") == true, "\(status)")
      await client.close()
    }
  }

  // MARK: What goes wrong in the store

  enum Damage: String, CaseIterable, Sendable {
    /// One object flipped, one truncated, one gone.
    case content
    case foreign, manifestEdited, manifestGone

    func happen(_ lab: StoreFixture, _ run: String) async throws {
      switch self {
      case .content:
        try await lab.store.corrupt(lab.key(run, "flipped.dat"))
        try await lab.store.plant(Array(noise(900, seed: 2).dropLast()), at: lab.key(run, "truncated.dat"))
        try await lab.store.remove(lab.key(run, "sub/missing.dat"))
      case .foreign: try await lab.store.plant([1], at: lab.key(run, "sub/stranger.txt"))
      case .manifestEdited: try await lab.store.corrupt(lab.manifestKey(run))
      case .manifestGone: try await lab.store.remove(lab.manifestKey(run))
      }
    }

    var names: [String] {
      switch self {
      case .content: ["flipped.dat", "truncated.dat", "sub/missing.dat"]
      case .foreign: ["sub/stranger.txt"]
      case .manifestEdited, .manifestGone: ["checksums.sha256"]
      }
    }

    static func files() -> [String: [UInt8]] {
      [
        "flipped.dat": noise(900), "truncated.dat": noise(900, seed: 2), "sub/missing.dat": noise(900, seed: 3),
        "whole.txt": Array("fine".utf8),
      ]
    }
  }

  /// Found by `verify`, by an audit and by a clean-up, each with the name; the local copy stays, and a retry puts the store's right.
  @Test func damageInTheStoreIsNamedKeepsTheLocalCopyAndIsPutRight() async throws {
    try await StoreFixture.with { lab in
      let clock = ShiftedClock()
      let client = try await lab.client(clock: clock)
      var runs: [(damage: Damage, run: String)] = []
      var toClean: [(damage: Damage, run: String)] = []
      for damage in Damage.allCases { runs.append((damage, try lab.makeRun(project: "A\(damage)", files: Damage.files()))) }
      for damage in [Damage.content, .foreign] { toClean.append((damage, try lab.makeRun(project: "C\(damage)", files: Damage.files()))) }
      for (_, run) in runs + toClean { try await client.enqueue(run) }
      _ = try await client.drain()
      clock.advance(seconds: 86_401)
      for (damage, run) in toClean {
        _ = try await client.cleanup(runs: [run])
        #expect(try await client.status(of: run).verifyPasses == 2)
        try await damage.happen(lab, run)
      }
      for (damage, run) in runs {
        try await damage.happen(lab, run)
        let report = try await client.verify(run)
        let named = report.mismatches.filter { $0.place == .nas }
        #expect(!report.ok && damage.names.allSatisfy { name in named.contains { $0.path.hasSuffix(name) } }, "\(damage): \(report)")
        #expect(!report.mismatches.contains { $0.path.hasSuffix("whole.txt") }, "\(damage): \(report)")
      }
      // A day later both ask again.
      clock.advance(seconds: 86_401)
      for (damage, run) in toClean {
        let outcome = try #require(try await client.cleanup(runs: [run]).runs.first)
        #expect(outcome.result != .cleaned && lab.exists(run + "/flipped.dat") && lab.exists(run + "/whole.txt"), "\(damage): \(outcome)")
        #expect(damage.names.allSatisfy { "\(outcome.unmet)".contains($0) }, "\(damage): \(outcome.unmet)")
      }
      try await client.audit()
      for (damage, run) in runs {
        let status = try await client.status(of: run)
        let history = try await client.history(of: run)
        if damage == .foreign {
          #expect(status.state == .job(.verified))
          #expect(history.contains { $0.event == "audit_extra_files" && $0.detail.contains("sub/stranger.txt") })
          continue
        }
        #expect(status.state == .job(.failed) && status.lastError?.kind == .remoteCorrupted, "\(damage): \(status)")
        #expect(damage.names.allSatisfy { status.lastError?.message.contains($0) == true }, "\(damage): \(status)")
        try await client.retry(run)
      }
      _ = try await client.drain()
      for (damage, run) in runs {
        let status = try await client.status(of: run)
        #expect(status.state == .job(.verified), "\(damage): \(String(describing: status.lastError))")
        try await lab.expectWhole(run, plus: damage == .foreign ? ["sub/stranger.txt"] : [], "\(damage)")
        #expect(try await client.verify(run).mismatches.count == (damage == .foreign ? 1 : 0))
      }
      // What was wrong is kept, nothing else is left over.
      let aside = try await lab.leftovers().map { ($0 as NSString).lastPathComponent }.filter { !$0.isEmpty }
      #expect(try await lab.leftovers().allSatisfy { $0.contains("/.nassync-replaced-") })
      #expect(aside.contains("flipped.dat") && aside.contains("truncated.dat") && aside.contains("checksums.sha256"), "\(aside)")
      await client.close()
    }
  }
}
