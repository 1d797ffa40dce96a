/// A JSON object that can be edited without touching what is not edited: unknown keys, the order of keys, the spelling of numbers,
/// white space and line ends stay byte for byte.
package struct JSONDocument: Sendable {
  /// The text.
  package private(set) var bytes: [UInt8]
  private(set) var root: JSONNode

  /// - Throws: `JSONSyntaxError` where the text is not JSON or not an object.
  package init(parsing bytes: [UInt8]) throws(JSONSyntaxError) {
    self.bytes = bytes
    root = try JSONParser.parse(bytes)
    guard case .object = root.value else { throw JSONSyntaxError(offset: 0, line: 1, reason: "the text is not an object") }
  }

  /// What a key stands for at the top level. A key twice is for the caller to refuse: no two readers agree which one counts.
  func lookUp(_ key: String) -> JSONLookup { Self.lookUp(key, in: root) }

  static func lookUp(_ key: String, in node: JSONNode) -> JSONLookup {
    guard case .object(let members) = node.value else { return .absent }
    let found = members.filter { $0.key.elementsEqual(key.utf8) }
    guard let first = found.first else { return .absent }
    return found.count == 1 ? .one(first.node) : .repeated
  }

  /// Sets a top-level key to a string: in place where it exists, else as the last member in the style of the others.
  /// - Throws: never for a document that was parsed; the edited text is parsed again as a safeguard.
  package mutating func setString(_ text: String, forKey key: String) throws(JSONSyntaxError) {
    if case .one(let node) = lookUp(key) {
      try replace(node.range, with: Self.quoted(text))
    } else {
      try insertMember(key, value: Self.quoted(text))
    }
  }

  /// Appends an object to the array under a top-level key, which is added where it is absent.
  /// - Parameter members: Keys and values, each value being JSON text.
  package mutating func append(_ members: [(key: String, json: [UInt8])], toArray key: String) throws(JSONSyntaxError) {
    let style = JSONStyle(of: self)
    guard case .one(let node) = lookUp(key), case .array(let elements) = node.value else {
      let indent = style.unit ?? []
      try insertMember(key, value: style.array(holding: members, indent: indent))
      return
    }
    guard let first = elements.first, let last = elements.last else {
      let indent = style.isMultiline ? leadingSpace(before: node.range.lowerBound) : []
      try replace(node.range, with: style.array(holding: members, indent: indent))
      return
    }
    let gap = Array(bytes[(node.range.lowerBound + 1)..<first.range.lowerBound])
    var object: [UInt8]
    if let indent = Self.indent(of: gap), style.isSpread(last, in: bytes) {
      object = style.object(members, indent: indent)
    } else {
      object = style.inlineObject(members)
    }
    let separator = elements.count > 1 ? gapBefore(last) : (gap.contains(0x0a) ? gap : style.space)
    object.insert(contentsOf: [UInt8(ascii: ",")] + separator, at: 0)
    try replace(last.range.upperBound..<last.range.upperBound, with: object)
  }

  /// A JSON string literal; everything beyond ASCII stays as it is, control characters are escaped.
  static func quoted(_ text: String) -> [UInt8] {
    var result: [UInt8] = [UInt8(ascii: "\"")]
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): result += [UInt8(ascii: "\\"), byte]
      case 0x0a: result += Array("\\n".utf8)
      case 0x0d: result += Array("\\r".utf8)
      case 0x09: result += Array("\\t".utf8)
      case 0..<0x20, 0x7f:
        let digits = Array("0123456789abcdef".utf8)
        result += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      default: result.append(byte)
      }
    }
    return result + [UInt8(ascii: "\"")]
  }

  private mutating func insertMember(_ key: String, value: [UInt8]) throws(JSONSyntaxError) {
    let style = JSONStyle(of: self)
    guard case .object(let members) = root.value, let first = members.first, let last = members.last else {
      let start = root.range.lowerBound + 1
      try replace(start..<start, with: Self.quoted(key) + [UInt8(ascii: ":")] + value)
      return
    }
    let lead = Array(bytes[(root.range.lowerBound + 1)..<first.keyRange.lowerBound])
    let separator = members.count > 1 ? spaceBefore(last.keyRange.lowerBound) : (lead.contains(0x0a) ? lead : style.space)
    let text = [UInt8(ascii: ",")] + separator + Self.quoted(key) + style.colon + value
    try replace(last.node.range.upperBound..<last.node.range.upperBound, with: text)
  }

  private mutating func replace(_ range: Range<Int>, with text: [UInt8]) throws(JSONSyntaxError) {
    var edited = bytes
    edited.replaceSubrange(range, with: text)
    self = try JSONDocument(parsing: edited)
  }

  private func gapBefore(_ node: JSONNode) -> [UInt8] { spaceBefore(node.range.lowerBound) }

  /// The white space that ends at an offset.
  private func spaceBefore(_ offset: Int) -> [UInt8] {
    var start = offset
    while start > 0, JSONStyle.isSpace(bytes[start - 1]) { start -= 1 }
    return Array(bytes[start..<offset])
  }

  /// The white space that the line of an offset starts with.
  private func leadingSpace(before offset: Int) -> [UInt8] {
    let start = bytes[..<offset].lastIndex(of: 0x0a).map { $0 + 1 } ?? 0
    return Array(bytes[start..<offset].prefix { $0 == 0x20 || $0 == 0x09 })
  }

  /// What follows the last line end in a gap; nil where the gap has none.
  static func indent(of gap: [UInt8]) -> [UInt8]? { gap.lastIndex(of: 0x0a).map { Array(gap[($0 + 1)...]) } }
}

/// What a key of an object stands for.
enum JSONLookup {
  case absent
  case one(JSONNode)
  case repeated
}
