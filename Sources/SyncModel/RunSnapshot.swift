/// What `lstat` said of a file when it was listed: compared before and after every read, before publishing and before any deletion.
public struct FileFingerprint: Hashable, Sendable, Codable {
  /// Number of the file system.
  public let device: UInt64
  /// Number of the inode.
  public let inode: UInt64
  /// Bytes.
  public let size: UInt64
  /// Nanoseconds since 1970.
  public let modified: Int64
  /// Nanoseconds since 1970: the inode's change time, which no program can set back.
  public let changed: Int64
  /// Permission bits only (`0o7777`).
  public let mode: UInt32

  /// Takes the values as they are.
  public init(device: UInt64, inode: UInt64, size: UInt64, modified: Int64, changed: Int64, mode: UInt32) {
    self.device = device
    self.inode = inode
    self.size = size
    self.modified = modified
    self.changed = changed
    self.mode = mode
  }
}

/// One entry of a run's tree.
public struct RunEntry: Hashable, Sendable {
  /// What kind of thing the entry is.
  public enum Kind: Hashable, Sendable {
    case file
    case folder
    /// A symbolic link and the exact bytes it points at.
    indirect case symlink(target: [UInt8])
    /// A socket, FIFO or device, named.
    indirect case special(String)
  }

  /// Where.
  public let path: RelativePath
  /// What kind of thing it is.
  public let kind: Kind
  /// What `lstat` said.
  public let fingerprint: FileFingerprint
  /// Why the entry could not be opened for reading, where it could not.
  public let unreadable: String?

  /// Takes the values as they are.
  public init(path: RelativePath, kind: Kind, fingerprint: FileFingerprint, unreadable: String? = nil) {
    self.path = path
    self.kind = kind
    self.fingerprint = fingerprint
    self.unreadable = unreadable
  }
}

/// The tree of a run as it was at one moment, sorted by path bytes, symbolic links not followed.
public struct RunSnapshot: Sendable {
  /// Absolute path of the run's folder, as given.
  public let root: String
  /// Name of the metadata folder at the top of the run, `.exlab-wizard` unless configured.
  public let metadataFolder: String
  /// All that would be sent, the metadata folder's own further files too; not the bookkeeping files (see `isBookkeeping`).
  public let entries: [RunEntry]
  /// Paths that an `exclude` pattern matched: not sent, listed in the receipt, never deleted.
  public let excluded: [RelativePath]
  /// The raw bytes of the record, nil where there is none.
  public let record: [UInt8]?
  /// Why a record that exists could not be read: the gate fails closed.
  public let recordUnreadable: String?

  /// Takes the values as they are.
  public init(
    root: String, metadataFolder: String, entries: [RunEntry], excluded: [RelativePath], record: [UInt8]?, recordUnreadable: String?
  ) {
    self.root = root
    self.metadataFolder = metadataFolder
    self.entries = entries
    self.excluded = excluded
    self.record = record
    self.recordUnreadable = recordUnreadable
  }

  /// Files in the metadata folder that this program itself writes: they are not components and not in the manifest, because they
  /// change after it is written (the record's `sync_status` and overrides) or describe it.
  public static let bookkeepingNames: Set<String> = ["creation.json", "checksums.sha256", "receipt.json", "deletion.json"]

  /// The regular files.
  public var files: [RunEntry] { entries.filter { $0.kind == .file } }

  /// Bytes of all regular files.
  public var totalBytes: UInt64 { entries.reduce(0) { $1.kind == .file ? $0 + $1.fingerprint.size : $0 } }
}

/// Where a run lies in the lab's tree.
public struct RunLocation: Hashable, Sendable {
  /// Absolute path of the run's folder.
  public let root: String
  /// The instrument it belongs to.
  public let equipment: String
  /// The run's path below `local_root`: what is appended to `remote_root`.
  public let relative: RelativePath

  /// Takes the values as they are.
  public init(root: String, equipment: String, relative: RelativePath) {
    self.root = root
    self.equipment = equipment
    self.relative = relative
  }
}
