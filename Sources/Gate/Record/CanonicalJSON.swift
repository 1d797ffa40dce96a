/// A JSON value in the one spelling that its hash is taken over, so that another program may write it with other white space, escapes,
/// order of keys or spelling of numbers, and the hash stays. Described in `Specs/gate.md`.
enum CanonicalJSON {
  /// - Parameter text: The text that the node was parsed from.
  static func bytes(of node: JSONNode, in text: [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    write(node, in: text, to: &result)
    return result
  }

  private static func write(_ node: JSONNode, in text: [UInt8], to result: inout [UInt8]) {
    switch node.value {
    case .object(let members):
      result.append(UInt8(ascii: "{"))
      for (index, member) in members.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }).enumerated() {
        if index > 0 { result.append(UInt8(ascii: ",")) }
        write(string: member.key, to: &result)
        result.append(UInt8(ascii: ":"))
        write(member.node, in: text, to: &result)
      }
      result.append(UInt8(ascii: "}"))
    case .array(let elements):
      result.append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        if index > 0 { result.append(UInt8(ascii: ",")) }
        write(element, in: text, to: &result)
      }
      result.append(UInt8(ascii: "]"))
    case .string(let bytes): write(string: bytes, to: &result)
    case .number: result += number(text[node.range])
    case .bool(let value): result += Array((value ? "true" : "false").utf8)
    case .null: result += Array("null".utf8)
    }
  }

  /// Only what must be escaped is, and in one way each.
  private static func write(string: [UInt8], to result: inout [UInt8]) {
    result.append(UInt8(ascii: "\""))
    for byte in string {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): result += [UInt8(ascii: "\\"), byte]
      case 0..<0x20:
        let digits = Array("0123456789abcdef".utf8)
        result += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      default: result.append(byte)
      }
    }
    result.append(UInt8(ascii: "\""))
  }

  /// The decimal value: its digits without zeros at either end, `e`, and the power of ten of the last of them. `150`, `1.50e+2` and `150.0`
  /// are all `15e1`; every zero is `0`. No binary fraction is involved, so none is rounded.
  static func number(_ spelling: some Collection<UInt8>) -> [UInt8] {
    let parts = spelling.split(omittingEmptySubsequences: false) { $0 | 0x20 == UInt8(ascii: "e") }
    guard let mantissa = parts.first else { return Array(spelling) }
    let isNegative = mantissa.first == UInt8(ascii: "-")
    let halves = mantissa.drop { $0 == UInt8(ascii: "-") }.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    var digits = Array(halves.joined())
    digits = Array(digits.drop { $0 == 0x30 })
    if digits.isEmpty { return [0x30] }
    var exponent = 0
    if parts.count == 2 {
      // An exponent beyond 64 bits stays as it is spelled: nobody rewrites it as another.
      guard let value = Int(String(decoding: parts[1], as: UTF8.self)), value.magnitude < 1 << 60 else { return Array(spelling) }
      exponent = value
    }
    if halves.count == 2 { exponent -= halves[1].count }
    while digits.last == 0x30 {
      digits.removeLast()
      exponent += 1
    }
    return (isNegative ? [UInt8(ascii: "-")] : []) + digits + [UInt8(ascii: "e")] + Array(String(exponent).utf8)
  }
}
