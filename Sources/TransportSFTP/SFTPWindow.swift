import Transport

/// Room for what is in flight, in bytes and in number; who finds none waits in line. Belongs to one actor.
final class SFTPWindow {
  private struct Waiter {
    let bytes: Int
    let continuation: CheckedContinuation<Result<Void, TransportError>, Never>
  }

  private(set) var byteLimit: Int
  private(set) var countLimit: Int
  private var bytes = 0
  private var count = 0
  private var waiters: [Waiter] = []
  private var head = 0

  init(byteLimit: Int, countLimit: Int) {
    self.byteLimit = max(byteLimit, 1)
    self.countLimit = max(countLimit, 1)
  }

  /// Before anything is in flight.
  func setByteLimit(_ limit: Int) { byteLimit = max(limit, 1) }

  /// Before anything is in flight.
  func setCountLimit(_ limit: Int) { countLimit = max(limit, 1) }

  /// A single piece larger than the whole window passes when it is alone.
  private func fits(_ size: Int) -> Bool { count < countLimit && (bytes == 0 || size <= byteLimit - bytes) }

  /// Takes room now, or says that the caller must wait: nobody overtakes those in line.
  func take(_ size: Int) -> Bool {
    guard head == waiters.count, fits(size) else { return false }
    bytes += size
    count += 1
    return true
  }

  /// Puts the caller in line. It is resumed once the room is its own, or the session is lost.
  func wait(_ size: Int, _ continuation: CheckedContinuation<Result<Void, TransportError>, Never>) {
    waiters.append(Waiter(bytes: size, continuation: continuation))
  }

  /// Gives room back and lets in who waits for it.
  func give(_ size: Int) {
    bytes -= min(size, bytes)
    count -= min(1, count)
    while head < waiters.count, fits(waiters[head].bytes) {
      let waiter = waiters[head]
      head += 1
      bytes += waiter.bytes
      count += 1
      waiter.continuation.resume(returning: .success(()))
    }
    if head == waiters.count {
      waiters.removeAll(keepingCapacity: true)
      head = 0
    } else if head >= 256, head * 2 >= waiters.count {
      waiters.removeSubrange(..<head)
      head = 0
    }
  }

  /// Nobody gets in any more.
  func fail(_ error: TransportError) {
    let left = waiters[head...]
    waiters = []
    head = 0
    for waiter in left { waiter.continuation.resume(returning: .failure(error)) }
  }
}
