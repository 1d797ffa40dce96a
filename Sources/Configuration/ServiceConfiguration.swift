import SyncModel

/// Everything the service is told: `nassync.yaml` and the instruments' files, or the same built in code.
///
/// All paths are absolute once `load(from:environment:currentDirectory:)` has made the value.
public struct ServiceConfiguration: Hashable, Sendable {
  /// The folder of the queue, its lock and what the service remembers.
  public var stateDirectory: String
  /// The folder of the instruments' files. Only where the configuration was read from files.
  public var equipmentDirectory: String?
  /// Name of the metadata folder at the top of a run.
  public var metadataFolder: String
  /// Jobs in flight at once: 1…64.
  public var workers: Int
  /// Mbit/s (10^6 bit/s) for all instruments together; nil is unlimited.
  public var uploadMbps: Double?
  /// When a failed job is tried again.
  public var retry: RetrySettings
  /// How the NAS is made to prove what it holds.
  public var verify: VerifySettings
  /// When the local copy may go.
  public var cleanup: CleanupSettings
  /// What the gate reads, and whom it asks.
  public var gate: GateSettings
  /// IANA name of the time zone for timetables that name none; nil is the workstation's.
  public var timeZone: String?
  /// Services that hand out presigned URLs for assets, in the file's order.
  public var assetServices: [AssetServiceSettings]
  /// The instruments, by id.
  public var equipment: [EquipmentProfile]
  /// The file that this was read from, nil for one built in code.
  public var sourceFile: String?

  /// The name of the metadata folder unless another is given.
  public static let defaultMetadataFolder = ".exlab-wizard"

  /// A configuration built in code. `validate()` checks it as a file would be.
  public init(
    stateDirectory: String, equipment: [EquipmentProfile], equipmentDirectory: String? = nil,
    metadataFolder: String = ServiceConfiguration.defaultMetadataFolder, workers: Int = 4, uploadMbps: Double? = nil,
    retry: RetrySettings = RetrySettings(), verify: VerifySettings = VerifySettings(),
    cleanup: CleanupSettings = CleanupSettings(), gate: GateSettings = GateSettings(), timeZone: String? = nil,
    assetServices: [AssetServiceSettings] = [], sourceFile: String? = nil
  ) {
    self.stateDirectory = stateDirectory
    self.equipmentDirectory = equipmentDirectory
    self.metadataFolder = metadataFolder
    self.workers = workers
    self.uploadMbps = uploadMbps
    self.retry = retry
    self.verify = verify
    self.cleanup = cleanup
    self.gate = gate
    self.timeZone = timeZone
    self.assetServices = assetServices
    self.equipment = equipment
    self.sourceFile = sourceFile
  }

  /// The instrument of an id.
  public func equipment(id: String) -> EquipmentProfile? { equipment.first { $0.id == id } }

  /// The asset service of a name.
  public func assetService(name: String) -> AssetServiceSettings? { assetServices.first { $0.name.utf8.elementsEqual(name.utf8) } }

  /// Each instrument's timetable by its id, with the service's time zone where it names none.
  public var bandwidthProfiles: [String: BandwidthProfile] {
    var profiles: [String: BandwidthProfile] = [:]
    for instrument in equipment {
      let own = instrument.bandwidth
      profiles[instrument.id] = BandwidthProfile(
        uploadMbps: own.uploadMbps, windows: own.windows, timeZone: own.timeZone ?? timeZone)
    }
    return profiles
  }
}

/// `retry` in `nassync.yaml`.
public struct RetrySettings: Hashable, Sendable {
  /// Seconds to wait after the first, second … failed attempt; one failure more ends the job.
  public var backoff: [Double]

  /// The default is 30 s, 2 min, 8 min, 30 min, 2 h.
  public init(backoff: [Double] = [30, 120, 480, 1800, 7200]) { self.backoff = backoff }
}

/// `verify` in `nassync.yaml`.
public struct VerifySettings: Hashable, Sendable {
  /// Where the remote digests come from.
  public enum Method: String, Hashable, Sendable, CaseIterable {
    /// Hashed on the NAS where that works, else read back.
    case auto
    /// Hashed on the NAS, or not verified at all.
    case server
    /// Downloaded and hashed here.
    case readback
  }

  /// Where the remote digests come from.
  public var method: Method
  /// Seconds between two audits of a published run.
  public var auditInterval: Double
  /// Mbit/s (10^6 bit/s) at which audits of all destinations together read files back; nil is no limit. What the NAS hashes itself costs
  /// no bandwidth.
  public var auditDownloadMbps: Double?
  /// Seconds that audits may take within any `auditWindow`; nil is no limit. A run whose audit has begun is audited to its end.
  public var auditTime: Double?

  /// The default is `auto`, every 24 hours, without a limit.
  public init(method: Method = .auto, auditInterval: Double = 86_400, auditDownloadMbps: Double? = nil, auditTime: Double? = nil) {
    self.method = method
    self.auditInterval = auditInterval
    self.auditDownloadMbps = auditDownloadMbps
    self.auditTime = auditTime
  }

  /// The seconds that `auditTime` is counted in: a day, or the time between two audits where that is shorter.
  public var auditWindow: Double { min(86_400, auditInterval) }
}

/// `cleanup` in `nassync.yaml`.
public struct CleanupSettings: Hashable, Sendable {
  /// Whether the service deletes local copies by itself.
  public var enabled: Bool
  /// How many verifications, at different times, a deletion needs.
  public var minVerifyPasses: Int
  /// Hours since the last verification that a deletion needs.
  public var minAgeHours: Double
  /// Whether the metadata folder stays.
  public var retainMetadata: Bool

  /// The default deletes nothing.
  public init(enabled: Bool = false, minVerifyPasses: Int = 2, minAgeHours: Double = 24, retainMetadata: Bool = true) {
    self.enabled = enabled
    self.minVerifyPasses = minVerifyPasses
    self.minAgeHours = minAgeHours
    self.retainMetadata = retainMetadata
  }
}

/// `gate` in `nassync.yaml`.
public struct GateSettings: Hashable, Sendable {
  /// A program that is asked about each run.
  public struct Validator: Hashable, Sendable {
    /// The program and its arguments, given to it as they are; no shell sees them.
    public var command: [String]
    /// Seconds after which the program is stopped and the run blocked.
    public var timeout: Double

    /// The default time-out is a minute.
    public init(command: [String], timeout: Double = 60) {
      self.command = command
      self.timeout = timeout
    }
  }

  /// The extensions whose files are searched for placeholders unless others are given.
  public static let defaultExtensions = [".txt", ".md", ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf"]

  /// Extensions, with their dot and in lower case, whose files are searched for leftover placeholders.
  public var contentScanExtensions: [String]
  /// Larger files are not searched, MiB.
  public var contentScanMaxMiB: Int
  /// Programs that are asked about each run, in this order.
  public var validators: [Validator]

  /// The default asks no program.
  public init(
    contentScanExtensions: [String] = GateSettings.defaultExtensions, contentScanMaxMiB: Int = 5, validators: [Validator] = []
  ) {
    self.contentScanExtensions = contentScanExtensions
    self.contentScanMaxMiB = contentScanMaxMiB
    self.validators = validators
  }
}
