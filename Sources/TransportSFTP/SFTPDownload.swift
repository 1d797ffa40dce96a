import SyncModel
import Transport

/// One stretch of a file being read: filled by as many READs as the server's short answers need. Belongs to the client's actor.
private final class Piece {
  enum State { case waiting, whole, ended, refused(SFTPStatus), lost(TransportError) }

  let offset: UInt64
  let length: Int
  var data: [UInt8] = []
  var state = State.waiting

  init(offset: UInt64, length: Int) {
    self.offset = offset
    self.length = length
  }
}

/// A file being read ahead. Belongs to the client's actor.
private final class Reading {
  let handle: SFTPHandle
  /// Where the next piece starts.
  var next: UInt64
  /// In order; the first is the next to deliver.
  var pieces: [Piece] = []
  /// What the server says of the file's size. It decides how far to read ahead; that the file ends there takes a short answer as well.
  var expectedEnd: UInt64 = 0
  var waiter: CheckedContinuation<Void, Never>?
  /// The caller has gone: what still arrives is dropped.
  var over = false

  init(handle: SFTPHandle, from offset: UInt64) {
    self.handle = handle
    self.next = offset
  }

  func wakeIfReady() {
    guard let first = pieces.first else { return }
    if case .waiting = first.state { return }
    let waiter = self.waiter
    self.waiter = nil
    waiter?.resume()
  }
}

extension SFTPClient {
  /// Bytes read ahead of the caller, at most.
  private static let readAhead = 4 << 20

  func download(
    _ path: RemotePath, from offset: UInt64, _ body: @Sendable ([UInt8]) async throws(SyncFailure) -> Void
  ) async throws(TransportError) {
    let handle: SFTPHandle
    switch try await ask(.open(path.bytes, .read, SFTPAttributes())) {
    case .handle(let opened): handle = opened
    case .status(let status): throw try await explain(status, "read", path)
    default: throw violated("a reply of the wrong type")
    }
    let reading = Reading(handle: handle, from: offset)
    defer {
      reading.over = true
      dismiss(.close(handle))
    }
    learnSize(reading)
    while true {
      readOn(reading)
      guard let piece = reading.pieces.first else { return }
      while case .waiting = piece.state { await withCheckedContinuation { reading.waiter = $0 } }
      reading.pieces.removeFirst()
      if case .whole = piece.state { readOn(reading) }
      if !piece.data.isEmpty {
        do throws(SyncFailure) { try await body(piece.data) } catch { throw .failure(error, sessionLost: false) }
      }
      switch piece.state {
      case .whole, .waiting: continue
      case .ended: return
      case .refused(let status): throw try await explain(status, "read", path)
      case .lost(let error): throw error
      }
    }
  }

  private func learnSize(_ reading: Reading) {
    send(.fstat(reading.handle)) { result in
      guard !reading.over, case .success(.attributes(let attributes)) = result, let size = attributes.size else { return }
      reading.expectedEnd = size
      self.readOn(reading)
    }
  }

  /// Asks for further pieces while there is room: up to where the file should end, and one beyond to see that it does.
  private func readOn(_ reading: Reading) {
    while reading.pieces.count * abilities.readSize < Self.readAhead, reading.next < reading.expectedEnd || reading.pieces.isEmpty {
      let (next, overflow) = reading.next.addingReportingOverflow(UInt64(abilities.readSize))
      if overflow { return }
      let piece = Piece(offset: reading.next, length: abilities.readSize)
      reading.next = next
      reading.pieces.append(piece)
      read(piece, reading)
    }
  }

  private func read(_ piece: Piece, _ reading: Reading) {
    let offset = piece.offset + UInt64(piece.data.count)
    send(.read(reading.handle, offset: offset, length: UInt32(piece.length - piece.data.count))) { result in
      if reading.over { return }
      switch result {
      case .success(.data(let data)):
        guard !data.isEmpty, data.count <= piece.length - piece.data.count else {
          piece.state = .lost(self.violated("\(data.count) bytes where \(piece.length - piece.data.count) were asked for"))
          break
        }
        if piece.data.isEmpty { piece.data = data } else { piece.data += data }
        if piece.data.count == piece.length {
          piece.state = .whole
        } else if piece.offset + UInt64(piece.data.count) == reading.expectedEnd {
          // Less than was asked for, up to where the file was said to end: asking once more would cost a round trip for every small file.
          piece.state = .ended
        } else {
          return self.read(piece, reading)
        }
      case .success(.status(let status)): piece.state = status.code == SFTPStatus.endOfFile ? .ended : .refused(status)
      case .success: piece.state = .lost(self.violated("a reply of the wrong type"))
      case .failure(let error): piece.state = .lost(error)
      }
      reading.wakeIfReady()
    }
  }
}
