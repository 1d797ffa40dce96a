#if canImport(Glibc)
  import Glibc
#endif

/// The two clocks the program reads, and the only way it sleeps; tests inject their own.
public protocol SyncClock: Sendable {
  /// Wall-clock time, seconds since 1970. May jump.
  var wallSeconds: Double { get }
  /// Nanoseconds on a clock that never goes back.
  var monotonicNanoseconds: UInt64 { get }
  /// Returns once the monotonic clock has reached the deadline.
  /// - Throws: `CancellationError` at once when the task is cancelled.
  func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError)
  /// Both kinds of time at once, for ages that a deletion counts on.
  var reading: ClockReading { get }
}

extension SyncClock {
  /// For clocks without a start of their own: the monotonic clock of this process counts as the machine's.
  public var reading: ClockReading {
    ClockReading(wall: wallSeconds, boot: "clock", uptime: Double(monotonicNanoseconds) / 1e9)
  }
}

/// The machine's clocks.
public struct SystemClock: SyncClock {
  /// Takes the values as they are.
  public init() {}

  /// From `CLOCK_REALTIME`.
  public var wallSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// From `CLOCK_MONOTONIC`.
  public var monotonicNanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// From `/proc`: the kernel's own files, which a program that is told another time cannot be told.
  public var reading: ClockReading {
    let wall = wallSeconds
    guard let uptime = Self.firstWord(of: "/proc/uptime").flatMap(Double.init),
      let boot = Self.firstWord(of: "/proc/sys/kernel/random/boot_id")
    else {
      // Without them every start of the program counts as one of the machine: nothing older than the process is trusted.
      return ClockReading(wall: wall, boot: Self.process, uptime: Double(monotonicNanoseconds) / 1e9 - Self.began)
    }
    return ClockReading(wall: wall, boot: boot, uptime: uptime)
  }

  private static let process = "process-\(getpid())-\(UInt64.random(in: .min ... .max))"
  private static let began = Double(SystemClock().monotonicNanoseconds) / 1e9

  /// The kernel answers from memory: nothing waits here.
  private static func firstWord(of path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 128)
    let count = read(file, &bytes, bytes.count)
    guard count > 0 else { return nil }
    return String(decoding: bytes.prefix(count).prefix { $0 > 0x20 }, as: UTF8.self)
  }

  /// Sleeps in the task, not on a thread.
  public func sleep(untilMonotonic deadline: UInt64) async throws(CancellationError) {
    let now = monotonicNanoseconds
    guard deadline > now else {
      if Task.isCancelled { throw CancellationError() }
      return
    }
    do { try await Task.sleep(nanoseconds: deadline - now) } catch { throw CancellationError() }
  }
}
