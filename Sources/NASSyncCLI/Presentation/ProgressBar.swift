import SyncModel

/// One line that shows how far the sending is. Pure: it renders what it is given, and writes nowhere.
package struct ProgressBar: Sendable {
  /// What there is to show.
  package struct Reading: Sendable {
    package var bytesDone: UInt64
    package var bytesTotal: UInt64
    package var filesDone: Int
    package var filesTotal: Int
    /// Bytes a second, nil before it is known.
    package var rate: Double?
    /// What is being done, such as a file's name; escaped here.
    package var current: String

    package init(bytesDone: UInt64, bytesTotal: UInt64, filesDone: Int, filesTotal: Int, rate: Double?, current: String) {
      self.bytesDone = bytesDone
      self.bytesTotal = bytesTotal
      self.filesDone = filesDone
      self.filesTotal = filesTotal
      self.rate = rate
      self.current = current
    }
  }

  /// Columns of the terminal. The line takes one less, because some terminals wrap as soon as the last one is filled.
  package let width: Int
  /// Whether the terminal shows more than ASCII.
  package let unicode: Bool

  package init(width: Int, unicode: Bool = true) {
    self.width = width
    self.unicode = unicode
  }

  /// The line, at most `width - 1` columns, without control characters. What does not fit is left out, the least important first:
  /// the current file, the files, the time left, the rate, the bar. The percentage stays.
  package func line(_ reading: Reading) -> String {
    let room = max(0, width - 1)
    let fraction = Self.fraction(reading)
    // Not 100 before the last byte.
    let percent = fraction >= 1 ? 100 : min(99, Int(fraction * 100))
    let percentage = String(repeating: " ", count: percent < 10 ? 2 : percent < 100 ? 1 : 0) + "\(percent) %"
    let amounts = "\(Quantities.bytes(min(reading.bytesDone, reading.bytesTotal)))/\(Quantities.bytes(reading.bytesTotal))"
    var details = [amounts]
    if let rate = reading.rate { details.append(Quantities.rate(rate)) }
    if let left = Self.secondsLeft(reading) { details.append(Quantities.clock(left) + " left") }
    if reading.filesTotal > 1 { details.append("\(Quantities.grouped(reading.filesDone))/\(Quantities.count(reading.filesTotal, "file"))") }

    let barWidth = room >= 100 ? 24 : room >= 60 ? 16 : room >= 40 ? 10 : 0
    var line = barWidth > 0 ? bar(fraction, barWidth) + " " + percentage : percentage
    for detail in details where displayWidth(line) + 2 + displayWidth(detail) <= room { line += "  " + detail }
    let left = room - displayWidth(line) - 2
    let current = unicode ? displayText(reading.current) : Self.ascii(displayText(reading.current))
    if left >= 8, !current.isEmpty { line += "  " + Self.cut(current, to: left, unicode: unicode) }
    return displayWidth(line) <= room ? line : String(percentage.prefix(room))
  }

  private func bar(_ fraction: Double, _ columns: Int) -> String {
    // The brackets take two of the columns.
    let cells = unicode ? columns : columns - 2
    let full = Int((fraction * Double(cells)).rounded(.down))
    let (done, left) = unicode ? ("█", "░") : ("#", "-")
    let cellsText = String(repeating: done, count: full) + String(repeating: left, count: cells - full)
    return unicode ? cellsText : "[" + cellsText + "]"
  }

  /// From 0 to 1. Where there are only empty files their number tells; where there is nothing to do it is done.
  private static func fraction(_ reading: Reading) -> Double {
    if reading.bytesTotal > 0 { return Double(min(reading.bytesDone, reading.bytesTotal)) / Double(reading.bytesTotal) }
    if reading.filesTotal > 0 { return Double(max(0, min(reading.filesDone, reading.filesTotal))) / Double(reading.filesTotal) }
    return 1
  }

  private static func secondsLeft(_ reading: Reading) -> Double? {
    guard let rate = reading.rate, rate.isFinite, rate >= 1, reading.bytesDone < reading.bytesTotal else { return nil }
    let seconds = Double(reading.bytesTotal - reading.bytesDone) / rate
    // More than four days is a guess that helps nobody.
    return seconds < 345_600 ? seconds : nil
  }

  private static func ascii(_ text: String) -> String { String(text.map { $0.isASCII ? $0 : "?" }) }

  private static func cut(_ text: String, to width: Int, unicode: Bool) -> String {
    let short = shortened(text, to: width)
    return unicode ? short : String(short.map { $0 == "…" ? "~" : $0 })
  }
}

/// How fast bytes went lately: over a sliding window, so that a pause shows and a burst does not frighten.
package struct RateMeter: Sendable {
  private var samples: [(nanoseconds: UInt64, bytes: UInt64)] = []
  private let window: UInt64

  /// - Parameter seconds: Length of the window.
  package init(windowSeconds seconds: UInt64 = 5) { window = max(1, seconds) &* 1_000_000_000 }

  /// Takes the number of bytes done so far. One that is less than before (a file starts again) starts the measurement anew.
  /// - Parameter nanoseconds: On a monotonic clock.
  package mutating func record(_ bytes: UInt64, at nanoseconds: UInt64) {
    if let last = samples.last, bytes < last.bytes || nanoseconds < last.nanoseconds { samples = [] }
    samples.append((nanoseconds, bytes))
    // One sample older than the window stays: the window's beginning lies between it and the next.
    while samples.count > 2, nanoseconds - samples[1].nanoseconds >= window { samples.removeFirst() }
  }

  /// Bytes a second, nil before half a second has been seen.
  package var rate: Double? {
    guard let first = samples.first, let last = samples.last, last.nanoseconds - first.nanoseconds >= 500_000_000 else { return nil }
    return Double(last.bytes - first.bytes) * 1e9 / Double(last.nanoseconds - first.nanoseconds)
  }
}
