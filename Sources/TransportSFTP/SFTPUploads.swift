import SyncModel
import Transport

/// A file open for writing. Belongs to the client's actor.
final class SFTPUpload {
  let handle: SFTPHandle
  let path: RemotePath
  /// WRITEs and FSYNCs sent so far.
  private(set) var sent = 0
  /// How many of the first of them are answered, without a gap.
  private var answered = 0
  /// Answers to later ones: a server may answer in any order.
  private var ahead: Set<Int> = []
  /// The first that was refused, and what was asked for.
  private(set) var refusal: (status: SFTPStatus, action: String)?
  private var waiters: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []

  init(handle: SFTPHandle, path: RemotePath) {
    self.handle = handle
    self.path = path
  }

  /// The number of one that is sent now.
  func next() -> Int {
    sent += 1
    return sent
  }

  /// Whether the first `count` are answered.
  func isAnswered(_ count: Int) -> Bool { answered >= count }

  /// Resumes once the first `count` are.
  func wait(for count: Int, _ continuation: CheckedContinuation<Void, Never>) { waiters.append((count, continuation)) }

  func answered(_ number: Int, _ result: Result<SFTPReply, TransportError>, _ action: String) {
    if case .success(.status(let status)) = result, !status.isOK, refusal == nil { refusal = (status, action) }
    guard number == answered + 1 else {
      ahead.insert(number)
      return
    }
    answered = number
    while ahead.remove(answered + 1) != nil { answered += 1 }
    let reached = answered
    let woken = waiters.filter { $0.count <= reached }
    guard !woken.isEmpty else { return }
    waiters.removeAll { $0.count <= reached }
    for waiter in woken { waiter.continuation.resume() }
  }
}

/// How a burst that writes one file ended.
private enum BurstOutcome {
  case written
  case notOpened(SFTPStatus)
  case refused(SFTPStatus, action: String)
  /// Everything is there but times or permission bits.
  case attributesRefused(SFTPStatus)
}

/// The replies of a burst after its OPEN, counted down. Belongs to the client's actor.
private final class Burst {
  var left: Int
  var outcome = BurstOutcome.written
  var loss: TransportError?
  private let done: CheckedContinuation<Result<BurstOutcome, TransportError>, Never>

  init(_ left: Int, _ done: CheckedContinuation<Result<BurstOutcome, TransportError>, Never>) {
    self.left = left
    self.done = done
  }

  /// - Parameter action: What was asked for; nil for setting attributes, which weighs less than any other refusal.
  func answered(_ result: Result<SFTPReply, TransportError>, _ action: String?) {
    switch result {
    case .success(.status(let status)):
      if !status.isOK {
        switch (outcome, action) {
        case (.written, let action?), (.attributesRefused, let action?): outcome = .refused(status, action: action)
        case (.written, nil): outcome = .attributesRefused(status)
        default: break
        }
      }
    case .success: break
    case .failure(let error): loss = error
    }
    left -= 1
    if left == 0 { done.resume(returning: loss.map { .failure($0) } ?? .success(outcome)) }
  }
}

extension SFTPClient {
  /// Writes a whole file; see `TransportSession.put`.
  ///
  /// The file is opened exclusively, so that a name which is a symbolic link is never written through; what a former attempt left under
  /// the name is removed first, and only when it is in the way.
  func put(
    _ content: [UInt8], at path: RemotePath, modified: Int64?, mode: UInt32?, durable: Bool
  ) async throws(TransportError) {
    try await take(0, in: putSlots)
    defer { putSlots.give(0) }
    try await take(content.count, in: writeWindow)
    defer { writeWindow.give(content.count) }
    let attributes = Self.attributes(modified: modified, mode: mode)
    var outcome = try await burst(content, path, attributes, durable)
    if case .notOpened(let status) = outcome, status.mayMeanTaken {
      guard try await clearWay(at: path) else { throw try await explain(status, "write", path) }
      outcome = try await burst(content, path, attributes, durable)
    }
    switch outcome {
    case .written: return
    case .notOpened(let status): throw try await notOpened(status, path)
    case .refused(let status, let action):
      // Whether there is room is asked while the file still takes it.
      let failure = try await explain(status, action, path)
      // It has its size and its time and must not be taken for whole; a disk says only once that it could not take something.
      _ = try await self.status(of: .remove(path.bytes))
      throw failure
    case .attributesRefused: try await setTimesAlone(attributes, path)
    }
  }

  /// One after the other, all of it on the client's own thread; see `TransportSession.put(_:durable:next:)`.
  func put(
    _ files: [WholeFile], durable: Bool, next: @Sendable (Int) throws(TransportError) -> Void
  ) async throws(TransportError) {
    for (index, file) in files.enumerated() {
      try next(index)
      try await put(file.content, at: file.path, modified: file.modified, mode: nil, durable: durable)
    }
  }

