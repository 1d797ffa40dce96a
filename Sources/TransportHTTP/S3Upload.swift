import Synchronization
import SyncModel
import Transport

/// What another session needs to go on with an upload: the text of an `UploadMark`.
struct S3Token: Codable, Hashable, Sendable {
  var upload: String
  /// Bytes of every part but the last.
  var partSize: UInt64
  /// Of the first parts, in their order.
  var etags: [String]

  private enum CodingKeys: String, CodingKey {
    case upload
    case partSize = "part_size"
    case etags
  }
}

/// How a file is cut.
enum S3Parts {
  /// S3's own limit.
  static let most = 10_000
  private static let mebibyte: UInt64 = 1 << 20

  /// The largest file, in words: `625 GiB`.
  static func limit(largest: UInt64) -> String {
    let bytes = largest.multipliedReportingOverflow(by: UInt64(most)).partialValue
    return bytes >= 1 << 30 ? "\(bytes >> 30) GiB" : "\(bytes >> 20) MiB"
  }

  /// Bytes of each part but the last; nil where a file is too large.
  /// - Parameter largest: Memory there is for one part, which S3 itself lets have 5 GiB.
  static func size(for file: UInt64, least: UInt64, largest: UInt64) -> UInt64? {
    // 9,000, so that a file that is a little longer than was said still goes.
    let wanted = (file / 9000 + mebibyte - 1) / mebibyte * mebibyte
    let size = min(max(least, wanted), largest)
    return file.dividedRoundingUp(by: size) <= UInt64(most) ? size : nil
  }
}

extension UInt64 {
  fileprivate func dividedRoundingUp(by other: UInt64) -> UInt64 { self / other + (self % other == 0 ? 0 : 1) }
}

