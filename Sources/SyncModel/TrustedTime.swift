/// What the workstation's clocks said at one moment: the one on the wall, which may be set, and the kernel's own since it started, which may not.
public struct ClockReading: Hashable, Sendable, Codable {
  /// Seconds since 1970. May jump.
  public let wall: Double
  /// Which start of the machine the uptime belongs to: the kernel's `boot_id`.
  public let boot: String
  /// Seconds since that start, time asleep included.
  public let uptime: Double

  /// Takes the values as they are.
  public init(wall: Double, boot: String, uptime: Double) {
    self.wall = wall
    self.boot = boot
    self.uptime = uptime
  }
}

/// How much time has certainly passed: what a deletion may count on.
public enum TrustedTime {
  /// Seconds between two readings that no clock set forward can lengthen: never more than the wall clock says, and never more than the
  /// machine was seen to be running. Time for which it was switched off does not count, because nothing witnessed it.
  /// - Parameter samples: The last known reading of each start of the machine, in the order of those starts.
  public static func elapsed(from: ClockReading, to: ClockReading, samples: [ClockReading] = []) -> Double {
    min(to.wall - from.wall, witnessed(from: from, to: to, samples: samples))
  }

  /// Seconds of running that were witnessed between two readings.
  public static func witnessed(from: ClockReading, to: ClockReading, samples: [ClockReading] = []) -> Double {
    if from.boot == to.boot { return max(0, to.uptime - from.uptime) }
    var sum = max(0, to.uptime)
    guard let start = samples.firstIndex(where: { $0.boot == from.boot }) else { return sum }
    sum += max(0, samples[start].uptime - from.uptime)
    for sample in samples[(start + 1)...] where sample.boot != to.boot { sum += max(0, sample.uptime) }
    return sum
  }

  /// Seconds by which the clock on the wall was set between two readings of one start of the machine: positive forward. Nil across starts.
  public static func jump(from: ClockReading, to: ClockReading) -> Double? {
    from.boot == to.boot ? (to.wall - from.wall) - (to.uptime - from.uptime) : nil
  }
}
