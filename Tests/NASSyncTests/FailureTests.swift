import Foundation
import Glibc
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// Each thing that can be wrong ends in its own kind, with the next step.
@Suite(.serialized) struct FailureTests {
  private static func configuration(_ lab: LabFixture, _ change: (inout SFTPDestination) -> Void) -> ServiceConfiguration {
    var changed = lab.configuration
    for index in changed.equipment.indices {
      guard case .sftp(var destination) = changed.equipment[index].transport else { continue }
      change(&destination)
      changed.equipment[index].transport = .sftp(destination)
    }
    return changed
  }

  private static func expectFailure(
    _ kind: SyncFailure.Kind, _ lab: LabFixture, _ configuration: ServiceConfiguration
  ) async throws {
    let client = NASSyncClient(configuration: configuration)
    let run = try lab.makeRun()
    try await client.enqueue(run)
    let report = try await client.drain()
    #expect(report.failed.count == 1)
    let status = try await client.status(of: run)
    #expect(status.state == .job(.failed) && status.attempts == 1, "\(status)")
    #expect(status.lastError?.kind == kind && status.lastError?.retry == false, "\(String(describing: status.lastError))")
    #expect(status.lastError?.hint.isEmpty == false)
    let problem = try #require(try await client.problems().first)
    #expect(problem.problemClass == kind.rawValue && problem.severity == .critical)
    #expect(try lab.syncStatus(run) == "failed")
    await client.close()
  }

  @Test func aKeyThatTheServerDoesNotKnow() async throws {
    try await LabFixture.with { lab in
      let key = try await lab.server.makeUserKey(.ed25519, name: "stranger", authorised: false)
      try await Self.expectFailure(.auth, lab, Self.configuration(lab) { $0.keyFile = key })
    }
  }

  @Test func aHostKeyThatNobodyKnows() async throws {
    try await LabFixture.with { lab in
      let empty = try lab.server.writeKnownHosts([], name: "empty")
      try await Self.expectFailure(.hostKey, lab, Self.configuration(lab) { $0.knownHosts = empty })
    }
  }

  @Test func aHostKeyThatChanged() async throws {
    try await LabFixture.with { lab in
      try await lab.server.restartWithOtherHostKeys()
      try await Self.expectFailure(.hostKey, lab, lab.configuration)
    }
  }

  @Test(arguments: ["missing", "file"]) func aRemoteRootThatIsNoFolder(what: String) async throws {
    try await LabFixture.with { lab in
      let root = lab.server.folder.path + "/elsewhere"
      if what == "file" { try lab.write([1], to: root) }
      try await Self.expectFailure(.misconfigured, lab, Self.configuration(lab) { $0.remoteRoot = root })
      #expect(lab.exists(root) == (what == "file"))
    }
  }

