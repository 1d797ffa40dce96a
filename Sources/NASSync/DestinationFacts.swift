import Foundation
import Gate
import JobQueue
import Synchronization
import SyncModel
import Transport

/// What a destination said of itself when it was last asked.
struct DestinationFacts: Hashable, Sendable, Codable {
  /// Nil where it could not be asked.
  var names: DestinationNames?
  /// Bytes that could be written then; nil where it does not say.
  var freeSpace: UInt64?

  private enum CodingKeys: String, CodingKey {
    case names
    case freeSpace = "free_bytes"
  }

  /// What the gate makes of it. What could not be found out is assumed carefully.
  static func limits(_ names: DestinationNames?) -> DestinationLimits {
    DestinationLimits(
      isKnown: names != nil, maxSegmentBytes: names?.maxNameBytes ?? 255, maxPathBytes: names?.maxPathBytes,
      foldsCase: names?.foldsCase ?? true, foldsNormalization: names?.foldsNormalization ?? true, refused: names?.refused ?? [],
      excepted: names?.excepted, holdsSymlinks: names?.holdsSymlinks ?? true, stagingNameBytes: ".nassync-".utf8.count + 36)
  }
}

/// The facts and when they were found, seconds since 1970.
struct DatedFacts: Hashable, Sendable {
  let facts: DestinationFacts
  let at: Double

  /// Older ones are asked for again; so are those of a time that has not come yet, because a clock was set back.
  func isFresh(at now: Double) -> Bool { at <= now && now - at < 86_400 }
}

extension SyncQueue {
  /// Nil where the destination never was asked, or another version wrote what it said.
  func destinationFacts(_ destination: String) throws(SyncFailure) -> DatedFacts? {
    guard let row = try facts(ofDestination: destination) else { return nil }
    do {
      return DatedFacts(facts: try JSONDecoder().decode(DestinationFacts.self, from: Data(row.facts.utf8)), at: row.at)
    } catch { return nil }
  }

  func record(_ facts: DestinationFacts, of destination: String) throws(SyncFailure) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    guard let data = try? encoder.encode(facts) else { return }  // values made of strings and numbers encode always
    try recordFacts(String(decoding: data, as: UTF8.self), ofDestination: destination)
  }
}

/// What this process knows of one destination.
final class DestinationSurvey: Sendable {
  private struct State {
    var known: DatedFacts?
    /// When an asking failed: seconds since 1970, and monotonic time.
    var failed: (wall: Double, monotonic: UInt64)?
    /// How often an asking in a row met with silence in its midst.
    var silences = 0
    var isAsking = false
    var told = false
  }
  private let state = Mutex(State())
  /// Nanoseconds until a destination that would not be asked is asked again.
  private static let patience: UInt64 = 3600 * 1_000_000_000

  /// Whether somebody is asking.
  var isBeingAsked: Bool { state.withLock { $0.isAsking } }

  /// The last that was learnt.
  var known: DatedFacts? { state.withLock { $0.known } }

  /// What the gate goes by.
  var limits: DestinationLimits { DestinationFacts.limits(state.withLock { $0.known?.facts.names }) }

  func learn(_ facts: DatedFacts?) {
    guard let facts else { return }
    state.withLock { $0.known = facts }
  }

  /// Whether the caller is to ask now; it ends the asking with one of the functions below.
  /// - Parameter newerThan: What was found before this moment, in seconds since 1970, or failed before it, does not count.
  func begin(wall: Double, monotonic: UInt64, newerThan asked: Double = 0) -> Bool {
    state.withLock { state in
      if let known = state.known, known.isFresh(at: wall), known.at >= asked { return false }
      if let failed = state.failed, failed.wall >= asked, monotonic - min(failed.monotonic, monotonic) < Self.patience { return false }
      if state.isAsking { return false }
      state.isAsking = true
      return true
    }
  }

  /// Ends an asking that came to nothing: the next one may ask at once.
  func finish() { state.withLock { $0.isAsking = false } }

  /// Ends an asking with its answer.
  func finish(with facts: DatedFacts) {
    state.withLock { state in
      state.known = facts
      state.silences = 0
      state.isAsking = false
    }
  }

  /// The destination answered, and then fell silent in the midst of the asking.
  /// - Returns: Whether that was the first time, which may have been anybody's doing: it is asked again as after any outage, and the asking is
  ///   over. The second time it counts as one that would not say, lest its jobs wait for ever for one that every asking takes down.
  func isFirstSilence() -> Bool {
    state.withLock { state in
      state.silences += 1
      guard state.silences == 1 else { return false }
      state.isAsking = false
      return true
    }
  }

