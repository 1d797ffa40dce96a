/// The name of a gate rule. The built-in ones are constants here; an external validator may bring its own.
public struct FindingClass: RawRepresentable, Hashable, Sendable, Codable, CustomStringConvertible {
  /// As `--json`, records and overrides spell it.
  public let rawValue: String
  /// Any name: an external validator brings its own.
  public init(rawValue: String) { self.rawValue = rawValue }
  private init(_ rawValue: String) { self.rawValue = rawValue }
  /// Safe to show.
  public var description: String { rawValue }

  /// Text such as `<sample_id>` that a template left in a name or a text file.
  public static let unresolvedPlaceholderToken = FindingClass("unresolved_placeholder_token")
  /// `{{ … }}` or `{% … %}` that a template left.
  public static let leftoverJinjaMarker = FindingClass("leftover_jinja_marker")
  /// A character that Windows or macOS shares refuse.
  public static let illegalFilesystemCharacter = FindingClass("illegal_filesystem_character")
  /// A device name of Windows: CON, NUL, COM1 …
  public static let reservedFilesystemName = FindingClass("reserved_filesystem_name")
  /// The record's `run_kind`, the parent folder and the leaf's prefix do not agree.
  public static let modePrefixMismatch = FindingClass("mode_prefix_mismatch")
  /// A name whose bytes are no UTF-8.
  public static let nameNotUTF8 = FindingClass("name_not_utf8")
  /// A name over 255 bytes, or a path over what the destination holds.
  public static let pathTooLong = FindingClass("path_too_long")
  /// Two names that differ in case only.
  public static let caseCollision = FindingClass("case_collision")
  /// Two names that differ in their Unicode normalisation form only.
  public static let normalizationCollision = FindingClass("normalization_collision")
  /// A symbolic link that leads out of the run.
  public static let symlinkEscapesRun = FindingClass("symlink_escapes_run")
  /// A socket, FIFO or device.
  public static let specialFile = FindingClass("special_file")
  /// A file or folder that this user may not read.
  public static let unreadableFile = FindingClass("unreadable_file")
  /// A record that exists and cannot be read.
  public static let malformedRecord = FindingClass("malformed_record")
  /// A run without a single component.
  public static let emptyRun = FindingClass("empty_run")
  /// A file that was published and is another one now.
  public static let changedAfterSync = FindingClass("changed_after_sync")
  /// A check that did not finish.
  public static let validatorFailed = FindingClass("validator_failed")
  /// A run without a record.
  public static let orphan = FindingClass("orphan")
  /// A field that the lab asks for and the record lacks.
  public static let missingRequiredField = FindingClass("missing_required_field")
  /// Front matter of a Markdown file that is no YAML.
  public static let malformedYAMLFrontMatter = FindingClass("malformed_yaml_front_matter")
  /// A file of 0 bytes.
  public static let emptyFile = FindingClass("empty_file")
  /// A revocation of an override that the record does not have.
  public static let unknownOverride = FindingClass("unknown_override")
  /// An entry of the override ledger that does not follow from the one before it.
  public static let overrideLedgerBroken = FindingClass("override_ledger_broken")

  /// Every class that the built-in rules know.
  public static let builtIn: [FindingClass] = [
    .unresolvedPlaceholderToken, .leftoverJinjaMarker, .illegalFilesystemCharacter, .reservedFilesystemName, .modePrefixMismatch,
    .nameNotUTF8, .pathTooLong, .caseCollision, .normalizationCollision, .symlinkEscapesRun, .specialFile, .unreadableFile,
    .malformedRecord, .emptyRun, .changedAfterSync, .orphan, .missingRequiredField, .malformedYAMLFrontMatter, .emptyFile, .unknownOverride,
    .overrideLedgerBroken,
  ]

  /// Classes that no override lets through: the gate could not know what it lets through, or there would be nothing to send and to prove.
  public static let withoutOverride: Set<FindingClass> = [.nameNotUTF8, .malformedRecord, .validatorFailed, .emptyRun]

  /// Those, and the classes where an override would only put the failure off: what is published is never overwritten, and neither a pipe nor a
  /// file that cannot be read can be sent.
  public static let overrideIsVain: Set<FindingClass> = withoutOverride.union([.changedAfterSync, .specialFile, .unreadableFile])

  /// Why no override lets the class through, as a sentence's second half; nil for classes that one can let through.
  public var whyNoOverride: String? {
    switch self {
    case .nameNotUTF8: "neither the record nor the NAS could spell the name"
    case .malformedRecord: "the overrides themselves stand in the record"
    case .validatorFailed: "nobody knows what it would let pass"
    case .emptyRun: "there would be nothing to send, and nothing is ever proven of nothing"
    default: nil
    }
  }
}

/// What a gate rule says about a run.
public struct Finding: Hashable, Sendable, Codable {
  /// A hard finding blocks the run unless an override of its class is active; a soft one informs.
  public enum Tier: String, Hashable, Sendable, Codable { case hard, soft }

  /// The rule.
  public let problemClass: FindingClass
  /// Whether it blocks.
  public let tier: Tier
  /// Where, relative to the run; nil for the run as a whole. Escaped for display where the name is not UTF-8.
  public let path: String?
  /// What is wrong, naming the offending text.
  public let detail: String
  /// Where inside the file, for content: `line 3` or a key path `sample.name`.
  public let location: String?
  /// What a lab operator does next.
  public let hint: String
  /// The lab's own program that said it; nil for the built-in rules.
  public let validator: String?
  /// Whether no override lets it pass: every finding of some classes, single ones of others.
  public let isFinal: Bool

  /// Takes the values as they are. A finding of a class that no override lets through is final whatever is said.
  public init(
    _ problemClass: FindingClass, _ tier: Tier, path: String?, detail: String, location: String? = nil, hint: String,
    validator: String? = nil, isFinal: Bool = false
  ) {
    self.problemClass = problemClass
    self.tier = tier
    self.path = path
    self.detail = detail
    self.location = location
    self.hint = hint
    self.validator = validator
    self.isFinal = isFinal || FindingClass.withoutOverride.contains(problemClass)
  }

  /// Whether an override would let the run no further: none counts, or the sending would fail all the same.
  public var overrideIsVain: Bool { isFinal || FindingClass.overrideIsVain.contains(problemClass) }

  private enum CodingKeys: String, CodingKey {
    case problemClass = "problem_class"
    case tier, path, detail, location, hint, validator
    case isFinal = "final"
  }

  /// As `encode(to:)` writes it. What an earlier version kept of a blocked run does not say whether it is final.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      try container.decode(FindingClass.self, forKey: .problemClass), try container.decode(Tier.self, forKey: .tier),
      path: try container.decodeIfPresent(String.self, forKey: .path), detail: try container.decode(String.self, forKey: .detail),
      location: try container.decodeIfPresent(String.self, forKey: .location), hint: try container.decode(String.self, forKey: .hint),
      validator: try container.decodeIfPresent(String.self, forKey: .validator),
      isFinal: try container.decodeIfPresent(Bool.self, forKey: .isFinal) ?? false)
  }
}
