import Bandwidth
import Foundation
import SyncModel
import TestSupport
import Testing

@Suite struct BandwidthScheduleTests {
  private static let slow = UploadRate(megabits: 1)
  private static let base = UploadRate(megabits: 10)

  /// Seconds since 1970 of a time in UTC.
  private static func utc(_ year: Int, _ month: Int, _ day: Int, _ hour: Int = 0, _ minute: Int = 0, _ second: Int = 0) throws -> Double {
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = try #require(TimeZone(identifier: "UTC"))
    let parts = DateComponents(year: year, month: month, day: day, hour: hour, minute: minute, second: second)
    return try #require(calendar.date(from: parts)).timeIntervalSince1970
  }

  private static func schedule(
    _ days: Set<Weekday>, _ from: String, _ to: String, rate: Double? = 1, base: Double? = 10, zone: String = "UTC"
  ) throws -> BandwidthSchedule {
    try BandwidthSchedule(BandwidthProfile(uploadMbps: base, windows: [window(days, from, to, rate)], timeZone: zone))
  }

  private static func window(_ days: Set<Weekday>, _ from: String, _ to: String, _ rate: Double?) throws -> BandwidthWindow {
    func minute(_ text: String) throws -> Int {
      let parts = text.split(separator: ":").compactMap { Int($0) }
      try #require(parts.count == 2)
      return parts[0] * 60 + parts[1]
    }
    return BandwidthWindow(days: days, fromMinute: try minute(from), toMinute: try minute(to), uploadMbps: rate)
  }

  private static let everyDay = Set(Weekday.allCases)

  // 2026-11-16 is a Monday.

  @Test func aWindowOfTheDay() throws {
    let schedule = try Self.schedule([.monday, .tuesday], "08:00", "18:00")
    #expect(schedule.rate(at: try Self.utc(2026, 11, 16, 7, 59, 59)) == Self.base)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 16, 8)) == Self.slow)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 16, 17, 59, 59)) == Self.slow)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 16, 18)) == Self.base)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 17, 8)) == Self.slow)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 18, 8)) == Self.base)
    #expect(schedule.nextChange(after: try Self.utc(2026, 11, 16, 7)) == (try Self.utc(2026, 11, 16, 8)))
    #expect(schedule.nextChange(after: try Self.utc(2026, 11, 16, 8)) == (try Self.utc(2026, 11, 16, 18)))
    #expect(schedule.nextChange(after: try Self.utc(2026, 11, 17, 18)) == (try Self.utc(2026, 11, 23, 8)))
  }

  @Test func fractionsOfASecondDoNotMoveTheEdge() throws {
    let schedule = try Self.schedule([.monday], "08:00", "18:00")
    let edge = try Self.utc(2026, 11, 16, 8)
    #expect(schedule.rate(at: edge - 0.001) == Self.base)
    #expect(schedule.nextChange(after: edge - 0.001) == edge)
    #expect(schedule.nextChange(after: edge + 0.001) == (try Self.utc(2026, 11, 16, 18)))
  }

  /// The fault of rclone#1268: a timetable that takes the wrong day's entry.
  @Test func eachDayHasItsOwnRate() throws {
    let windows = try Weekday.allCases.map { try Self.window([$0], "00:00", "24:00", Double($0.index + 1)) }
    for zone in ["UTC", "Pacific/Auckland", "America/Los_Angeles"] {
      let schedule = try BandwidthSchedule(BandwidthProfile(uploadMbps: 99, windows: windows, timeZone: zone))
      let timeZone = try #require(TimeZone(identifier: zone))
      for day in 0..<21 {
        let midnight = try Self.utc(2026, 11, 16 + day) - Double(timeZone.secondsFromGMT(for: Date(timeIntervalSince1970: 1_794_873_600)))
        let expected = UploadRate(megabits: Double(day % 7 + 1))
        #expect(schedule.rate(at: midnight) == expected)
        #expect(schedule.rate(at: midnight + 86_399) == expected)
        #expect(schedule.nextChange(after: midnight) == midnight + 86_400)
      }
    }
  }

