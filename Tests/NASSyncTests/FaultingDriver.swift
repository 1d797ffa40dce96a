import Foundation
import SyncModel
import Synchronization
import Transport

/// What a test does around the calls that the pipeline makes on its destination, and what it saw of them.
final class FaultPlan: Sendable {
  /// One call, numbered from 1 over all sessions of the plan.
  struct Call: Sendable, CustomStringConvertible {
    let number: Int
    /// The method's name.
    let name: String
    let path: RemotePath?
    /// Bytes handed over, of `put` and `write`.
    var bytes = 0
    /// Bytes handed over by the calls before this one.
    var sentBefore = 0
    /// Whether the last segment of the path is this.
    func isFor(_ leaf: String) -> Bool { path.map { $0.description.hasSuffix("/" + leaf) } ?? false }
    var description: String { "\(number) \(name) \(path.map(\.description) ?? "")" }
  }
  typealias Hook = @Sendable (Call) async throws(TransportError) -> Void

  /// The destination is to be taken for one that renames nothing.
  let inPlace: Bool
  /// Names that the destination is never given.
  let withheld: [WithheldName]
  /// What the NAS says when it is told to write everything to its disks, by the number of the telling; nil for what it says itself.
  let syncs: @Sendable (Int) -> Bool?
  /// Whether many small files may go in one stream, of which a plan sees nothing but the beginning and the end.
  let unpacks: Bool
  private let before: Hook
  private let after: Hook
  private let seen = Mutex<[Call]>([])

  init(
    inPlace: Bool = false, withheld: [WithheldName] = [], unpacks: Bool = false, syncs: @escaping @Sendable (Int) -> Bool? = { _ in nil },
    before: @escaping Hook = { _ in }, after: @escaping Hook = { _ in }
  ) {
    self.inPlace = inPlace
    self.withheld = withheld
    self.unpacks = unpacks
    self.syncs = syncs
    self.before = before
    self.after = after
  }

  /// Every call so far, in the order in which they began.
  var calls: [Call] { seen.withLock { $0 } }

  /// Bytes of the run's own files that were handed to the destination; what this program writes beside them does not count.
  var bytesSent: Int { calls.reduce(0) { $0 + ($1.path.map { !$0.description.contains("/.exlab-wizard/") } ?? false ? $1.bytes : 0) } }

  /// How often a file was begun to be sent.
  func timesSent(_ leaf: String) -> Int { calls.count { ($0.name == "put" || $0.name == "beginUpload") && $0.isFor(leaf) } }

  func perform<Result>(
    _ name: String, _ path: RemotePath? = nil, bytes: Int = 0, _ body: () async throws(TransportError) -> Result
  ) async throws(TransportError) -> Result {
    let call = seen.withLock { seen in
      let before = seen.last.map { $0.sentBefore + $0.bytes } ?? 0
      let call = Call(number: seen.count + 1, name: name, path: path, bytes: bytes, sentBefore: before)
      seen.append(call)
      return call
    }
    try await before(call)
    let result = try await body()
    try await after(call)
    return result
  }

  /// A connection that is gone.
  static let lost = TransportError.failure(SyncFailure(.network, "the test cut the connection", hint: "None."), sessionLost: true)
}

/// The real driver with a plan around it.
struct FaultingDriver: TransportDriver {
  let base: any TransportDriver
  let plan: FaultPlan

  var address: String { base.address }

  var withheldNames: [WithheldName] { base.withheldNames + plan.withheld }

  func connect() async throws(TransportError) -> any TransportSession {
    try await plan.perform("connect") { () async throws(TransportError) in
      FaultingSession(base: try await base.connect(), plan: plan)
    }
  }

  func makeHasher() async throws(TransportError) -> (any RemoteHasher)? {
    try await plan.perform("makeHasher") { () async throws(TransportError) -> (any RemoteHasher)? in
      guard let hasher = try await base.makeHasher() else { return nil }
      return FaultingHasher(base: hasher, plan: plan)
    }
  }

  func probe() async throws(TransportError) -> DestinationProbe { try await base.probe() }
}

private final class FaultingHasher: RemoteHasher, RemoteUnpacker {
  let base: any RemoteHasher
  let plan: FaultPlan

