import Foundation

/// Something about a name that a destination may refuse: one character, an ending, an encoding.
///
/// A driver finds out which of them its destination does not hold (`samples`), and the gate finds the names that have one (`applies`).
public enum NameTrait: Hashable, Sendable, CustomStringConvertible {
  /// A printable ASCII character.
  case character(UInt8)
  /// A byte below 0x20.
  case controlCharacter
  case trailingDot
  case trailingSpace
  case leadingDot
  case leadingSpace
  /// A device of Windows, such as `CON` or `aux.txt`.
  case deviceName
  /// Bytes that are no UTF-8.
  case notUTF8
  /// Anything beyond ASCII.
  case nonASCII
  /// Characters that take four bytes: emoji and rare scripts.
  case fourByteCharacter
  /// Accents in one code point with their letter (NFC), where the destination stores them as two.
  case composed
  /// Accents in a code point of their own (NFD), where the destination joins them to the letter.
  case decomposed
  /// Capital letters, where the destination makes them small.
  case upperCase
  /// `.ht` at the beginning, in any case: files of its own that a web server gives to nobody and takes from nobody.
  case webServerFile

  /// Characters that some file system, server or share is known to refuse or to replace.
  public static let askedCharacters: [UInt8] = Array(##"<>:"\|?*!#$%&'()+,;=@[]^`{}~"##.utf8)

  /// Everything that a driver asks about.
  public static let asked: [NameTrait] =
    askedCharacters.map { .character($0) } + [
      .controlCharacter, .trailingDot, .trailingSpace, .leadingDot, .leadingSpace, .deviceName, .notUTF8, .nonASCII, .fourByteCharacter,
      .composed, .decomposed, .upperCase, .webServerFile,
    ]

  /// The same without traits that another one of them covers.
  public static func essential(_ traits: [NameTrait]) -> [NameTrait] {
    var covered: Set<NameTrait> = []
    if traits.contains(.nonASCII) { covered.formUnion([.fourByteCharacter, .composed, .decomposed]) }
    if traits.contains(.leadingDot) { covered.insert(.webServerFile) }
    return traits.filter { !covered.contains($0) }
  }

  /// Names that have the trait and, as far as that is possible, nothing else that could be refused. `stem` makes them unlike others.
  public func samples(stem: String) -> [[UInt8]] {
    let stem = Array(stem.utf8)
    func around(_ bytes: [UInt8]) -> [[UInt8]] { [stem + bytes + [0x78]] }
    switch self {
    case .character(let byte): return around([byte])
    case .controlCharacter: return around([0x01]) + around([0x0a])
    case .trailingDot: return [stem + [0x2e]]
    case .trailingSpace: return [stem + [0x20]]
    case .leadingDot: return [[0x2e] + stem]
    case .leadingSpace: return [[0x20] + stem]
    case .deviceName: return [Array("CON".utf8), Array("aux.txt".utf8)]
    case .notUTF8: return around([0xff]) + around([0xe9])
    case .nonASCII: return around(Array("ß".utf8)) + around(Array("測".utf8))
    case .fourByteCharacter: return around([0xf0, 0x9f, 0x94, 0xac])
    case .composed: return around([0xc3, 0xa9])
    case .decomposed: return around([0x65, 0xcc, 0x81])
    case .upperCase: return around([0x51])
    // Never the name that a server would read, for what it reads counts for everything beside it.
    case .webServerFile: return [Array(".ht".utf8) + stem]
    }
  }

  /// Whether a name has the trait.
  public func applies(to name: ArraySlice<UInt8>) -> Bool {
    switch self {
    case .character(let byte): return name.contains(byte)
    case .controlCharacter: return name.contains { $0 < 0x20 }
    case .trailingDot: return name.last == 0x2e
    case .trailingSpace: return name.last == 0x20
    case .leadingDot: return name.first == 0x2e
    case .leadingSpace: return name.first == 0x20
    case .deviceName: return WindowsDeviceName.found(in: name) != nil
    case .notUTF8: return name.contains { $0 >= 0x80 } && String(validating: name, as: UTF8.self) == nil
    case .nonASCII: return name.contains { $0 >= 0x80 }
    case .fourByteCharacter: return name.contains { $0 >= 0xf0 && $0 <= 0xf4 }
    case .composed: return Self.text(name).map { !$0.utf8.elementsEqual($0.decomposedStringWithCanonicalMapping.utf8) } ?? false
    case .decomposed: return Self.text(name).map { !$0.utf8.elementsEqual($0.precomposedStringWithCanonicalMapping.utf8) } ?? false
    case .upperCase: return name.contains { $0 >= 0x41 && $0 <= 0x5a }
    case .webServerFile:
      return name.count >= 3 && zip(name, ".ht".utf8).allSatisfy { byte, wanted in byte == wanted || byte | 0x20 == wanted && byte >= 0x41 }
    }
  }

  /// The name as text, where it has more than ASCII.
  private static func text(_ name: ArraySlice<UInt8>) -> String? {
    name.contains { $0 >= 0x80 } ? String(validating: name, as: UTF8.self) : nil
  }

  /// For people: `the character “:”`, `a dot at the end`.
  public var description: String {
    switch self {
    case .character(let byte): "the character “\(displayText(of: [byte]))”"
    case .controlCharacter: "a control character"
    case .trailingDot: "a dot at the end"
    case .trailingSpace: "a space at the end"
    case .leadingDot: "a dot at the beginning"
    case .leadingSpace: "a space at the beginning"
    case .deviceName: "the name of a Windows device"
    case .notUTF8: "bytes that are not UTF-8"
    case .nonASCII: "letters beyond ASCII"
    case .fourByteCharacter: "characters of four bytes, such as emoji"
    case .composed: "accents in one code point with their letter (NFC)"
    case .decomposed: "accents in a code point of their own (NFD)"
    case .upperCase: "capital letters"
    case .webServerFile: "“.ht” at the beginning"
    }
  }
}

extension NameTrait: Codable {
  private static let codes: [(code: String, trait: NameTrait)] = [
    ("control_character", .controlCharacter), ("trailing_dot", .trailingDot), ("trailing_space", .trailingSpace),
    ("leading_dot", .leadingDot), ("leading_space", .leadingSpace), ("device_name", .deviceName), ("not_utf8", .notUTF8),
    ("non_ascii", .nonASCII), ("four_byte_character", .fourByteCharacter), ("composed", .composed), ("decomposed", .decomposed),
    ("upper_case", .upperCase), ("web_server_file", .webServerFile),
  ]

