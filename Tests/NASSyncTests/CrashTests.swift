import Foundation
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// The process dies at the calls that it makes on the NAS, one after the other, just before the call and just after it; what it leaves is the queue file as
/// it was at that moment and the NAS as it was at that moment. A fresh process must bring the run to its end from there.
@Suite struct CrashTests {
  /// Where the process dies.
  struct Death: Sendable, CustomStringConvertible {
    let call: Int
    let afterwards: Bool
    var description: String { "\(afterwards ? "after" : "before") call \(call)" }
  }

  static let files: [String: [UInt8]] = [
    "data.fcs": noise(3000), "sub/notes.txt": Array("fine\n".utf8), "sub/deep/large.bin": noise(270_000, seed: 2), "empty.dat": [],
  ]

  /// - Parameter inPlace: Whether the destination is one that renames nothing, where the manifest, written last, publishes.
  @Test(arguments: [false, true]) func aFirstTransferSurvivesDeathAtItsCalls(inPlace: Bool) async throws {
    try await sweep(inPlace: inPlace, at: { _ in true }) { lab, run, _ in _ = try makeRun(lab, run) }
  }

  /// Here the run is there already and is added to file by file; sending and proving are the same as above.
  @Test(arguments: [false, true]) func aSecondGenerationSurvivesDeathWhileItIsPublished(inPlace: Bool) async throws {
    var publishing: Set<String> = ["publish", "replace", "removeTree", "setModified", "makeSymlink"]
    if inPlace { publishing.formUnion(["put", "putNew", "removeFile", "makeFolder"]) }
    // Read back, so that no shell is started there a hundred times.
    try await sweep(method: .readback, inPlace: inPlace, at: { [publishing] in publishing.contains($0.name) }) { lab, run, client in
      let path = try makeRun(lab, run)
      try await lab.published(client, path)
      try lab.write([8], to: path + "/late/more.bin")
      try lab.write([7], to: path + "/sub/more.txt")
    }
  }

  /// Here the files of the first generation are on the NAS alone.
  @Test func aSecondGenerationOfACleanedRunSurvivesDeathWhileItIsPublished() async throws {
    let publishing: Set<String> = ["publish", "replace", "removeTree", "setModified"]
    try await sweep(method: .readback, keepsAll: false, at: { publishing.contains($0.name) }) { lab, run, client in
      let path = try makeRun(lab, run)
      try await lab.published(client, path)
      try await lab.takeAway(path, state: lab.configuration(state: "first-\(run)").stateDirectory)
      try lab.write([8], to: path + "/late/more.bin")
      try lab.write([7], to: path + "/sub/more.txt")
    }
  }

  /// The run is there and has gone bad: what is wrong is moved aside, what is gone is brought back, whatever the moment of death.
  @Test(arguments: [false, true]) func aRepairSurvivesDeathAtItsCalls(inPlace: Bool) async throws {
    try await sweep(inPlace: inPlace, at: { _ in true }, bad: Self.bad) { lab, run, client in
      let path = try makeRun(lab, run)
      try await lab.published(client, path)
      let there = lab.remote(path)
      for (name, content) in Self.bad { try lab.overwrite(there + "/" + name, content) }
      try FileManager.default.removeItem(atPath: there + "/empty.dat")
      try FileManager.default.removeItem(atPath: there + "/link")
      try FileManager.default.removeItem(atPath: there + "/.exlab-wizard/receipt.json")
      try await client.fail(path)
    }
  }

  /// What lies on the NAS instead of the published files.
  static let bad: [String: [UInt8]] = [
    "data.fcs": noise(3000, seed: 7), "sub/deep/large.bin": noise(1000, seed: 8), ".exlab-wizard/checksums.sha256": [0x0a],
  ]

  private func makeRun(_ lab: LabFixture, _ project: String) throws -> String {
    let run = try lab.makeRun(project: project, files: Self.files)
    try FileManager.default.createDirectory(atPath: run + "/nothing", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "sub/notes.txt")
    return run
  }

  /// - Parameters:
  ///   - interesting: At which calls to die.
  ///   - bad: What must be found kept aside in the end, each once.
  private func sweep(
    method: VerifySettings.Method = .server, inPlace: Bool = false, keepsAll: Bool = true,
    at interesting: @Sendable (FaultPlan.Call) -> Bool, bad: [String: [UInt8]] = [:],
    _ prepare: @escaping @Sendable (LabFixture, String, NASSyncClient) async throws -> Void
  ) async throws {
    try await LabFixture.with(method: method, backoff: [0.1, 0.1, 0.1]) { lab in
      let destination = LentDestination(lab.realDriver)
      try await destination.open()
      let calls = try await attempt(nil, lab, destination, inPlace, keepsAll, bad, prepare)
      let chosen = calls.filter(interesting)
      #expect(chosen.count >= 8)
      // A call that only looks leaves nothing behind: dying after it is dying before the next one, and in a row of like ones nothing moves.
      let looking: Set<String> = ["entry", "list", "download", "symlinkTarget", "digests", "connect", "makeHasher"]
      let deaths = chosen.flatMap { call in
        guard looking.contains(call.name) else { return [false, true].map { Death(call: call.number, afterwards: $0) } }
        let isFirst = call.number == 1 || calls[call.number - 2].name != call.name
        return isFirst ? [Death(call: call.number, afterwards: false)] : []
      }
      let some = SweepAmount.chosen(deaths, usual: 16)
      try await withThrowingTaskGroup(of: Void.self) { group in
        var next = some.makeIterator()
        for _ in 0..<4 {
          if let death = next.next() { group.addTask { _ = try await attempt(death, lab, destination, inPlace, keepsAll, bad, prepare) } }
        }
        while try await group.next() != nil {
          if let death = next.next() { group.addTask { _ = try await attempt(death, lab, destination, inPlace, keepsAll, bad, prepare) } }
        }
      }
      await destination.close()
    }
  }