  init(base: any RemoteHasher, plan: FaultPlan) {
    self.base = base
    self.plan = plan
  }

  var evidence: Evidence { base.evidence }

  func digests(
    of paths: [RemotePath], progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    try await plan.perform("digests", paths.first) { () async throws(TransportError) in
      try await base.digests(of: paths, progress: progress)
    }
  }

  func digests(
    of paths: [RemotePath], bytes: UInt64, progress: @Sendable (Int) -> Void
  ) async throws(TransportError) -> [RemotePath: ContentDigest] {
    try await plan.perform("digests", paths.first) { () async throws(TransportError) in
      try await base.digests(of: paths, bytes: bytes, progress: progress)
    }
  }

  func digest(of path: RemotePath, whileWritten growth: FileGrowth) async throws(TransportError) -> ContentDigest? {
    try await plan.perform("digest", path) { () async throws(TransportError) in
      try await base.digest(of: path, whileWritten: growth)
    }
  }

  var unpacker: (any RemoteUnpacker)? { plan.unpacks && base.unpacker != nil ? self : nil }

  func weight(of file: WholeFile) -> Int { base.unpacker?.weight(of: file) ?? 0 }

  func unpack(_ feed: FileFeed, into folder: RemotePath, isFar: Bool) async throws(TransportError) {
    try await plan.perform("unpack", folder) { () async throws(TransportError) in
      try await base.unpacker?.unpack(feed, into: folder, isFar: isFar)
    }
  }

  func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool {
    try await plan.perform("syncFileSystem", path) { () async throws(TransportError) in
      let said = try await base.syncFileSystem(of: path)
      return plan.syncs(plan.calls.count { $0.name == "syncFileSystem" }) ?? said
    }
  }

  func interrupt() { base.interrupt() }
  func close() async { await base.close() }
}

private final class FaultingSession: TransportSession {
  let base: any TransportSession
  let plan: FaultPlan

  init(base: any TransportSession, plan: FaultPlan) {
    self.base = base
    self.plan = plan
  }

  var capabilities: TransportCapabilities {
    var capabilities = base.capabilities
    if plan.inPlace { capabilities.renames = false }
    return capabilities
  }

  func makeFolder(_ path: RemotePath) async throws(TransportError) {
    try await plan.perform("makeFolder", path) { () async throws(TransportError) in try await base.makeFolder(path) }
  }

  func entry(at path: RemotePath) async throws(TransportError) -> RemoteEntry? {
    try await plan.perform("entry", path) { () async throws(TransportError) in try await base.entry(at: path) }
  }

  func list(_ folder: RemotePath) async throws(TransportError) -> [RemoteEntry] {
    try await plan.perform("list", folder) { () async throws(TransportError) in try await base.list(folder) }
  }

  func put(_ content: [UInt8], at path: RemotePath, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    try await plan.perform("put", path, bytes: content.count) { () async throws(TransportError) in
      try await base.put(content, at: path, modified: modified, mode: mode, durable: durable)
    }
  }

  func beginUpload(_ path: RemotePath, resumingAt offset: UInt64) async throws(TransportError) -> UploadHandle {
    try await plan.perform("beginUpload", path) { () async throws(TransportError) in
      try await base.beginUpload(path, resumingAt: offset)
    }
  }

  func beginUpload(
    _ path: RemotePath, resumingAt mark: UploadMark, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    try await plan.perform("beginUpload", path) { () async throws(TransportError) in
      try await base.beginUpload(path, resumingAt: mark, size: size, modified: modified)
    }
  }

  func joinUpload(_ path: RemotePath) async throws(TransportError) -> UploadHandle {
    try await plan.perform("joinUpload", path) { () async throws(TransportError) in try await base.joinUpload(path) }
  }

  func mark(of handle: UploadHandle) async throws(TransportError) -> UploadMark? { try await base.mark(of: handle) }

  func putNew(_ content: [UInt8], at path: RemotePath) async throws(TransportError) {
    try await plan.perform("putNew", path, bytes: content.count) { () async throws(TransportError) in
      try await base.putNew(content, at: path)
    }
  }

