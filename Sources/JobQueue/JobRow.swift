import SyncModel

/// One job as the queue holds it.
package struct JobRow: Hashable, Sendable {
  /// The queue's own number: order of arrival.
  package let number: Int64
  /// UUID in lower case.
  package let id: String
  package let runPath: String
  package let equipmentID: String
  /// The run's path below the equipment's `local_root`.
  package let relative: RelativePath
  /// Address of the destination that the job was registered for.
  package let destination: String
  /// Where the run is published, for people.
  package let remotePath: String
  package let generation: Int
  package let priority: Int
  package let state: JobState
  package let claimedBy: String?
  /// Whether a byte of the snapshot has been sent.
  package let frozen: Bool
  package let attempts: Int
  package let mismatches: Int
  /// Wall clock, seconds since 1970.
  package let nextAttemptAt: Double?
  package let lastError: SyncFailure?
  package let filesTotal: Int
  package let filesDone: Int
  package let bytesTotal: UInt64
  package let bytesSent: UInt64
  package let evidence: Evidence?
  package let verifyPasses: Int
  package let verifiedAt: Double?
  package let manifestDigest: ContentDigest?
  package let receiptDigest: ContentDigest?
  package let createdAt: Double
  package let updatedAt: Double
  /// When the NAS copy was last asked about by an audit, whatever the answer. Wall clock.
  package let auditedAt: Double?
  /// Whether a retry puts right what an audit found wrong on the NAS.
  package let repairs: Bool
  /// Why the last removal of the local copy stopped.
  package let cleanupNote: String?
  package let cleanupNotedAt: Double?

  /// Name of the hidden staging folder beside the final one. It carries the job's id, so no two jobs share one.
  package var stagingName: String { Self.stagingName(id: id) }

  /// As above, of a job by its id.
  package static func stagingName(id: String) -> String { ".nassync-\(id)" }
}

/// What a job is registered with.
package struct JobDraft: Sendable {
  package var id: String
  package var runPath: String
  package var equipmentID: String
  package var relative: RelativePath
  package var destination: String
  package var remotePath: String
  package var priority: Int
  /// Whether the job puts right what was found wrong on the NAS.
  package var repairs = false

  package init(
    id: String, runPath: String, equipmentID: String, relative: RelativePath, destination: String, remotePath: String, priority: Int
  ) {
    self.id = id
    self.runPath = runPath
    self.equipmentID = equipmentID
    self.relative = relative
    self.destination = destination
    self.remotePath = remotePath
    self.priority = priority
  }
}

/// One entry of a run as the queue holds it.
package struct ComponentRow: Hashable, Sendable {
  /// How far the component is.
  package enum State: String, Hashable, Sendable {
    case pending
    /// In the staging folder, whole.
    case sent
    /// An equal one was on the NAS already.
    case adopted
    /// Its remote digest equals the local one.
    case verified
  }

  // What takes a byte stands at the end, where they share a word: a run may have a million of these.
  package var entry: RunEntry
  /// Bytes known to be on the NAS's disk.
  package var bytesDurable: UInt64
  package var localDigest: ContentDigest?
  package var remoteDigest: ContentDigest?
  /// What the driver needs to go on after `bytesDurable`; nil where the name is enough.
  package var uploadToken: String?
  package var verifiedAt: Double?
  package var state: State
  package var evidence: Evidence?

  package init(
    entry: RunEntry, state: State = .pending, bytesDurable: UInt64 = 0, localDigest: ContentDigest? = nil,
    remoteDigest: ContentDigest? = nil, evidence: Evidence? = nil, verifiedAt: Double? = nil,
    uploadToken: String? = nil
  ) {
    self.uploadToken = uploadToken
    self.entry = entry
    self.state = state
    self.bytesDurable = bytesDurable
    self.localDigest = localDigest
    self.remoteDigest = remoteDigest
    self.evidence = evidence
    self.verifiedAt = verifiedAt
  }
}

/// One row of a job's append-only history.
package struct HistoryRow: Hashable, Sendable {
  package let jobID: String
  package let generation: Int
  /// Wall clock, seconds since 1970.
  package let at: Double
  package let event: String
  package let from: JobState?
  package let to: JobState?
  /// One sentence.
  package let detail: String
}

/// A run that the gate stopped and that has no job.
package struct BlockedRun: Hashable, Sendable {
  package let runPath: String
  package let equipmentID: String
  package let since: Double
  /// JSON array of findings.
  package let findings: String
}

/// A destination that does not answer: its jobs wait and burn no attempt.
package struct Outage: Hashable, Sendable {
  package let destination: String
  package let since: Double
  package let nextAttemptAt: Double
  package let failure: SyncFailure
}

/// What was found wrong with the NAS copy of a published run and not found right since.
package struct NASFault: Hashable, Sendable {
  /// The job that published the run.
  package let job: Int64
  /// When it was found first, wall clock.
  package let since: Double
  /// When it was found last.
  package let lastAt: Double
  /// One sentence.
  package let detail: String
}

/// A verification that found the NAS copy whole and counts towards a deletion.
package struct VerificationPass: Hashable, Sendable {
  /// What asked for it.
  package enum Source: String, Hashable, Sendable { case publish, audit, cleanup }
  package let reading: ClockReading
  package let source: Source
  package let evidence: Evidence?
  /// Files that were proven.
  package let files: Int
  /// Entries of the record's list of overrides at that moment.
  package let ledgerLength: Int

  package init(reading: ClockReading, source: Source, evidence: Evidence?, files: Int, ledgerLength: Int) {
    self.reading = reading
    self.source = source
    self.evidence = evidence
    self.files = files
    self.ledgerLength = ledgerLength
  }
}
