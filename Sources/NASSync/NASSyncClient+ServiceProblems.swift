import Configuration
import Foundation
import Gate
import Glibc
import JobQueue
import SyncModel

/// What wants a person although no single job failed.
extension NASSyncClient {
  /// Seconds for which due jobs may wait for somebody who works: a timer that runs `drain` comes by once an hour.
  static let longestIdle: Double = 3600 * 1.5
  /// Seconds before an override's end in which it is announced.
  private static let overrideNotice: Double = 7 * 86_400
  /// Bytes that the disk of the state folder should have free: the queue needs little, but a write that fails stops everything.
  private static let comfortableSpace: UInt64 = 200 << 20

  /// Jobs are due, and no process works.
  func problemsOfIdleQueue(_ jobs: [JobRow]) -> [Problem] {
    let now = clock.wallSeconds
    let waiting = jobs.filter { $0.state.isActive && ($0.nextAttemptAt ?? 0) <= now }
    guard let since = waiting.map({ max($0.updatedAt, $0.nextAttemptAt ?? 0) }).min(), now - since > Self.longestIdle,
      WorkerLock.isHeld(stateDirectory: configuration.stateDirectory) == false
    else { return [] }
    return [
      Problem(
        problemClass: "no_service", severity: .critical, runPath: nil, equipmentID: nil, destination: nil,
        since: Date(timeIntervalSince1970: since),
        message: (waiting.count == 1 ? "a run is" : "\(waiting.count) runs are")
          + " due and no process works on \(displayText(configuration.stateDirectory))",
        blocks: "every queued run", nextStep: "Start the service, `nassync serve`, or send what is queued now with `nassync drain`.")
    ]
  }

  /// Overrides that end soon while something still counts on them: a run that is on its way, and, where the service cleans up, one that waits
  /// for that.
  func problemsOfOverrides(_ jobs: [JobRow]) async -> [Problem] {
    let cleans = configuration.cleanup.enabled
    let subjects = jobs.filter { $0.state.isActive || cleans && ($0.state == .verified || $0.state == .cleanupEligible) }
    guard !subjects.isEmpty else { return [] }
    let now = clock.wallSeconds
    let folder = configuration.metadataFolder
    return await readers.next().run {
      var problems: [Problem] = []
      for job in subjects {
        let entries: [OverrideEntry]
        do throws(RecordError) {
          entries = try RecordStore(runRoot: job.runPath, metadataFolder: folder).read()?.overrides ?? []
        } catch { continue }
        let active = Overrides.active(entries, now: now)
        let standing = active.filter { ($0.expiry ?? .infinity) - now > Self.overrideNotice }
        let ending = active.compactMap { entry -> (entry: Override, end: Double)? in
          guard let end = entry.expiry, end - now <= Self.overrideNotice else { return nil }
          // One that stands for longer and lets the same pass takes its place.
          let isReplaced = standing.contains { other in
            other.problemClass == entry.problemClass
              && (other.path == nil || other.path.map { Array($0.utf8) } == entry.path.map { Array($0.utf8) })
          }
          return isReplaced ? nil : (entry, end)
        }
        guard let first = ending.min(by: { $0.end < $1.end }) else { continue }
        problems.append(
          Problem(
            problemClass: "override_expires", severity: .warning, runPath: job.runPath, equipmentID: job.equipmentID,
            destination: job.destination, since: Date(timeIntervalSince1970: Timestamp.seconds(parsing: first.entry.recordedAt) ?? now),
            message: "the override for \(first.entry.problemClass) ends at \(first.entry.expiresAt ?? "?")",
            blocks: job.state.isActive
              ? "the run, if it is not on the NAS by then" : "the removal of the local copy, if it is not done by then",
            nextStep: "If it may pass for longer: "
              + Self.overrideCommand(shellWord(job.runPath), first.entry.problemClass, place: first.entry.path) + "."))
      }
      return problems
    }
  }

  /// The folder of the queue can be written, and has room.
  func problemsOfStateDirectory() async -> [Problem] {
    let directory = configuration.stateDirectory
    let now = clock.wallSeconds
    return await readers.next().run {
      var status = stat()
      guard stat(directory, &status) == 0 else { return [] }
      func problem(_ name: String, _ severity: Problem.Severity, _ message: String, _ step: String) -> Problem {
        Problem(
          problemClass: name, severity: severity, runPath: nil, equipmentID: nil, destination: nil, since: Date(timeIntervalSince1970: now),
          message: message, blocks: "everything that has to be written down: nothing is claimed, sent or removed without", nextStep: step)
      }
      for path in [directory, directory + "/queue.db"] where access(path, F_OK) == 0 && access(path, W_OK) != 0 {
        let owner = Self.identity.user
        return [
          problem(
            "state_not_writable", .critical, "\(displayText(path)) cannot be written by \(displayText(owner))",
            "Give it to the user that runs nassync: `chown -R \(shellWord(owner)) \(shellWord(directory))`.")
        ]
      }
      var space = statvfs()
      guard statvfs(directory, &space) == 0 else { return [] }
      let free = UInt64(space.f_bavail) &* UInt64(space.f_frsize)
      guard free < Self.comfortableSpace else { return [] }
      return [
        problem(
          "state_disk_full", free < 10 << 20 ? .critical : .warning, "the disk of \(displayText(directory)) has \(free >> 20) MiB left",
          "Free space there: `df -h \(shellWord(directory))` shows the disk. Nothing that is queued is lost.")
      ]
    }
  }
}
