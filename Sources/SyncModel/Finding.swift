/// The name of a gate rule. The built-in ones are constants here; an external validator may bring its own.
public struct FindingClass: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
  public let rawValue: String
  public init(rawValue: String) { self.rawValue = rawValue }
  private init(_ rawValue: String) { self.rawValue = rawValue }
  public var description: String { rawValue }

  public static let unresolvedPlaceholderToken = FindingClass("unresolved_placeholder_token")
  public static let leftoverJinjaMarker = FindingClass("leftover_jinja_marker")
  public static let illegalFilesystemCharacter = FindingClass("illegal_filesystem_character")
  public static let reservedFilesystemName = FindingClass("reserved_filesystem_name")
  public static let modePrefixMismatch = FindingClass("mode_prefix_mismatch")
  public static let nameNotUTF8 = FindingClass("name_not_utf8")
  public static let pathTooLong = FindingClass("path_too_long")
  public static let caseCollision = FindingClass("case_collision")
  public static let normalizationCollision = FindingClass("normalization_collision")
  public static let symlinkEscapesRun = FindingClass("symlink_escapes_run")
  public static let specialFile = FindingClass("special_file")
  public static let unreadableFile = FindingClass("unreadable_file")
  public static let malformedRecord = FindingClass("malformed_record")
  public static let emptyRun = FindingClass("empty_run")
  public static let changedAfterSync = FindingClass("changed_after_sync")
  public static let validatorFailed = FindingClass("validator_failed")
  public static let orphan = FindingClass("orphan")
  public static let missingRequiredField = FindingClass("missing_required_field")
  public static let malformedYAMLFrontMatter = FindingClass("malformed_yaml_front_matter")
  public static let emptyFile = FindingClass("empty_file")
  public static let unknownOverride = FindingClass("unknown_override")

  /// Classes that no override lets through: the gate could not know what it lets through.
  public static let withoutOverride: Set<FindingClass> = [.nameNotUTF8, .malformedRecord, .validatorFailed]
}

/// What a gate rule says about a run.
public struct Finding: Hashable, Sendable, Codable {
  /// A hard finding blocks the run unless an override of its class is active; a soft one informs.
  public enum Tier: String, Hashable, Sendable, Codable { case hard, soft }

  /// The rule.
  public let problemClass: FindingClass
  public let tier: Tier
  /// Where, relative to the run; nil for the run as a whole. Escaped for display where the name is not UTF-8.
  public let path: String?
  /// What is wrong, naming the offending text.
  public let detail: String
  /// Where inside the file, for content: `line 3` or a key path `sample.name`.
  public let location: String?
  /// What a lab operator does next.
  public let hint: String

  public init(
    _ problemClass: FindingClass, _ tier: Tier, path: String?, detail: String, location: String? = nil, hint: String
  ) {
    self.problemClass = problemClass
    self.tier = tier
    self.path = path
    self.detail = detail
    self.location = location
    self.hint = hint
  }

  private enum CodingKeys: String, CodingKey {
    case problemClass = "problem_class"
    case tier, path, detail, location, hint
  }
}