  @Test func aWindowOverMidnightBelongsToTheDayOnWhichItStarts() throws {
    let schedule = try Self.schedule([.friday], "22:00", "06:00")
    #expect(schedule.rate(at: try Self.utc(2026, 11, 20, 3)) == Self.base)  // Friday morning is Thursday's night
    #expect(schedule.rate(at: try Self.utc(2026, 11, 20, 22)) == Self.slow)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 21, 5, 59)) == Self.slow)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 21, 6)) == Self.base)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 21, 22)) == Self.base)
    #expect(schedule.nextChange(after: try Self.utc(2026, 11, 20, 23)) == (try Self.utc(2026, 11, 21, 6)))
  }

  @Test func aWindowOverTheEndOfTheWeek() throws {
    let schedule = try Self.schedule([.sunday], "22:00", "06:00")
    #expect(schedule.rate(at: try Self.utc(2026, 11, 16, 5, 59, 59)) == Self.slow)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 16, 6)) == Self.base)
    #expect(schedule.rate(at: try Self.utc(2026, 11, 15, 21, 59, 59)) == Self.base)
    #expect(schedule.nextChange(after: try Self.utc(2026, 11, 15, 22)) == (try Self.utc(2026, 11, 16, 6)))
  }

  @Test func midnightIsBothEnds() throws {
    for end in ["24:00", "00:00"] {
      let schedule = try Self.schedule([.monday], "18:00", end)
      #expect(schedule.rate(at: try Self.utc(2026, 11, 16, 23, 59, 59)) == Self.slow)
      #expect(schedule.rate(at: try Self.utc(2026, 11, 17)) == Self.base)
      #expect(schedule.nextChange(after: try Self.utc(2026, 11, 16, 18)) == (try Self.utc(2026, 11, 17)))
    }
  }

  @Test func ratesThatNeverChange() throws {
    let unlimited = try BandwidthSchedule(.unlimited)
    #expect(unlimited.isConstant)
    #expect(unlimited.rate(at: 0) == .unlimited)
    #expect(unlimited.nextChange(after: 0) == nil)
    let always = try Self.schedule(Self.everyDay, "00:00", "24:00", rate: 1, base: nil)
    #expect(always.isConstant)
    #expect(always.rate(at: -1e9) == Self.slow)
    let same = try Self.schedule([.monday], "08:00", "18:00", rate: 10)
    #expect(same.isConstant)
  }

  @Test func outsideAllWindowsAbsentIsUnlimitedAndZeroPauses() throws {
    let free = try Self.schedule([.monday], "08:00", "18:00", rate: 0, base: nil)
    #expect(free.rate(at: try Self.utc(2026, 11, 16, 12)) == .paused)
    #expect(free.rate(at: try Self.utc(2026, 11, 16, 18)) == .unlimited)
    let nights = try Self.schedule(Self.everyDay, "20:00", "06:00", rate: nil, base: 0)
    #expect(nights.rate(at: try Self.utc(2026, 11, 16, 12)) == .paused)
    #expect(nights.rate(at: try Self.utc(2026, 11, 16, 20)) == .unlimited)
  }

  // MARK: Daylight saving. Vienna: 2026-03-29 01:00 UTC, 02:00 becomes 03:00; 2026-10-25 01:00 UTC, 03:00 becomes 02:00.

  @Test func aWindowInTheMissingHourDoesNotComeThatNight() throws {
    let schedule = try Self.schedule([.sunday], "02:00", "03:00", zone: "Europe/Vienna")
    #expect(schedule.rate(at: try Self.utc(2026, 3, 29, 0, 59, 59)) == Self.base)
    #expect(schedule.rate(at: try Self.utc(2026, 3, 29, 1)) == Self.base)
    #expect(schedule.nextChange(after: try Self.utc(2026, 3, 29, 0)) == (try Self.utc(2026, 4, 5, 0)))
  }

