import Glibc

/// A path below a run's root (or below a destination's root): the exact bytes of its segments, none of which can climb.
///
/// File names are bytes. Swift's `String` compares by canonical equivalence, so two names that differ only in normalisation form
/// would be one key; this type compares bytes. Order is that of the bytes, as the manifest's.
public struct RelativePath: Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
  /// The segments joined by `/`, without a leading or trailing one. Never empty.
  public let bytes: [UInt8]

  /// Why a sequence of bytes is no relative path.
  public enum Invalid: Error, Hashable, Sendable {
    /// No bytes, or a leading, trailing or doubled `/`.
    case emptySegment
    /// A segment `.` or `..`.
    case traversal
    /// A NUL byte, which no file system can hold.
    case nul
  }

  /// - Throws: `Invalid` where the bytes could leave the root or name nothing.
  public init(bytes: [UInt8]) throws(Invalid) {
    if let problem = bytes.withUnsafeBufferPointer(Self.problem) { throw problem }
    self.bytes = bytes
  }

  /// In one pass and without a copy: a run has many paths, and each comes by here several times.
  private static func problem(in bytes: UnsafeBufferPointer<UInt8>) -> Invalid? {
    if bytes.contains(0) { return .nul }
    var length = 0
    var dots = 0
    for index in 0...bytes.count {
      if index < bytes.count, bytes[index] != UInt8(ascii: "/") {
        length += 1
        if bytes[index] == UInt8(ascii: ".") { dots += 1 }
        continue
      }
      if length == 0 { return .emptySegment }
      if length <= 2, dots == length { return .traversal }
      (length, dots) = (0, 0)
    }
    return nil
  }

  /// All bytes at once, and not one by one as an array does it: runs have many paths, and each is looked up often.
  public func hash(into hasher: inout Hasher) { bytes.withUnsafeBytes { hasher.combine(bytes: $0) } }

  /// - Throws: `Invalid`, as `init(bytes:)`.
  public init(_ string: String) throws(Invalid) { try self.init(bytes: Array(string.utf8)) }

  /// `.exlab-wizard`: the metadata folder unless another is configured.
  public static let defaultMetadataFolder = RelativePath(trusted: Array(".exlab-wizard".utf8))

  private init(trusted bytes: [UInt8]) { self.bytes = bytes }

  /// The names between the slashes.
  public var segments: [ArraySlice<UInt8>] { bytes.split(separator: UInt8(ascii: "/")) }

  /// The last name.
  public var lastSegment: ArraySlice<UInt8> { segments.last ?? [] }

  /// The folder that holds this, nil at the top.
  public var parent: RelativePath? {
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { return nil }
    return RelativePath(trusted: Array(bytes[..<slash]))
  }

  /// This path with another below it.
  public func appending(_ other: RelativePath) -> RelativePath {
    RelativePath(trusted: bytes + [UInt8(ascii: "/")] + other.bytes)
  }

  /// Whether this is `folder` or lies below it.
  public func isWithin(_ folder: RelativePath) -> Bool {
    bytes.starts(with: folder.bytes) && (bytes.count == folder.bytes.count || bytes[folder.bytes.count] == UInt8(ascii: "/"))
  }

  /// The path as text where its bytes are UTF-8, else nil.
  public var string: String? { String(validating: bytes, as: UTF8.self) }

  /// Safe to show: see `displayText(of:)`.
  public var description: String { displayText(of: bytes) }

  /// By bytes.
  public static func < (left: RelativePath, right: RelativePath) -> Bool {
    let common = min(left.bytes.count, right.bytes.count)
    let order = left.bytes.withUnsafeBytes { one in right.bytes.withUnsafeBytes { other in compare(one, other, common) } }
    return order == 0 ? left.bytes.count < right.bytes.count : order < 0
  }

  /// By bytes, in one go: an array compares element by element.
  public static func == (left: RelativePath, right: RelativePath) -> Bool {
    guard left.bytes.count == right.bytes.count else { return false }
    return left.bytes.withUnsafeBytes { one in right.bytes.withUnsafeBytes { other in compare(one, other, one.count) } } == 0
  }

  private static func compare(_ one: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer, _ count: Int) -> Int32 {
    // A path has at least one byte, so that neither is without an address.
    guard let one = one.baseAddress, let other = other.baseAddress else { return 0 }
    return memcmp(one, other, count)
  }

  /// Reads what `encode(to:)` writes.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    do {
      try self.init(text)
    } catch {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a path inside the run: \(text)")
    }
  }

  /// Writes the value as described above.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(string ?? description)
  }
}
