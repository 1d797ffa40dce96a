import SyncModel

/// The YAML block between two `---` lines at the start of a Markdown file.
///
/// It is not parsed as YAML in full: text that an instrument or a template wrote never reaches a C parser. What is checked is what a
/// half-filled template gets wrong.
package struct FrontMatter: Hashable, Sendable {
  /// The block without its `---` lines; empty where there is none or where it has no end.
  package let range: Range<Int>
  /// What is wrong with it, and in which line; nil where nothing is.
  package let problem: Problem?

  /// Something that is wrong.
  package struct Problem: Hashable, Sendable {
    /// From 1.
    package let line: Int
    package let reason: String
  }

  init(of bytes: [UInt8]) {
    let start = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? 3 : 0
    var lines = LineReader(bytes: bytes, index: start)
    guard let opening = lines.next(), Self.isFence(bytes[opening]) else {
      range = start..<start
      problem = nil
      return
    }
    let first = lines.index
    while let line = lines.next() {
      if Self.isFence(bytes[line]) {
        range = first..<line.lowerBound
        problem = Self.check(bytes, in: range)
        return
      }
    }
    range = start..<start
    problem = Problem(line: 1, reason: "the block that starts with --- has no closing ---")
  }

  private static func isFence(_ line: ArraySlice<UInt8>) -> Bool { trimmed(line).elementsEqual("---".utf8) }

  /// Without white space at the end.
  static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    var rest = line
    while let last = rest.last, last == 0x20 || last == 0x09 || last == 0x0d { rest.removeLast() }
    return rest
  }

  private static func check(_ bytes: [UInt8], in range: Range<Int>) -> Problem? {
    guard String(validating: bytes[range], as: UTF8.self) != nil else { return Problem(line: 2, reason: "the block is not UTF-8") }
    var lines = LineReader(bytes: bytes, index: range.lowerBound)
    var number = 1
    var isMapping: Bool?
    while lines.index < range.upperBound, let line = lines.next() {
      number += 1
      let text = trimmed(bytes[line])
      guard let first = text.first, first != UInt8(ascii: "#") else { continue }
      if first == 0x09 { return Problem(line: number, reason: "the line starts with a tab; YAML indents with spaces") }
      if first == 0x20 { continue }
      let hasKey = YAMLKeyPath.key(of: text) != nil
      if isMapping == nil {
        isMapping = hasKey
        if !hasKey, first != UInt8(ascii: "{") { return Problem(line: number, reason: "a line “key: value” is expected") }
      } else if isMapping == true, !hasKey, ![0x2d, 0x5d, 0x7d].contains(first) {
        return Problem(line: number, reason: "the line is neither “key: value” nor part of the value above it")
      }
    }
    return nil
  }
}

/// Splits at line ends.
struct LineReader {
  let bytes: [UInt8]
  /// Where the next line starts.
  var index: Int

  /// The next line without its end; nil after the last one.
  mutating func next() -> Range<Int>? {
    guard index < bytes.count else { return nil }
    let start = index
    let end = bytes[start...].firstIndex(of: 0x0a) ?? bytes.count
    index = min(end + 1, bytes.count)
    return start..<end
  }
}

/// Where in a YAML text something stands, told from the indentation.
enum YAMLKeyPath {
  /// `sample.name`; nil where no key leads there.
  static func ofYAML(_ bytes: [UInt8], in range: Range<Int>, at offset: Int) -> String? {
    var stack: [(indent: Int, key: ArraySlice<UInt8>)] = []
    var lines = LineReader(bytes: bytes, index: range.lowerBound)
    while lines.index <= offset, lines.index < range.upperBound, let line = lines.next() {
      var text = FrontMatter.trimmed(bytes[line])
      var indent = 0
      // A list item's own key is as deep as the text after its dash.
      while let first = text.first, first == 0x20 || (first == UInt8(ascii: "-") && text.dropFirst().first == 0x20) {
        text = text.dropFirst()
        indent += 1
      }
      guard !text.isEmpty, text.first != UInt8(ascii: "#") else { continue }
      guard let key = key(of: text) else { continue }
      while let last = stack.last, last.indent >= indent { stack.removeLast() }
      stack.append((indent, key))
    }
    guard !stack.isEmpty else { return nil }
    return stack.map { displayText(of: $0.key.prefix(60)) }.joined(separator: ".")
  }

  /// The key of a line `key: value` or `key:`, quotation marks taken off; nil for other lines.
  static func key(of line: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
    guard let first = line.first else { return nil }
    var end = line.startIndex
    if first == UInt8(ascii: "\"") || first == UInt8(ascii: "'") {
      guard let close = line.dropFirst().firstIndex(of: first) else { return nil }
      end = close + 1
      while end < line.endIndex, line[end] == 0x20 { end += 1 }
      guard end < line.endIndex, line[end] == UInt8(ascii: ":") else { return nil }
      return line[(line.startIndex + 1)..<close]
    }
    while end < line.endIndex {
      if line[end] == UInt8(ascii: ":"), end + 1 == line.endIndex || line[end + 1] == 0x20 || line[end + 1] == 0x09 { break }
      if line[end] == UInt8(ascii: "#"), end > line.startIndex, line[end - 1] == 0x20 { return nil }
      end += 1
    }
    guard end < line.endIndex, end > line.startIndex else { return nil }
    return FrontMatter.trimmed(line[..<end])
  }
}