  @Test func aWindowThatStartsInTheMissingHourStartsWhenItIsSkipped() throws {
    let schedule = try Self.schedule([.sunday], "02:30", "05:00", zone: "Europe/Vienna")
    #expect(schedule.rate(at: try Self.utc(2026, 3, 29, 0, 59, 59)) == Self.base)
    #expect(schedule.rate(at: try Self.utc(2026, 3, 29, 1)) == Self.slow)
    #expect(schedule.nextChange(after: try Self.utc(2026, 3, 29, 0)) == (try Self.utc(2026, 3, 29, 1)))
    #expect(schedule.nextChange(after: try Self.utc(2026, 3, 29, 1)) == (try Self.utc(2026, 3, 29, 3)))
  }

  @Test func aWindowThatEndsInTheMissingHourEndsWhenItIsSkipped() throws {
    let schedule = try Self.schedule([.saturday], "22:00", "02:30", zone: "Europe/Vienna")
    #expect(schedule.rate(at: try Self.utc(2026, 3, 29, 0, 59, 59)) == Self.slow)
    #expect(schedule.nextChange(after: try Self.utc(2026, 3, 29, 0)) == (try Self.utc(2026, 3, 29, 1)))
    #expect(schedule.rate(at: try Self.utc(2026, 3, 29, 1)) == Self.base)
  }

  @Test func aWindowInTheDoubledHourComesTwice() throws {
    let schedule = try Self.schedule([.sunday], "02:15", "02:45", zone: "Europe/Vienna")
    let edges = [(0, 15), (0, 45), (1, 15), (1, 45)]
    var moment = try Self.utc(2026, 10, 24, 23)
    for (hour, minute) in edges {
      let next = try #require(schedule.nextChange(after: moment))
      #expect(next == (try Self.utc(2026, 10, 25, hour, minute)))
      moment = next
    }
    #expect(schedule.rate(at: try Self.utc(2026, 10, 25, 0, 30)) == Self.slow)
    #expect(schedule.rate(at: try Self.utc(2026, 10, 25, 1)) == Self.base)
    #expect(schedule.rate(at: try Self.utc(2026, 10, 25, 1, 30)) == Self.slow)
  }

  @Test func aWindowOverTheDoubledHourIsAnHourLonger() throws {
    let schedule = try Self.schedule([.saturday], "22:00", "06:00", zone: "Europe/Vienna")
    #expect(schedule.nextChange(after: try Self.utc(2026, 10, 24, 20)) == (try Self.utc(2026, 10, 25, 5)))
    let wholeHour = try Self.schedule([.sunday], "02:00", "03:00", zone: "Europe/Vienna")
    #expect(wholeHour.nextChange(after: try Self.utc(2026, 10, 25, 0)) == (try Self.utc(2026, 10, 25, 2)))
  }

  @Test func theDayAfterAShiftIsRight() throws {
    let schedule = try Self.schedule([.monday], "08:00", "18:00", zone: "Europe/Vienna")
    #expect(schedule.nextChange(after: try Self.utc(2026, 3, 28, 12)) == (try Self.utc(2026, 3, 30, 6)))
    #expect(schedule.nextChange(after: try Self.utc(2026, 10, 24, 12)) == (try Self.utc(2026, 10, 26, 7)))
  }

  @Test func aZoneWhoseShiftIsHalfAnHour() throws {
    // Lord Howe, 2026-04-05: 02:00 (+11:00) becomes 01:30 (+10:30), at 15:00 UTC the day before.
    let schedule = try Self.schedule([.sunday], "01:30", "02:00", zone: "Australia/Lord_Howe")
    #expect(schedule.nextChange(after: try Self.utc(2026, 4, 4, 14)) == (try Self.utc(2026, 4, 4, 14, 30)))
    #expect(schedule.nextChange(after: try Self.utc(2026, 4, 4, 14, 30)) == (try Self.utc(2026, 4, 4, 15, 30)))
  }

