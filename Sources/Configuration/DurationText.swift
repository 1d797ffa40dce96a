/// Times as configuration files write them: a number and one of `ms`, `s`, `m`, `h`, `d`.
enum DurationText {
  private static let units: [(name: String, seconds: Double)] = [("ms", 0.001), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)]

  /// Seconds, nil where the text is no time.
  static func read(_ text: String) -> Double? {
    for unit in units where text.hasSuffix(unit.name) {
      let number = text.dropLast(unit.name.count)
      let bytes = Array(number.utf8)
      let digits = bytes.filter { (0x30...0x39).contains($0) }.count
      let points = bytes.filter { $0 == 0x2e }.count
      guard digits + points == bytes.count, points <= 1, bytes.first != 0x2e, bytes.last != 0x2e, (1...15).contains(digits) else {
        return nil
      }
      return Double(number).map { $0 * unit.seconds }
    }
    return nil
  }

  /// The shortest exact way to write seconds.
  static func write(_ seconds: Double) -> String {
    for unit in units.dropFirst() where seconds >= unit.seconds {
      if let count = Int(exactly: seconds / unit.seconds) { return "\(count)\(unit.name)" }
    }
    return Int(exactly: seconds * 1000).map { "\($0)ms" } ?? "\(seconds)s"
  }
}
