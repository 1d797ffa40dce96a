import SyncModel

/// What the destination can hold.
public struct DestinationLimits: Hashable, Sendable, Codable {
  /// Whether the destination was asked. Where it was not, the other values are careful assumptions.
  public var isKnown: Bool
  /// Bytes of one name.
  public var maxSegmentBytes: Int
  /// Bytes of a path below `remote_root`, the run's own place included; nil where there is no such limit.
  public var maxPathBytes: Int?
  /// Whether two names that differ only in case are one there.
  public var foldsCase: Bool
  /// Whether two names that differ only in their Unicode normalisation form are one there.
  public var foldsNormalization: Bool
  /// What a name must not have there, beside what no destination should be given.
  public var refused: [NameTrait]
  /// Names that are held there although they have one of these traits.
  public var excepted: [String]?
  /// Whether symbolic links can be made there.
  public var holdsSymlinks: Bool
  /// Names that a destination of this kind is never given, whatever it says of itself and whatever an override says.
  public var withheld: [WithheldName]
  /// Bytes of the folder name that a run has while it is being sent, beside its final place: paths must fit below both.
  public var stagingNameBytes: Int

  /// The defaults are those of a NAS about which nothing is known: 255 bytes a name, and shared to Windows and macOS.
  public init(
    isKnown: Bool = false, maxSegmentBytes: Int = 255, maxPathBytes: Int? = nil, foldsCase: Bool = true, foldsNormalization: Bool = true,
    refused: [NameTrait] = [], excepted: [String]? = nil, holdsSymlinks: Bool = true,
    withheld: [WithheldName] = [], stagingNameBytes: Int = 0
  ) {
    self.isKnown = isKnown
    self.maxSegmentBytes = maxSegmentBytes
    self.maxPathBytes = maxPathBytes
    self.foldsCase = foldsCase
    self.foldsNormalization = foldsNormalization
    self.refused = refused
    self.excepted = excepted
    self.holdsSymlinks = holdsSymlinks
    self.withheld = withheld
    self.stagingNameBytes = stagingNameBytes
  }

  private enum CodingKeys: String, CodingKey {
    case isKnown = "is_known"
    case maxSegmentBytes = "max_segment_bytes"
    case maxPathBytes = "max_path_bytes"
    case foldsCase = "folds_case"
    case foldsNormalization = "folds_normalization"
    case refused, excepted
    case holdsSymlinks = "holds_symlinks"
    case withheld = "withheld_names"
    case stagingNameBytes = "staging_name_bytes"
  }

  /// What of a name the destination does not hold; nil where it holds the name.
  func refusal(of name: ArraySlice<UInt8>, apartFrom others: (NameTrait) -> Bool = { _ in false }) -> NameTrait? {
    guard let trait = refused.first(where: { !others($0) && $0.applies(to: name) }) else { return nil }
    return excepted?.contains { name.elementsEqual($0.utf8) } == true ? nil : trait
  }

  /// What to do about two names that are one on the destination.
  var collisionHint: String {
    isKnown
      ? "Rename one of them; the NAS keeps only one of the two."
      : "Rename one of them; the NAS may keep only one of the two. Whether it does, `nassync check` asks it."
  }
}
