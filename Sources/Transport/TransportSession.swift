import SyncModel

/// What the thing at a remote path is, as a listing that does not follow symbolic links says.
public struct RemoteEntry: Hashable, Sendable {
  /// The kinds that matter to a run.
  public enum Kind: String, Hashable, Sendable { case file, folder, symlink, other }

  /// The name in its folder: the exact bytes the server sent, checked to be one segment.
  public let name: RelativePath
  /// What kind of thing it is.
  public let kind: Kind
  /// Bytes, of a file.
  public let size: UInt64
  /// Seconds since 1970, where the server says.
  public let modified: Int64?

  /// Takes the values as they are.
  public init(name: RelativePath, kind: Kind, size: UInt64, modified: Int64?) {
    self.name = name
    self.kind = kind
    self.size = size
    self.modified = modified
  }
}

/// What one destination can do, found by asking it.
public struct TransportCapabilities: Hashable, Sendable, Codable {
  /// What the server calls itself, escaped for display.
  public var server: String
  /// Things can be renamed. Where not, as in an object store, runs are sent to the place where readers look, under a claim that keeps others
  /// out, and a run is there once its manifest is: `putNew` writes it last. `publish` then moves single files only, in two steps.
  public var renames: Bool
  /// A folder is published by one rename that refuses to replace anything.
  public var atomicPublish: Bool
  /// A file may be replaced by a rename.
  public var atomicReplace: Bool
  /// A file can be written further after an interruption. Where not, `flush` promises nothing, and a file that was cut off is sent whole.
  public var resumesFiles: Bool
  /// Other sessions can write parts of a file that one began: `joinUpload`.
  public var joinsUploads: Bool
  /// `flush(durable:)` reaches the NAS's disk.
  public var durableFlush: Bool
  /// Free space can be asked for.
  public var reportsFreeSpace: Bool
  /// Symbolic links can be made.
  public var symlinks: Bool
  /// Files keep the modification times they are given, and so do folders where `setModified` does not throw `unsupported`.
  public var keepsTimes: Bool
  /// Files keep the permission bits they are given.
  public var keepsModes: Bool
  /// Bytes that one `write` carries best.
  public var preferredWriteSize: Int

  /// Takes the values as they are.
  public init(
    server: String, atomicPublish: Bool, atomicReplace: Bool, resumesFiles: Bool, durableFlush: Bool, reportsFreeSpace: Bool,
    symlinks: Bool, keepsTimes: Bool = true, keepsModes: Bool = true, preferredWriteSize: Int, renames: Bool = true,
    joinsUploads: Bool = false
  ) {
    self.server = server
    self.joinsUploads = joinsUploads
    self.renames = renames
    self.atomicPublish = atomicPublish
    self.atomicReplace = atomicReplace
    self.resumesFiles = resumesFiles
    self.durableFlush = durableFlush
    self.reportsFreeSpace = reportsFreeSpace
    self.symlinks = symlinks
    self.keepsTimes = keepsTimes
    self.keepsModes = keepsModes
    self.preferredWriteSize = preferredWriteSize
  }
}

/// A file being written, known to the session that opened it only.
public struct UploadHandle: Hashable, Sendable {
  /// Number within the session.
  public let id: UInt64
  /// Where.
  public let path: RemotePath
  /// Where the first `write` begins, where that is not the offset that was asked for: before it where something was lost, after it where the
  /// destination has acknowledged more of the same upload than the mark knew.
  public let offset: UInt64?
  /// Takes the values as they are.
  public init(id: UInt64, path: RemotePath, offset: UInt64? = nil) {
    self.id = id
    self.path = path
    self.offset = offset
  }
}

/// How far an upload has come that another session can go on with, after a restart too.
public struct UploadMark: Hashable, Sendable {
  /// The file's first bytes that the destination keeps.
  public var bytes: UInt64
  /// What the driver needs to find them again, at most 1 MiB of text that only the driver reads; nil where the file's name is enough. One
  /// without bytes counts, too: the destination may have got some since.
  public var token: String?
  /// Takes the values as they are.
  public init(bytes: UInt64, token: String? = nil) {
    self.bytes = bytes
    self.token = token
  }
}

