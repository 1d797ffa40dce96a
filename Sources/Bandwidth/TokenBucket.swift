/// A token bucket in exact integers: what passes in any time t is at most `rate · t` plus what the bucket holds, or plus the largest
/// single request where that is larger.
///
/// The level is counted in nanobits (10^-9 bit), so that a rate in bit/s times nanoseconds has no remainder: nothing is lost to
/// rounding, however often the bucket is looked at. It holds 100 ms worth, at least 2 KiB: over 10 s that is 1 %. A request larger than
/// the bucket passes when the bucket is full and leaves a debt that is earned back first.
package struct TokenBucket: Hashable, Sendable {
  /// Nanobits in a byte.
  private static let nanobitsPerByte: Int128 = 8_000_000_000

  /// The present rate.
  package private(set) var rate: UploadRate
  /// Nanobits; below 0 is a debt.
  private var level: Int128
  /// Monotonic nanoseconds up to which the level has been earned.
  private var earnedUntil: UInt64

  /// An empty bucket.
  /// - Parameter now: Monotonic nanoseconds.
  package init(rate: UploadRate, now: UInt64) {
    self.rate = rate
    self.level = 0
    self.earnedUntil = now
  }

  /// The most that the bucket holds at a rate, bytes; 0 where that has no meaning.
  package static func capacity(_ rate: UploadRate) -> Int64 {
    guard case .limited(let bits) = rate else { return 0 }
    return max(bits / 80, 2048)
  }

  private var capacity: Int128 { Int128(Self.capacity(rate)) * Self.nanobitsPerByte }

  /// Earns up to a moment. One that lies before the last changes nothing.
  package mutating func earn(until now: UInt64) {
    guard now > earnedUntil else { return }
    if case .limited(let bits) = rate { level = min(level + Int128(bits) * Int128(now - earnedUntil), capacity) }
    earnedUntil = now
  }

  /// Changes the rate at a moment: what was earned by then, or is owed, stays, as far as the new bucket holds it.
  package mutating func change(to new: UploadRate, at now: UInt64) {
    earn(until: now)
    guard new != rate else { return }
    // What passed while there was no limit was not counted; the count starts anew.
    if rate == .unlimited || new == .unlimited { level = 0 }
    rate = new
    if case .limited = new { level = min(level, capacity) }
  }

  /// Whether so many bytes may pass now; earn first.
  package func allows(_ bytes: Int) -> Bool {
    switch rate {
    case .unlimited: true
    case .paused: false
    case .limited: level >= needed(bytes)
    }
  }

  /// Takes what `allows(_:)` has allowed.
  package mutating func take(_ bytes: Int) {
    if case .limited = rate { level -= Int128(bytes) * Self.nanobitsPerByte }
  }

  /// Nanoseconds after the last `earn(until:)` until so many bytes may pass: 0 for now, nil for never at this rate.
  package func delay(for bytes: Int) -> UInt64? {
    switch rate {
    case .unlimited: return 0
    case .paused: return nil
    case .limited(let bits):
      let missing = needed(bytes) - level
      guard missing > 0 else { return 0 }
      return UInt64(clamping: (missing + Int128(bits) - 1) / Int128(bits))
    }
  }

  private func needed(_ bytes: Int) -> Int128 { min(Int128(bytes) * Self.nanobitsPerByte, capacity) }
}