  /// Many a NAS keeps the permission bits for itself and refuses them together with the times: the times alone are what a run needs.
  private func setTimesAlone(_ attributes: SFTPAttributes?, _ path: RemotePath) async throws(TransportError) {
    guard let modified = attributes?.modified else { return }
    let set = try await status(of: .setstat(path.bytes, SFTPAttributes(modified: modified)))
    guard set.isOK else { throw try await explain(set, "set the times of", path) }
  }

  private func burst(
    _ content: [UInt8], _ path: RemotePath, _ attributes: SFTPAttributes?, _ durable: Bool
  ) async throws(TransportError) -> BurstOutcome {
    try check()
    return try await withCheckedContinuation { (done: CheckedContinuation<Result<BurstOutcome, TransportError>, Never>) in
      send(.open(path.bytes, [.write, .create, .exclusive], SFTPAttributes())) { result in
        switch result {
        case .failure(let error): done.resume(returning: .failure(error))
        case .success(.status(let status)): done.resume(returning: .success(.notOpened(status)))
        case .success(.handle(let handle)): self.fill(handle, content, attributes, durable, done)
        case .success: done.resume(returning: .failure(self.violated("a reply of the wrong type")))
        }
      }
    }.get()
  }

  /// Everything that follows the OPEN, in one go: the server keeps the order of requests on one file.
  private func fill(
    _ handle: SFTPHandle, _ content: [UInt8], _ attributes: SFTPAttributes?, _ durable: Bool,
    _ done: CheckedContinuation<Result<BurstOutcome, TransportError>, Never>
  ) {
    let pieces = content.count / abilities.writeSize + (content.count % abilities.writeSize == 0 ? 0 : 1)
    let syncs = durable && abilities.extensions.contains(.fsync)
    let burst = Burst(pieces + (attributes == nil ? 0 : 1) + (syncs ? 1 : 0) + 1, done)
    var offset = 0
    while offset < content.count {
      let end = min(offset + abilities.writeSize, content.count)
      send(.write(handle, offset: UInt64(offset), length: UInt32(end - offset)), payload: content[offset..<end]) {
        burst.answered($0, "write")
      }
      offset = end
    }
    if syncs { send(.fsync(handle)) { burst.answered($0, "write to disk") } }
    if let attributes { send(.fsetstat(handle, attributes)) { burst.answered($0, nil) } }
    send(.close(handle)) { burst.answered($0, "finish") }
  }

  /// Removes a file or a link of a former attempt.
  /// - Returns: False where nothing is in the way.
  private func clearWay(at path: RemotePath) async throws(TransportError) -> Bool {
    guard let found = try await attributes(at: path) else { return false }
    if found.kind == .folder { throw .alreadyExists(path) }
    let removal = try await status(of: .remove(path.bytes))
    guard removal.isOK || removal.isMissing else { throw try await explain(removal, "replace", path) }
    return true
  }

  private func notOpened(_ status: SFTPStatus, _ path: RemotePath) async throws(TransportError) -> TransportError {
    // A folder believed to be there is gone: ask again next time.
    if status.isMissing { knownFolders.removeAll() }
    return try await explain(status, "write", path)
  }

  private static func attributes(modified: Int64?, mode: UInt32?) -> SFTPAttributes? {
    guard modified != nil || mode != nil else { return nil }
    return SFTPAttributes(permissions: mode.map { $0 & 0o7777 }, modified: modified.map { UInt32(clamping: $0) })
  }

  // MARK: Files written piece by piece

  func beginUpload(_ path: RemotePath, resumingAt offset: UInt64) async throws(TransportError) -> UploadHandle {
    register(offset == 0 ? try await openFresh(path) : try await openPartial(path, offset), path)
  }

  func joinUpload(_ path: RemotePath) async throws(TransportError) -> UploadHandle { register(try await openBegun(path), path) }

  private func register(_ handle: SFTPHandle, _ path: RemotePath) -> UploadHandle {
    nextUpload += 1
    uploads[nextUpload] = SFTPUpload(handle: handle, path: path)
    return UploadHandle(id: nextUpload, path: path)
  }

  private func openFresh(_ path: RemotePath) async throws(TransportError) -> SFTPHandle {
    let request = SFTPRequest.open(path.bytes, [.write, .create, .exclusive], SFTPAttributes())
    var reply = try await ask(request)
    if case .status(let status) = reply, status.mayMeanTaken {
      guard try await clearWay(at: path) else { throw try await explain(status, "write", path) }
      reply = try await ask(request)
    }
    switch reply {
    case .handle(let handle): return handle
    case .status(let status): throw try await notOpened(status, path)
    default: throw violated("a reply of the wrong type")
    }
  }

