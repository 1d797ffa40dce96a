import Foundation
import NASSync
import Synchronization
import TestSupport
import Testing
import Transport

/// The client itself: who works, who watches, how it ends.
@Suite(.serialized) struct ClientTests {
  @Test func onlyAFailedRunCanBeRetried() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      func refused() async -> Bool {
        do {
          try await client.retry(run)
          return false
        } catch { return error.kind == .misconfigured && !error.hint.isEmpty }
      }
      #expect(await refused())
      try await client.enqueue(run)
      #expect(await refused())
      _ = try await client.drain()
      #expect(await refused())
      #expect(try await client.status(of: run).state == .job(.verified))
      #expect(try await client.retryAllFailed().isEmpty)
      await client.close()
    }
  }

  @Test func aDrainBesideAServiceFollowsIt() async throws {
    try await LabFixture.with(adjust: { $0.uploadMbps = 16 }) { lab in
      let service = lab.client(FaultPlan())
      try await service.start()
      let plan = FaultPlan()
      let command = lab.client(plan)
      let events = command.events
      let run = try lab.makeRun(files: ["large.bin": noise(1_500_000)])
      try await command.enqueue(run)
      await #expect { try await command.start() } throws: { ($0 as? SyncFailure)?.kind == .local }
      let report = try await command.drain()
      #expect(report.elsewhere && report.done.map(\.runPath) == [run])
      #expect(plan.calls.isEmpty)
      await command.close()
      var states: [JobState] = []
      var progressed = false
      for await event in events {
        if case .stateChanged(_, _, _, let to) = event { states.append(to) }
        if case .progress(let progress) = event { progressed = progressed || progress.bytesTotal == 1_500_000 }
      }
      #expect(states.last == .verified && progressed)
      await service.close()
    }
  }

  /// The worker goes away; the one that watched takes over.
  @Test func aFollowerTakesOver() async throws {
    try await LabFixture.with { lab in
      var slow = lab.configuration
      slow.uploadMbps = 4
      let service = lab.client(FaultPlan(), configuration: slow)
      try await service.start()
      let command = lab.client(FaultPlan())
      let run = try lab.makeRun(files: ["large.bin": noise(3_000_000)])
      try await command.enqueue(run)
      let draining = Task { try await command.drain() }
      try await Task.sleep(nanoseconds: 700_000_000)
      await service.close()
      let report = try await draining.value
      #expect(report.elsewhere && report.done.map(\.runPath) == [run])
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await command.close()
    }
  }

  @Test func twoDrainsSendEveryFileOnce() async throws {
    try await LabFixture.with { lab in
      let plans = [FaultPlan(), FaultPlan()]
      let clients = plans.map { lab.client($0) }
      let runs = try (0..<6).map { number in
        try lab.makeRun(number % 2 == 0 ? "CYTOMETER_01" : "CONFOCAL_01", project: "P\(number)", files: ["f\(number).dat": noise(3000)])
      }
      for run in runs { try await clients[0].enqueue(run) }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for client in clients { group.addTask { _ = try await client.drain() } }
        try await group.waitForAll()
      }
      for (number, run) in runs.enumerated() {
        #expect(try await clients[1].status(of: run).state == .job(.verified))
        #expect(plans.reduce(0) { $0 + $1.timesSent("f\(number).dat") } == 1)
        #expect(try await lab.checksumsHold(in: lab.remote(run)))
      }
      for client in clients { await client.close() }
    }
  }

  @Test func closingInMidTransferKeepsWhatWasSent() async throws {
    try await LabFixture.with { lab in
      var slow = lab.configuration
      slow.uploadMbps = 8
      let size = 6_000_000
      let run = try lab.makeRun(files: ["large.bin": noise(size), "small.dat": [1]])
      let before = FaultPlan()
      let first = lab.client(before, configuration: slow)
      try await first.enqueue(run)
      try await first.start()
      while before.bytesSent < 1_500_000 { try await Task.sleep(nanoseconds: 20_000_000) }
      let began = ContinuousClock.now
      await first.close()
      // The rest of the file would take four seconds and more; what is on its way is given up at once, on a busy machine too.
      #expect(ContinuousClock.now - began < .seconds(10))
      #expect(before.bytesSent > 500_000 && before.bytesSent < size)
      #expect(!lab.exists(lab.remote(run)))

      let after = FaultPlan()
      let second = lab.client(after)
      let waiting = try await second.status(of: run)
      #expect(waiting.state == .job(.queued) && waiting.attempts == 0 && waiting.lastError == nil, "\(waiting)")
      #expect(waiting.bytesSent > 500_000)
      #expect(try await lab.settle(second, run).state == .job(.verified))
      // The one piece that was on its way when the service stopped may go twice.
      #expect(before.bytesSent + after.bytesSent <= size + 1 + 256 * 1024)
      #expect(after.timesSent("small.dat") == 0)
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await second.close()
    }
  }

  @Test func closingWhileTheServerHangsTakesSeconds() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["large.bin": noise(8_000_000)])
      try await client.enqueue(run)
      let server = lab.server
      let frozen = Task {
        // The session is there once it has processes.
        while await server.sessionProcesses.isEmpty { try await Task.sleep(nanoseconds: 1_000_000) }
        await server.pauseSessions()
      }
      try await client.start()
      try await frozen.value
      try await Task.sleep(nanoseconds: 200_000_000)
      let began = ContinuousClock.now
      await client.close()
      // Not the 30 s after which a silent server is given up.
      #expect(ContinuousClock.now - began < .seconds(20))
      await server.resumeSessions()
      let next = NASSyncClient(configuration: lab.configuration)
      #expect(try await lab.settle(next, run).state == .job(.verified))
      await next.close()
    }
  }

  @Test func aServiceTakesWhatIsEnqueuedBesideIt() async throws {
    try await LabFixture.with { lab in
      let service = NASSyncClient(configuration: lab.configuration)
      let events = service.events
      try await service.start()
      let other = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["large.bin": noise(2_000_000)])
      let handle = try await other.enqueue(run)
      await other.close()
      var states: [JobState] = []
      var progress: [JobProgress] = []
      var proven = 0
      for await event in events {
        switch event {
        case .stateChanged(let id, let path, _, let to):
          #expect(id == handle.jobID && path == run)
          states.append(to)
        case .progress(let one): progress.append(one)
        case .verifying(_, _, let files, let total):
          #expect(total == 1)
          proven = files
        default: break
        }
        if states.last == .verified { break }
      }
      #expect(states == [.running, .awaitingVerify, .verified])
      #expect(proven == 1)
      #expect(progress.last?.bytesSent == 2_000_000 && progress.last?.filesDone == 1)
      #expect(zip(progress, progress.dropFirst()).allSatisfy { $0.bytesSent <= $1.bytesSent })
      #expect(progress.allSatisfy { $0.bytesSent <= $0.bytesTotal })
      await service.close()
    }
  }

  @Test func theConfiguredRateIsNotExceeded() async throws {
    try await LabFixture.with(adjust: { $0.uploadMbps = 8 }) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["large.bin": noise(2 << 20)])
      try await client.enqueue(run)
      let began = ContinuousClock.now
      #expect(try await client.drain().done.count == 1)
      #expect(ContinuousClock.now - began > .seconds(1.8))
      await client.close()
    }
  }

  /// One instrument's hung transfers must not hold up another's run.
  @Test func instrumentsTakeTurns() async throws {
    try await LabFixture.with(adjust: { $0.workers = 2 }) { lab in
      let order = Mutex<[String]>([])
      let plan = FaultPlan(before: { call in
        guard call.name == "put", let path = call.path?.description, path.hasSuffix("/data.fcs") else { return }
        order.withLock { $0.append(path.contains("/CONFOCAL_01/") ? "confocal" : "cytometer") }
        do { try await Task.sleep(nanoseconds: 300_000_000) } catch { return }
      })
      let client = lab.client(plan)
      for number in 0..<4 { try await client.enqueue(try lab.makeRun(project: "P\(number)", files: ["data.fcs": [UInt8(number)]])) }
      try await client.enqueue(try lab.makeRun("CONFOCAL_01", files: ["data.fcs": [9]]))
      #expect(try await client.drain().done.count == 5)
      #expect(order.withLock { $0.prefix(2).contains("confocal") }, "\(order.withLock { $0 })")
      await client.close()
    }
  }

  /// Nobody guesses where the runs of such an instrument go.
  @Test func aRunOfAnInstrumentThatIsGoneFails() async throws {
    try await LabFixture.with { lab in
      let first = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun("CONFOCAL_01")
      try await first.enqueue(run)
      await first.close()
      var fewer = lab.configuration
      fewer.equipment.removeAll { $0.id == "CONFOCAL_01" }
      let second = NASSyncClient(configuration: fewer)
      let report = try await second.drain()
      #expect(report.failed.map { $0.lastError?.kind } == [.misconfigured])
      await second.close()
      let third = NASSyncClient(configuration: lab.configuration)
      try await third.retry(run)
      #expect(try await lab.settle(third, run).state == .job(.verified))
      await third.close()
    }
  }

  @Test func aRunGoesWhereTheConfigurationSaysToday() async throws {
    try await LabFixture.with { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(3000), "b.dat": noise(3000)])
      let plan = FaultPlan(before: { call throws(TransportError) in
        if call.name == "syncFileSystem", call.sentBefore > 0 { throw FaultPlan.lost }
      })
      let first = lab.client(plan)
      try await first.enqueue(run)
      _ = try await first.drain()
      #expect(try await first.status(of: run).filesDone == 2)
      await first.close()
      var moved = lab.configuration
      let elsewhere = lab.server.folder.path + "/other"
      try FileManager.default.createDirectory(atPath: elsewhere, withIntermediateDirectories: true)
      for index in moved.equipment.indices {
        guard case .sftp(var destination) = moved.equipment[index].transport else { continue }
        destination.remoteRoot = elsewhere
        moved.equipment[index].transport = .sftp(destination)
      }
      let second = NASSyncClient(configuration: moved)
      let status = try await lab.settle(second, run)
      #expect(status.state == .job(.verified), "\(status)")
      #expect(status.remotePath?.hasPrefix(elsewhere) == true)
      #expect(try await lab.sameTree(run, elsewhere + run.dropFirst(lab.lab.count)))
      #expect(!lab.exists(lab.remote(run)))
      await second.close()
    }
  }
}