  /// Ends an asking of a destination that would not say.
  /// - Returns: Whether nobody was told of that yet.
  func finishRefused(wall: Double, monotonic: UInt64) -> Bool {
    state.withLock { state in
      state.isAsking = false
      state.silences = 0
      state.failed = (wall, monotonic)
      defer { state.told = true }
      return !state.told
    }
  }
}

extension NASSyncClient {
  /// Takes from the queue file what is known of every destination. Nothing is asked: enqueueing works without a network.
  func loadFacts() async throws(SyncFailure) {
    guard let queue = try await queueIfPresent() else { return }
    for profile in configuration.equipment {
      let route = route(for: profile)
      route.survey.learn(try await queue.destinationFacts(route.pool.driver.address))
    }
  }
}

extension JobRunner {
  /// Before the gate refuses a job that was put into the queue, or put there again by a person, after the destination was last asked: what it said
  /// then may have become untrue, and it is asked once more.
  /// - Returns: Whether the gate goes by something else now.
  /// - Parameter before: What it went by.
  func surveyAnew(_ job: JobRow, _ before: DestinationLimits) async throws(StepFailure) -> Bool {
    let history = try await queued { () async throws(SyncFailure) in try await environment.queue.history(ofRun: job.runPath) }
    guard let queuedAt = history.last(where: { $0.jobID == job.id && $0.to == .queued && $0.from != .running })?.at else { return false }
    // Another job of the same destination may be asking just now.
    while route.survey.isBeingAsked, !environment.stop.isSet {
      do { try await environment.clock.sleep(untilMonotonic: environment.clock.monotonicNanoseconds + 100_000_000) } catch { break }
    }
    // A destination that does not answer changes nothing: what is wrong here must not wait for it.
    guard try await surveyDestination(job, newerThan: queuedAt) == nil else { return false }
    return route.limits != before
  }

  /// Asks the destination what it makes of names, where that is not known or has not been asked for a day. A destination that answers and
  /// cannot be asked costs nothing but a warning: the gate is careful then. One that falls silent in the midst of it has said nothing of names, unless
  /// it does so the next time, too, having answered right before.
  /// - Parameter asked: What was found before this moment, in seconds since 1970, is asked for again.
  /// - Returns: Why the destination does not answer, where it does not.
  func surveyDestination(_ job: JobRow, newerThan asked: Double = 0) async throws(StepFailure) -> StepFailure? {
    let address = route.pool.driver.address
    let queue = environment.queue
    route.survey.learn(try await queued { () async throws(SyncFailure) in try await queue.destinationFacts(address) })
    guard route.survey.begin(wall: environment.clock.wallSeconds, monotonic: environment.clock.monotonicNanoseconds, newerThan: asked)
    else {
      return nil
    }
    do throws(StepFailure) { try await reach(job) } catch {
      route.survey.finish()
      return error
    }
    let root = route.root
    let facts: DestinationFacts
    do throws(TransportError) {
      facts = try await route.pool.withSession(width: 1) { (session) throws(TransportError) in
        DestinationFacts(names: try await session.examineNames(in: root), freeSpace: try await session.freeSpace(at: root))
      }
    } catch {
      if error.failure.isUnanswered, !environment.stop.isSet, route.survey.isFirstSilence() { return Self.unanswered(error) }
      let isNews = route.survey.finishRefused(
        wall: environment.clock.wallSeconds, monotonic: environment.clock.monotonicNanoseconds)
      if isNews, !environment.stop.isSet {
        environment.events.send(
          .warning(
            runPath: nil,
            message: "what \(address) makes of names could not be found out, so the careful assumptions hold: \(error.failure.message)"))
      }
      return nil
    }
    do throws(StepFailure) {
      try await queued { () async throws(SyncFailure) in try await queue.record(facts, of: address) }
    } catch {
      route.survey.finish()
      throw error
    }
    route.survey.finish(with: DatedFacts(facts: facts, at: environment.clock.wallSeconds))
    return nil
  }
}

/// `12 minutes ago`. A time that has not come yet is just now.
func ageText(_ seconds: Double) -> String {
  let minutes = Int(min(max(seconds, 0), 1e9) / 60)
  switch minutes {
  case 0: return "just now"
  case 1: return "1 minute ago"
  case ..<120: return "\(minutes) minutes ago"
  case ..<2880: return "\(minutes / 60) hours ago"
  default: return "\(minutes / 1440) days ago"
  }
}
