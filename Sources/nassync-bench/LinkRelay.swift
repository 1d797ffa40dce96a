import CLinux
import Glibc

/// A TCP relay on 127.0.0.1 that is a link of a given length and width: each byte arrives half a round trip after it was sent, and each
/// direction carries so many bits a second for all connections together. For measurements on a kernel without netem.
///
/// One thread and `ppoll`. What is under way is bounded by what the link holds plus a router's queue; who sends more is not read from.
struct LinkRelay {
  /// Seconds one way.
  private let delay: Double
  /// Bytes a second in each direction.
  private let rate: Double
  private let target: UInt16
  private let listener: Int32
  /// Where it listens.
  let port: UInt16
  private var wires: [Wire] = []
  /// When each direction, to the server and from it, has put its last byte on the line.
  private var free: [Double] = [0, 0]
  private var buffer = [UInt8](repeating: 0, count: 64 << 10)

  /// One direction of one connection.
  private struct Wire {
    let from: Int32
    let to: Int32
    let direction: Int
    var chunks: [(due: Double, bytes: [UInt8])] = []
    var first = 0
    var sent = 0
    var held = 0
    var ended = false
    var isShut = false
  }

  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  /// - Parameters:
  ///   - roundTrip: Seconds there and back.
  ///   - megabits: Mbit/s in each direction.
  init(target: UInt16, roundTrip: Double, megabits: Double) throws {
    delay = roundTrip / 2
    rate = megabits * 125_000
    self.target = target
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = Self.loopback(0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let listener = listener
    let status = withUnsafeMutablePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, length) == 0 && listen(listener, 64) == 0 ? getsockname(listener, $0, &length) : -1
      }
    }
    guard listener >= 0, status == 0 else { throw Failure(description: "cannot listen: \(String(cString: strerror(errno)))") }
    port = UInt16(bigEndian: address.sin_port)
  }

  private static func loopback(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
  }

  private static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// What one direction of one connection may hold: the link's own content and a queue of 1 MiB.
  private var capacity: Int { Int(rate * delay) + (1 << 20) }

  /// Relays until the process ends.
  mutating func run() -> Never {
    while true { turn() }
  }

  private mutating func turn() {
    var polls = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
    var meaning: [(wire: Int, writes: Bool)] = []
    var next = Double.infinity
    let now = Self.now()
    for (index, wire) in wires.enumerated() {
      if !wire.ended, wire.held < capacity {
        polls.append(pollfd(fd: wire.from, events: Int16(POLLIN), revents: 0))
        meaning.append((index, false))
      }
      if wire.first < wire.chunks.count {
        let due = wire.chunks[wire.first].due
        if due <= now {
          polls.append(pollfd(fd: wire.to, events: Int16(POLLOUT), revents: 0))
          meaning.append((index, true))
        } else {
          next = min(next, due)
        }
      }
    }
    _ = clinux_poll(&polls, UInt32(polls.count), next.isFinite ? max(1_000, Int64((next - now) * 1e9)) : -1)
    for (poll, meaning) in zip(polls.dropFirst(), meaning) where poll.revents != 0 {
      if meaning.writes { write(meaning.wire) } else { read(meaning.wire) }
    }
    for index in wires.indices { finish(index) }
    drop()
    if polls[0].revents != 0 { accept() }
  }

  private mutating func read(_ index: Int) {
    let count = recv(wires[index].from, &buffer, buffer.count, Int32(MSG_DONTWAIT))
    if count < 0, errno == EAGAIN || errno == EINTR { return }
    guard count > 0 else {
      wires[index].ended = true
      return
    }
    let direction = wires[index].direction
    free[direction] = max(free[direction], Self.now()) + Double(count) / rate
    wires[index].chunks.append((free[direction] + delay, Array(buffer[..<count])))
    wires[index].held += count
  }

  private mutating func write(_ index: Int) {
    let now = Self.now()
    while wires[index].first < wires[index].chunks.count, wires[index].chunks[wires[index].first].due <= now {
      let bytes = wires[index].chunks[wires[index].first].bytes
      let from = wires[index].sent
      let to = wires[index].to
      let count = bytes.withUnsafeBytes {
        send(to, $0.baseAddress.map { $0 + from }, bytes.count - from, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      }
      if count < 0 {
        if errno != EAGAIN, errno != EINTR {
          // Nobody is there any more to read it.
          wires[index].first = wires[index].chunks.count
          wires[index].held = 0
          shutdown(wires[index].from, Int32(SHUT_RD))
        }
        break
      }
      wires[index].sent += count
      wires[index].held -= count
      guard wires[index].sent == bytes.count else { break }
      wires[index].sent = 0
      wires[index].first += 1
    }
    if wires[index].first > 256 {
      wires[index].chunks.removeFirst(wires[index].first)
      wires[index].first = 0
    }
  }

  private mutating func finish(_ index: Int) {
    guard wires[index].ended, !wires[index].isShut, wires[index].first == wires[index].chunks.count else { return }
    shutdown(wires[index].to, Int32(SHUT_WR))
    wires[index].isShut = true
  }

  /// Closes connections of which both directions have ended; they stand side by side.
  private mutating func drop() {
    var index = 0
    while index < wires.count {
      if wires[index].isShut, wires[index + 1].isShut {
        close(wires[index].from)
        close(wires[index].to)
        wires.removeSubrange(index..<index + 2)
      } else {
        index += 2
      }
    }
  }

  private mutating func accept() {
    let client = Glibc.accept(listener, nil, nil)
    guard client >= 0 else { return }
    let server = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = Self.loopback(target)
    let status = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(server, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    guard server >= 0, status == 0 else {
      close(client)
      if server >= 0 { close(server) }
      return
    }
    var on: Int32 = 1
    for descriptor in [client, server] {
      setsockopt(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }
    wires.append(Wire(from: client, to: server, direction: 0))
    wires.append(Wire(from: server, to: client, direction: 1))
  }
}
