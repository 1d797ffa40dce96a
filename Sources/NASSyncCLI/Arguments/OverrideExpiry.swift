extension OverrideExpiry {
  /// Reads `12h`, `30d` or `8w` as a span, `2026-12-31` as the start of that day in UTC, and `2026-12-31T18:00[:30]` followed by `Z` or an
  /// offset `+02:00` as a moment. Nil for anything else: a time without a zone could mean two moments, and is not guessed at.
  package init?(parsing text: String) {
    var reader = DigitReader(text)
    if let unit = text.utf8.last, let seconds = Self.units[unit] {
      guard let count = reader.number(digits: 1...6), count > 0, reader.rest.count == 1 else { return nil }
      self = .after(Int64(count) * seconds)
      return
    }
    guard let year = reader.number(digits: 4...4), reader.skip("-"), let month = reader.number(digits: 2...2), reader.skip("-"),
      let day = reader.number(digits: 2...2), year >= 1970, (1...12).contains(month), (1...Self.days(in: month, of: year)).contains(day)
    else { return nil }
    var seconds = Self.daysSince1970(year, month, day) * 86_400
    if reader.rest.isEmpty {
      self = .at(seconds)
      return
    }
    guard reader.skip("T"), let hour = reader.number(digits: 2...2), reader.skip(":"), let minute = reader.number(digits: 2...2), hour < 24,
      minute < 60
    else { return nil }
    seconds += Int64(hour * 3600 + minute * 60)
    if reader.skip(":") {
      guard let second = reader.number(digits: 2...2), second < 60 else { return nil }
      seconds += Int64(second)
    }
    if !reader.skip("Z") {
      let east = reader.skip("+")
      guard east || reader.skip("-"), let hours = reader.number(digits: 2...2), reader.skip(":"),
        let minutes = reader.number(digits: 2...2),
        hours < 24, minutes < 60
      else { return nil }
      seconds += Int64(hours * 3600 + minutes * 60) * (east ? -1 : 1)
    }
    guard reader.rest.isEmpty else { return nil }
    self = .at(seconds)
  }

  private static let units: [UInt8: Int64] = [0x68: 3600, 0x64: 86_400, 0x77: 7 * 86_400]

  private static func days(in month: Int, of year: Int) -> Int {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
  }

  /// Days of the proleptic Gregorian calendar: the whole years before, the whole months before, and the days.
  private static func daysSince1970(_ year: Int, _ month: Int, _ day: Int) -> Int64 {
    let before = year - 1
    let leapDays = (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400)
    let months = (1..<month).reduce(0) { $0 + days(in: $1, of: year) }
    return Int64((year - 1970) * 365 + leapDays + months + day - 1)
  }
}

/// Takes numbers of a fixed length and separators from the front of a text.
private struct DigitReader {
  var rest: Substring.UTF8View

  init(_ text: String) { rest = text[...].utf8 }

  mutating func number(digits: ClosedRange<Int>) -> Int? {
    let taken = rest.prefix { (0x30...0x39).contains($0) }
    guard digits.contains(taken.count) else { return nil }
    rest = rest.dropFirst(taken.count)
    return taken.reduce(0) { $0 * 10 + Int($1 - 0x30) }
  }

  mutating func skip(_ character: Unicode.Scalar) -> Bool {
    guard let first = rest.first, UInt32(first) == character.value else { return false }
    rest = rest.dropFirst()
    return true
  }
}
