import SyncModel

/// What the gate decided about a run.
public struct GateVerdict: Hashable, Sendable, Codable {
  /// A hard finding that an override let pass.
  public struct Overridden: Hashable, Sendable, Codable {
    public let finding: Finding
    /// The override's id in the run's record.
    public let overrideID: String

    public init(finding: Finding, overrideID: String) {
      self.finding = finding
      self.overrideID = overrideID
    }

    private enum CodingKeys: String, CodingKey {
      case finding
      case overrideID = "override_id"
    }
  }

  /// An override that let something pass, for the receipt.
  public struct UsedOverride: Hashable, Sendable, Codable {
    public let id: String
    public let problemClass: FindingClass
    public let operatorName: String
    /// As the record spells it.
    public let recordedAt: String
    public let expiresAt: String?
    public let reason: String
    public let path: String?

    private enum CodingKeys: String, CodingKey {
      case id
      case problemClass = "problem_class"
      case operatorName = "operator"
      case recordedAt = "recorded_at"
      case expiresAt = "expires_at"
      case reason, path
    }
  }

  /// Hard findings without an active override: while there is one, nothing is sent and nothing deleted.
  public let blocking: [Finding]
  /// Soft findings.
  public let informing: [Finding]
  public let overridden: [Overridden]
  /// Each override in `overridden` once, in the order of the record.
  public let activeOverrides: [UsedOverride]

  /// Whether the run may pass.
  public var isOpen: Bool { blocking.isEmpty }

  init(blocking: [Finding], informing: [Finding], overridden: [Overridden], activeOverrides: [UsedOverride]) {
    self.blocking = blocking
    self.informing = informing
    self.overridden = overridden
    self.activeOverrides = activeOverrides
  }

  private enum CodingKeys: String, CodingKey {
    case open
    case blocking = "blocking_findings"
    case informing = "informing_findings"
    case overridden
    case activeOverrides = "overrides"
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    blocking = try container.decode([Finding].self, forKey: .blocking)
    informing = try container.decode([Finding].self, forKey: .informing)
    overridden = try container.decode([Overridden].self, forKey: .overridden)
    activeOverrides = try container.decode([UsedOverride].self, forKey: .activeOverrides)
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(isOpen, forKey: .open)
    try container.encode(blocking, forKey: .blocking)
    try container.encode(informing, forKey: .informing)
    try container.encode(overridden, forKey: .overridden)
    try container.encode(activeOverrides, forKey: .activeOverrides)
  }
}
