/// A name that a kind of destination must never be given, whatever a single server of its kind makes of it: it would be taken for more than a name,
/// to the harm of what others have beside it.
public struct WithheldName: Hashable, Sendable, Codable {
  /// In lower case; it is meant in any.
  public let name: String
  /// What a server does with it, as the rest of a sentence that begins with the name.
  public let reason: String

  /// Takes the values as they are.
  public init(_ name: String, reason: String) {
    self.name = name
    self.reason = reason
  }

  /// Whether a file system somewhere would open a name as this one: letters of either case (ß is ss to some, the long s an s to most), any
  /// normalisation form, characters that nobody sees left out, and what Windows cuts off, dots and blanks at the end and a stream's name.
  public func matches(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard bytes.contains(where: { $0 >= 0x80 }) else {
      return Self.trimmed(bytes.map { $0 >= 0x41 && $0 <= 0x5a ? $0 | 0x20 : $0 }).elementsEqual(name.utf8)
    }
    guard let text = String(validating: bytes, as: UTF8.self) else { return false }
    let visible = String(String.UnicodeScalarView(text.unicodeScalars.filter { !$0.properties.isDefaultIgnorableCodePoint }))
    let folded = Array(visible.uppercased().lowercased().utf8)
    // Canonical equivalence, which is what String compares by.
    return String(decoding: Self.trimmed(folded), as: UTF8.self) == name
  }

  private static func trimmed(_ bytes: [UInt8]) -> ArraySlice<UInt8> {
    var stem = bytes.prefix { $0 != UInt8(ascii: ":") }
    while let last = stem.last, last == UInt8(ascii: ".") || last == UInt8(ascii: " ") { stem.removeLast() }
    return stem
  }
}
