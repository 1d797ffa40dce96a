import SyncModel
import Transport
import Verification

/// Digests that were made of files which lay in the run's place on the NAS before, when they were adopted, so that the proof of a run that is there
/// already need not hash it twice.
///
/// They live as long as one attempt and are never written down. The folder is somebody else's, too: a digest counts only for `validity`, and only
/// where the listing that follows the last byte shows the file with the size and the time that it had before it was hashed.
struct AdoptedDigests: Sendable {
  private struct File: Sendable {
    let proof: VerifiedReceipt.Proof
    let size: UInt64
    let modified: Int64
  }

  /// Longer ago than this nothing is believed: a file may be written, and its time put back. In seconds.
  static let validity: UInt64 = 600
  /// What was written so recently before it was hashed may have been written in the same second afterwards, which its time does not show. In seconds:
  /// 15 hours, for the NAS's clock may be in another time zone than it says.
  static let settled: Int64 = 54_000

  private var files: [RelativePath: File] = [:]
  private let since: UInt64
  private let wall: Int64

  /// - Parameter clock: Says when, which is before anything is hashed.
  init(clock: any SyncClock) {
    since = clock.monotonicNanoseconds
    wall = Int64(clock.wallSeconds)
  }

  /// Keeps what a file was found to hold.
  /// - Parameter listed: What a listing showed before.
  mutating func add(_ path: RelativePath, _ proof: VerifiedReceipt.Proof, _ listed: RemoteEntry?) {
    // A server that has no times says the same of every file.
    guard let listed, let modified = listed.modified, modified > 0, modified < wall - Self.settled else { return }
    files[path] = File(proof: proof, size: listed.size, modified: modified)
  }

  /// Those that still hold. By both clocks: the one stands still while this workstation sleeps, the other may be set.
  func holding(in trees: JobRunner.Trees, by clock: any SyncClock) -> [RelativePath: VerifiedReceipt.Proof] {
    let passed = clock.monotonicNanoseconds.subtractingReportingOverflow(since)
    guard !files.isEmpty, let final = trees.final, !passed.overflow, passed.partialValue < Self.validity * 1_000_000_000,
      (0..<Double(Self.validity)).contains(clock.wallSeconds - Double(wall))
    else { return [:] }
    return files.filter { path, file in
      // What is in the staging folder, too, is the one that gets published.
      guard trees.staging?.entries[path] == nil, let found = final.entries[path] else { return false }
      return found.kind == .file && found.size == file.size && found.modified == file.modified
    }.mapValues(\.proof)
  }
}
