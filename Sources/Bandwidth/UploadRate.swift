/// How fast something may be sent.
package enum UploadRate: Hashable, Sendable {
  /// No limit.
  case unlimited
  /// Nothing passes.
  case paused
  /// Bits a second, at least 1.
  case limited(bitsPerSecond: Int64)

  /// Faster rates count as this one: 10^12 bit/s.
  private static let maximum: Double = 1e12

  /// From Mbit/s (10^6 bit/s); nil is no limit. What is no rate (negative, not a number) pauses: the cautious reading.
  package init(megabits: Double?) {
    guard let megabits else {
      self = .unlimited
      return
    }
    let bits = (megabits * 1e6).rounded()
    if bits >= 1 { self = .limited(bitsPerSecond: Int64(min(bits, Self.maximum))) } else { self = .paused }
  }

  /// The piece that the data path best asks for at once, bytes: 25 ms worth, from 1 KiB to 256 KiB.
  ///
  /// A quarter of what a bucket holds, so that a waiter that wakes late loses nothing that was earned meanwhile.
  package var preferredPiece: Int {
    switch self {
    case .unlimited: 262_144
    case .paused: 65_536
    case .limited(let bits): Int(min(max(bits / 320, 1024), 262_144))
    }
  }

  /// The slower of two.
  package static func slower(_ first: UploadRate, _ second: UploadRate) -> UploadRate {
    switch (first, second) {
    case (.paused, _), (_, .paused): .paused
    case (.unlimited, let other), (let other, .unlimited): other
    case (.limited(let left), .limited(let right)): .limited(bitsPerSecond: min(left, right))
    }
  }
}