/// A file that is sent in one piece.
public struct WholeFile: Sendable {
  /// All of it.
  public let content: [UInt8]
  /// Where it goes.
  public let path: RemotePath
  /// Seconds since 1970; nil leaves the time to the destination.
  public let modified: Int64?

  /// One file.
  public init(content: [UInt8], path: RemotePath, modified: Int64?) {
    self.content = content
    self.path = path
    self.modified = modified
  }
}

/// One connection to a destination. The contract every driver keeps, and `TransportConformance` tests:
///
/// - Each method does one bounded piece of work and either completes or throws `TransportError` within the driver's own progress
///   deadline; none sleeps and tries again, and none waits for bandwidth.
/// - Methods may be called from many tasks at once; the driver keeps many requests in flight.
/// - Nothing is overwritten unless the method's name says so. A method that was interrupted may be called again: making a folder that
///   exists, removing what is gone and uploading a staged file again all succeed.
/// - After an error with `sessionLost` every call throws; the caller closes the session and opens another.
/// - Names are bytes. Nothing is interpreted by a shell, no symbolic link on the NAS is followed when listing or removing.
public protocol TransportSession: AnyObject, Sendable {
  /// What this destination can do. Constant over the session's life.
  var capabilities: TransportCapabilities { get }

  /// Makes a folder and the ones above it up to the root. One that exists is fine; a file in the way is `alreadyExists`.
  /// The root itself is never made: where it is missing, `failure` of kind `misconfigured`.
  func makeFolder(_ path: RemotePath) async throws(TransportError)

  /// What is there, nil for nothing. Symbolic links are not followed.
  func entry(at path: RemotePath) async throws(TransportError) -> RemoteEntry?

  /// The folder's entries in any order, without `.` and `..`. Bounded: a server that lists without end is a `protocol` failure.
  func list(_ folder: RemotePath) async throws(TransportError) -> [RemoteEntry]

  /// Writes a whole small file (at most `preferredWriteSize` bytes is best) under a name in a staging folder, replacing a former
  /// attempt; returns once the server has acknowledged every part. The burst (open, write, times, close) takes as few round trips as possible.
  func put(_ content: [UInt8], at path: RemotePath, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError)

  /// `put` of several files one after the other, in their order, without going back and forth between their sender and the session's own thread.
  /// - Parameter next: Called before each with its index: as many as that have arrived. What it throws ends the rest.
  func put(
    _ files: [WholeFile], durable: Bool, next: @Sendable (Int) throws(TransportError) -> Void
  ) async throws(TransportError)

  /// Opens a file in a staging folder for writing; one that exists keeps its bytes before `offset` and is cut there.
  /// - Throws: `failure(.protocol)` where the file is shorter than `offset`.
  func beginUpload(_ path: RemotePath, resumingAt offset: UInt64) async throws(TransportError) -> UploadHandle

