import SyncModel

/// What a watcher remembers of one run between its looks. Pure: it is told what was seen and when, and says when to look again.
package struct RunObservation: Sendable {
  /// What the queue says of the run.
  package enum Standing: Hashable, Sendable {
    /// It has no job.
    case unsent
    /// Its newest job ended on the NAS; the number tells one generation from the next.
    case sent(job: Int64)
    /// It is on its way, or failed and waits for a person.
    case resting
  }

  /// A tree and a record, as the gate refused them or the queue had them.
  package struct Mark: Hashable, Sendable {
    /// The tree.
    package let pulse: TreePulse
    let record: Int

    package init(pulse: TreePulse, record: Int) {
      self.pulse = pulse
      self.record = record
    }
  }

  /// How often a run is looked at, nanoseconds.
  package struct Pace: Hashable, Sendable {
    let shortest: UInt64
    /// However long a look takes: a run is never put off for longer.
    let longest: UInt64
    /// Whether the pause stays the shortest while looks are cheap, instead of growing.
    var isSteady = false

    /// One that has been sent: its whole tree is listed.
    package static let sent = Pace(shortest: 30_000_000_000, longest: 900_000_000_000)
    /// One that the gate stopped.
    package static let refused = Pace(shortest: 5_000_000_000, longest: 300_000_000_000)
    /// One whose sentinel or list is awaited: a file is looked for.
    package static let awaited = Pace(shortest: 1_000_000_000, longest: 30_000_000_000)

    /// One that was sent and has news.
    package static let renewed = Pace(shortest: 5_000_000_000, longest: 60_000_000_000)

    /// One that must be still for so long: its whole tree is listed.
    package static func quiet(_ seconds: Double) -> Pace {
      let step = UInt64(min(max(seconds / 5, 0.2), 60) * 1e9)
      return Pace(shortest: step, longest: 300_000_000_000, isSteady: true)
    }
  }

  package private(set) var stillness = Stillness()
  package private(set) var proof: ListProof?
  private var standing: Standing?
  private var settled: TreePulse?
  private var refused: Mark?
  private var stamps: [RunFinder.Stamp?] = []
  private var nextLook: UInt64 = 0
  private var wait: UInt64 = 0
  private var failure: String?

  package init() {}

  /// Told in each round, before anything is looked at.
  /// - Parameters:
  ///   - stamps: Of the run's folder and of what else tells of a change without a look at the tree. Another value makes a look due.
  package mutating func meet(_ standing: Standing, stamps: [RunFinder.Stamp?]) {
    if self.standing != standing {
      self.standing = standing
      settled = nil
      hasten()
    }
    if self.stamps != stamps {
      self.stamps = stamps
      hasten()
    }
  }

  /// Makes a look due at once.
  package mutating func hasten() {
    nextLook = 0
    wait = 0
  }

  /// When a look is due, monotonic nanoseconds; nil while the run is at rest.
  package var dueAt: UInt64? { standing == .resting ? nil : nextLook }

  /// A look was made.
  /// - Parameters:
  ///   - cost: Nanoseconds that it took: one hundredth of the time goes into one run, unless that would put the
  ///     next look off beyond the pace's longest pause.
  package mutating func looked(at now: UInt64, cost: UInt64, pace: Pace) {
    wait = pace.isSteady ? pace.shortest : min(max(wait &* 2, pace.shortest), pace.longest)
    let (costly, overflow) = cost.multipliedReportingOverflow(by: 100)
    nextLook = now &+ min(max(wait, overflow ? .max : costly), pace.longest)
  }

  /// The tree as a look saw it that was over at `ended`.
  package mutating func saw(_ pulse: TreePulse, ended: UInt64) { stillness.saw(pulse, ended: ended) }

  /// The gate stopped the run as it is.
  package mutating func wasRefused(_ mark: Mark) { refused = mark }

  /// Whether the gate stopped exactly this.
  package func isRefused(_ mark: Mark) -> Bool { refused == mark }

  /// Whether the gate stopped the run as it was last seen.
  package var isRefused: Bool { refused != nil }

  /// The tree is what was sent.
  package mutating func hasNoNews(_ pulse: TreePulse) { settled = pulse }

  /// Whether the tree was found to be what was sent, and is still the same.
  package func isSettled(_ pulse: TreePulse) -> Bool { settled == pulse }

  package mutating func wasProven(_ proof: ListProof) {
    self.proof = proof
    hasten()
  }

  /// - Returns: Whether this was not said before.
  package mutating func failed(_ message: String) -> Bool {
    defer { failure = message }
    return failure != message
  }

  /// What was wrong is wrong no more.
  package mutating func succeeded() { failure = nil }

  /// The configuration changed: what the gate refused may pass now.
  package mutating func reconsider() {
    refused = nil
    settled = nil
    proof = nil
    hasten()
  }
}
