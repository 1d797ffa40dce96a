import Foundation
import SyncModel

/// Why a timetable cannot be kept.
package enum BandwidthError: Error, Hashable, Sendable {
  /// The system knows no time zone of this name.
  case unknownTimeZone(String)
  /// The windows or rates contradict themselves.
  case invalid(BandwidthProfile.Problem)
}

/// The rate of an instrument at each moment: a timetable read by a time zone's clock on the wall.
///
/// A window is in force while the clock on the wall shows one of its times. So in the night in which an hour is missing a window inside
/// that hour does not come, and one that starts in it starts when the hour is skipped; in the night with a doubled hour a window inside
/// it comes twice. No moment has two rates, and none has a rate that the timetable does not show for the time on the wall.
package struct BandwidthSchedule: Hashable, Sendable {
  /// From this minute of the week (Monday 00:00 is 0) until the next entry's.
  private struct Span: Hashable, Sendable {
    let start: Int
    let rate: UploadRate
  }

  /// At least one, the first starting at 0, neighbours of different rates (the last and the first may be alike).
  private let spans: [Span]
  private let timeZone: TimeZone

  /// - Parameter workstation: The time zone for a profile that names none.
  /// - Throws: `BandwidthError`.
  package init(_ profile: BandwidthProfile, workstation: TimeZone = .current) throws(BandwidthError) {
    if let problem = profile.problem, problem != .neverSends { throw .invalid(problem) }
    if let name = profile.timeZone {
      guard let zone = TimeZone(identifier: name) else { throw .unknownTimeZone(name) }
      timeZone = zone
    } else {
      timeZone = workstation
    }
    var minutes = [UploadRate](repeating: UploadRate(megabits: profile.uploadMbps), count: BandwidthProfile.minutesPerWeek)
    for window in profile.windows {
      let rate = UploadRate(megabits: window.uploadMbps)
      for day in window.days {
        let start = day.index * 1440 + window.fromMinute
        for minute in start..<start + window.lengthMinutes { minutes[minute % minutes.count] = rate }
      }
    }
    var spans: [Span] = []
    for (minute, rate) in minutes.enumerated() where spans.last?.rate != rate { spans.append(Span(start: minute, rate: rate)) }
    self.spans = spans
  }

  /// Whether the rate is the same at all times.
  package var isConstant: Bool { spans.count == 1 }

  /// The rate at a moment.
  /// - Parameter wall: Seconds since 1970.
  package func rate(at wall: Double) -> UploadRate {
    if isConstant { return spans[0].rate }
    return spans[span(at: secondOfWeek(at: wall) / 60)].rate
  }

  /// The first moment after this one at which the rate may be another, nil when it never changes. At the latest in 15 days: some windows
  /// do not come in every week.
  /// - Parameter wall: Seconds since 1970.
  package func nextChange(after wall: Double) -> Double? {
    if isConstant { return nil }
    let present = rate(at: wall)
    let horizon = wall + 15 * 86_400
    var moment = wall
    while moment < horizon {
      let second = secondOfWeek(at: moment)
      let next = span(at: second / 60) + 1
      let boundary = (next < spans.count ? spans[next].start : BandwidthProfile.minutesPerWeek) * 60
      // Between two changes of the zone's offset the clock on the wall runs evenly. Whole seconds keep the boundary exact.
      var candidate = moment.rounded(.down) + Double(boundary - second)
      if let shift = timeZone.nextDaylightSavingTimeTransition(after: Date(timeIntervalSince1970: moment))?.timeIntervalSince1970,
        shift > moment, shift < candidate
      {
        candidate = shift
      }
      moment = candidate
      if rate(at: moment) != present { return moment }
    }
    return horizon
  }

  /// The place of the span that holds a minute of the week.
  private func span(at minute: Int) -> Int {
    var low = 0
    var high = spans.count - 1
    while low < high {
      let middle = (low + high + 1) / 2
      if spans[middle].start <= minute { low = middle } else { high = middle - 1 }
    }
    return low
  }

  /// What the clock on the wall shows, in seconds since Monday 00:00.
  private func secondOfWeek(at wall: Double) -> Int {
    let offset = timeZone.secondsFromGMT(for: Date(timeIntervalSince1970: wall))
    // 1 January 1970 was a Thursday, the fourth day of its week.
    let second = (Int(wall.rounded(.down)) + offset + 3 * 86_400) % 604_800
    return second < 0 ? second + 604_800 : second
  }
}