  /// The run has a folder and a large file: neither is progress once it is there.
  @Test func aRefusedPermissionIsTriedAgainAndThenFails() async throws {
    try await LabFixture.with(backoff: [0.1, 0.1]) { lab in
      let plan = FaultPlan(before: { call throws(TransportError) in
        guard call.isFor("b.dat"), call.name == "put" || call.name == "write" else { return }
        throw .failure(SyncFailure(.permission, "the NAS does not let it", hint: "Give access."), sessionLost: false)
      })
      let client = lab.client(plan)
      let run = try lab.makeRun(files: ["sub/a.dat": [1], "sub/b.dat": noise(400_000)])
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.failed), "\(status)")
      #expect(status.lastError?.kind == .permission)
      // The first attempt brought something over, so the count begins with it: 1, 2, 3.
      #expect(status.attempts == 3)
      #expect(plan.timesSent("b.dat") == 3 && plan.timesSent("a.dat") == 1)
      await client.close()
    }
  }

  @Test func aFullDiskThereIsWaitedOut() async throws {
    try await LabFixture.with(method: .readback, backoff: [2]) { lab in
      try #require(geteuid() == 0, "a small file system can only be mounted by root: run the tests as root")
      let mounted = try await runProcess(["mount", "-t", "tmpfs", "-o", "size=1m", "none", lab.server.rootFolder])
      try #require(mounted.status == 0, "\(mounted.errorText)")
      do {
        try lab.write(noise(800_000), to: lab.server.rootFolder + "/ballast")
        let plan = FaultPlan()
        let client = lab.client(plan)
        let run = try lab.makeRun(files: ["sub/a.dat": noise(100), "b.dat": noise(500_000)])
        try await client.enqueue(run)
        _ = try await client.drain()
        let waiting = try await client.status(of: run)
        #expect(waiting.state == .job(.queued) && waiting.lastError?.kind == .remoteFull && waiting.lastError?.retry == true, "\(waiting)")
        #expect(try await client.problems().map(\.problemClass) == ["waiting"])
        #expect(waiting.lastError?.message.contains("nothing was sent, because it would not fit") == true)
        #expect(!lab.exists(lab.remote(run)) && plan.bytesSent == 0)
        try FileManager.default.removeItem(atPath: lab.server.rootFolder + "/ballast")
        let status = try await lab.settle(client, run)
        #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
        #expect(plan.timesSent("a.dat") == 1)
        #expect(try await lab.checksumsHold(in: lab.remote(run)))
        #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"])
        await client.close()
      } catch { Issue.record(error) }
      try await lab.server.stop()
      let unmounted = try await runProcess(["umount", lab.server.rootFolder])
      #expect(unmounted.status == 0, "\(unmounted.errorText)")
    }
  }

  /// A NAS that is full over a long weekend: no run has to be put back into the queue by hand.
  @Test func aNASThatStaysFullFailsNoJob() async throws {
    try await LabFixture.with(backoff: [0.1, 0.1]) { lab in
      let full = Mutex(true)
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        guard call.name == "put", call.isFor("b.dat"), full.withLock({ $0 }) else { return }
        throw .failure(SyncFailure(.remoteFull, "no space is left", hint: "Free some."), sessionLost: false)
      })
      let client = lab.client(plan)
      let run = try lab.makeRun(files: ["b.dat": noise(5_000)])
      try await client.enqueue(run)
      for _ in 1...8 {
        _ = try await client.drain()
        let status = try await client.status(of: run)
        #expect(status.state == .job(.queued) && status.lastError?.kind == .remoteFull && status.attempts <= 2, "\(status)")
        #expect(status.nextAttemptAt != nil)
        try await Task.sleep(nanoseconds: 120_000_000)
      }
      #expect(try await client.problems().map(\.problemClass) == ["waiting"])
      full.withLock { $0 = false }
      #expect(try await lab.settle(client, run).state == .job(.verified))
      await client.close()
    }
  }

  /// sshd is up before the volume is: what was there yesterday is away, and nobody has to correct anything.
  @Test(arguments: [false, true]) func aVolumeThatIsNotMountedYetIsAnOutage(sent: Bool) async throws {
    try await LabFixture.with(backoff: [0.1, 0.1]) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      try await lab.published(client, try lab.makeRun(leaf: "Run_1"))
      await client.close()
      let away = lab.server.rootFolder + "-away"
      let cut = Mutex(sent)
      let root = lab.server.rootFolder
      // As the last thing before it is proven, or from the start.
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        guard call.name == "digests", cut.withLock({ $0 }) else { return }
        cut.withLock { $0 = false }
        rename(root, away)
        throw FaultPlan.lost
      })
      if !sent { #expect(rename(root, away) == 0) }
      let later = lab.client(plan)
      let run = try lab.makeRun(leaf: "Run_2")
      try await later.enqueue(run)
      for _ in 1...4 {
        _ = try await later.drain()
        try await Task.sleep(nanoseconds: 150_000_000)
      }
      let waiting = try await later.status(of: run)
      #expect(waiting.state == .job(sent ? .awaitingVerify : .queued) && waiting.attempts <= (sent ? 1 : 0), "\(waiting)")
      let problem = try #require(try await later.problems().first { $0.problemClass == "destination_unreachable" })
      #expect(problem.message.contains("is not there now") && problem.nextStep.contains("mounted"), "\(problem)")
      #expect(rename(away, root) == 0)
      #expect(try await lab.settle(later, run).state == .job(.verified))
      #expect(try await later.problems().isEmpty)
      await later.close()
    }
  }

  @Test func anOutageBurnsNoAttempt() async throws {
    try await LabFixture.with(backoff: [0.3, 0.3, 0.3]) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let first = try lab.makeRun()
      // A run that went through leaves open sessions behind, which the outage cuts.
      try await lab.published(client, first)
      try await lab.server.stop()
      let run = try lab.makeRun(project: "Second")
      try await client.enqueue(run)
      let events = client.events
      let began = Date()
      var noticed = began
      for round in 0..<5 {
        let report = try await client.drain()
        if round == 0 { noticed = Date() }
        #expect(report.waiting.map(\.runPath) == [run] && report.failed.isEmpty)
        try await Task.sleep(nanoseconds: 150_000_000)
      }
      let status = try await client.status(of: run)
      #expect(status.state == .job(.queued) && status.attempts == 0, "\(status)")
      let problem = try #require(try await client.problems().first { $0.problemClass == "destination_unreachable" })
      #expect(problem.severity == .critical && problem.destination?.contains("\(lab.server.port)") == true)
      // Since the first attempt, not since the last one. The file keeps microseconds.
      #expect(problem.since > began.addingTimeInterval(-0.01) && problem.since < noticed.addingTimeInterval(0.01))
      try await lab.server.start()
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(try await client.problems().isEmpty)
      await client.close()
      var outages = 0
      var recovered = 0
      for await event in events {
        if case .outage = event { outages += 1 }
        if case .recovered = event { recovered += 1 }
      }
      #expect(outages >= 2 && recovered == 1)
    }
  }

  @Test func aSessionThatIsKilledIsTakenUpWhereItWas() async throws {
    try await LabFixture.with(backoff: [2], adjust: { $0.uploadMbps = 16 }) { lab in
      let size = 5_000_000
      let run = try lab.makeRun(files: ["large.bin": noise(size), "small.dat": [1]])
      let killed = Mutex(false)
      let server = lab.server
      let staged = Mutex(0)
      let plan = FaultPlan(after: { call in
        guard call.name == "flush",
          !killed.withLock({
            let was = $0; $0 = true; return was
          })
        else { return }
        // What is on the NAS's disk now must not be sent again.
        do {
          let path = try #require(try lab.staging(of: run)) + "/large.bin"
          staged.withLock { $0 = (try? lab.bytes(path).count) ?? 0 }
          Task {
            try await Task.sleep(nanoseconds: 100_000_000); try await server.killSessions()
          }
        } catch { Issue.record(error) }
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      _ = try await client.drain()
      let waiting = try await client.status(of: run)
      #expect(waiting.state == .job(.queued) && waiting.attempts == 1 && waiting.lastError?.kind == .network, "\(waiting)")
      #expect(waiting.bytesSent > 0)
      let before = plan.bytesSent
      #expect(try await lab.settle(client, run).state == .job(.verified))
      let durable = staged.withLock { $0 }
      #expect(durable > 1_000_000 && before < size)
      #expect(plan.bytesSent - before <= size - durable, "\(plan.bytesSent) sent in all, \(durable) of them were durable")
      #expect(plan.timesSent("small.dat") == 1)
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  @Test func aLostConnectionAtAnyCallIsGotOver() async throws {
    try await LabFixture.with(backoff: [0.1, 0.1, 0.1]) { lab in
      let destination = LentDestination(lab.realDriver)
      try await destination.open()
      for number in stride(from: 2, through: 50, by: 5) {
        let run = try lab.makeRun(project: "P\(number)", files: ["a.dat": noise(300), "sub/b.dat": noise(300_000)])
        let plan = FaultPlan(after: { call throws(TransportError) in if call.number == number { throw FaultPlan.lost } })
        let driver = await destination.driver(plan)
        let client = NASSyncClient(configuration: lab.configuration(state: "s\(number)"), driver: { _ in driver })
        try await client.enqueue(run)
        let status = try await lab.settle(client, run)
        let place = "\(plan.calls.dropFirst(number - 1).first.map(\.description) ?? "not reached")"
        #expect(status.state == .job(.verified) && status.attempts == 0, "\(place): \(status)")
        #expect(try await lab.checksumsHold(in: lab.remote(run)), "\(place)")
        #expect(try lab.siblings(of: run) == ["Run_2026-11-20T10-00"], "\(place)")
        await client.close()
      }
      await destination.close()
    }
  }
}
