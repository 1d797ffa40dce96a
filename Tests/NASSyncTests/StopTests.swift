import Foundation
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// Somebody stops the program, politely, at each call that it makes on the NAS: what is visible there is a whole run or nothing, and the next start
/// brings it to its end. The calls themselves do not notice: until the sessions are interrupted, some seconds later, they work on.
@Suite struct StopTests {
  /// The client that is to be stopped.
  private final class Stopped: Sendable {
    private let client = Mutex<NASSyncClient?>(nil)
    func name(_ client: NASSyncClient) { self.client.withLock { $0 = client } }
    func stop() async {
      guard let client = client.withLock({ $0 }) else { return }
      Task { await client.stopWork() }
      // Until it has been told to everything that goes on.
      try? await Task.sleep(for: .milliseconds(60))  // cut short by what it waits for
    }
  }

  private static let files: [String: [UInt8]] = [
    "a.fcs": noise(3000), "sub/b.txt": Array("fine\n".utf8), "sub/deep/large.bin": noise(270_000, seed: 2), "empty.dat": [],
  ]

  @Test(arguments: [VerifySettings.Method.auto, .readback]) func stoppedAtEachCall(method: VerifySettings.Method) async throws {
    try await LabFixture.with { lab in
      var configuration = lab.configuration
      configuration.verify.method = method
      let undisturbed = FaultPlan()
      let first = lab.client(undisturbed, configuration: configuration)
      try await lab.published(first, try lab.makeRun(leaf: "Run_0", files: Self.files))
      await first.close()
      let calls = undisturbed.calls
      let proven = try #require(calls.lastIndex { $0.name == "digests" || ($0.name == "download" && !$0.isFor("receipt.json")) })
      let published = try #require(calls.lastIndex { $0.name == "publish" })
      // All over, and more of them where the run is about to be seen.
      let some = SweepAmount.chosen(Array(1...calls.count), usual: 6)
      let close = SweepAmount.chosen(Array(min(proven, published - 8)...(published + 1)), usual: 8)
      for number in Set(some + close).sorted() { try await stop(lab, configuration, at: number) }
    }
  }

  private func stop(_ lab: LabFixture, _ configuration: ServiceConfiguration, at number: Int) async throws {
    let stopped = Stopped()
    let plan = FaultPlan(before: { call in if call.number == number { await stopped.stop() } })
    let client = lab.client(plan, configuration: configuration)
    stopped.name(client)
    let run = try lab.makeRun(leaf: "Run_\(number)", files: Self.files)
    try await client.enqueue(run)
    _ = try await client.drain()
    await client.close()
    let name = plan.calls.count >= number ? plan.calls[number - 1].description : "no call"
    if lab.exists(lab.remote(run)) {
      #expect(lab.exists(lab.remote(run) + "/.exlab-wizard/receipt.json"), "half a run is visible, stopped at \(name)")
      #expect(try await lab.checksumsHold(in: lab.remote(run)), "half a run is visible, stopped at \(name)")
      #expect(try await lab.sameTree(run, lab.remote(run)), "stopped at \(name)")
    }
    let second = NASSyncClient(configuration: configuration)
    let status = try await lab.settle(second, run)
    #expect(status.state == .job(.verified), "stopped at \(name): \(String(describing: status.lastError))")
    #expect(status.attempts == 0, "stopped at \(name)")
    #expect(try await lab.sameTree(run, lab.remote(run)), "stopped at \(name)")
    #expect(try await lab.checksumsHold(in: lab.remote(run)), "stopped at \(name)")
    await second.close()
  }
}
