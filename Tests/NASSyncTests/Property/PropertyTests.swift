import Foundation
import NASSync
import TestSupport
import Testing

/// Random sequences of everything that can happen, held against the promises after each step.
///
/// `NASSYNC_PROPERTY_STEPS` and `NASSYNC_PROPERTY_SEED` choose another number of steps and other sequences: `make property STEPS=100000`.
@Suite(.serialized) struct PropertyTests {
  private static let environment = ProcessInfo.processInfo.environment
  static let steps = environment["NASSYNC_PROPERTY_STEPS"].flatMap(Int.init) ?? 10_000
  static let seed = environment["NASSYNC_PROPERTY_SEED"].flatMap(UInt64.init) ?? 1
  /// Steps of one sequence: long enough for several runs to be cleaned, and no longer, because each round of care looks at all the runs there ever were.
  static let length = 100

  @Test func nothingIsDeletedWithoutProofWhateverHappens() async throws {
    try await LabFixture.with(method: .readback, backoff: [0.2, 0.2, 0.2]) { lab in
      let sequences = UInt64((Self.steps + Self.length - 1) / Self.length)
      // Each has a run, a queue, a clock and a session of its own; one core is not enough for all of them in time.
      let all = try await withThrowingTaskGroup(of: [PropertyWorld.Counts].self) { group in
        for half in 0..<UInt64(2) {
          group.addTask {
            let destination = LentDestination(lab.realDriver)
            try await destination.open()
            var all: [PropertyWorld.Counts] = []
            for number in stride(from: half, to: sequences, by: 2) {
              let seed = Self.seed &+ number
              let world = try PropertyWorld(lab, destination, seed: seed)
              try await world.live(steps: Self.length, seed: seed)
              let counts = world.counts
              #expect(
                counts.violations.isEmpty, "seed \(seed), step \(counts.steps): \(counts.violations.prefix(5).joined(separator: "; "))")
              all.append(counts)
              if !counts.violations.isEmpty { break }
            }
            await destination.close()
            return all
          }
        }
        return try await group.reduce(into: []) { $0 += $1 }
      }
      let (steps, cleaned) = (all.map(\.steps).reduce(0, +), all.map(\.cleaned).reduce(0, +))
      let (deletions, crashes) = (all.map(\.deletions).reduce(0, +), all.map(\.crashes).reduce(0, +))
      let events = Set(all.flatMap(\.events.keys))
      print("property: \(steps) steps, \(deletions) local files removed by the product, \(cleaned) runs cleaned, \(crashes) crashes")
      // A sequence in which nothing is ever removed would prove nothing.
      #expect(cleaned > 0 && deletions > 0 && crashes >= steps / 500 && events.count == PropertyWorld.Event.allCases.count)
    }
  }
}