  func discardUploads(under path: RemotePath, except kept: [UploadMark]) async throws(TransportError) {
    try await plan.perform("discardUploads", path) { () async throws(TransportError) in
      try await base.discardUploads(under: path, except: kept)
    }
  }

  func write(_ chunk: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError) {
    try await plan.perform("write", handle.path, bytes: chunk.count) { () async throws(TransportError) in
      try await base.write(chunk, at: offset, to: handle)
    }
  }

  func flush(_ handle: UploadHandle, durable: Bool) async throws(TransportError) {
    try await plan.perform("flush", handle.path) { () async throws(TransportError) in try await base.flush(handle, durable: durable) }
  }

  func finishUpload(_ handle: UploadHandle, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    try await plan.perform("finishUpload", handle.path) { () async throws(TransportError) in
      try await base.finishUpload(handle, modified: modified, mode: mode, durable: durable)
    }
  }

  func abandonUpload(_ handle: UploadHandle) async { await base.abandonUpload(handle) }

  func download(
    _ path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) {
    try await plan.perform("download", path) { () async throws(TransportError) in try await base.download(path, from: offset, body) }
  }

  func makeSymlink(at path: RemotePath, target: [UInt8]) async throws(TransportError) {
    try await plan.perform("makeSymlink", path) { () async throws(TransportError) in
      try await base.makeSymlink(at: path, target: target)
    }
  }

  func symlinkTarget(of path: RemotePath) async throws(TransportError) -> [UInt8] {
    try await plan.perform("symlinkTarget", path) { () async throws(TransportError) in try await base.symlinkTarget(of: path) }
  }

  func setModified(_ path: RemotePath, to seconds: Int64) async throws(TransportError) {
    try await plan.perform("setModified", path) { () async throws(TransportError) in try await base.setModified(path, to: seconds) }
  }

  func publish(_ path: RemotePath, as final: RemotePath) async throws(TransportError) {
    if plan.inPlace, try await base.entry(at: path)?.kind == .folder { throw .unsupported("rename folders") }
    try await plan.perform("publish", final) { () async throws(TransportError) in try await base.publish(path, as: final) }
  }

  func replace(_ path: RemotePath, over final: RemotePath) async throws(TransportError) {
    try await plan.perform("replace", final) { () async throws(TransportError) in try await base.replace(path, over: final) }
  }

  func removeFile(_ path: RemotePath) async throws(TransportError) {
    try await plan.perform("removeFile", path) { () async throws(TransportError) in try await base.removeFile(path) }
  }

  func removeTree(_ path: RemotePath) async throws(TransportError) {
    try await plan.perform("removeTree", path) { () async throws(TransportError) in try await base.removeTree(path) }
  }

  func freeSpace(at path: RemotePath) async throws(TransportError) -> UInt64? {
    try await plan.perform("freeSpace", path) { () async throws(TransportError) in try await base.freeSpace(at: path) }
  }

  func examineNames(in root: RemotePath) async throws(TransportError) -> DestinationNames? {
    try await plan.perform("examineNames", root) { () async throws(TransportError) in try await base.examineNames(in: root) }
  }

  func interrupt() { base.interrupt() }
  func close() async { await base.close() }
}

/// One real session and hasher lent to many clients one after another or at once, so that a sweep over hundreds of crashes does not log in
/// a thousand times. What a client closes or interrupts stays open.
actor LentDestination {
  let base: any TransportDriver
  private var session: (any TransportSession)?
  private var hasher: (any RemoteHasher)?

  init(_ base: any TransportDriver) { self.base = base }

  /// Opens both.
  func open() async throws {
    session = try await base.connect()
    hasher = try await base.makeHasher()
  }

  func close() async {
    await session?.close()
    await hasher?.close()
  }

  /// A driver that hands them out.
  func driver(_ plan: FaultPlan) -> any TransportDriver { FaultingDriver(base: Lender(owner: self, address: base.address), plan: plan) }

  private func lendSession() throws(TransportError) -> any TransportSession {
    guard let session else { throw FaultPlan.lost }
    return LentSession(session)
  }

  private func lendHasher() -> (any RemoteHasher)? { hasher.map { LentHasher($0) } }

  private struct Lender: TransportDriver {
    let owner: LentDestination
    let address: String
    func connect() async throws(TransportError) -> any TransportSession { try await owner.lendSession() }
    func makeHasher() async throws(TransportError) -> (any RemoteHasher)? { await owner.lendHasher() }
    func probe() async throws(TransportError) -> DestinationProbe { try await owner.base.probe() }
  }
}

