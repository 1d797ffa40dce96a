import Intake
import SyncModel
import Verification

/// All that a deletion is decided on, gathered by others: the decision itself asks nobody.
package struct CleanupFacts: Sendable {
  /// One verification that counts.
  package struct Pass: Hashable, Sendable {
    package let reading: ClockReading
    /// Entries of the record's list of overrides at that moment.
    package let ledgerLength: Int
    package init(reading: ClockReading, ledgerLength: Int) {
      self.reading = reading
      self.ledgerLength = ledgerLength
    }
  }

  /// What the NAS said.
  package enum NAS: Sendable {
    /// It was not asked; why.
    case unasked(String)
    case unreachable(String)
    /// It answered, and could not be compared; why.
    case failed(String)
    /// What differs, each with its path: of the run's files, and of what this program wrote beside them.
    case compared(differences: [String], documents: [String], proof: VerifiedReceipt?)
  }

  /// What the run's own record says.
  package enum Record: Sendable {
    /// Of each entry of its list of overrides: which override it takes back, nil for one that takes none back.
    case readable([String?])
    case absent
    /// This clean-up removed it before, when nothing spoke against that.
    case removedBefore
    /// The run was published with one.
    case vanished
    case unreadable(String)
  }

  /// The overrides that let the run through when it was published.
  package enum Overrides: Sendable {
    case named([String])
    /// The receipt that names them was not read; why.
    case unknown(String)
  }

  /// What the gate says now.
  package enum Gate: Sendable {
    /// The sentences of its hard findings.
    case judged(blocking: [String])
    case unasked(String)
  }

  package var state: JobState
  /// The id of the run's newest job, where that is another.
  package var newerJob: String?
  /// The oldest first, the verification of this very moment among them where it counts.
  package var passes: [Pass]
  /// The last verification that counts and was made before this look.
  package var reference: Pass?
  package var requiredPasses: Int
  /// Seconds of trusted time between two verifications that count as two.
  package var passSpacing: Double
  /// Seconds.
  package var minimumAge: Double
  package var now: ClockReading
  /// The last reading of each start of the machine.
  package var clockSamples: [ClockReading]
  package var nas: NAS
  package var record: Record
  package var overrides: Overrides
  package var gate: Gate
  package var local: LocalComparison
  /// The run's files by what the queue holds of them.
  package var expected: [RelativePath: ContentDigest]

  package init(
    state: JobState, newerJob: String? = nil, passes: [Pass], reference: Pass?, requiredPasses: Int, passSpacing: Double,
    minimumAge: Double, now: ClockReading, clockSamples: [ClockReading], nas: NAS, record: Record, overrides: Overrides, gate: Gate,
    local: LocalComparison, expected: [RelativePath: ContentDigest]
  ) {
    self.state = state
    self.newerJob = newerJob
    self.passes = passes
    self.reference = reference
    self.requiredPasses = requiredPasses
    self.passSpacing = passSpacing
    self.minimumAge = minimumAge
    self.now = now
    self.clockSamples = clockSamples
    self.nas = nas
    self.record = record
    self.overrides = overrides
    self.gate = gate
    self.local = local
    self.expected = expected
  }
}

/// The run's folder as it is now against what was verified. Pure.
package struct LocalComparison: Sendable {
  /// Why the folder could not be looked at; then nothing below is known.
  package var unreadable: String?
  /// Files and links that are not what was verified, each with what differs.
  package var changed: [(path: RelativePath, why: String)] = []
  /// Files and links that are gone and that this program did not remove.
  package var missing: [RelativePath] = []
  /// Files, links and other things that were never sent.
  package var unknown: [RelativePath] = []
  /// Files and links that an earlier clean-up of this job removed.
  package var removedBefore = 0
  /// Files that some program has open for writing.
  package var beingWritten: [RelativePath] = []
  /// Files and links that are still what was verified.
  package var intact = 0

  /// A folder that could not be looked at.
  package init(unreadable: String) { self.unreadable = unreadable }

  /// - Parameters:
  ///   - listed: What was verified.
  ///   - snapshot: What is there now; nil where the run's folder is gone.
  ///   - removalBegan: Whether this job's clean-up has removed files before: then what is gone is its own work.
  package init(listed: [RunEntry], snapshot: RunSnapshot?, removalBegan: Bool) {
    var there: [RelativePath: RunEntry] = [:]
    for entry in snapshot?.entries ?? [] { there[entry.path] = entry }
    // A removal that has begun may have moved a change time itself: of a removed file's other names, and of what it set aside and put back.
    // Their content is read again before they go.
    for entry in listed where entry.kind != .folder {
      guard let found = there[entry.path] else {
        if removalBegan { removedBefore += 1 } else { missing.append(entry.path) }
        continue
      }
      if found.kind != entry.kind {
        changed.append((entry.path, "something else has its name, or the link points elsewhere"))
      } else if let why = found.fingerprint.contentDifference(from: entry.fingerprint),
        !(removalBegan && found.fingerprint.isSameButForChangeTime(as: entry.fingerprint))
      {
        changed.append((entry.path, why))
      } else if let why = found.unreadable {
        changed.append((entry.path, "it cannot be read: \(why)"))
      } else {
        intact += 1
      }
    }
    let known = Set(listed.map(\.path))
    for entry in snapshot?.entries ?? [] where !known.contains(entry.path) {
      // A folder holds nothing by itself, and is never removed unless it was listed; one that cannot be looked into may hold anything.
      if entry.kind != .folder || entry.unreadable != nil { unknown.append(entry.path) }
    }
    let listedFolders = Set(listed.filter { $0.kind == .folder }.map(\.path))
    for entry in snapshot?.entries ?? [] where listedFolders.contains(entry.path) {
      if entry.kind != .folder {
        changed.append((entry.path, "something else has its name"))
      } else if let why = entry.unreadable {
        changed.append((entry.path, "it cannot be looked into: \(why)"))
      }
    }
  }
}