/// A file on its way to a store: one PUT where it is no longer than a part, else several parts in flight.
actor S3Upload {
  /// Whoever calls holds it, and so does each part in flight.
  private unowned let session: S3Session
  private let common: S3Common
  private let key: [UInt8]
  let path: RemotePath
  private let size: UInt64?
  private let partSize: UInt64
  private let modified: Int64?

  private var id: String?
  /// The part being filled, and the room it has; nil between parts.
  private var buffer: [UInt8]?
  private var room = 0
  /// Bytes handed over.
  private var position: UInt64
  /// Numbers of parts given away so far.
  private var begun: Int
  private var acknowledged: [Int: String] = [:]
  /// Parts acknowledged without a gap.
  private var contiguous: Int
  private var inFlight = 0
  private var isWriting = false
  private var isOver = false
  private var failure: TransportError?
  private var waiters: [CheckedContinuation<Void, Never>] = []

  /// - Parameter kept: What goes on; its parts are known to be there.
  init(
    _ session: S3Session, _ path: RemotePath, key: [UInt8], size: UInt64?, modified: Int64?, partSize: UInt64, kept: S3Token?,
    position: UInt64
  ) {
    self.session = session
    common = session.common
    self.path = path
    self.key = key
    self.size = size
    self.modified = modified
    self.partSize = partSize
    self.position = position
    id = kept?.upload
    contiguous = kept?.etags.count ?? 0
    begun = contiguous
    for (index, etag) in (kept?.etags ?? []).enumerated() { acknowledged[index + 1] = etag }
  }

  deinit { if buffer != nil { common.release(room) } }

  /// Of the multipart upload, where there is one.
  var currentID: String? { id }

  /// The first bytes that the store keeps. The upload's id counts before they do: with it the store can be asked what arrived since.
  var mark: UploadMark {
    guard let id else { return UploadMark(bytes: 0) }
    let etags = (0..<contiguous).compactMap { acknowledged[$0 + 1] }
    let token = S3Token(upload: id, partSize: partSize, etags: etags)
    return UploadMark(bytes: min(UInt64(contiguous) * partSize, size ?? .max), token: token.text)
  }

  private func check() throws(TransportError) {
    if let failure { throw failure }
    if isOver { throw Self.closed(path) }
  }

  static func closed(_ path: RemotePath) -> TransportError {
    .failure(SyncFailure(.protocol, "\(path) is not open for writing", hint: "Begin the upload again."), sessionLost: false)
  }

  private static func misused(_ what: String) -> TransportError {
    .failure(SyncFailure(.protocol, what, hint: "Begin the upload again."), sessionLost: false)
  }

  // MARK: Writing

  func write(_ chunk: [UInt8], at offset: UInt64) async throws(TransportError) {
    try check()
    guard offset == position, !isWriting else {
      throw Self.misused("\(path) can be written from its start to its end only")
    }
    if let size, size - position < UInt64(chunk.count) { throw Self.misused("more is written to \(path) than was said") }
    isWriting = true
    defer { isWriting = false }
    var rest = chunk[...]
    while !rest.isEmpty {
      if buffer == nil { try await openPart() }
      let count = min(room - (buffer?.count ?? 0), rest.count)
      buffer?.append(contentsOf: rest.prefix(count))
      rest = rest.dropFirst(count)
      position += UInt64(count)
      // A file of one part at most goes in one request, when it is whole.
      if buffer?.count == room, isMultipart { try await sendPart() }
    }
  }

  private var isMultipart: Bool { id != nil || size.map { $0 > partSize } ?? true }

  private func openPart() async throws(TransportError) {
    let left = size.map { $0 - position } ?? partSize
    let wanted = Int(min(partSize, left))
    guard begun < S3Parts.most else { throw session.tooLarge(path) }
    guard await common.reserve(wanted, for: session) else {
      try await session.http.check()
      throw Self.closed(path)
    }
    // While this waited the upload may have been given up.
    do throws(TransportError) { try check() } catch {
      common.release(wanted)
      throw error
    }
    var fresh: [UInt8] = []
    fresh.reserveCapacity(wanted)
    buffer = fresh
    room = wanted
  }

  private func sendPart() async throws(TransportError) {
    if id == nil {
      let made = try await session.createUpload(key, path, modified: modified)
      try check()
      id = made
    }
    guard let id, let content = buffer.take() else { return }
    let reserved = room
    room = 0
    begun += 1
    inFlight += 1
    let (number, session, key, path) = (begun, session, key, path)
    // On its own, so that writing goes on; it ends with the session at the latest.
    Task {
      let result: Result<String, TransportError>
      do throws(TransportError) {
        result = .success(try await session.putPart(number, content, of: id, key, path))
      } catch {
        result = .failure(error)
      }
      settle(number, result, reserved)
    }
  }

  private func settle(_ number: Int, _ result: Result<String, TransportError>, _ reserved: Int) {
    common.release(reserved)
    inFlight -= 1
    switch result {
    case .success(let etag):
      acknowledged[number] = etag
      while acknowledged[contiguous + 1] != nil { contiguous += 1 }
    case .failure(let error): failure = failure ?? error
    }
    let waiting = waiters
    waiters = []
    for waiter in waiting { waiter.resume() }
  }

  /// Waits for the parts in flight. A part that is not full yet stays here.
  func flush() async throws(TransportError) {
    while inFlight > 0, failure == nil { await withCheckedContinuation { waiters.append($0) } }
    try check()
    try await session.http.check()
  }

  // MARK: The end

  func finish(modified: Int64?) async throws(TransportError) {
    try check()
    if let size, position != size { throw Self.misused("\(path) ended at \(position) of \(size) bytes") }
    if id == nil {
      try await sendWhole(modified: modified ?? self.modified)
    } else {
      if buffer != nil { try await sendPart() }
      try await flush()
      guard let id, contiguous == begun else { throw Self.closed(path) }
      let etags = (1...begun).compactMap { acknowledged[$0] }
      try await session.completeUpload(key, id, etags: etags, size: position, path)
    }
    isOver = true
  }

  private func sendWhole(modified: Int64?) async throws(TransportError) {
    let content = buffer.take() ?? []
    let reserved = room
    room = 0
    defer { common.release(reserved) }
    do throws(TransportError) { try await session.putWhole(content, at: path, modified: modified) } catch {
      // The bytes are given away: nothing may be sent in their place.
      failure = error
      throw error
    }
  }

  /// What is acknowledged stays in the store.
  func abandon() {
    guard !isOver else { return }
    isOver = true
    if buffer.take() != nil { common.release(room) }
    room = 0
  }
}
