/// The code and text of a STATUS reply.
package struct SFTPStatus: Hashable, Sendable {
  package let code: UInt32
  /// The server's words, as bytes, not escaped yet.
  package let message: [UInt8]

  package init(code: UInt32, message: [UInt8] = []) {
    self.code = code
    self.message = message
  }

  package static let ok: UInt32 = 0
  package static let endOfFile: UInt32 = 1
  package static let noSuchFile: UInt32 = 2
  package static let permissionDenied: UInt32 = 3
  package static let failure: UInt32 = 4
  package static let noConnection: UInt32 = 6
  package static let connectionLost: UInt32 = 7
  package static let unsupported: UInt32 = 8
  // Codes of later drafts that servers send to version 3 clients, too (ProFTPD sends 11).
  package static let noSuchPath: UInt32 = 10
  package static let alreadyExists: UInt32 = 11
  package static let writeProtected: UInt32 = 12
  package static let noSpace: UInt32 = 14
  package static let quotaExceeded: UInt32 = 15

  /// Success.
  package var isOK: Bool { code == Self.ok }
  /// Nothing has that name.
  package var isMissing: Bool { code == Self.noSuchFile || code == Self.noSuchPath }
  /// What servers say of a name that is taken; `failure` says that among other things.
  package var mayMeanTaken: Bool { code == Self.failure || code == Self.alreadyExists }
}

/// One entry of a NAME reply.
package struct SFTPName: Hashable, Sendable {
  package let name: [UInt8]
  /// First byte of the `ls -l` line: the type, for servers whose attributes have none.
  package let typeLetter: UInt8?
  package let attributes: SFTPAttributes
}

/// A reply of protocol version 3.
package enum SFTPReply: Hashable, Sendable {
  /// The kinds, for checking a reply against its request.
  package enum Kind: Hashable, Sendable { case status, handle, data, names, attributes, extended }

  case status(SFTPStatus)
  case handle(SFTPHandle)
  case data([UInt8])
  case names([SFTPName])
  case attributes(SFTPAttributes)
  /// The body of an EXTENDED_REPLY: its form depends on the request.
  case extended([UInt8])

  package var kind: Kind {
    switch self {
    case .status: .status
    case .handle: .handle
    case .data: .data
    case .names: .names
    case .attributes: .attributes
    case .extended: .extended
    }
  }

  /// Decodes one packet without its length prefix.
  /// - Throws: `SFTPMalformed` for everything that is not exactly a reply.
  package static func decode(_ packet: UnsafeRawBufferPointer) throws(SFTPMalformed) -> (id: UInt32, reply: SFTPReply) {
    var reader = SFTPReader(packet)
    let type = try reader.byte()
    let id = try reader.uint32()
    let reply: SFTPReply
    switch type {
    case 101:
      let code = try reader.uint32()
      // Text and language are missing in the replies of some old servers; the code is what counts.
      let message = reader.remaining == 0 ? [] : try reader.string()
      if reader.remaining > 0 { _ = try reader.stringInPlace() }
      reply = .status(SFTPStatus(code: code, message: message))
    case 102:
      let handle = try reader.string()
      guard handle.count <= 256 else { throw SFTPMalformed("a handle of \(handle.count) bytes") }
      reply = .handle(SFTPHandle(bytes: handle))
    case 103:
      reply = .data(try reader.string())
    case 104:
      reply = .names(try decodeNames(&reader))
    case 105:
      reply = .attributes(try SFTPAttributes(from: &reader))
    case 201:
      reply = .extended(reader.rest())
    default:
      throw SFTPMalformed("a packet of type \(type), which is no reply")
    }
    try reader.finish()
    return (id, reply)
  }

  private static func decodeNames(_ reader: inout SFTPReader) throws(SFTPMalformed) -> [SFTPName] {
    let count = Int(try reader.uint32())
    // Two length prefixes and the attributes' flags are the least that an entry takes.
    guard count <= reader.remaining / 12 else { throw SFTPMalformed("\(count) names in a packet that cannot hold them") }
    var names: [SFTPName] = []
    names.reserveCapacity(count)
    for _ in 0..<count {
      let name = try reader.string()
      let letter = try reader.stringInPlace().first
      names.append(SFTPName(name: name, typeLetter: letter, attributes: try SFTPAttributes(from: &reader)))
    }
    return names
  }
}

/// The server's first packet: its version and what it can do beyond.
package struct SFTPVersion: Hashable, Sendable {
  package let version: UInt32
  /// Known extensions, announced in the version known here.
  package let extensions: Set<SFTPExtension>

  /// Decodes a VERSION packet without its length prefix.
  package init(decoding packet: UnsafeRawBufferPointer) throws(SFTPMalformed) {
    var reader = SFTPReader(packet)
    guard try reader.byte() == 2 else { throw SFTPMalformed("the first packet is not VERSION") }
    version = try reader.uint32()
    var found: Set<SFTPExtension> = []
    while reader.remaining > 0 {
      let name = try reader.string()
      let value = try reader.string()
      if let known = SFTPExtension(rawValue: String(decoding: name, as: UTF8.self)), Array(known.version.utf8) == value {
        found.insert(known)
      }
    }
    extensions = found
  }
}

/// The reply to `limits@openssh.com`; 0 means that the server does not say.
package struct SFTPLimits: Hashable, Sendable {
  package let packetLength: UInt64
  package let readLength: UInt64
  package let writeLength: UInt64
  package let openHandles: UInt64

  package init(decoding body: [UInt8]) throws(SFTPMalformed) {
    let words = try decodeBody(body) { (reader) throws(SFTPMalformed) in
      [try reader.uint64(), try reader.uint64(), try reader.uint64(), try reader.uint64()]
    }
    packetLength = words[0]
    readLength = words[1]
    writeLength = words[2]
    openHandles = words[3]
  }
}

/// The reply to `statvfs@openssh.com`, as far as this program asks.
package struct SFTPFileSystem: Hashable, Sendable {
  /// Bytes that this user may still write.
  package let availableBytes: UInt64
  /// Files that this user may still make; nil where the file system has no fixed number of them.
  package let availableFiles: UInt64?

  package init(decoding body: [UInt8]) throws(SFTPMalformed) {
    let words = try decodeBody(body) { (reader) throws(SFTPMalformed) in
      var words: [UInt64] = []
      for _ in 0..<11 { words.append(try reader.uint64()) }
      return words
    }
    // f_bsize f_frsize f_blocks f_bfree f_bavail f_files f_ffree f_favail f_fsid f_flag f_namemax
    let (bytes, overflow) = words[1].multipliedReportingOverflow(by: words[4])
    availableBytes = overflow ? .max : bytes
    availableFiles = words[5] == 0 ? nil : words[7]
  }
}

/// Runs `read` over a whole body and insists that it ends where the body does.
private func decodeBody<Value>(
  _ body: [UInt8], _ read: (inout SFTPReader) throws(SFTPMalformed) -> Value
) throws(SFTPMalformed) -> Value {
  let result: Result<Value, SFTPMalformed> = body.withUnsafeBytes { bytes in
    var reader = SFTPReader(bytes)
    do throws(SFTPMalformed) {
      let value = try read(&reader)
      try reader.finish()
      return .success(value)
    } catch {
      return .failure(error)
    }
  }
  return try result.get()
}
