/// Why a text is no JSON.
package struct JSONSyntaxError: Error, Hashable, Sendable, CustomStringConvertible {
  /// Bytes from the start of the text.
  package let offset: Int
  /// From 1.
  package let line: Int
  package let reason: String
  package var description: String { "line \(line): \(reason)" }
}

/// One value of a JSON text and where it stands.
struct JSONNode: Sendable {
  indirect enum Value: Sendable {
    case object([JSONMember])
    case array([JSONNode])
    case string([UInt8])
    /// As it is spelled.
    case number
    case bool(Bool)
    case null
  }

  let value: Value
  /// The bytes of the value, without the white space around it.
  let range: Range<Int>
}

/// A member of an object.
struct JSONMember: Sendable {
  /// UTF-8 with the escapes resolved. Bytes, because `String` would take two spellings of one accented letter for one key.
  let key: [UInt8]
  let keyRange: Range<Int>
  let node: JSONNode
}

/// RFC 8259, strictly: no comments, no trailing commas, no byte order mark, nothing after the value, UTF-8 only.
struct JSONParser {
  /// Deeper nesting than any record has; each level costs call stack.
  static let maxDepth = 128

  private let bytes: [UInt8]
  private var index = 0

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  static func parse(_ bytes: [UInt8]) throws(JSONSyntaxError) -> JSONNode {
    var parser = JSONParser(bytes)
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { throw parser.error("the text starts with a byte order mark") }
    parser.skipSpace()
    let root = try parser.value(depth: 0)
    parser.skipSpace()
    if parser.index < bytes.count { throw parser.error("something follows after the end of the value") }
    return root
  }

  private func error(_ reason: String, at offset: Int? = nil) -> JSONSyntaxError {
    let place = min(offset ?? index, bytes.count)
    return JSONSyntaxError(offset: place, line: bytes[..<place].reduce(1) { $1 == 0x0a ? $0 + 1 : $0 }, reason: reason)
  }

  private var current: UInt8? { index < bytes.count ? bytes[index] : nil }

  private mutating func skipSpace() {
    while let byte = current, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { index += 1 }
  }

  private mutating func value(depth: Int) throws(JSONSyntaxError) -> JSONNode {
    guard depth <= Self.maxDepth else { throw error("more than \(Self.maxDepth) levels of nesting") }
    let start = index
    let value: JSONNode.Value
    switch current {
    case UInt8(ascii: "{"): value = .object(try members(depth: depth))
    case UInt8(ascii: "["): value = .array(try elements(depth: depth))
    case UInt8(ascii: "\""): value = .string(try string())
    case UInt8(ascii: "t"):
      try word("true")
      value = .bool(true)
    case UInt8(ascii: "f"):
      try word("false")
      value = .bool(false)
    case UInt8(ascii: "n"):
      try word("null")
      value = .null
    case .some(UInt8(ascii: "-")), .some(0x30...0x39):
      try number()
      value = .number
    case nil: throw error("the text ends where a value is expected")
    default: throw error("a value is expected")
    }
    return JSONNode(value: value, range: start..<index)
  }

  private mutating func word(_ text: String) throws(JSONSyntaxError) {
    guard bytes[index...].starts(with: text.utf8) else { throw error("a value is expected") }
    index += text.utf8.count
  }

  private mutating func members(depth: Int) throws(JSONSyntaxError) -> [JSONMember] {
    var members: [JSONMember] = []
    index += 1
    skipSpace()
    if current == UInt8(ascii: "}") {
      index += 1
      return members
    }
    while true {
      let keyStart = index
      guard current == UInt8(ascii: "\"") else { throw error("a key in quotation marks is expected") }
      let key = try string()
      let keyRange = keyStart..<index
      skipSpace()
      guard current == UInt8(ascii: ":") else { throw error("a colon is expected after the key") }
      index += 1
      skipSpace()
      members.append(JSONMember(key: key, keyRange: keyRange, node: try value(depth: depth + 1)))
      skipSpace()
      if current == UInt8(ascii: "}") {
        index += 1
        return members
      }
      guard current == UInt8(ascii: ",") else { throw error("a comma or the end of the object is expected") }
      index += 1
      skipSpace()
    }
  }