  /// As `encode(to:)` writes it.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let code = try container.decode(String.self)
    let bytes = Array(code.utf8)
    if bytes.count == 1, bytes[0] > 0x20, bytes[0] < 0x7f {
      self = .character(bytes[0])
    } else if let known = Self.codes.first(where: { $0.code == code }) {
      self = known.trait
    } else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a trait of names: \(displayText(code))")
    }
  }

  /// A character as itself, the others in snake case.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if case .character(let byte) = self {
      try container.encode(String(decoding: [byte], as: UTF8.self))
    } else {
      try container.encode(Self.codes.first { $0.trait == self }?.code ?? "unknown")
    }
  }
}

/// Names that are devices on Windows, in any case and with any extension.
public enum WindowsDeviceName {
  /// The device that a name stands for, in upper case; nil for others.
  public static func found(in name: ArraySlice<UInt8>) -> String? {
    var stem = name.prefix { $0 != UInt8(ascii: ".") }
    while stem.last == UInt8(ascii: " ") { stem.removeLast() }
    guard stem.count == 3 || stem.count == 4 else { return nil }
    let upper = stem.map { $0 >= 0x61 && $0 <= 0x7a ? $0 & 0xdf : $0 }
    let text = String(decoding: upper, as: UTF8.self)
    switch text.prefix(3) {
    case "CON", "PRN", "AUX", "NUL": return upper.count == 3 ? text : nil
    case "COM", "LPT": return upper.count == 4 && upper[3] >= 0x31 && upper[3] <= 0x39 ? text : nil
    default: return nil
    }
  }
}
