/// A server's name for an open file or folder: opaque, at most 256 bytes.
package struct SFTPHandle: Hashable, Sendable {
  package let bytes: [UInt8]
  package init(bytes: [UInt8]) { self.bytes = bytes }
}

/// How a file is opened (draft-ietf-secsh-filexfer-02, section 6.3).
package struct SFTPOpenFlags: OptionSet, Hashable, Sendable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
  package static let read = SFTPOpenFlags(rawValue: 0x01)
  package static let write = SFTPOpenFlags(rawValue: 0x02)
  package static let create = SFTPOpenFlags(rawValue: 0x08)
  package static let truncate = SFTPOpenFlags(rawValue: 0x10)
  /// With `create`: fails where anything has that name, a symbolic link too.
  package static let exclusive = SFTPOpenFlags(rawValue: 0x20)
}

/// A request of protocol version 3, or of OpenSSH's extensions to it (its PROTOCOL file, section 4). Paths are bytes.
package enum SFTPRequest: Hashable, Sendable {
  case open([UInt8], SFTPOpenFlags, SFTPAttributes)
  case close(SFTPHandle)
  case read(SFTPHandle, offset: UInt64, length: UInt32)
  /// The packet without its data, which follow it on the wire: `length` bytes.
  case write(SFTPHandle, offset: UInt64, length: UInt32)
  case lstat([UInt8])
  case fstat(SFTPHandle)
  case setstat([UInt8], SFTPAttributes)
  case fsetstat(SFTPHandle, SFTPAttributes)
  case opendir([UInt8])
  case readdir(SFTPHandle)
  case remove([UInt8])
  case mkdir([UInt8])
  case rmdir([UInt8])
  case realpath([UInt8])
  case stat([UInt8])
  case rename(from: [UInt8], to: [UInt8])
  case readlink([UInt8])
  /// Sent in OpenSSH's order, target first: it is the reverse of the draft's, and what servers in use expect.
  case symlink(at: [UInt8], target: [UInt8])
  case posixRename(from: [UInt8], to: [UInt8])
  case fsync(SFTPHandle)
  case statvfs([UInt8])
  case hardlink(from: [UInt8], to: [UInt8])
  case limits

  /// The kind of reply that answers it, where the answer is not a status.
  package var expects: SFTPReply.Kind {
    switch self {
    case .open, .opendir: .handle
    case .read: .data
    case .readdir, .realpath, .readlink: .names
    case .lstat, .stat, .fstat: .attributes
    case .statvfs, .limits: .extended
    case .close, .write, .setstat, .fsetstat, .remove, .mkdir, .rmdir, .rename, .symlink, .posixRename, .fsync, .hardlink: .status
    }
  }

  /// The opening packet, which has no id: this client speaks version 3.
  package static let initialPacket: [UInt8] = [0, 0, 0, 5, 1, 0, 0, 0, 3]

  /// Appends the packet with its length prefix.
  package func append(to packet: inout [UInt8], id: UInt32) {
    let start = packet.count
    packet.appendBigEndian(UInt32(0))
    packet.append(type)
    packet.appendBigEndian(id)
    var following = 0
    switch self {
    case .open(let path, let flags, let attributes):
      packet.appendString(path)
      packet.appendBigEndian(flags.rawValue)
      attributes.append(to: &packet)
    case .close(let handle), .fstat(let handle), .readdir(let handle):
      packet.appendString(handle.bytes)
    case .read(let handle, let offset, let length):
      packet.appendString(handle.bytes)
      packet.appendBigEndian(offset)
      packet.appendBigEndian(length)
    case .write(let handle, let offset, let length):
      packet.appendString(handle.bytes)
      packet.appendBigEndian(offset)
      packet.appendBigEndian(length)
      following = Int(length)
    case .lstat(let path), .opendir(let path), .remove(let path), .rmdir(let path), .realpath(let path), .stat(let path),
      .readlink(let path):
      packet.appendString(path)
    case .mkdir(let path):
      packet.appendString(path)
      SFTPAttributes().append(to: &packet)
    case .setstat(let path, let attributes):
      packet.appendString(path)
      attributes.append(to: &packet)
    case .fsetstat(let handle, let attributes):
      packet.appendString(handle.bytes)
      attributes.append(to: &packet)
    case .rename(let from, let to):
      packet.appendString(from)
      packet.appendString(to)
    case .symlink(let path, let target):
      packet.appendString(target)
      packet.appendString(path)
    case .posixRename(let from, let to), .hardlink(let from, let to):
      packet.appendString(Array(extensionName.utf8))
      packet.appendString(from)
      packet.appendString(to)
    case .fsync(let handle):
      packet.appendString(Array(extensionName.utf8))
      packet.appendString(handle.bytes)
    case .statvfs(let path):
      packet.appendString(Array(extensionName.utf8))
      packet.appendString(path)
    case .limits:
      packet.appendString(Array(extensionName.utf8))
    }
    let length = UInt32(truncatingIfNeeded: packet.count - start - 4 + following)
    for (index, shift) in [24, 16, 8, 0].enumerated() { packet[start + index] = UInt8(truncatingIfNeeded: length >> shift) }
  }

  private var extensionName: String {
    switch self {
    case .posixRename: SFTPExtension.posixRename.rawValue
    case .fsync: SFTPExtension.fsync.rawValue
    case .statvfs: SFTPExtension.statvfs.rawValue
    case .hardlink: SFTPExtension.hardlink.rawValue
    case .limits: SFTPExtension.limits.rawValue
    default: ""
    }
  }

  private var type: UInt8 {
    switch self {
    case .open: 3
    case .close: 4
    case .read: 5
    case .write: 6
    case .lstat: 7
    case .fstat: 8
    case .setstat: 9
    case .fsetstat: 10
    case .opendir: 11
    case .readdir: 12
    case .remove: 13
    case .mkdir: 14
    case .rmdir: 15
    case .realpath: 16
    case .stat: 17
    case .rename: 18
    case .readlink: 19
    case .symlink: 20
    case .posixRename, .fsync, .statvfs, .hardlink, .limits: 200
    }
  }
}

/// OpenSSH's extensions that this client uses, each only where the server announced the version it knows.
package enum SFTPExtension: String, Hashable, Sendable, CaseIterable {
  case posixRename = "posix-rename@openssh.com"
  case fsync = "fsync@openssh.com"
  case statvfs = "statvfs@openssh.com"
  case hardlink = "hardlink@openssh.com"
  case limits = "limits@openssh.com"

  /// The value that the server announces for the form written here.
  package var version: String { self == .statvfs ? "2" : "1" }
}