  private mutating func elements(depth: Int) throws(JSONSyntaxError) -> [JSONNode] {
    var elements: [JSONNode] = []
    index += 1
    skipSpace()
    if current == UInt8(ascii: "]") {
      index += 1
      return elements
    }
    while true {
      elements.append(try value(depth: depth + 1))
      skipSpace()
      if current == UInt8(ascii: "]") {
        index += 1
        return elements
      }
      guard current == UInt8(ascii: ",") else { throw error("a comma or the end of the array is expected") }
      index += 1
      skipSpace()
    }
  }

  private mutating func number() throws(JSONSyntaxError) {
    if current == UInt8(ascii: "-") { index += 1 }
    if current == UInt8(ascii: "0") { index += 1 } else { try digits() }
    if let byte = current, byte >= 0x30, byte <= 0x39 { throw error("a number starts with a zero") }
    if current == UInt8(ascii: ".") {
      index += 1
      try digits()
    }
    if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
      index += 1
      if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { index += 1 }
      try digits()
    }
  }

  private mutating func digits() throws(JSONSyntaxError) {
    let start = index
    while let byte = current, byte >= 0x30, byte <= 0x39 { index += 1 }
    if index == start { throw error("a digit is expected") }
  }

  private mutating func string() throws(JSONSyntaxError) -> [UInt8] {
    let start = index
    index += 1
    var text: [UInt8] = []
    while let byte = current {
      switch byte {
      case UInt8(ascii: "\""):
        index += 1
        guard String(validating: text, as: UTF8.self) != nil else { throw error("a string is not UTF-8", at: start) }
        return text
      case UInt8(ascii: "\\"):
        index += 1
        try escape(into: &text)
      case 0..<0x20: throw error("a control character inside a string")
      default:
        text.append(byte)
        index += 1
      }
    }
    throw error("a string is not closed", at: start)
  }

  private mutating func escape(into text: inout [UInt8]) throws(JSONSyntaxError) {
    guard let byte = current else { throw error("the text ends inside a string") }
    index += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
    case UInt8(ascii: "b"): text.append(0x08)
    case UInt8(ascii: "f"): text.append(0x0c)
    case UInt8(ascii: "n"): text.append(0x0a)
    case UInt8(ascii: "r"): text.append(0x0d)
    case UInt8(ascii: "t"): text.append(0x09)
    case UInt8(ascii: "u"):
      let scalar = Unicode.Scalar(try escapedScalar()) ?? "\u{fffd}"
      text += Array(Character(scalar).utf8)
    default: throw error("an escape that JSON does not have", at: index - 1)
    }
  }

  /// A `\u` escape, two of them where they are a surrogate pair. A lone surrogate, which the grammar allows, becomes U+FFFD.
  private mutating func escapedScalar() throws(JSONSyntaxError) -> UInt32 {
    let first = try hexadecimal()
    guard (0xd800...0xdbff).contains(first), bytes[index...].starts(with: [0x5c, 0x75]) else { return first }
    let before = index
    index += 2
    let second = try hexadecimal()
    guard (0xdc00...0xdfff).contains(second) else {
      index = before
      return first
    }
    return 0x10000 + (first - 0xd800) << 10 + (second - 0xdc00)
  }

  private mutating func hexadecimal() throws(JSONSyntaxError) -> UInt32 {
    guard index + 4 <= bytes.count else { throw error("four hexadecimal digits are expected") }
    var value: UInt32 = 0
    for byte in bytes[index..<index + 4] {
      switch byte {
      case 0x30...0x39: value = value << 4 | UInt32(byte - 0x30)
      case 0x41...0x46: value = value << 4 | UInt32(byte - 0x41 + 10)
      case 0x61...0x66: value = value << 4 | UInt32(byte - 0x61 + 10)
      default: throw error("four hexadecimal digits are expected")
      }
    }
    index += 4
    return value
  }
}
