import Glibc

/// Owns a descriptor and closes it.
final class FileDescriptor {
  let number: Int32

  init(_ number: Int32) { self.number = number }

  /// Of a socket: closing it ends the connection at once, and what was not sent is sent by nobody. The kernel would go on for minutes otherwise.
  func resetOnClose() {
    var linger = linger(l_onoff: 1, l_linger: 0)
    setsockopt(number, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout.size(ofValue: linger)))
  }

  deinit { close(number) }
}

/// What ended a wait.
enum WaitResult {
  case ready
  case timedOut
  case interrupted
}

/// Waits until a descriptor is ready, the deadline has passed or the interrupter's descriptor is readable.
func waitUntilReady(_ descriptors: [(descriptor: Int32, events: Int16)], interruption: Int32, deadline: Deadline) -> WaitResult {
  var set = descriptors.map { pollfd(fd: $0.descriptor, events: $0.events, revents: 0) }
  set.append(pollfd(fd: interruption, events: Int16(POLLIN), revents: 0))
  while true {
    let count = poll(&set, nfds_t(set.count), deadline.millisecondsLeft)
    if let last = set.last, last.revents != 0 { return .interrupted }
    if count > 0 { return .ready }
    // EINTR comes back here too: the deadline decides.
    if deadline.hasPassed { return .timedOut }
  }
}
