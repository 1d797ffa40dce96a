import SyncModel

/// The key path of a place in a text, told without parsing the text in full.
enum TextKeyPath {
  /// Deeper nesting is not told.
  private static let maxDepth = 200
  /// Bytes of one key that are shown.
  private static let shownBytes = 60

  /// Where a place stands, in the format that the file's ending says; nil where no key leads there.
  static func find(_ path: RelativePath, isFrontMatter: Bool, _ bytes: [UInt8], in range: Range<Int>, at offset: Int) -> String? {
    if isFrontMatter || path.hasEnding(in: [".yaml", ".yml"]) { return YAMLKeyPath.ofYAML(bytes, in: range, at: offset) }
    if path.hasEnding(in: [".json"]) { return ofJSON(bytes[range], at: offset) }
    if path.hasEnding(in: [".toml", ".ini", ".cfg", ".conf"]) { return ofSections(bytes, in: range, at: offset) }
    return nil
  }

  // MARK: JSON

  private enum Level {
    case object(key: ArraySlice<UInt8>?, expectsKey: Bool)
    case array(index: Int)
  }

  /// `samples[2].name`. A text that is no JSON gets what its brackets and quotation marks say, or nothing.
  static func ofJSON(_ bytes: ArraySlice<UInt8>, at offset: Int) -> String? {
    var levels: [Level] = []
    var index = bytes.startIndex
    while index < bytes.endIndex, index <= offset {
      switch bytes[index] {
      case UInt8(ascii: "\""):
        let start = index + 1
        index = start
        while index < bytes.endIndex, bytes[index] != UInt8(ascii: "\"") { index += bytes[index] == UInt8(ascii: "\\") ? 2 : 1 }
        let end = min(index, bytes.endIndex)
        if case .object(_, true)? = levels.last { levels[levels.count - 1] = .object(key: bytes[start..<end], expectsKey: true) }
      case UInt8(ascii: "{"): levels.append(.object(key: nil, expectsKey: true))
      case UInt8(ascii: "["): levels.append(.array(index: 0))
      case UInt8(ascii: "}"), UInt8(ascii: "]"): _ = levels.popLast()
      case UInt8(ascii: ":"):
        if case .object(let key, _)? = levels.last { levels[levels.count - 1] = .object(key: key, expectsKey: false) }
      case UInt8(ascii: ","):
        switch levels.last {
        case .object?: levels[levels.count - 1] = .object(key: nil, expectsKey: true)
        case .array(let number)?: levels[levels.count - 1] = .array(index: number + 1)
        case nil: break
        }
      default: break
      }
      if levels.count > maxDepth { return nil }
      index += 1
    }
    var text = ""
    for level in levels {
      switch level {
      case .object(let key?, _): text += (text.isEmpty ? "" : ".") + displayText(of: key.prefix(shownBytes))
      case .object(nil, _): break
      case .array(let number): text += "[\(number)]"
      }
    }
    return text.isEmpty ? nil : text
  }

  // MARK: TOML and INI

  /// `section.key`: the last `[section]` or `[[section]]` line above, and the key of the line itself, or of the value that the line goes on
  /// with.
  static func ofSections(_ bytes: [UInt8], in range: Range<Int>, at offset: Int) -> String? {
    var section: ArraySlice<UInt8>?
    var key: ArraySlice<UInt8>?
    var lines = LineReader(bytes: bytes, index: range.lowerBound)
    while lines.index <= offset, lines.index < range.upperBound, let line = lines.next() {
      let text = trimmed(bytes[line])
      guard let first = text.first, first != UInt8(ascii: "#"), first != UInt8(ascii: ";") else { continue }
      if first == UInt8(ascii: "["), text.last == UInt8(ascii: "]") {
        section = trimmed(text.drop { $0 == UInt8(ascii: "[") }.prefix { $0 != UInt8(ascii: "]") })
        key = nil
      } else if let equals = text.firstIndex(of: UInt8(ascii: "=")), equals > text.startIndex {
        key = trimmed(text[..<equals])
      }
    }
    let parts = [section, key].compactMap { $0 }.filter { !$0.isEmpty }
    return parts.isEmpty ? nil : parts.map { displayText(of: $0.prefix(shownBytes)) }.joined(separator: ".")
  }

  private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    FrontMatter.trimmed(line).drop { $0 == 0x20 || $0 == 0x09 }
  }
}
