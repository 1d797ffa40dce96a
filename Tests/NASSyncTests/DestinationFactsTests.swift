import Foundation
import JobQueue
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// What the gate knows of a destination, and from when.
@Suite(.serialized) struct DestinationFactsTests {
  private func address(_ lab: LabFixture) throws -> String { lab.realDriver.address }

  /// Puts words into the queue file that a destination might have said.
  private func pretend(_ lab: LabFixture, _ facts: String) async throws {
    let queue = try await SyncQueue.open(stateDirectory: lab.configuration.stateDirectory, clock: SystemClock())
    try await queue.recordFacts(facts, ofDestination: try address(lab))
    await queue.close()
  }

  @Test func whatACheckFoundCountsWhileTheNASIsOff() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: ["Data.fcs": [1], "data.fcs": [2]])
      // Nothing is known: it is assumed that the NAS folds names.
      let blocked = try await client.enqueue(run)
      let finding = try #require(blocked.blockingFindings.first)
      #expect(blocked.blockingFindings.map(\.problemClass) == [.caseCollision] && finding.hint.contains("nassync check"))
      #expect(try await client.gate(run).destination.askedAt == nil)
      let report = try #require(try await client.check(equipment: "CYTOMETER_01").first)
      #expect(report.ok)
      for name in ["name_length", "path_length", "case", "normalization", "refused_names", "free_space"] {
        #expect(report.lines.contains { $0.name == name && $0.grade == .good }, "\(name)")
      }
      try await lab.server.stop()
      let other = NASSyncClient(configuration: lab.configuration)
      #expect(try await other.enqueue(run).state == .queued)
      let known = try await other.gate(run).destination
      #expect(known.freeBytes.map { $0 > 0 } == true && known.askedAt.map { abs($0.timeIntervalSinceNow) < 120 } == true)
      let offline = try #require(try await other.check(equipment: "CYTOMETER_01").first)
      #expect(!offline.ok && offline.lines.contains { $0.name == "case" && $0.detail.hasPrefix("as found just now: ") })
      await other.close()
      await client.close()
    }
  }

  @Test func aWorkerAsksOnceAndLeavesNothing() async throws {
    try await LabFixture.with { lab in
      let plan = FaultPlan()
      let client = lab.client(plan)
      for number in 1...3 { try await client.enqueue(try lab.makeRun(leaf: "Run_\(number)")) }
      #expect(try await client.drain().done.count == 3)
      #expect(plan.calls.count { $0.name == "examineNames" } == 1)
      #expect(try await client.gate(lab.lab + "/CYTOMETER_01/Alpha/Runs/Run_1").destination.askedAt != nil)
      #expect(try FileManager.default.contentsOfDirectory(atPath: lab.server.rootFolder) == ["CYTOMETER_01"])
      await client.close()
      // A later process goes by what was written down.
      let later = FaultPlan()
      let other = lab.client(later)
      try await lab.published(other, try lab.makeRun(leaf: "Run_4"))
      #expect(later.calls.count { $0.name == "examineNames" } == 0)
      await other.close()
    }
  }

  @Test func aClaimGoesByWhatIsKnownThen() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      try await pretend(lab, #"{"names":{"folds_case":false,"folds_normalization":false,"max_name_bytes":255,"refused":[]}}"#)
      let run = try lab.makeRun(files: ["Data.fcs": [1], "data.fcs": [2], "a&b": [3]])
      #expect(try await client.enqueue(run).state == .queued)
      try await pretend(lab, #"{"names":{"folds_case":true,"max_name_bytes":255,"refused":["&"]}}"#)
      #expect(try await client.drain().blocked.map(\.runPath) == [run])
      let classes = try await client.gate(run).verdict.blocking.map(\.problemClass)
      #expect(Set(classes) == [.caseCollision, .illegalFilesystemCharacter])
      // What cannot be read counts as never asked, and is asked for.
      try await pretend(lab, #"{"names":17}"#)
      await client.close()
      let later = NASSyncClient(configuration: lab.configuration)
      #expect(try await later.gate(run).verdict.blocking.map(\.problemClass) == [.caseCollision])
      try await later.retry(run)
      #expect(try await lab.settle(later, run).state == .job(.verified))
      await later.close()
    }
  }

  @Test func aRetryAsksTheNASAgainBeforeTheRunIsRefusedOnWhatItSaid() async throws {
    try await LabFixture.with { lab in
      let plan = FaultPlan()
      let client = lab.client(plan)
      try await pretend(lab, #"{"names":{"folds_case":false,"folds_normalization":false,"max_name_bytes":255,"refused":[]}}"#)
      let run = try lab.makeRun(files: ["Data.fcs": [1], "data.fcs": [2], "a&b": [3]])
      #expect(try await client.enqueue(run).state == .queued)
      // A server that lied, or was another one, while it was asked.
      try await pretend(lab, #"{"names":{"folds_case":true,"max_name_bytes":255,"refused":["&"]}}"#)
      #expect(try await client.drain().blocked.map(\.runPath) == [run])
      #expect(plan.calls.count { $0.name == "examineNames" } == 0)
      try await client.retry(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(plan.calls.count { $0.name == "examineNames" } == 1)
      await client.close()
    }
  }

  @Test func aNASThatCannotBeAskedIsTreatedCarefullyAndToldOnce() async throws {
    try await LabFixture.with { lab in
      let refusal = TransportError.failure(SyncFailure(.permission, "not here", hint: "None."), sessionLost: false)
      let plan = FaultPlan(before: { (call) throws(TransportError) in if call.name == "examineNames" { throw refusal } })
      let client = lab.client(plan)
      let warnings = Mutex<[String]>([])
      let events = client.events
      let listener = Task {
        for await event in events { if case .warning(_, let message) = event { warnings.withLock { $0.append(message) } } }
      }
      for number in 1...3 { try await client.enqueue(try lab.makeRun(leaf: "Run_\(number)")) }
      #expect(try await client.drain().done.count == 3)
      let collision = try lab.makeRun(leaf: "Run_4", files: ["A": [1], "a": [2]])
      #expect(try await client.enqueue(collision).state == .blocked)
      await client.close()
      await listener.value
      #expect(warnings.withLock { $0.count { $0.contains("not here") } } == 1)
      #expect(plan.calls.count { $0.name == "examineNames" } == 1)
    }
  }

  /// Falls silent when it is asked about names for the first time, until it is told to come back.
  private final class LeavingNAS: Sendable {
    private let isGone = Mutex<Bool?>(nil)

    func comeBack() { isGone.withLock { $0 = false } }

    var plan: FaultPlan {
      FaultPlan(before: { (call) throws(TransportError) in
        if call.name == "examineNames" { self.isGone.withLock { $0 = $0 ?? true } }
        if self.isGone.withLock({ $0 == true }) { throw FaultPlan.lost }
      })
    }
  }

  /// What a destination has not said is no reason for careful assumptions: it is asked again once it is there, as of any outage.
  @Test func aNASThatFallsSilentWhileItIsAskedIsAnOutage() async throws {
    try await LabFixture.with { lab in
      let nas = LeavingNAS()
      let plan = nas.plan
      let client = lab.client(plan)
      let events = client.events
      let listener = Task {
        var seen: [SyncEvent] = []
        for await event in events {
          if case .outage = event { nas.comeBack() }
          seen.append(event)
        }
        return seen
      }
      let run = try lab.makeRun()
      try await client.enqueue(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(try await client.status(of: run).attempts == 0)
      // Twice: the outage was met by the question whether anybody is there.
      #expect(plan.calls.count { $0.name == "examineNames" } == 2)
      #expect(try await client.gate(run).destination.askedAt != nil)
      await client.close()
      let seen = await listener.value
      #expect(seen.count { if case .outage = $0 { true } else { false } } == 1, "\(seen)")
      #expect(!seen.contains { if case .warning = $0 { true } else { false } }, "\(seen)")
    }
  }

  /// Two names that a NAS may take for one wait for its answer, and are not refused because it was gone.
  @Test func anAssumptionDoesNotRefuseWhileTheNASIsGone() async throws {
    try await LabFixture.with { lab in
      let nas = LeavingNAS()
      let plan = nas.plan
      let first = NASSyncClient(configuration: lab.configuration)
      try await pretend(lab, #"{"names":{"folds_case":false,"folds_normalization":false,"max_name_bytes":255,"refused":[]}}"#)
      let run = try lab.makeRun(files: ["A": [1], "a": [2]])
      #expect(try await first.enqueue(run).state == .queued)
      await first.close()
      try await pretend(lab, #"{"names":17}"#)
      let client = lab.client(plan)
      for _ in 1...3 {
        #expect(try await client.drain().waiting.map(\.runPath) == [run])
        try await Task.sleep(nanoseconds: 250_000_000)
      }
      nas.comeBack()
      #expect(try await lab.settle(client, run).state == .job(.verified))
      await client.close()
    }
  }

  /// One that every asking takes down for a moment is asked twice, and its runs go on.
  @Test func aNASThatEveryAskingTakesDownGetsItsRuns() async throws {
    try await LabFixture.with { lab in
      let silence = TransportError.failure(SyncFailure(.network, "down", hint: "None."), sessionLost: true)
      let isDown = Mutex(false)
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        if call.name == "examineNames" { isDown.withLock { $0 = true } }
        if isDown.withLock({ $0 }) { throw silence }
      })
      let client = lab.client(plan)
      let events = client.events
      let watchman = Task {
        for await event in events { if case .outage = event { isDown.withLock { $0 = false } } }
      }
      let run = try lab.makeRun()
      try await client.enqueue(run)
      #expect(try await lab.settle(client, run, seconds: 30).state == .job(.verified))
      #expect(plan.calls.count { $0.name == "examineNames" } == 2)
      await client.close()
      await watchman.value
    }
  }

  /// Where it answers to everything but that, nothing waits for it; a person's `retry` has it asked again.
  @Test func aNASThatHangsUpAtEveryProbeIsTreatedCarefully() async throws {
    try await LabFixture.with { lab in
      let silence = TransportError.failure(SyncFailure(.network, "hung up", hint: "None."), sessionLost: true)
      let hangsUp = Mutex(true)
      let plan = FaultPlan(before: { (call) throws(TransportError) in
        if call.name == "examineNames", hangsUp.withLock({ $0 }) { throw silence }
      })
      let first = NASSyncClient(configuration: lab.configuration)
      try await pretend(lab, #"{"names":{"folds_case":false,"folds_normalization":false,"max_name_bytes":255,"refused":[]}}"#)
      let collision = try lab.makeRun(files: ["A": [1], "a": [2]])
      #expect(try await first.enqueue(collision).state == .queued)
      await first.close()
      // Another version's words, which are asked for anew.
      try await pretend(lab, #"{"names":17}"#)
      let client = lab.client(plan)
      let run = try lab.makeRun(leaf: "Run_2")
      try await client.enqueue(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(try await client.status(of: run).attempts <= 1)
      // It waited for as long as nothing but the silence stood against it.
      #expect(try await lab.settle(client, collision).state == .job(.failed))
      #expect(try await client.gate(collision).verdict.blocking.map(\.problemClass) == [.caseCollision])
      #expect(plan.calls.count { $0.name == "examineNames" } == 2)
      hangsUp.withLock { $0 = false }
      try await client.retry(collision)
      #expect(try await lab.settle(client, collision).state == .job(.verified))
      #expect(plan.calls.count { $0.name == "examineNames" } == 3)
      await client.close()
    }
  }

  @Test func factsAgeInADay() {
    let facts = DatedFacts(facts: DestinationFacts(names: nil, freeSpace: nil), at: 1_000_000)
    #expect(facts.isFresh(at: 1_000_000) && facts.isFresh(at: 1_086_399))
    #expect(!facts.isFresh(at: 1_086_400) && !facts.isFresh(at: 999_999))
    #expect(
      ageText(-5) == "just now" && ageText(61) == "1 minute ago" && ageText(7300) == "2 hours ago" && ageText(260_000) == "3 days ago")
  }

  // MARK: Space

  @Test func runsOnTheirWayCountTogether() {
    let ledger = SpaceLedger()
    #expect(ledger.admit("a", wanting: 60, of: "nas", free: 100) == nil)
    #expect(ledger.admit("b", wanting: 41, of: "nas", free: 100) == 60)
    #expect(ledger.admit("c", wanting: 90, of: "other", free: 100) == nil)
    ledger.lower("a", to: 30)
    ledger.lower("a", to: 50)
    #expect(ledger.admit("b", wanting: 41, of: "nas", free: 70) == 30)
    #expect(ledger.admit("b", wanting: 40, of: "nas", free: 70) == nil)
    // A job that comes again does not stand in its own way.
    #expect(ledger.admit("b", wanting: 40, of: "nas", free: 70) == nil)
    ledger.remove("a")
    ledger.remove("b")
    #expect(ledger.admit("d", wanting: 70, of: "nas", free: 70) == nil)
    #expect(ledger.admit("e", wanting: .max, of: "nas", free: .max) == 70)
  }

  @Test func theNextRunWaitsForTheFirstAndBurnsNoAttempt() async throws {
    try await LabFixture.with(method: .readback, backoff: [0.2]) { lab in
      try #require(geteuid() == 0, "a small file system can only be mounted by root: run the tests as root")
      let mounted = try await runProcess(["mount", "-t", "tmpfs", "-o", "size=3m", "none", lab.server.rootFolder])
      try #require(mounted.status == 0, "\(mounted.errorText)")
      do {
        // The first run to write waits until the other was refused for it: both would fit alone, not together.
        let first = Mutex<String?>(nil)
        let waited = AsyncStream<Void>.makeStream()
        let plan = FaultPlan(before: { (call) throws(TransportError) in
          guard call.name == "beginUpload" || call.name == "put", call.isFor("a.dat"), let path = call.path?.description else { return }
          let isFirst = first.withLock { taken in
            defer { taken = taken ?? path }
            return taken == nil
          }
          if isFirst { for await _ in waited.stream { break } }
        })
        // Where nothing is refused, the test fails below instead of waiting for ever.
        let watchdog = Task {
          try await Task.sleep(nanoseconds: 120_000_000_000)
          waited.continuation.yield()
        }
        defer { watchdog.cancel() }
        let client = lab.client(plan)
        let events = client.events
        let listener = Task {
          var seen: [SyncFailure] = []
          for await event in events {
            if case .failed(_, _, let failure, _) = event {
              seen.append(failure)
              waited.continuation.yield()
            }
          }
          return seen
        }
        let runs = [
          try lab.makeRun(leaf: "Run_1", files: ["a.dat": noise(1_900_000)]),
          try lab.makeRun("CONFOCAL_01", leaf: "Run_2", files: ["a.dat": noise(1_900_000)]),
        ]
        for run in runs { try await client.enqueue(run) }
        _ = try await client.drain()
        let statuses = [try await client.status(of: runs[0]), try await client.status(of: runs[1])]
        // The first is there; the other does not fit any more, and that is its own failure.
        #expect(statuses.count { $0.state == .job(.verified) } == 1, "\(statuses)")
        await client.close()
        let failures = await listener.value
        let waiting = try #require(failures.first)
        #expect(waiting.kind == .remoteFull && waiting.message.contains("other runs on their way there still want"), "\(failures)")
        #expect(failures.last?.message.contains("nothing was sent, because it would not fit: 2.0 MB are needed") == true, "\(failures)")
        #expect(plan.timesSent("a.dat") == 1)
      } catch { Issue.record(error) }
      try await lab.server.stop()
      let unmounted = try await runProcess(["umount", lab.server.rootFolder])
      #expect(unmounted.status == 0, "\(unmounted.errorText)")
    }
  }
}