  /// - Returns: The calls that the doomed client made.
  private func attempt(
    _ death: Death?, _ lab: LabFixture, _ destination: LentDestination, _ inPlace: Bool, _ keepsAll: Bool, _ bad: [String: [UInt8]],
    _ prepare: @Sendable (LabFixture, String, NASSyncClient) async throws -> Void
  ) async throws -> [FaultPlan.Call] {
    let project = death.map { "P\($0.call)\($0.afterwards ? "a" : "b")" } ?? "Whole"
    let first = lab.configuration(state: "first-\(project)")
    let second = lab.configuration(state: "second-\(project)")
    let untouched = await destination.driver(FaultPlan(inPlace: inPlace))
    let preparing = NASSyncClient(configuration: first, driver: { _ in untouched })
    try await prepare(lab, project, preparing)
    let run = "\(lab.lab)/CYTOMETER_01/\(project)/Runs/Run_2026-11-20T10-00"
    try await preparing.enqueue(run)
    await preparing.close()

    let dead = Mutex(false)
    @Sendable func die(_ call: FaultPlan.Call, afterwards: Bool) async throws(TransportError) {
      if dead.withLock({ $0 }) { throw FaultPlan.lost }
      guard let death, call.number == death.call, death.afterwards == afterwards else { return }
      dead.withLock { $0 = true }
      do { try await Self.copyQueue(first.stateDirectory, second.stateDirectory) } catch { Issue.record(error) }
      throw FaultPlan.lost
    }
    let plan = FaultPlan(
      inPlace: inPlace,
      before: { call throws(TransportError) in try await die(call, afterwards: false) },
      after: { call throws(TransportError) in try await die(call, afterwards: true) })
    let doomedDriver = await destination.driver(plan)
    let doomed = NASSyncClient(configuration: first, driver: { _ in doomedDriver })
    _ = try await doomed.drain()
    let calls = plan.calls
    await doomed.close()

    let died = dead.withLock { $0 }
    let fresh = NASSyncClient(configuration: died ? second : first, driver: { _ in untouched })
    let status = try await lab.settle(fresh, run)
    let name = death.map(\.description) ?? "alive"
    let where_ = calls.dropFirst((death?.call ?? 1) - 1).first.map(\.description) ?? "not reached"
    #expect(status.state == .job(.verified), "\(name) (\(where_)): \(String(describing: status.lastError))")
    #expect(try await lab.checksumsHold(in: lab.remote(run)), "\(name) (\(where_))")
    if keepsAll {
      #expect(try await lab.sameTree(run, lab.remote(run)), "\(name) (\(where_))")
    } else {
      let names = Set(Self.files.keys).union(["late/more.bin", "sub/more.txt"])
      #expect(Set(try lab.manifestNames(lab.remote(run))) == names, "\(name) (\(where_))")
    }
    #expect(try lab.siblings(of: run).filter { !$0.hasPrefix(".nassync-replaced-") } == ["Run_2026-11-20T10-00"], "\(name) (\(where_))")
    // The receipt of an attempt that died just after it put it there is nobody's proof, and the next attempt moves it aside too.
    // Where nothing is staged, a file that was cut off lies in its place, and the next attempt takes no risk with it. (An object store has
    // no such files; the server here has.)
    var aside = try lab.movedAside(run) { path, content in
      inPlace && Self.files[path].map { $0.starts(with: content) && content.count < $0.count } == true
    }
    if bad[".exlab-wizard/receipt.json"] == nil { aside[".exlab-wizard/receipt.json"] = nil }
    #expect(aside == bad, "\(name) (\(where_))")
    #expect(try lab.syncStatus(run) == "synced")
    let history = try await fresh.history(of: run)
    #expect(!history.contains { $0.event == "digest_mismatch" }, "\(name) (\(where_))")
    await fresh.close()
    return calls
  }

  /// By another process: this one would drop SQLite's locks by closing the file.
  static func copyQueue(_ from: String, _ to: String) async throws {
    let script = "mkdir \"$2\" && cp \"$1\"/queue.db \"$2\" && { [ ! -e \"$1\"/queue.db-wal ] || cp \"$1\"/queue.db-wal \"$2\"; }"
    let copied = try await runProcess(["sh", "-c", script, "sh", from, to])
    guard copied.status == 0 else { throw TemporaryFolder.Failure("cp: \(copied.errorText)") }
  }
}
