import Transport

/// A file's attributes as protocol version 3 has them (draft-ietf-secsh-filexfer-02, section 5); nil where they are not told or not set.
package struct SFTPAttributes: Hashable, Sendable {
  /// Bytes.
  package var size: UInt64?
  /// The whole `st_mode`: type bits and permission bits.
  package var permissions: UInt32?
  /// Seconds since 1970; the protocol has 32 bits without a sign.
  package var modified: UInt32?

  private static let hasSize: UInt32 = 0x0000_0001
  private static let hasOwner: UInt32 = 0x0000_0002
  private static let hasPermissions: UInt32 = 0x0000_0004
  private static let hasTimes: UInt32 = 0x0000_0008
  private static let hasExtended: UInt32 = 0x8000_0000

  package init(size: UInt64? = nil, permissions: UInt32? = nil, modified: UInt32? = nil) {
    self.size = size
    self.permissions = permissions
    self.modified = modified
  }

  /// Reads them where the cursor stands. Owner, access time and extensions are read over.
  package init(from reader: inout SFTPReader) throws(SFTPMalformed) {
    let flags = try reader.uint32()
    let known = Self.hasSize | Self.hasOwner | Self.hasPermissions | Self.hasTimes | Self.hasExtended
    guard flags & ~known == 0 else { throw SFTPMalformed("attributes with flags that version 3 does not have") }
    if flags & Self.hasSize != 0 { size = try reader.uint64() }
    if flags & Self.hasOwner != 0 { _ = try reader.uint64() }
    if flags & Self.hasPermissions != 0 { permissions = try reader.uint32() }
    if flags & Self.hasTimes != 0 {
      _ = try reader.uint32()
      modified = try reader.uint32()
    }
    if flags & Self.hasExtended != 0 {
      let count = try reader.uint32()
      guard Int(count) <= reader.remaining / 8 else { throw SFTPMalformed("more attribute extensions than the packet can hold") }
      for _ in 0..<count {
        _ = try reader.stringInPlace()
        _ = try reader.stringInPlace()
      }
    }
  }

  /// Appends them. The access time is set to the modification time: the protocol sets both or none.
  package func append(to packet: inout [UInt8]) {
    var flags: UInt32 = 0
    if size != nil { flags |= Self.hasSize }
    if permissions != nil { flags |= Self.hasPermissions }
    if modified != nil { flags |= Self.hasTimes }
    packet.appendBigEndian(flags)
    if let size { packet.appendBigEndian(size) }
    if let permissions { packet.appendBigEndian(permissions) }
    if let modified {
      packet.appendBigEndian(modified)
      packet.appendBigEndian(modified)
    }
  }

  /// What the type bits say; nil where the server sends none.
  package var kind: RemoteEntry.Kind? {
    guard let permissions else { return nil }
    switch permissions & 0o170000 {
    case 0: return nil
    case 0o100000: return .file
    case 0o040000: return .folder
    case 0o120000: return .symlink
    default: return .other
    }
  }
}
