import SyncModel

/// Says what is wrong with a run before it is sent. An embedder may replace the built-in rules by its own.
///
/// The gate asks it at enqueue, when the job is claimed, and before any deletion. A validator that throws blocks the run with the
/// finding `validator_failed`. Whatever it says, the gate itself refuses a run whose record cannot be read.
public protocol RunValidator: Sendable {
  /// All findings, hard and soft, overrides not considered: those are the gate's matter.
  /// - Throws: Anything; the run is blocked then. Blocking calls belong on a thread of the validator's own.
  func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async throws -> [Finding]
}

/// A component of the run that is on the NAS already.
public struct PublishedComponent: Hashable, Sendable {
  /// Of the file as it was sent.
  public let digest: ContentDigest
  /// What the file was like when it was read.
  public let fingerprint: FileFingerprint

  /// What was read and proven.
  public init(digest: ContentDigest, fingerprint: FileFingerprint) {
    self.digest = digest
    self.fingerprint = fingerprint
  }
}

/// Which files the rules look into.
public struct ContentScanSettings: Hashable, Sendable {
  /// Endings of names, with the dot, any case.
  public var extensions: [String]
  /// Files larger than this are not looked into. Bytes.
  public var maxBytes: UInt64

  /// The endings that are scanned unless configured. Markup and data formats are not among them: a false alarm costs trust.
  public static let defaultExtensions = [".txt", ".md", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf"]

  /// The defaults are those of the contract: text files of up to 5 MiB.
  public init(extensions: [String] = Self.defaultExtensions, maxBytes: UInt64 = 5 << 20) {
    self.extensions = extensions
    self.maxBytes = maxBytes
  }
}

/// What a validator may need to know beside the run itself.
public struct GateContext: Sendable {
  /// Reads a file of the run and returns its SHA-256. Blocking.
  public typealias DigestOfFile = @Sendable (_ location: RunLocation, _ path: RelativePath) throws -> ContentDigest

  /// Seconds since 1970: decides which overrides have expired.
  public var now: Double
  /// What is on the NAS already, by path below the run.
  public var published: [RelativePath: PublishedComponent]
  /// What the destination can hold.
  public var limits: DestinationLimits
  /// Which files are looked into.
  public var content: ContentScanSettings
  /// Ids of fields that the lab wants in the run's `readme_fields.json`.
  public var requiredFields: [String]
  /// Asked for published files whose size is the same and whose times are not. Without it they count as changed.
  public var digestOfFile: DigestOfFile?

  /// Only the time is needed; the rest has the defaults of a first enqueue.
  /// - Parameter now: Seconds since 1970.
  public init(
    now: Double, published: [RelativePath: PublishedComponent] = [:], limits: DestinationLimits = DestinationLimits(),
    content: ContentScanSettings = ContentScanSettings(), requiredFields: [String] = [], digestOfFile: DigestOfFile? = nil
  ) {
    self.now = now
    self.published = published
    self.limits = limits
    self.content = content
    self.requiredFields = requiredFields
    self.digestOfFile = digestOfFile
  }
}
