import Configuration
import Foundation
import Intake
import JobQueue
import SyncModel

/// Runs of watched instruments that have no job and should have one by now. Looked for on the disk, so that it is seen also where no service
/// runs, which may be the reason.
extension NASSyncClient {
  /// Seconds for which a run may lie there unchanged and unfinished before somebody should look.
  private static let patienceWithUnfinished: Double = 86_400
  /// Seconds for which a finished one may wait to be taken up.
  private static let patienceWithFinished: Double = 3600
  /// More than so many of one instrument and kind are told as one.
  private static let mostToldSingly = 5
  /// Nanoseconds that may go into looks at trees; what was not looked at by then is not told.
  private static let longestSearch: UInt64 = 10_000_000_000

  private enum Kind: String, Hashable {
    case unfinished = "unfinished_run"
    case notTakenUp = "run_not_taken_up"
    case unreadable = "run_not_readable"
  }

  private struct Unsent {
    let run: RunFinder.Candidate
    let kind: Kind
    let since: Double
    let message: String
  }

  func problemsOfUnsentRuns() async throws(SyncFailure) -> [Problem] {
    var signals: [String: CompletenessSignal] = [:]
    for profile in configuration.equipment { signals[profile.id] = RunWatcher.signal(of: profile) }
    guard !signals.isEmpty else { return [] }
    let roots = configuration.equipment.filter { signals[$0.id] != nil }.map { EquipmentRoot(id: $0.id, localRoot: $0.localRoot) }
    let found = await readers.next().run { RunFinder.find(roots) }
    var known: Set<[UInt8]> = []
    if let queue = try await queueIfPresent() {
      known.formUnion(try await queue.standings(ofRuns: found.candidates.map(\.path)).keys)
      known.formUnion(try await queue.blockedRuns().map { Array($0.runPath.utf8) })
    }
    let metadataFolder = configuration.metadataFolder
    let began = clock.monotonicNanoseconds
    var unsent: [Unsent] = []
    for run in found.candidates where !known.contains(Array(run.path.utf8)) && clock.monotonicNanoseconds - began < Self.longestSearch {
      guard let signal = signals[run.equipment] else { continue }
      let now = clock.wallSeconds
      let seen = await readers.next().run { Self.look(at: run, signal, metadataFolder: metadataFolder, now: now) }
      if let seen { unsent.append(seen) }
    }
    let isServed = WorkerLock.isHeld(stateDirectory: configuration.stateDirectory) != false
    let now = clock.wallSeconds
    return found.obstacles.map { Self.problem($0, now: now) } + Self.problems(unsent, isServed: isServed)
  }

  /// Blocking.
  private static func look(at run: RunFinder.Candidate, _ signal: CompletenessSignal, metadataFolder: String, now: Double) -> Unsent? {
    let look: RunLook
    do throws(SyncFailure) { look = try signal.look(at: run.path, metadataFolder: metadataFolder) } catch {
      guard error.kind != .localVanished else { return nil }
      return Unsent(run: run, kind: .unreadable, since: Double(run.stamp.changed) / 1e9, message: error.message)
    }
    let newest = Double(look.pulse.newest == .min ? run.stamp.changed : look.pulse.newest) / 1e9
    // A time of the future says nothing about how long the run has been lying there.
    let idle = now - newest
    if case .quiet(let seconds) = signal, look.pulse.items > 0 {
      guard idle > patienceWithFinished + seconds else { return nil }
      return Unsent(
        run: run, kind: .notTakenUp, since: newest, message: "nothing in it has changed for longer than its instrument asks for")
    }
    switch signal.readiness(look, stillness: Stillness(), wasSent: false, proof: nil, monotonic: 0, wall: now) {
    case .unfinished(let reason):
      guard idle > patienceWithUnfinished else { return nil }
      return Unsent(
        run: run, kind: .unfinished, since: newest, message: "unchanged for \(Int(idle / 3600)) hours, and not finished: \(reason)")
    case .finished:
      guard idle > patienceWithFinished else { return nil }
      return Unsent(run: run, kind: .notTakenUp, since: newest, message: "its instrument says that it is finished")
    case .provable:
      guard idle > patienceWithFinished else { return nil }
      return Unsent(
        run: run, kind: .notTakenUp, since: newest,
        message: "all that its list names is there; either a file has not the digest that the list gives, or nobody has compared them yet")
    }
  }

  private static func problem(_ obstacle: RunFinder.Obstacle, now: Double) -> Problem {
    Problem(
      problemClass: "folder_not_readable", severity: .critical, runPath: nil, equipmentID: obstacle.equipment, destination: nil,
      since: Date(timeIntervalSince1970: obstacle.since ?? now),
      message: "\(obstacle.path) cannot be searched for runs: \(obstacle.reason)", blocks: "every run in it: none is found",
      nextStep: obstacle.hint)
  }

  private static func problems(_ unsent: [Unsent], isServed: Bool) -> [Problem] {
    struct Group: Hashable {
      let equipment: String
      let kind: Kind
    }
    var problems: [Problem] = []
    for (group, members) in Dictionary(grouping: unsent, by: { Group(equipment: $0.run.equipment, kind: $0.kind) }) {
      let sorted = members.sorted { ($0.since, $0.run.path) < ($1.since, $1.run.path) }
      guard let oldest = sorted.first else { continue }
      if sorted.count <= mostToldSingly {
        problems += sorted.map { problem($0, message: $0.message, runPath: $0.run.path, isServed: isServed) }
      } else {
        let message = "\(sorted.count) runs of \(group.equipment), the oldest \(displayText(oldest.run.path)): \(oldest.message)"
        problems.append(problem(oldest, message: message, runPath: nil, isServed: isServed))
      }
    }
    return problems
  }

  private static func problem(_ unsent: Unsent, message: String, runPath: String?, isServed: Bool) -> Problem {
    let path = shellWord(unsent.run.path)
    let step =
      switch unsent.kind {
      case .unfinished: "If it is whole: `nassync enqueue \(path)`. If it is not, finish it on the instrument or take the folder away."
      case .unreadable: "Let the user that runs nassync read it, then look again with `nassync gate \(path)`."
      case .notTakenUp where isServed: "`nassync enqueue \(path)` says what keeps it; the service's log may say so too."
      case .notTakenUp: "Start the service, `nassync serve`, or send it now: `nassync enqueue \(path)` and `nassync drain`."
      }
    return Problem(
      problemClass: unsent.kind.rawValue, severity: .warning, runPath: runPath, equipmentID: unsent.run.equipment, destination: nil,
      since: Date(timeIntervalSince1970: unsent.since), message: message,
      blocks: "the run stays on this workstation, and nothing else has it", nextStep: step)
  }
}
