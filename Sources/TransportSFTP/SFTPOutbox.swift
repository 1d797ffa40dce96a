/// Packets on their way to the channel, in order.
///
/// Small ones are packed into one buffer, so that a burst of requests leaves in few SSH packets; a large payload stays the slice it was
/// given as and is copied by the channel alone.
struct SFTPOutbox {
  /// A payload up to this many bytes is packed.
  private static let packedPayload = 32 * 1024
  /// A packed buffer is closed at this size.
  private static let packedSize = 64 * 1024

  private var segments: [ArraySlice<UInt8>] = []
  private var head = 0
  /// The segment still being packed: always behind `segments`.
  private var open: [UInt8] = []

  var isEmpty: Bool { head == segments.count && open.isEmpty }

  /// Appends raw bytes of a packet.
  mutating func append(packet: [UInt8]) { open.append(contentsOf: packet) }

  mutating func append(_ request: SFTPRequest, id: UInt32, payload: ArraySlice<UInt8>) {
    request.append(to: &open, id: id)
    if payload.count > Self.packedPayload {
      seal()
      segments.append(payload)
    } else {
      open.append(contentsOf: payload)
      if open.count >= Self.packedSize { seal() }
    }
  }

  private mutating func seal() {
    if !open.isEmpty { segments.append(open[...]) }
    open = []
  }

  /// Offers the bytes that are next to `write`, which returns how many it took.
  mutating func drain<Failure: Error>(_ write: (UnsafeRawBufferPointer) throws(Failure) -> Int) throws(Failure) -> Int {
    if head == segments.count { seal() }
    guard head < segments.count else { return 0 }
    let result: Result<Int, Failure> = segments[head].withUnsafeBytes { bytes in
      do throws(Failure) { return .success(try write(bytes)) } catch { return .failure(error) }
    }
    let taken = min(max(try result.get(), 0), segments[head].count)
    segments[head].removeFirst(taken)
    if segments[head].isEmpty {
      // Lets go of the payload at once; the slot itself goes with the next clearing.
      segments[head] = []
      head += 1
      if head == segments.count {
        segments.removeAll(keepingCapacity: true)
        head = 0
      } else if head >= 64, head * 2 >= segments.count {
        segments.removeSubrange(..<head)
        head = 0
      }
    }
    return taken
  }

  mutating func removeAll() {
    segments = []
    head = 0
    open = []
  }
}