private final class LentHasher: RemoteHasher {
  let base: any RemoteHasher
  init(_ base: any RemoteHasher) { self.base = base }
  var evidence: Evidence { base.evidence }
  func digests(of paths: [RemotePath], progress: @Sendable (Int) -> Void) async throws(TransportError) -> [RemotePath: ContentDigest] {
    try await base.digests(of: paths, progress: progress)
  }
  /// What a process leaves when it dies is there whether it is on the disk or not: a sweep need not wait for the disk each time.
  func syncFileSystem(of path: RemotePath) async throws(TransportError) -> Bool { true }
  func interrupt() {}
  func close() async {}
}

private final class LentSession: TransportSession {
  let base: any TransportSession
  init(_ base: any TransportSession) { self.base = base }
  var capabilities: TransportCapabilities { base.capabilities }
  func makeFolder(_ path: RemotePath) async throws(TransportError) { try await base.makeFolder(path) }
  func entry(at path: RemotePath) async throws(TransportError) -> RemoteEntry? { try await base.entry(at: path) }
  func list(_ folder: RemotePath) async throws(TransportError) -> [RemoteEntry] { try await base.list(folder) }
  func put(_ content: [UInt8], at path: RemotePath, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    try await base.put(content, at: path, modified: modified, mode: mode, durable: durable)
  }
  func beginUpload(_ path: RemotePath, resumingAt offset: UInt64) async throws(TransportError) -> UploadHandle {
    try await base.beginUpload(path, resumingAt: offset)
  }
  func beginUpload(
    _ path: RemotePath, resumingAt mark: UploadMark, size: UInt64, modified: Int64?
  ) async throws(TransportError) -> UploadHandle {
    try await base.beginUpload(path, resumingAt: mark, size: size, modified: modified)
  }
  func joinUpload(_ path: RemotePath) async throws(TransportError) -> UploadHandle { try await base.joinUpload(path) }
  func mark(of handle: UploadHandle) async throws(TransportError) -> UploadMark? { try await base.mark(of: handle) }
  func putNew(_ content: [UInt8], at path: RemotePath) async throws(TransportError) { try await base.putNew(content, at: path) }
  func discardUploads(under path: RemotePath, except kept: [UploadMark]) async throws(TransportError) {
    try await base.discardUploads(under: path, except: kept)
  }
  func write(_ chunk: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError) {
    try await base.write(chunk, at: offset, to: handle)
  }
  func flush(_ handle: UploadHandle, durable: Bool) async throws(TransportError) { try await base.flush(handle, durable: durable) }
  func finishUpload(_ handle: UploadHandle, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    try await base.finishUpload(handle, modified: modified, mode: mode, durable: durable)
  }
  func abandonUpload(_ handle: UploadHandle) async { await base.abandonUpload(handle) }
  func download(
    _ path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) { try await base.download(path, from: offset, body) }
  func makeSymlink(at path: RemotePath, target: [UInt8]) async throws(TransportError) {
    try await base.makeSymlink(at: path, target: target)
  }
  func symlinkTarget(of path: RemotePath) async throws(TransportError) -> [UInt8] { try await base.symlinkTarget(of: path) }
  func setModified(_ path: RemotePath, to seconds: Int64) async throws(TransportError) {
    try await base.setModified(path, to: seconds)
  }
  func publish(_ path: RemotePath, as final: RemotePath) async throws(TransportError) { try await base.publish(path, as: final) }
  func replace(_ path: RemotePath, over final: RemotePath) async throws(TransportError) { try await base.replace(path, over: final) }
  func removeFile(_ path: RemotePath) async throws(TransportError) { try await base.removeFile(path) }
  func removeTree(_ path: RemotePath) async throws(TransportError) { try await base.removeTree(path) }
  func freeSpace(at path: RemotePath) async throws(TransportError) -> UInt64? { try await base.freeSpace(at: path) }
  func interrupt() {}
  func close() async {}
}