  /// `beginUpload(_:resumingAt:)` for a file whose length and time are known beforehand: what HTTP wants to hear first.
  /// - Parameters:
  ///   - size: Bytes of the whole file; exactly so many will be written.
  ///   - modified: What `finishUpload` will be told.
  func beginUpload(
    _ path: RemotePath, resumingAt offset: UInt64, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle

  /// `beginUpload(_:resumingAt:size:modified:)` from a mark that `mark(of:)` gave, in this session or an earlier one. What the mark stands for
  /// may be gone: the handle's `offset` says where to begin then.
  func beginUpload(
    _ path: RemotePath, resumingAt mark: UploadMark, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle

  /// Opens a file that another session of the same destination is writing, to write other parts of it; what is there stays. Each session flushes
  /// and closes for itself, and the one that began the upload finishes it, after the others' last `flush`.
  /// - Throws: `unsupported` where a file is written by one session only.
  func joinUpload(_ path: RemotePath) async throws(TransportError) -> UploadHandle

  /// How far the upload has come, without waiting for anything; nil where every byte before a `flush` counts and the name is enough.
  func mark(of handle: UploadHandle) async throws(TransportError) -> UploadMark?

  /// Writes a small file under a name that nothing has, in one step: of several at once one succeeds, the others throw `alreadyExists`.
  /// Where the destination's probe found no way to refuse, the driver looks before and after, which leaves a moment between.
  func putNew(_ content: [UInt8], at path: RemotePath) async throws(TransportError)

  /// Ends what interrupted uploads of files at or below a place left on the destination and no listing shows.
  /// - Parameter kept: Marks of uploads that are to be gone on with.
  func discardUploads(under path: RemotePath, except kept: [UploadMark]) async throws(TransportError)

  /// Takes bytes into the window of requests in flight and returns as soon as there is room: errors of earlier writes are thrown
  /// here or by `flush`.
  func write(_ chunk: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError)

  /// Returns once every byte written so far is acknowledged and, where `durable` and the destination can, on its disk.
  func flush(_ handle: UploadHandle, durable: Bool) async throws(TransportError)

  /// Flushes, sets the times and permission bits, closes.
  func finishUpload(_ handle: UploadHandle, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError)

  /// Closes without a promise. Never throws: it is called on the way out of a failure.
  func abandonUpload(_ handle: UploadHandle) async

  /// Reads a file from an offset to its end, calling `body` with successive chunks in order. Reads ahead within a bounded window.
  /// - Throws: what `body` throws is rethrown after the file is closed.
  func download(
    _ path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError)

  /// Makes a symbolic link with the exact target bytes; an equal one that exists is fine.
  func makeSymlink(at path: RemotePath, target: [UInt8]) async throws(TransportError)

  /// The target of a symbolic link.
  func symlinkTarget(of path: RemotePath) async throws(TransportError) -> [UInt8]

  /// Sets a file's or folder's modification time, seconds since 1970. `unsupported` where nobody can.
  func setModified(_ path: RemotePath, to seconds: Int64) async throws(TransportError)

  /// Renames a file or a folder with all that is in it, in one step. `alreadyExists` where the new name is taken.
  func publish(_ path: RemotePath, as final: RemotePath) async throws(TransportError)

  /// Renames a file over another in one step.
  func replace(_ path: RemotePath, over final: RemotePath) async throws(TransportError)

  /// Removes a file or a symbolic link; one that is gone is fine.
  func removeFile(_ path: RemotePath) async throws(TransportError)

  /// Removes a folder and all below it, following no link; one that is gone is fine.
  func removeTree(_ path: RemotePath) async throws(TransportError)

  /// Bytes that this user may still write there; nil where the destination does not say.
  func freeSpace(at path: RemotePath) async throws(TransportError) -> UInt64?

  /// Finds out what the destination makes of names, in a hidden folder that it removes again; nil where the driver has no way to ask.
  /// What a call leaves behind that was killed, a later one of the same workstation removes.
  /// - Parameter root: The destination's root.
  func examineNames(in root: RemotePath) async throws(TransportError) -> DestinationNames?

  /// Makes every call in flight throw at once (`failure(.interrupted)`), from any thread, without waiting for anything.
  nonisolated func interrupt()

  /// Ends the session in order. Idempotent; never throws.
  func close() async
}

extension TransportSession {
  /// A driver that cannot ask says so.
  public func examineNames(in root: RemotePath) async throws(TransportError) -> DestinationNames? { nil }

  /// Of no use to most drivers.
  public func beginUpload(
    _ path: RemotePath, resumingAt offset: UInt64, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    try await beginUpload(path, resumingAt: offset)
  }

  /// For sessions that have no thread of their own.
  public func put(
    _ files: [WholeFile], durable: Bool, next: @Sendable (Int) throws(TransportError) -> Void
  ) async throws(TransportError) {
    for (index, file) in files.enumerated() {
      try next(index)
      try await put(file.content, at: file.path, modified: file.modified, mode: nil, durable: durable)
    }
  }

  /// Where the name is enough.
  public func beginUpload(
    _ path: RemotePath, resumingAt mark: UploadMark, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    try await beginUpload(path, resumingAt: mark.bytes, size: size, modified: modified)
  }

  /// Where one session writes a file.
  public func joinUpload(_ path: RemotePath) async throws(TransportError) -> UploadHandle {
    throw .unsupported("several sessions for one file")
  }

  /// Where every flushed byte counts.
  public func mark(of handle: UploadHandle) async throws(TransportError) -> UploadMark? { nil }

  /// Where a rename refuses to replace: under a name of its own first.
  public func putNew(_ content: [UInt8], at path: RemotePath) async throws(TransportError) {
    guard try await entry(at: path) == nil else { throw .alreadyExists(path) }
    let draft = (path.parent ?? path).appending(try ProbeName.make())
    try await put(content, at: draft, modified: nil, mode: nil, durable: true)
    do throws(TransportError) { try await publish(draft, as: path) } catch {
      try? await removeFile(draft)  // what stopped the renaming is the failure to report; the next probe removes the draft
      throw error
    }
  }

  /// Where a listing shows everything.
  public func discardUploads(under path: RemotePath, except kept: [UploadMark]) async throws(TransportError) {}
}

/// Hashes files on the destination itself.
public protocol RemoteHasher: AnyObject, Sendable {
  /// Digests of all the files, in one go where the destination allows. A file that is not there, or that the far side could not read, has no
  /// entry in the result. `progress` is called with the number of files done.
  /// - Throws: `TransportError` where the answer is not exactly what was asked: a partly understood answer is no answer.
  func digests(
    of paths: [RemotePath], progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest]

  /// `digests(of:progress:)` of files that have so many bytes together, so that a far side which hashes them in one go, without a sign of life
  /// until it is done, is waited for as long as that may take and no longer.
  func digests(
    of paths: [RemotePath], bytes: UInt64, progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest]

  /// The digest of a file that somebody else is writing there, hashed as far as it has come while the rest is on its way.
  /// - Returns: Nil where the far side cannot do that, or where the file was given up.
  /// - Throws: `TransportError`, which says nothing about `digests`: that may work all the same.
  func digest(of path: RemotePath, whileWritten growth: FileGrowth) async throws(TransportError) -> ContentDigest?

  /// Who unpacks streams of files there; nil where nobody can.
  var unpacker: (any RemoteUnpacker)? { get }

  /// Makes the far side write everything below a place to its disks, once for many small files.
  /// - Returns: Whether it can do that; where not, the flushes of each file have to do.
  func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool

  /// Lets go of a connection that is not used just now; the next call makes it again.
  func rest() async

  /// What `digests` produces: `.server`, or `.store`.
  var evidence: Evidence { get }

  nonisolated func interrupt()
  func close() async
}

extension RemoteHasher {
  /// For hashers that do not keep still for long.
  public func digests(
    of paths: [RemotePath], bytes: UInt64, progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] { try await digests(of: paths, progress: progress) }

  /// For hashers that see a file only when it is whole.
  public func digest(of path: RemotePath, whileWritten growth: FileGrowth) async throws(TransportError) -> ContentDigest? { nil }

  /// For a far side that unpacks nothing.
  public var unpacker: (any RemoteUnpacker)? { nil }

  /// For hashers that hold no connection of their own.
  public func rest() async {}
}

/// Writes small files on the destination from one stream: no request and no answer for each.
public protocol RemoteUnpacker: AnyObject, Sendable {
  /// Bytes that a file takes on the way.
  func weight(of file: WholeFile) -> Int

  /// Writes the files below a folder as they are given. What is there is confirmed to the feed, and flushed by nobody; what is not has to be sent by
  /// `TransportSession.put`. A file is then as one that was put, and what has its name is replaced.
  /// - Parameters:
  ///   - feed: Closed at the end, whatever the end was.
  ///   - folder: There already, as every folder is in which a file lies.
  ///   - isFar: Whether the way is so long that a confirmation is worth waiting for only after many files.
  /// - Throws: `TransportError` where the connection failed. That says nothing about other calls.
  func unpack(_ feed: FileFeed, into folder: RemotePath, isFar: Bool) async throws(TransportError)
}

/// A kind of destination with its settings: makes sessions.
public protocol TransportDriver: Sendable {
  /// The address for people: `sftp://user@host:22/root`, without secrets.
  var address: String { get }

  /// Whether this kind of destination can hold symbolic links, whichever it is; nil where it must be asked.
  var holdsSymlinks: Bool? { get }

  /// Names that this kind of destination is never given, at whatever depth and whichever server it is: the gate stops a run that has one.
  var withheldNames: [WithheldName] { get }

  /// Opens a session. Cancellation of the task interrupts it.
  func connect() async throws(TransportError) -> any TransportSession

  /// A hasher where the destination has one, proven on a probe file under `root`'s staging area; nil where only read-back is possible.
  /// The answer of the probe is kept for the driver's life, except while `hasherIsUndecided`.
  func makeHasher() async throws(TransportError) -> (any RemoteHasher)?

  /// The same, over a session that is open already where that saves a log-in. Others may be using it.
  /// - Parameter expectingStream: Many small files are about to be unpacked: what that needs can be got ready meanwhile.
  /// - Throws: `TransportError`, whose `sessionLost` speaks of the lent session.
  func makeHasher(lending session: any TransportSession, expectingStream: Bool) async throws(TransportError) -> (any RemoteHasher)?

  /// Whether `makeHasher()` said nil only because the destination was out of sorts: it is asked again then.
  var hasherIsUndecided: Bool { get }

  /// Asks the destination everything `nassync check` shows.
  func probe() async throws(TransportError) -> DestinationProbe
}

extension TransportDriver {
  /// To be asked.
  public var holdsSymlinks: Bool? { nil }

  /// A name is a name to most.
  public var withheldNames: [WithheldName] { [] }

  /// One answer holds.
  public var hasherIsUndecided: Bool { false }

  /// Without the session, and nothing is got ready.
  public func makeHasher(
    lending session: any TransportSession, expectingStream: Bool
  ) async throws(TransportError) -> (any RemoteHasher)? {
    do throws(TransportError) { return try await makeHasher() } catch { throw .failure(error.failure, sessionLost: false) }
  }
}

/// What `nassync check` shows of a destination.
public struct DestinationProbe: Hashable, Sendable, Codable {
  /// One question and its answer.
  public struct Line: Hashable, Sendable, Codable {
    /// Whether the answer is good, a limitation that the program works around, or a fault that a person must mend.
    public enum Grade: String, Hashable, Sendable, Codable { case good, limited, bad }
    /// Stable key in snake case, for `--json`.
    public let name: String
    /// How good the answer is.
    public let grade: Grade
    /// One sentence.
    public let detail: String
    /// Takes the values as they are.
    public init(name: String, grade: Grade, detail: String) {
      self.name = name
      self.grade = grade
      self.detail = detail
    }
  }
  /// What the driver found.
  public var capabilities: TransportCapabilities
  /// The best evidence that verification will give here.
  public var evidence: Evidence
  /// Bytes free, where the destination says.
  public var freeSpace: UInt64?
  /// What becomes of names; nil where that could not be asked.
  public var names: DestinationNames?
  /// Everything asked, in the order asked.
  public var lines: [Line]
  /// Why nothing can be sent there, where the destination answered and still cannot be used: a wrong root, for instance.
  public var failure: SyncFailure?

  /// Takes the values as they are.
  public init(
    capabilities: TransportCapabilities, evidence: Evidence, freeSpace: UInt64?, names: DestinationNames? = nil, lines: [Line],
    failure: SyncFailure? = nil
  ) {
    self.capabilities = capabilities
    self.evidence = evidence
    self.freeSpace = freeSpace
    self.names = names
    self.lines = lines
    self.failure = failure
  }
}
