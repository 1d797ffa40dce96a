import SyncModel

/// One condition of a deletion, as it stood at one moment. All of them are given, met or not.
public struct CleanupInterlock: Hashable, Sendable, Codable {
  /// The conditions, in the order in which they are shown. The raw values are what `--json` and `deletion.json` hold.
  public enum Name: String, Hashable, Sendable, Codable, CaseIterable {
    /// The job is `verified` or `cleanup_eligible`.
    case state
    /// It is its run's newest job, and nothing of the run is on its way.
    case newestJob = "newest_job"
    /// As many verifications as asked for, at different times.
    case verifyPasses = "verify_passes"
    /// Long enough ago, in time that was witnessed.
    case age
    /// Nobody set the clock on the wall meanwhile.
    case clock
    /// The destination answers.
    case nasReachable = "nas_reachable"
    /// Every file there has the digest of the local one, proven at this moment.
    case nasCopyProven = "nas_copy_proven"
    /// Manifest, receipt and the record's copy there are those that were published.
    case nasManifestIntact = "nas_manifest_intact"
    /// The run's record, with its overrides, can be read.
    case recordReadable = "record_readable"
    /// The Pre-Sync Gate lets the run through now.
    case gateOpen = "gate_open"
    /// No override was taken back since the last verification, and none of those that let the run through.
    case noRevocation = "no_revocation"
    /// Every local file is exactly the one that was verified.
    case localUnchanged = "local_unchanged"
    /// No local file is gone that this program did not remove.
    case nothingMissing = "nothing_missing"
    /// There is no local file that was never sent.
    case nothingUnknown = "nothing_unknown"
    /// No program has a file of the run open for writing.
    case nothingBeingWritten = "nothing_being_written"
  }

  /// What can help where a condition is not met.
  public enum Remedy: String, Hashable, Sendable, Codable {
    /// Time, or a NAS that answers again.
    case wait
    /// The gate, the record or its overrides.
    case gate
    /// The NAS copy must be put right.
    case nas
    /// A person must look at the run.
    case look
  }

  /// Which condition.
  public let name: Name
  /// Whether it holds.
  public let met: Bool
  /// One sentence with figures.
  public let detail: String
  /// Nil where it is met.
  public let remedy: Remedy?

  /// Keeps a remedy for what is not met only.
  init(_ name: Name, met: Bool, _ detail: String, remedy: Remedy) {
    self.name = name
    self.met = met
    self.detail = detail
    self.remedy = met ? nil : remedy
  }

  private enum CodingKeys: String, CodingKey { case name, met, detail, remedy }

  /// Every key is there, null where it has no value.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(name, forKey: .name)
    try container.encode(met, forKey: .met)
    try container.encode(detail, forKey: .detail)
    try container.encode(remedy, forKey: .remedy)
  }
}
