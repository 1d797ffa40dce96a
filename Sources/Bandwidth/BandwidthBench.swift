import SyncModel

/// Measures how exactly a limit is kept on the machine's own clock.
package enum BandwidthBench {
  /// What one measurement gave.
  package struct Result: Hashable, Sendable {
    /// Mbit/s that passed.
    package let achievedMbps: Double
    /// How far that is from the limit, percent; below 0 is slower.
    package let errorPercent: Double
  }

  /// Pushes chunks of 256 KiB through a scheduler, in the pieces that the data path asks for, and counts what passed in the time.
  /// - Parameters:
  ///   - rateMbps: The limit, Mbit/s.
  ///   - seconds: How long.
  ///   - streams: How many files are sent at once; they share the limit.
  /// - Throws: `BandwidthError` for an impossible limit, `CancellationError`.
  package static func run(rateMbps: Double, seconds: Double, streams: Int = 1) async throws -> Result {
    let clock = SystemClock()
    let profile = BandwidthProfile(uploadMbps: rateMbps)
    let scheduler = try BandwidthScheduler(serviceMbps: nil, profiles: ["BENCH": profile], clock: clock)
    let start = clock.monotonicNanoseconds
    let end = start + UInt64(seconds * 1e9)
    let bytes = try await withThrowingTaskGroup(of: Int.self) { group in
      for _ in 0..<max(streams, 1) { group.addTask { try await push(through: scheduler, until: end, clock) } }
      return try await group.reduce(0, +)
    }
    let achieved = Double(bytes) * 8 / seconds / 1e6
    return Result(achievedMbps: achieved, errorPercent: (achieved / rateMbps - 1) * 100)
  }

  /// The bytes that passed before the end.
  private static func push(through scheduler: BandwidthScheduler, until end: UInt64, _ clock: SystemClock) async throws -> Int {
    var passed = 0
    while true {
      var chunk = 262_144
      while chunk > 0 {
        let piece = min(chunk, await scheduler.preferredPiece(for: "BENCH"))
        try await scheduler.acquire(bytes: piece, equipment: "BENCH")
        if clock.monotonicNanoseconds > end { return passed }
        passed += piece
        chunk -= piece
      }
    }
  }
}
