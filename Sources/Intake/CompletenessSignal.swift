import SyncModel

/// How an instrument says that a run is finished. An instrument without a signal is not watched.
package enum CompletenessSignal: Hashable, Sendable {
  /// This file is there, and is a regular one.
  case sentinel(RelativePath)
  /// This list of files is there, and what it lists is there and has the digests it says.
  case manifest(RelativePath)
  /// Nothing in the whole tree has changed for so many seconds.
  case quiet(seconds: Double)

  /// The list of a run whose profile names none.
  package static let defaultList = "checksums.sha256"

  /// Seconds without a change after which a run that was sent before and has new files counts as finished, where its sentinel or list
  /// is still the old one.
  package static let stillnessOfSentRuns: Double = 600
}

/// What one look at a run's whole tree saw, without its contents.
///
/// Everything counts, also what `exclude` keeps back: an instrument that still writes its temporary file has not finished. Only this
/// program's own bookkeeping files do not, and of folders only that they are there: their times move with every file in them.
package struct TreePulse: Hashable, Sendable {
  /// Equal for two looks between which nothing changed; within this process only.
  package let value: Int
  /// The latest modification or change time of a file or link, nanoseconds since 1970; `Int64.min` where there is none.
  package let newest: Int64
  /// Files and links outside the metadata folder.
  package let items: Int

  /// - Parameter snapshot: Taken without `exclude` patterns.
  package init(_ snapshot: RunSnapshot) {
    var hasher = Hasher()
    var newest = Int64.min
    var items = 0
    let metadata = Array(snapshot.metadataFolder.utf8)
    for entry in snapshot.entries {
      if entry.path.bytes == metadata { continue }
      hasher.combine(entry.path)
      hasher.combine(entry.kind)
      guard entry.kind != .folder else { continue }
      hasher.combine(entry.fingerprint.size)
      hasher.combine(entry.fingerprint.modified)
      hasher.combine(entry.fingerprint.changed)
      hasher.combine(entry.fingerprint.inode)
      newest = max(newest, entry.fingerprint.modified, entry.fingerprint.changed)
      let first = entry.path.bytes.prefix { $0 != UInt8(ascii: "/") }
      if !first.elementsEqual(metadata) { items += 1 }
    }
    value = hasher.finalize()
    self.newest = newest
    self.items = items
  }
}

/// How long a tree has been seen without a change. Measured on the monotonic clock from the first look that saw it as it is: whatever the
/// clock on the wall says, a tree that was different so many seconds ago is not still. A change in between shows in the change times,
/// which no program can set back.
package struct Stillness: Hashable, Sendable {
  private var pulse: TreePulse?
  private var since: UInt64 = 0

  package init() {}

  /// - Parameter ended: When the look was over, monotonic nanoseconds: what it saw was so no later than then.
  package mutating func saw(_ pulse: TreePulse, ended: UInt64) {
    if self.pulse != pulse {
      self.pulse = pulse
      since = ended
    }
  }

  /// Whether the tree is certain to have been the same for so long. Where the clock on the wall goes with that of the file system, the
  /// newest time in the tree must be as old, too; a time that lies ahead of the wall says that the clocks differ, and only looks count.
  /// - Parameters:
  ///   - monotonic: Nanoseconds, **before** the look began that `saw` was told of last.
  ///   - wall: Seconds since 1970.
  package func lasts(_ seconds: Double, monotonic: UInt64, wall: Double) -> Bool {
    guard let pulse, monotonic >= since, Double(monotonic - since) / 1e9 >= seconds else { return false }
    let age = wall - Double(pulse.newest) / 1e9
    return age >= seconds || age < 0
  }
}

/// A run as one look found it.
package struct RunLook: Sendable {
  /// The tree, without `exclude` patterns.
  package let snapshot: RunSnapshot
  package let pulse: TreePulse
  /// The sentinel or list, where it is a regular file.
  package let signalFile: FileFingerprint?
  /// What the list says; nil for other signals, and where there is no list.
  package let list: RunList?
  /// Why something is no list.
  package let listProblem: String?

  package init(
    snapshot: RunSnapshot, signalFile: FileFingerprint? = nil, list: RunList? = nil, listProblem: String? = nil
  ) {
    self.snapshot = snapshot
    pulse = TreePulse(snapshot)
    self.signalFile = signalFile
    self.list = list
    self.listProblem = listProblem
  }
}

/// What hashing the files of a list came to.
package struct ListProof: Hashable, Sendable {
  /// Of the list and the files that it names, when it was begun.
  package let fingerprint: Int
  /// Nil where everything has the digest it should; else what is wrong.
  package let problem: String?

  package init(fingerprint: Int, problem: String?) {
    self.fingerprint = fingerprint
    self.problem = problem
  }
}

/// Whether a run is finished.
package enum Readiness: Hashable, Sendable {
  case finished
  /// Its list names only what is there; the digests are to be compared.
  case provable(RunList)
  /// What is still missing, for a person.
  case unfinished(String)
}

extension CompletenessSignal {
  /// What a look says.
  /// - Parameters:
  ///   - stillness: Told of this look already.
  ///   - monotonic: Nanoseconds, before the look began.
  ///   - wasSent: The run was sent before and has news: the sentinel or list that is there says nothing of those, unless it is newer.
  ///   - proof: What the last hashing of the list came to.
  package func readiness(
    _ look: RunLook, stillness: Stillness, wasSent: Bool, proof: ListProof?, monotonic: UInt64, wall: Double
  ) -> Readiness {
    func isStill(_ seconds: Double) -> Bool { stillness.lasts(seconds, monotonic: monotonic, wall: wall) }
    switch self {
    case .quiet(let seconds):
      // A folder that was made and has nothing in it yet is no measurement, however long it stays so.
      guard look.pulse.items > 0 else { return .unfinished("it holds no file yet") }
      return isStill(seconds) ? .finished : .unfinished("something in it changed less than \(Self.words(seconds)) ago")
    case .sentinel(let path):
      guard let file = look.signalFile else { return .unfinished("its sentinel \(path) is not there") }
      guard wasSent, look.isNewer(than: file, path), !isStill(Self.stillnessOfSentRuns) else { return .finished }
      return .unfinished(
        "it has new files; its sentinel \(path) is older, and they changed less than \(Self.words(Self.stillnessOfSentRuns)) ago")
    case .manifest(let path):
      guard look.signalFile != nil else { return .unfinished("its list of files \(path) is not there") }
      guard let list = look.list else { return .unfinished("\(path) is no list of files: \(look.listProblem ?? "it cannot be read")") }
      if let first = list.missing.first {
        return .unfinished("\(path) names \(list.missing.count) files that are not there, first \(first)")
      }
      if wasSent, !isStill(Self.stillnessOfSentRuns) {
        return .unfinished("it has new files, which changed less than \(Self.words(Self.stillnessOfSentRuns)) ago")
      }
      guard let proof, proof.fingerprint == list.fingerprint else { return .provable(list) }
      return proof.problem.map { .unfinished($0) } ?? .finished
    }
  }

  private static func words(_ seconds: Double) -> String {
    seconds >= 120 ? "\(Int(seconds / 60)) minutes" : "\(Int(seconds.rounded(.up))) seconds"
  }
}

extension RunLook {
  /// Whether something in the tree changed after this file did.
  fileprivate func isNewer(than file: FileFingerprint, _ path: RelativePath) -> Bool {
    snapshot.entries.contains {
      $0.kind != .folder && $0.path != path && max($0.fingerprint.changed, $0.fingerprint.modified) > file.changed
    }
  }
}
