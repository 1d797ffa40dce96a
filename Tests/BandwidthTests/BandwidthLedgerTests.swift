import Bandwidth
import Foundation
import SyncModel
import TestSupport
import Testing

@Suite struct BandwidthLedgerTests {
  private static let start = 1_774_700_000.0  // a Saturday in March 2026, the night before a shift in Vienna

  private static func moment(_ nanoseconds: UInt64) -> BandwidthLedger.Moment {
    BandwidthLedger.Moment(monotonic: nanoseconds, wall: start + Double(nanoseconds) / 1e9)
  }

  /// The bits that a timetable lets pass between two times, nanoseconds.
  private static func earned(_ schedule: BandwidthSchedule, _ from: UInt64, _ to: UInt64) -> Double {
    var moment = start + Double(from) / 1e9
    let end = start + Double(to) / 1e9
    var bits = 0.0
    while moment < end {
      let next = min(schedule.nextChange(after: moment) ?? end, end)
      if case .limited(let rate) = schedule.rate(at: moment) { bits += Double(rate) * (next - moment) }
      moment = next
    }
    return bits
  }

  private struct Grant {
    let time: UInt64
    let number: UInt64
    let bytes: Int
    let name: String
  }

  /// In any interval no more passes than the timetable and the service's rate give, plus what a bucket holds or one request; everything
  /// passes in the end, each instrument's requests in their order.
  @Test(arguments: 0..<25) func inAnyIntervalNoMorePassesThanTheLimit(_ seed: Int) throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let names = Array(["A", "B", "C"].prefix(Int.random(in: 1...3, using: &random)))
    var schedules: [String: BandwidthSchedule] = [:]
    for name in names {
      // Windows of some minutes around the clock, side by side, so that the rate changes often.
      var windows: [BandwidthWindow] = []
      var minute = 0
      while minute < 1440 {
        let length = Int.random(in: 1...30, using: &random)
        let rate = [0, 0.5, 1, 8, 40].randomElement(using: &random)
        windows.append(
          BandwidthWindow(days: Set(Weekday.allCases), fromMinute: minute, toMinute: min(minute + length, 1440), uploadMbps: rate))
        minute += length
      }
      schedules[name] = try BandwidthSchedule(BandwidthProfile(uploadMbps: 2, windows: windows, timeZone: "Europe/Vienna"))
    }
    let service = UploadRate(megabits: Double.random(in: 1...20, using: &random))
    var ledger = BandwidthLedger(service: service, schedules: schedules, at: Self.moment(0))
    var arrivals: [Grant] = []
    for number in 1...300 {
      let large = Int.random(in: 0..<10, using: &random) == 0
      let bytes = Int.random(in: 1...(large ? 4_000_000 : 60_000), using: &random)
      let time = UInt64.random(in: 0...3_600_000_000_000, using: &random)
      arrivals.append(Grant(time: time, number: UInt64(number), bytes: bytes, name: names[Int.random(in: names.indices, using: &random)]))
    }
    arrivals.sort { ($0.time, $0.number) < ($1.time, $1.number) }
    var pending = arrivals[...]
    var open: [UInt64: Grant] = [:]
    var granted: [Grant] = []
    var now: UInt64 = 0
    while !pending.isEmpty || ledger.waiting > 0 {
      while let next = pending.first, next.time <= now {
        pending.removeFirst()
        open[next.number] = next
        ledger.add(.init(number: next.number, bytes: next.bytes), of: next.name, at: Self.moment(now))
      }
      for number in ledger.grant(at: Self.moment(now)) {
        let found = open.removeValue(forKey: number)
        let request = try #require(found)
        granted.append(Grant(time: now, number: number, bytes: request.bytes, name: request.name))
      }
      #expect(ledger.waiting == open.count)
      // A day and a night with a pause or two: whatever waits longer than that starves.
      try #require(now < 2 * 86_400_000_000_000, "\(ledger.waiting) starve")
      var sleep: UInt64 = 30_000_000_000
      if let delay = ledger.delay(at: Self.moment(now)) { sleep = min(sleep, max(delay, 1)) }
      if let next = pending.first { sleep = min(sleep, max(next.time - now, 1)) }
      // Now and then somebody wakes late.
      now += sleep + (random.next() % 4 == 0 ? random.next() % 80_000_000 : 0)
    }
    #expect(granted.count == 300)
    for name in names {
      let schedule = try #require(schedules[name])
      let own = granted.filter { $0.name == name }
      #expect(own.map(\.number) == arrivals.filter { $0.name == name }.map(\.number))
      check(own, holds: 500_000) { Self.earned(schedule, $0, $1) }
    }
    guard case .limited(let rate) = service else { return }
    check(granted, holds: Int(TokenBucket.capacity(service))) { Double(rate) * Double($1 - $0) / 1e9 }
  }

  private func check(_ grants: [Grant], holds: Int, _ earned: (UInt64, UInt64) -> Double) {
    // The same bound for every interval, told as a running excess: each grant adds to it, time takes away.
    var excess = 0.0
    var last: UInt64 = 0
    var largest = 0
    for grant in grants {
      excess = max(0, excess - earned(last, grant.time))
      last = grant.time
      excess += Double(grant.bytes) * 8
      largest = max(largest, grant.bytes)
      // The clock on the wall, a Double, is exact to less than a microsecond.
      #expect(excess <= Double(max(holds, largest)) * 8 + 1000)
    }
  }

  private func ledger(service: Double?, _ rates: [String: Double?]) throws -> BandwidthLedger {
    let schedules = try rates.mapValues { try BandwidthSchedule(BandwidthProfile(uploadMbps: $0)) }
    return BandwidthLedger(service: UploadRate(megabits: service), schedules: schedules, at: Self.moment(0))
  }

  @Test func instrumentsTakeTurns() throws {
    var ledger = try ledger(service: 8, ["A": nil, "B": nil, "C": nil])
    // A has filled the line before the others come.
    for number in 0..<10 { ledger.add(.init(number: UInt64(number), bytes: 10_000), of: "A", at: Self.moment(0)) }
    for number in 20..<22 { ledger.add(.init(number: UInt64(number), bytes: 10_000), of: "B", at: Self.moment(0)) }
    for number in 30..<32 { ledger.add(.init(number: UInt64(number), bytes: 10_000), of: "C", at: Self.moment(0)) }
    var order: [UInt64] = []
    for step in 1...14 { order += ledger.grant(at: Self.moment(UInt64(step) * 10_000_000)) }
    #expect(order.count == 14)
    #expect(Set(order.prefix(3)) == [0, 20, 30])
    #expect(Set(order[3..<6]) == [1, 21, 31])
    #expect(Array(order[6...]) == Array(2..<10))
  }

  @Test func oneThatIsHeldBackByItsOwnLimitHoldsNobodyBack() throws {
    var ledger = try ledger(service: nil, ["SLOW": 0.001, "STOPPED": 0, "FAST": 80])
    ledger.add(.init(number: 1, bytes: 100_000), of: "SLOW", at: Self.moment(0))
    ledger.add(.init(number: 2, bytes: 100_000), of: "STOPPED", at: Self.moment(0))
    ledger.add(.init(number: 3, bytes: 100_000), of: "FAST", at: Self.moment(0))
    #expect(ledger.delay(at: Self.moment(0)) == 10_000_000)
    #expect(ledger.grant(at: Self.moment(10_000_000)) == [3])
  }

  @Test func smallRequestsDoNotStarveALargeOne() throws {
    var ledger = try ledger(service: 8, ["SMALL": nil, "LARGE": nil])
    ledger.add(.init(number: 1, bytes: 1_000_000), of: "LARGE", at: Self.moment(0))
    var number: UInt64 = 1
    var now: UInt64 = 0
    var passedBefore = 0
    while now < 2_000_000_000 {
      // SMALL always has one in line.
      number += 1
      ledger.add(.init(number: number, bytes: 1000), of: "SMALL", at: Self.moment(now))
      now += 1_000_000
      let granted = ledger.grant(at: Self.moment(now))
      if granted.contains(1) { break }
      passedBefore += granted.count
    }
    #expect(now <= 110_000_000)
    #expect(passedBefore <= 1)
  }

  @Test func whoWakesLateIsCreditedWithEachRateForItsOwnTime() throws {
    // 1,000 bytes a second until the next minute of UTC, then a hundred times that.
    let change = 1_774_138_810.0
    let minute = Int(change / 60) % 1440
    let window = BandwidthWindow(days: Set(Weekday.allCases), fromMinute: minute + 1, toMinute: minute + 2, uploadMbps: 0.8)
    let schedule = try BandwidthSchedule(BandwidthProfile(uploadMbps: 0.008, windows: [window], timeZone: "UTC"))
    let edge = (change / 60).rounded(.down) * 60 + 60
    #expect(schedule.nextChange(after: edge - 1) == edge)
    for (late, bytes) in [(UInt64(5_000_000), 1000 + 500), (9_000_000, 1000 + 900)] {
      var ledger = BandwidthLedger(service: .unlimited, schedules: ["A": schedule], at: .init(monotonic: 0, wall: edge - 1))
      ledger.add(.init(number: 1, bytes: bytes + 1), of: "A", at: .init(monotonic: 0, wall: edge - 1))
      let awake = BandwidthLedger.Moment(monotonic: 1_000_000_000 + late, wall: edge + Double(late) / 1e9)
      #expect(ledger.grant(at: awake) == [])
      // The one byte more takes 10 µs: nothing was earned at the old rate after the change, nothing is lost.
      #expect((9000...11_000).contains(ledger.delay(at: awake) ?? 0))
    }
  }

  @Test func aRequestThatIsRemovedLetsTheNextOnePass() throws {
    var ledger = try ledger(service: 8, ["A": nil])
    ledger.add(.init(number: 1, bytes: 100_000), of: "A", at: Self.moment(0))
    ledger.add(.init(number: 2, bytes: 1000), of: "A", at: Self.moment(0))
    #expect(ledger.grant(at: Self.moment(1_000_000)) == [])
    ledger.remove(1, of: "A")
    ledger.remove(1, of: "A")
    ledger.remove(7, of: "NOBODY")
    #expect(ledger.waiting == 1)
    #expect(ledger.grant(at: Self.moment(1_000_000)) == [2])
    ledger.remove(2, of: "A")
    #expect(ledger.waiting == 0)
    #expect(ledger.delay(at: Self.moment(1_000_000)) == nil)
  }
}
