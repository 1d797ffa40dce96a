import Bandwidth
import Foundation
import SyncModel
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct BandwidthSchedulerTests {
  /// 2026-11-16, a Monday, 08:00 UTC.
  private static let monday = 1_794_816_000.0

  /// A flag that a waiting task raises when it is let pass.
  private final class Passed: Sendable {
    private let names = Mutex<[String]>([])
    var all: [String] { names.withLock { $0 } }
    func add(_ name: String) { names.withLock { $0.append(name) } }
  }

  private static func window(_ from: Int, _ to: Int, _ rate: Double?) -> BandwidthWindow {
    BandwidthWindow(days: Set(Weekday.allCases), fromMinute: from, toMinute: to, uploadMbps: rate)
  }

  @Test func withoutALimitNobodyWaits() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: nil, profiles: ["A": .unlimited], clock: clock)
    for name in ["A", "UNKNOWN"] {
      for _ in 0..<1000 { try await scheduler.acquire(bytes: .max, equipment: name) }
    }
    #expect(clock.sleeping == 0)
    #expect(await scheduler.preferredPiece(for: "A") == 262_144)
  }

  @Test func aRequestPassesToTheNanosecond() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: 8, clock: clock)
    let passed = Passed()
    let task = Task {
      try await scheduler.acquire(bytes: 50_000, equipment: "A")
      passed.add("A")
    }
    await clock.waitForSleepers()
    #expect(clock.nextDeadline == clock.monotonicNanoseconds + 50_000_000)
    clock.advance(nanoseconds: 49_999_999)
    #expect(await scheduler.waiting == 1)
    #expect(passed.all == [])
    clock.advance(nanoseconds: 1)
    try await task.value
    #expect(await scheduler.waiting == 0)
    #expect(clock.sleeping == 0)
  }

  @Test func theSlowerOfServiceAndInstrumentHolds() async throws {
    for (service, own) in [(8.0, 80.0), (80.0, 8.0)] {
      let clock = ManualClock()
      let scheduler = try BandwidthScheduler(
        serviceMbps: service, profiles: ["A": BandwidthProfile(uploadMbps: own)], clock: clock)
      #expect(await scheduler.rate(for: "A") == UploadRate(megabits: 8))
      #expect(await scheduler.preferredPiece(for: "A") == 25_000)
      let begin = clock.monotonicNanoseconds
      for _ in 0..<10 {
        let task = Task { try await scheduler.acquire(bytes: 25_000, equipment: "A") }
        while await scheduler.waiting < 1 { await Task.yield() }
        _ = try await run(clock, scheduler, until: 1, task)
      }
      #expect(clock.monotonicNanoseconds - begin == 250_000_000)
    }
  }

  @Test func aNewLimitTakesEffectOnWhoWaitsAndKeepsWhatWasEarned() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: 0.008, clock: clock)  // 1,000 bytes a second, holds 2,048
    let task = Task { try await scheduler.acquire(bytes: 2000, equipment: "A") }
    await clock.waitForSleepers()
    clock.advance(seconds: 1)  // half is earned
    try await scheduler.update(serviceMbps: 0.08, profiles: [:])
    await clock.waitForSleepers()
    while clock.nextDeadline.map({ $0 > clock.monotonicNanoseconds + 100_000_000 }) ?? true { await Task.yield() }
    #expect(clock.nextDeadline == clock.monotonicNanoseconds + 100_000_000)
    clock.advance(nanoseconds: 100_000_000)
    try await task.value
  }

  @Test func liftingTheLimitWakesEverybodyAtOnce() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: 0.001, clock: clock)
    let tasks = ["A", "A", "B"].map { name in Task { try await scheduler.acquire(bytes: 1_000_000, equipment: name) } }
    while await scheduler.waiting < 3 { await Task.yield() }
    try await scheduler.update(serviceMbps: nil, profiles: [:])
    for task in tasks { try await task.value }
    while clock.sleeping > 0 { await Task.yield() }
  }

  @Test func aBrokenUpdateChangesNothing() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: 8, clock: clock)
    await #expect(throws: BandwidthError.unknownTimeZone("Mars")) {
      try await scheduler.update(serviceMbps: nil, profiles: ["A": BandwidthProfile(timeZone: "Mars")])
    }
    #expect(await scheduler.rate(for: "A") == UploadRate(megabits: 8))
    #expect(throws: BandwidthError.unknownTimeZone("Mars")) {
      try BandwidthScheduler(serviceMbps: nil, profiles: ["A": BandwidthProfile(timeZone: "Mars")], clock: clock)
    }
  }

  @Test func cancellingEndsTheWaitAtOnceAndCountsNothing() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: 8, clock: clock)
    let first = Task { try await scheduler.acquire(bytes: 100_000, equipment: "A") }
    while await scheduler.waiting < 1 { await Task.yield() }
    let second = Task { try await scheduler.acquire(bytes: 50_000, equipment: "A") }
    while await scheduler.waiting < 2 { await Task.yield() }
    clock.advance(nanoseconds: 50_000_000)
    first.cancel()
    await #expect(throws: CancellationError.self) { try await first.value }
    // What the first had waited for lets the second pass, without the clock moving.
    try await second.value
    let cancelled = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      try await scheduler.acquire(bytes: 0, equipment: "A")
    }
    await #expect(throws: CancellationError.self) { try await cancelled.value }
    #expect(await scheduler.waiting == 0)
  }

  @Test func manyCancelledAtOnceLeaveNothingBehind() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: 0.001, clock: clock)
    let tasks = (0..<200).map { number in Task { try await scheduler.acquire(bytes: 1 << 20, equipment: "E\(number % 7)") } }
    for task in tasks { task.cancel() }
    for task in tasks { await #expect(throws: CancellationError.self) { try await task.value } }
    #expect(await scheduler.waiting == 0)
    while clock.sleeping > 0 { await Task.yield() }
  }

  /// Moves the clock from sleep to sleep until the task is done; the seconds that took.
  private func run(_ clock: ManualClock, _ scheduler: BandwidthScheduler, until limit: Double, _ task: Task<Void, any Error>) async throws
    -> Double
  {
    let begin = clock.monotonicNanoseconds
    while await scheduler.waiting > 0 {
      await clock.waitForSleepers()
      guard let deadline = clock.nextDeadline else { continue }
      let sleep = deadline - clock.monotonicNanoseconds
      #expect(sleep <= BandwidthScheduler.longestSleep)
      clock.advance(nanoseconds: sleep)
      try #require(Double(clock.monotonicNanoseconds - begin) / 1e9 <= limit)
      // The wait is over, or the scheduler has looked and sleeps again.
      while clock.sleeping == 0, await scheduler.waiting > 0 { await Task.yield() }
    }
    try await task.value
    return Double(clock.monotonicNanoseconds - begin) / 1e9
  }

  @Test func whoWaitsThroughAPauseWakesWhenItEnds() async throws {
    let clock = ManualClock(wall: Self.monday)
    let profile = BandwidthProfile(uploadMbps: 8, windows: [Self.window(480, 490, 0)], timeZone: "UTC")
    let scheduler = try BandwidthScheduler(serviceMbps: nil, profiles: ["A": profile], clock: clock)
    #expect(await scheduler.rate(for: "A") == .paused)
    let task = Task { try await scheduler.acquire(bytes: 100_000, equipment: "A") }
    while await scheduler.waiting < 1 { await Task.yield() }
    let seconds = try await run(clock, scheduler, until: 700, task)
    #expect(abs(seconds - 600.1) < 1e-5)
  }

  @Test func aNewRateInMidRequestCountsBothShares() async throws {
    // 0.008 Mbit/s is 1,000 bytes a second; at 08:00:30 the half of the request is earned, then it goes ten times as fast.
    let clock = ManualClock(wall: Self.monday - 1)
    let profile = BandwidthProfile(uploadMbps: 0.008, windows: [Self.window(480, 490, 0.08)], timeZone: "UTC")
    let scheduler = try BandwidthScheduler(serviceMbps: nil, profiles: ["A": profile], clock: clock)
    let task = Task { try await scheduler.acquire(bytes: 2000, equipment: "A") }
    while await scheduler.waiting < 1 { await Task.yield() }
    let seconds = try await run(clock, scheduler, until: 10, task)
    #expect(abs(seconds - 1.1) < 1e-5)
  }

  @Test func aPauseThatBeginsHoldsWhoWaits() async throws {
    let clock = ManualClock(wall: Self.monday - 1)
    let profile = BandwidthProfile(uploadMbps: 0.008, windows: [Self.window(480, 481, 0)], timeZone: "UTC")
    let scheduler = try BandwidthScheduler(serviceMbps: nil, profiles: ["A": profile], clock: clock)
    let task = Task { try await scheduler.acquire(bytes: 2000, equipment: "A") }
    while await scheduler.waiting < 1 { await Task.yield() }
    let seconds = try await run(clock, scheduler, until: 100, task)
    #expect(abs(seconds - 62) < 1e-5)
  }

  @Test func aClockThatIsSetIsNoticedWithinThirtySeconds() async throws {
    let clock = ManualClock(wall: Self.monday)
    let profile = BandwidthProfile(uploadMbps: nil, windows: [Self.window(480, 540, 0)], timeZone: "UTC")
    let scheduler = try BandwidthScheduler(serviceMbps: nil, profiles: ["A": profile], clock: clock)
    let task = Task { try await scheduler.acquire(bytes: 100_000, equipment: "A") }
    await clock.waitForSleepers()
    clock.setWall(Self.monday + 3600)  // 09:00, the pause is over
    clock.advance(nanoseconds: BandwidthScheduler.longestSleep)
    try await task.value
    clock.setWall(Self.monday + 60)  // and back
    #expect(await scheduler.rate(for: "A") == .paused)
  }

  @Test func instrumentsShareTheServiceInTurn() async throws {
    let clock = ManualClock()
    let scheduler = try BandwidthScheduler(serviceMbps: 8, clock: clock)
    let passed = Passed()
    var tasks: [Task<Void, any Error>] = []
    for name in ["A1", "A2", "A3", "B1", "C1"] {
      let count = tasks.count
      tasks.append(
        Task {
          try await scheduler.acquire(bytes: 10_000, equipment: String(name.prefix(1)))
          passed.add(name)
        })
      while await scheduler.waiting <= count { await Task.yield() }
    }
    for count in 1...5 {
      await clock.waitForSleepers()
      clock.advance(nanoseconds: 10_000_000)
      while passed.all.count < count { await Task.yield() }
    }
    for task in tasks { try await task.value }
    #expect(Set(passed.all.prefix(3)) == ["A1", "B1", "C1"])
    #expect(passed.all.suffix(2) == ["A2", "A3"])
  }

  @Test func theLimitIsKeptOnTheMachinesOwnClock() async throws {
    // Short, beside other tests, which only makes it slower: the bench measures the 2 % of the contract over 10 s.
    let result = try await BandwidthBench.run(rateMbps: 20, seconds: 1, streams: 3)
    #expect(result.errorPercent < 12)
    #expect(result.errorPercent > -90)
  }
}