  /// A file that is there, never one behind a link.
  private func openBegun(_ path: RemotePath) async throws(TransportError) -> SFTPHandle {
    guard let found = try await attributes(at: path) else { throw .notFound(path) }
    guard found.kind == .file else {
      throw .failure(
        SyncFailure(.protocol, "\(path) is not the file that was begun there", hint: "It is sent again from the start."), sessionLost: false
      )
    }
    switch try await ask(.open(path.bytes, .write, SFTPAttributes())) {
    case .handle(let opened): return opened
    case .status(let status): throw try await explain(status, "write", path)
    default: throw violated("a reply of the wrong type")
    }
  }

  private func openPartial(_ path: RemotePath, _ offset: UInt64) async throws(TransportError) -> SFTPHandle {
    let handle = try await openBegun(path)
    guard case .attributes(let now) = try await ask(.fstat(handle)), let size = now.size, size >= offset else {
      dismiss(.close(handle))
      throw .failure(
        SyncFailure(.protocol, "\(path) is shorter on the NAS than what was sent of it", hint: "It is sent again from the start."),
        sessionLost: false)
    }
    if size > offset {
      let cut = try await status(of: .fsetstat(handle, SFTPAttributes(size: offset)))
      guard cut.isOK else {
        dismiss(.close(handle))
        throw try await explain(cut, "cut", path)
      }
    }
    return handle
  }

  func write(_ chunk: [UInt8], at offset: UInt64, to handle: UploadHandle) async throws(TransportError) {
    let upload = try upload(handle)
    guard !offset.addingReportingOverflow(UInt64(chunk.count)).overflow else {
      throw .failure(SyncFailure(.protocol, "\(upload.path) is too long", hint: "Send it in parts."), sessionLost: false)
    }
    var start = 0
    while start < chunk.count {
      let piece = chunk[start..<min(start + abilities.writeSize, chunk.count)]
      try await take(piece.count, in: writeWindow)
      if let refusal = upload.refusal {
        writeWindow.give(piece.count)
        throw try await explain(refusal.status, refusal.action, upload.path)
      }
      let number = upload.next()
      send(.write(upload.handle, offset: offset + UInt64(start), length: UInt32(piece.count)), payload: piece) { [writeWindow] result in
        writeWindow.give(piece.count)
        self.take(result, of: number, "write", for: upload)
      }
      start = piece.endIndex
    }
  }

  func flush(_ handle: UploadHandle, durable: Bool) async throws(TransportError) {
    let upload = try upload(handle)
    if durable, abilities.extensions.contains(.fsync) {
      // Asked for at once: a server keeps the order of requests on one file, and after the answers to the others it would wait behind a second window.
      let number = upload.next()
      send(.fsync(upload.handle)) { self.take($0, of: number, "write to disk", for: upload) }
    }
    try await settle(upload)
  }

  private func take(_ result: Result<SFTPReply, TransportError>, of number: Int, _ action: String, for upload: SFTPUpload) {
    var result = result
    if case .success(let reply) = result {
      if case .status = reply {} else { result = .failure(violated("a reply of the wrong type")) }
    }
    upload.answered(number, result, action)
  }

  /// Waits for every WRITE sent so far, not for those that follow meanwhile, and throws the first refusal.
  private func settle(_ upload: SFTPUpload) async throws(TransportError) {
    let count = upload.sent
    if !upload.isAnswered(count) { await withCheckedContinuation { upload.wait(for: count, $0) } }
    try check()
    if let refusal = upload.refusal { throw try await explain(refusal.status, refusal.action, upload.path) }
  }

  func finishUpload(_ handle: UploadHandle, modified: Int64?, mode: UInt32?, durable: Bool) async throws(TransportError) {
    let upload = try upload(handle)
    uploads[handle.id] = nil
    let attributes = Self.attributes(modified: modified, mode: mode)
    do throws(TransportError) {
      // The time comes last: it says that the file is whole, and a disk says only once that it could not take something.
      try await settle(upload)
      if durable, abilities.extensions.contains(.fsync) {
        let synced = try await status(of: .fsync(upload.handle))
        guard synced.isOK else { throw try await explain(synced, "write to disk", upload.path) }
      }
    } catch {
      dismiss(.close(upload.handle))
      throw error
    }
    let setting = attributes.map { [SFTPRequest.fsetstat(upload.handle, $0)] } ?? []
    let replies = try await ask(all: setting + [.close(upload.handle)])
    if case .status(let status)? = replies.last, !status.isOK { throw try await explain(status, "finish", upload.path) }
    if !setting.isEmpty, case .status(let status)? = replies.first, !status.isOK { try await setTimesAlone(attributes, upload.path) }
  }

  func abandonUpload(_ handle: UploadHandle) {
    guard let upload = uploads.removeValue(forKey: handle.id) else { return }
    dismiss(.close(upload.handle))
  }

  private func upload(_ handle: UploadHandle) throws(TransportError) -> SFTPUpload {
    try check()
    guard let upload = uploads[handle.id] else {
      throw .failure(SyncFailure(.protocol, "\(handle.path) is not open for writing", hint: "Begin the upload again."), sessionLost: false)
    }
    return upload
  }
}
