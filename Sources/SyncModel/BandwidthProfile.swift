/// A day of the week. The raw value is what a configuration file holds.
public enum Weekday: String, Hashable, Sendable, CaseIterable {
  case monday = "mon"
  case tuesday = "tue"
  case wednesday = "wed"
  case thursday = "thu"
  case friday = "fri"
  case saturday = "sat"
  case sunday = "sun"

  /// 0 for Monday … 6 for Sunday.
  public var index: Int {
    switch self {
    case .monday: 0
    case .tuesday: 1
    case .wednesday: 2
    case .thursday: 3
    case .friday: 4
    case .saturday: 5
    case .sunday: 6
    }
  }
}

/// A span of the day with its own rate.
///
/// The days are those on which the window starts: one of Friday from 22:00 to 06:00 ends on Saturday morning.
public struct BandwidthWindow: Hashable, Sendable {
  /// The days on which the window starts.
  public let days: Set<Weekday>
  /// Minutes after midnight at which the window starts: 0…1439.
  public let fromMinute: Int
  /// Minutes after midnight at which the window ends: 0…1440. Smaller than `fromMinute`: on the next day.
  public let toMinute: Int
  /// Mbit/s (10^6 bit/s); 0 pauses, nil lifts the limit.
  public let uploadMbps: Double?

  /// Takes the values as they are; `BandwidthProfile.problem` says what is wrong with them.
  public init(days: Set<Weekday>, fromMinute: Int, toMinute: Int, uploadMbps: Double?) {
    self.days = days
    self.fromMinute = fromMinute
    self.toMinute = toMinute
    self.uploadMbps = uploadMbps
  }

  /// How many minutes the window lasts, 0 for an impossible one.
  public var lengthMinutes: Int {
    guard (0..<1440).contains(fromMinute), (0...1440).contains(toMinute), fromMinute != toMinute else { return 0 }
    return toMinute > fromMinute ? toMinute - fromMinute : toMinute + 1440 - fromMinute
  }
}

/// How fast one instrument may send, by the time of the week.
public struct BandwidthProfile: Hashable, Sendable {
  /// Minutes of a week.
  public static let minutesPerWeek = 7 * 1440
  /// The largest rate that can be given, Mbit/s.
  public static let maximumMbps: Double = 1_000_000
  /// The smallest rate above 0 that can be given, Mbit/s.
  public static let minimumMbps: Double = 0.001

  /// Mbit/s (10^6 bit/s) outside every window; 0 pauses, nil is unlimited.
  public let uploadMbps: Double?
  /// The spans with a rate of their own. Two that overlap have the same rate.
  public let windows: [BandwidthWindow]
  /// IANA name of the time zone in which the windows are read; nil is the workstation's.
  public let timeZone: String?

  /// Takes the values as they are; `problem` says what is wrong with them.
  public init(uploadMbps: Double? = nil, windows: [BandwidthWindow] = [], timeZone: String? = nil) {
    self.uploadMbps = uploadMbps
    self.windows = windows
    self.timeZone = timeZone
  }

  /// No limit at any time.
  public static let unlimited = BandwidthProfile()

  /// Why a profile cannot be kept.
  public enum Problem: Error, Hashable, Sendable {
    /// The rate outside the windows is not a number from 0 to `maximumMbps`.
    case rate
    /// The rate of a window, by its place in the list.
    case windowRate(Int)
    /// A window without a day, or whose times are outside the day or equal.
    case emptyWindow(Int)
    /// Two windows, by their places, share a minute (of `day`) and differ in rate.
    case contradiction(Int, Int, day: Weekday)
    /// Every rate is 0: nothing would ever be sent.
    case neverSends
  }

  /// The first thing that is wrong with the profile, nil when it can be kept. The time zone's name is not looked up here.
  public var problem: Problem? {
    if let uploadMbps, !Self.isValid(rate: uploadMbps) { return .rate }
    var owner = [Int?](repeating: nil, count: Self.minutesPerWeek)
    for (number, window) in windows.enumerated() {
      if let rate = window.uploadMbps, !Self.isValid(rate: rate) { return .windowRate(number) }
      if window.days.isEmpty || window.lengthMinutes == 0 { return .emptyWindow(number) }
      for day in Weekday.allCases where window.days.contains(day) {
        let start = day.index * 1440 + window.fromMinute
        for minute in start..<start + window.lengthMinutes {
          let place = minute % Self.minutesPerWeek
          if let other = owner[place], windows[other].uploadMbps != window.uploadMbps {
            return .contradiction(other, number, day: Weekday.allCases[place / 1440])
          }
          owner[place] = number
        }
      }
    }
    let outside = owner.contains(nil) ? uploadMbps : 0
    if outside == 0, windows.allSatisfy({ $0.uploadMbps == 0 }) { return .neverSends }
    return nil
  }

  /// Whether a rate can be given: 0, or from `minimumMbps` to `maximumMbps`.
  public static func isValid(rate: Double) -> Bool { rate == 0 || (rate >= minimumMbps && rate <= maximumMbps) }
}
