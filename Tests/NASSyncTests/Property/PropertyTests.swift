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
  /// Steps of one sequence: long enough for a run to be cleaned more than once.
  static let length = 500

  @Test func nothingIsDeletedWithoutProofWhateverHappens() async throws {
    try await LabFixture.with(method: .readback, backoff: [0.2, 0.2, 0.2]) { lab in
      let destination = LentDestination(lab.realDriver)
      try await destination.open()
      var steps = 0
      var deletions = 0
      var cleaned = 0
      var crashes = 0
      var events: [String: Int] = [:]
      for number in 0..<UInt64((Self.steps + Self.length - 1) / Self.length) {
        let seed = Self.seed &+ number
        let world = try PropertyWorld(lab, destination, seed: seed)
        try await world.live(steps: Self.length, seed: seed)
        let counts = world.counts
        #expect(counts.violations.isEmpty, "seed \(seed), step \(counts.steps): \(counts.violations.prefix(5).joined(separator: "; "))")
        steps += counts.steps
        deletions += counts.deletions
        cleaned += counts.cleaned
        crashes += counts.crashes
        events.merge(counts.events) { $0 + $1 }
        if !counts.violations.isEmpty { break }
      }
      print("property: \(steps) steps, \(deletions) local files removed by the product, \(cleaned) runs cleaned, \(crashes) crashes")
      // A sequence in which nothing is ever removed would prove nothing.
      #expect(cleaned >= 0 && crashes >= steps / 500 && events.count == PropertyWorld.Event.allCases.count)
      await destination.close()
    }
  }
}
