/// How a JSON text is laid out, so that what is added looks like what was there.
struct JSONStyle {
  /// `\n` or `\r\n`.
  private let newline: [UInt8]
  /// The indentation of one level; nil where the members of the top object stand on one line.
  let unit: [UInt8]?
  /// `:` or `: ` and the like.
  let colon: [UInt8]
  /// What stands after a comma on one line.
  let space: [UInt8]

  var isMultiline: Bool { unit != nil }

  init(of document: JSONDocument) {
    let bytes = document.bytes
    newline = bytes.firstIndex(of: 0x0a).map { $0 > 0 && bytes[$0 - 1] == 0x0d ? [0x0d, 0x0a] : [0x0a] } ?? [0x0a]
    guard case .object(let members) = document.root.value, let first = members.first else {
      unit = nil
      colon = [UInt8(ascii: ":")]
      space = []
      return
    }
    let lead = Array(bytes[(document.root.range.lowerBound + 1)..<first.keyRange.lowerBound])
    unit = JSONDocument.indent(of: lead)
    let between = Array(bytes[first.keyRange.upperBound..<first.node.range.lowerBound])
    colon = between.contains(0x0a) ? [UInt8(ascii: ":"), 0x20] : between
    space = colon.last == 0x20 ? [0x20] : []
  }

  static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 }

  /// Whether an object has its members on lines of their own.
  func isSpread(_ node: JSONNode, in bytes: [UInt8]) -> Bool {
    guard case .object(let members) = node.value, let first = members.first else { return isMultiline }
    return bytes[node.range.lowerBound..<first.keyRange.lowerBound].contains(0x0a)
  }

  func inlineObject(_ members: [(key: String, json: [UInt8])]) -> [UInt8] {
    let text = members.map { JSONDocument.quoted($0.key) + colon + $0.json }.joined(separator: [UInt8(ascii: ",")] + space)
    return [UInt8(ascii: "{")] + Array(text) + [UInt8(ascii: "}")]
  }

  /// - Parameter indent: Of the line where the object starts.
  func object(_ members: [(key: String, json: [UInt8])], indent: [UInt8]) -> [UInt8] {
    let start = newline + indent + (unit ?? [])
    let text = members.map { start + JSONDocument.quoted($0.key) + colon + $0.json }.joined(separator: [UInt8(ascii: ",")])
    return [UInt8(ascii: "{")] + Array(text) + newline + indent + [UInt8(ascii: "}")]
  }

  /// - Parameter indent: Of the line where the array starts.
  func array(holding members: [(key: String, json: [UInt8])], indent: [UInt8]) -> [UInt8] {
    guard let unit else { return [UInt8(ascii: "[")] + inlineObject(members) + [UInt8(ascii: "]")] }
    let inner = indent + unit
    return [UInt8(ascii: "[")] + newline + inner + object(members, indent: inner) + newline + indent + [UInt8(ascii: "]")]
  }
}