  @Test func theProfilesZoneWinsOverTheWorkstations() throws {
    let tokyo = try #require(TimeZone(identifier: "Asia/Tokyo"))
    let windows = [try Self.window([.monday], "08:00", "09:00", 1)]
    let own = try BandwidthSchedule(BandwidthProfile(uploadMbps: 10, windows: windows, timeZone: "UTC"), workstation: tokyo)
    #expect(own.rate(at: try Self.utc(2026, 11, 16, 8)) == Self.slow)
    let local = try BandwidthSchedule(BandwidthProfile(uploadMbps: 10, windows: windows), workstation: tokyo)
    #expect(local.rate(at: try Self.utc(2026, 11, 15, 23)) == Self.slow)
    #expect(local.rate(at: try Self.utc(2026, 11, 16, 8)) == Self.base)
  }

  @Test func whatCannotBeKeptIsRefused() throws {
    #expect(throws: BandwidthError.unknownTimeZone("Mars")) { try BandwidthSchedule(BandwidthProfile(timeZone: "Mars")) }
    #expect(throws: BandwidthError.invalid(.rate)) { try BandwidthSchedule(BandwidthProfile(uploadMbps: -1)) }
    let windows = [try Self.window([.monday], "08:00", "10:00", 1), try Self.window([.monday], "09:00", "11:00", 2)]
    #expect(throws: BandwidthError.invalid(.contradiction(0, 1, day: .monday))) {
      try BandwidthSchedule(BandwidthProfile(windows: windows))
    }
  }

  /// Against the plain reading of the contract, minute by minute, around both shifts and at random.
  @Test(arguments: ["UTC", "Europe/Vienna", "America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe"])
  func everyMinuteIsAsTheClockOnTheWallSays(_ zone: String) throws {
    var random = SeededGenerator(seed: 7)
    let timeZone = try #require(TimeZone(identifier: zone))
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = timeZone
    let starts = [try Self.utc(2026, 3, 28), try Self.utc(2026, 4, 4), try Self.utc(2026, 10, 24), try Self.utc(2026, 7, 1)]
    for start in starts {
      let windows = (0..<3).map { _ in
        BandwidthWindow(
          days: Set(Weekday.allCases.filter { _ in random.next() % 2 == 0 }).union([.sunday]), fromMinute: Int(random.next() % 1440),
          toMinute: Int(random.next() % 1441), uploadMbps: 1)
      }.filter { $0.lengthMinutes > 0 }
      let schedule = try BandwidthSchedule(BandwidthProfile(uploadMbps: 10, windows: windows, timeZone: zone))
      var changes: [Double] = []
      var last = schedule.rate(at: start)
      for minute in 0..<2 * 1440 {
        let moment = start + Double(minute) * 60
        let parts = calendar.dateComponents([.weekday, .hour, .minute], from: Date(timeIntervalSince1970: moment))
        let day = (try #require(parts.weekday) + 5) % 7  // the calendar's 1 is Sunday
        let time = try #require(parts.hour) * 60 + (try #require(parts.minute))
        let holds = windows.contains { window in
          let today = window.days.contains(Weekday.allCases[day])
          let yesterday = window.days.contains(Weekday.allCases[(day + 6) % 7])
          let end = window.fromMinute + window.lengthMinutes
          return today && time >= window.fromMinute && time < end || yesterday && time + 1440 < end
        }
        let rate = schedule.rate(at: moment)
        #expect(rate == (holds ? Self.slow : Self.base), "\(zone) \(moment)")
        if rate != last { changes.append(moment) }
        last = rate
      }
      var moment = start
      for change in changes {
        let next = schedule.nextChange(after: moment)
        #expect(next == change, "\(zone) after \(moment)")
        moment = change
      }
    }
  }
}
