/// A SHA-256 digest: 32 bytes.
public struct ContentDigest: Hashable, Sendable, Codable, CustomStringConvertible {
  /// Always 32 bytes.
  public let bytes: [UInt8]

  /// Nil unless exactly 32 bytes are given.
  public init?(bytes: [UInt8]) {
    guard bytes.count == 32 else { return nil }
    self.bytes = bytes
  }

  /// Nil unless the text is exactly 64 hexadecimal digits of either case.
  public init?(hex: some Collection<UInt8>) {
    guard hex.count == 64 else { return nil }
    // A collection of any kind is walked by a call for each byte, plain memory is not.
    guard let found = hex.withContiguousStorageIfAvailable(Self.bytes) ?? Self.bytes(Array(hex)) else { return nil }
    bytes = found
  }

  private static func bytes(_ hex: [UInt8]) -> [UInt8]? { hex.withUnsafeBufferPointer(bytes) }

  /// - Parameter hex: An even number of digits.
  private static func bytes(_ hex: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(32)
    var high: UInt8?
    for character in hex {
      let value: UInt8
      switch character {
      case 0x30...0x39: value = character - 0x30
      case 0x61...0x66: value = character - 0x61 + 10
      case 0x41...0x46: value = character - 0x41 + 10
      default: return nil
      }
      if let first = high {
        bytes.append(first << 4 | value)
        high = nil
      } else {
        high = value
      }
    }
    return bytes
  }

  /// All bytes at once.
  public func hash(into hasher: inout Hasher) { bytes.withUnsafeBytes { hasher.combine(bytes: $0) } }

  /// Nil unless the text is exactly 64 hexadecimal digits.
  public init?(hex: String) { self.init(hex: Array(hex.utf8)) }

  /// 64 lower-case hexadecimal digits.
  public var hex: String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(64)
    for byte in bytes {
      text.append(digits[Int(byte >> 4)])
      text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Safe to show.
  public var description: String { hex }

  /// Reads what `encode(to:)` writes.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let digest = ContentDigest(hex: try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "a SHA-256 digest has 64 hexadecimal digits")
    }
    self = digest
  }

  /// Writes the value as described above.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(hex)
  }
}

/// How a remote digest was got. Size alone is never evidence.
public enum Evidence: String, Hashable, Sendable, Codable, CaseIterable {
  /// Hashed on the NAS, by a program there.
  case server
  /// The object store compared SHA-256 while writing, and a probe showed that it refuses a wrong one.
  case store
  /// Downloaded and hashed here.
  case readback
}
