/// Numbers as people read them. Units are powers of ten, as disks are sold and networks are rated.
package enum Quantities {
  private static let units = ["kB", "MB", "GB", "TB", "PB", "EB"]

  /// `0 B`, `999 B`, `1.5 kB`, `20.2 MB`, `123 GB`: three figures at most.
  package static func bytes(_ count: UInt64) -> String {
    if count < 1000 { return "\(count) B" }
    var value = Double(count) / 1000
    var unit = 0
    // 999.5 would be shown as 1000.
    while value >= 999.5, unit + 1 < units.count {
      value /= 1000
      unit += 1
    }
    return "\(figures(value)) \(units[unit])"
  }

  /// `38.1 MB/s`. Nothing sensible (negative, not a number) is `0 B/s`.
  package static func rate(_ bytesPerSecond: Double) -> String {
    guard bytesPerSecond.isFinite, bytesPerSecond > 0 else { return "0 B/s" }
    return bytes(UInt64(min(bytesPerSecond, 1e18).rounded())) + "/s"
  }

  /// `450 ms`, `4.2 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 4 h`. What is not a duration is `0 s`.
  package static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds > 0 else { return "0 s" }
    if seconds < 0.9995 { return "\(Int((seconds * 1000).rounded())) ms" }
    if seconds < 9.95 { return "\(oneDecimal(seconds)) s" }
    let whole = Int(min(seconds, 1e12).rounded())
    if whole < 60 { return "\(whole) s" }
    if whole < 3600 { return "\(whole / 60) min \(twoDigits(whole % 60)) s" }
    if whole < 86_400 { return "\(whole / 3600) h \(twoDigits(whole % 3600 / 60)) min" }
    return "\(whole / 86_400) d \(whole % 86_400 / 3600) h"
  }

  /// `0:07`, `12:34`, `1:02:03`: for a countdown, whose width should not jump.
  package static func clock(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds > 0 else { return "0:00" }
    let whole = Int(min(seconds, 359_999).rounded(.up))
    if whole < 3600 { return "\(whole / 60):\(twoDigits(whole % 60))" }
    return "\(whole / 3600):\(twoDigits(whole % 3600 / 60)):\(twoDigits(whole % 60))"
  }

  /// `1 run`, `12,345 files`: a number with its noun.
  package static func count(_ number: Int, _ singular: String, _ plural: String? = nil) -> String {
    "\(grouped(number)) \(number == 1 ? singular : plural ?? singular + "s")"
  }

  /// Thousands set apart by commas.
  static func grouped(_ number: Int) -> String {
    let digits = Array(String(number.magnitude))
    var text = number < 0 ? "-" : ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text += "," }
      text.append(digit)
    }
    return text
  }

  private static func figures(_ value: Double) -> String { value < 99.95 ? oneDecimal(value) : String(Int(value.rounded())) }

  private static func oneDecimal(_ value: Double) -> String {
    let tenths = Int((value * 10).rounded())
    return "\(tenths / 10).\(tenths % 10)"
  }

  private static func twoDigits(_ value: Int) -> String { value < 10 ? "0\(value)" : String(value) }
}
