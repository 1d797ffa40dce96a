/// Why bytes from a server are no SFTP packet. The session cannot go on: nobody knows where the next packet starts or what it answers.
package struct SFTPMalformed: Error, Hashable, Sendable, CustomStringConvertible {
  /// What is wrong, without the server's bytes unless they are escaped.
  package let reason: String
  package init(_ reason: String) { self.reason = reason }
  package var description: String { reason }
}

/// A cursor over one packet's bytes: each step is checked against what is left, so that any bytes give a value or an error.
///
/// Valid only while the memory it was made from is; it never leaves the call that decodes.
package struct SFTPReader {
  private let bytes: UnsafeRawBufferPointer
  private var position = 0

  package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  /// Bytes not read yet.
  package var remaining: Int { bytes.count - position }

  package mutating func byte() throws(SFTPMalformed) -> UInt8 {
    guard remaining >= 1 else { throw SFTPMalformed("a packet ends too early") }
    defer { position += 1 }
    return bytes[position]
  }

  package mutating func uint32() throws(SFTPMalformed) -> UInt32 {
    guard remaining >= 4 else { throw SFTPMalformed("a packet ends too early") }
    defer { position += 4 }
    return UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt32.self))
  }

  package mutating func uint64() throws(SFTPMalformed) -> UInt64 {
    guard remaining >= 8 else { throw SFTPMalformed("a packet ends too early") }
    defer { position += 8 }
    return UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: position, as: UInt64.self))
  }

  /// The bytes of a length-prefixed string, in place.
  package mutating func stringInPlace() throws(SFTPMalformed) -> UnsafeRawBufferPointer {
    let length = Int(try uint32())
    guard length <= remaining else { throw SFTPMalformed("a string of \(length) bytes in a packet that has \(remaining) left") }
    defer { position += length }
    return UnsafeRawBufferPointer(rebasing: bytes[position..<position + length])
  }

  /// A length-prefixed string, copied.
  package mutating func string() throws(SFTPMalformed) -> [UInt8] { Array(try stringInPlace()) }

  /// Everything left, copied.
  package mutating func rest() -> [UInt8] {
    defer { position = bytes.count }
    return Array(bytes[position...])
  }

  /// - Throws: `SFTPMalformed` unless the packet has been read to its end.
  package func finish() throws(SFTPMalformed) {
    guard remaining == 0 else { throw SFTPMalformed("a packet has \(remaining) bytes too many") }
  }
}

extension [UInt8] {
  /// Appends a number, most significant byte first, as every number of the protocol.
  mutating func appendBigEndian(_ value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.bigEndian) { append(contentsOf: $0) }
  }

  /// Appends a length and the bytes.
  mutating func appendString(_ bytes: [UInt8]) {
    appendBigEndian(UInt32(truncatingIfNeeded: bytes.count))
    append(contentsOf: bytes)
  }
}
