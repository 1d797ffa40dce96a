import SyncModel

/// What a destination makes of names, found by making some and looking at what came of them. Nil: could not be found out.
public struct DestinationNames: Hashable, Sendable, Codable {
  /// Whether two names that differ only in case are one there.
  public var foldsCase: Bool?
  /// Whether two names that differ only in their Unicode normalisation form are one there.
  public var foldsNormalization: Bool?
  /// Bytes of the longest name, at most 255; nil where not even a short one could be told.
  public var maxNameBytes: Int?
  /// Bytes of the longest path below the root; nil where none was found up to `pathBytesTried`.
  public var maxPathBytes: Int?
  /// What a name must not have there. A name that comes back from a listing with other bytes counts as refused.
  public var refused: [NameTrait]
  /// Names that are held although they have a trait of `refused`: the driver asks for them by themselves.
  public var excepted: [String]?
  /// Whether symbolic links can be made.
  public var holdsSymlinks: Bool?

  /// How long a path below the root a driver tries at most.
  public static let pathBytesTried = 4096

  /// Takes the values as they are.
  public init(
    foldsCase: Bool? = nil, foldsNormalization: Bool? = nil, maxNameBytes: Int? = nil, maxPathBytes: Int? = nil, refused: [NameTrait] = [],
    excepted: [String]? = nil, holdsSymlinks: Bool? = nil
  ) {
    self.foldsCase = foldsCase
    self.foldsNormalization = foldsNormalization
    self.maxNameBytes = maxNameBytes
    self.maxPathBytes = maxPathBytes
    self.refused = refused
    self.excepted = excepted
    self.holdsSymlinks = holdsSymlinks
  }

  private enum CodingKeys: String, CodingKey {
    case foldsCase = "folds_case"
    case foldsNormalization = "folds_normalization"
    case maxNameBytes = "max_name_bytes"
    case maxPathBytes = "max_path_bytes"
    case refused, excepted
    case holdsSymlinks = "holds_symlinks"
  }
}

extension DestinationNames {
  /// One sentence for each answer, for `nassync check`.
  public var lines: [DestinationProbe.Line] {
    func line(_ name: String, _ grade: DestinationProbe.Line.Grade, _ detail: String) -> DestinationProbe.Line {
      DestinationProbe.Line(name: name, grade: grade, detail: detail)
    }
    var lines: [DestinationProbe.Line] = []
    switch maxNameBytes {
    case .some(let longest):
      lines.append(line("name_length", longest < 255 ? .limited : .good, "names may have up to \(longest) bytes"))
    case nil: lines.append(line("name_length", .limited, "how long names may be could not be found out; 255 bytes are assumed"))
    }
    if let maxPathBytes {
      lines.append(
        line("path_length", maxPathBytes < 1024 ? .limited : .good, "paths below remote_root may have up to \(maxPathBytes) bytes"))
    } else {
      lines.append(line("path_length", .good, "paths below remote_root may have \(Self.pathBytesTried) bytes and more"))
    }
    switch foldsCase {
    case true?: lines.append(line("case", .limited, "upper and lower case are one: Data and data would be the same file"))
    case false?: lines.append(line("case", .good, "upper and lower case are told apart"))
    case nil: lines.append(line("case", .limited, "whether upper and lower case are one could not be found out; it is assumed"))
    }
    switch foldsNormalization {
    case true?: lines.append(line("normalization", .limited, "NFC and NFD spellings of a name are one"))
    case false?: lines.append(line("normalization", .good, "NFC and NFD spellings of a name are told apart"))
    case nil:
      lines.append(line("normalization", .limited, "whether NFC and NFD spellings of a name are one could not be found out; it is assumed"))
    }
    let characters = refused.compactMap { if case .character(let byte) = $0 { displayText(of: [byte]) } else { nil } }
    var words = refused.filter { if case .character = $0 { false } else { true } }.map(\.description)
    if !characters.isEmpty { words.insert("the characters \(characters.joined(separator: " "))", at: 0) }
    lines.append(
      words.isEmpty
        ? line("refused_names", .good, "no kind of name that was tried is refused")
        : line(
          "refused_names", .limited, "names are refused, changed or not listed that have \(words.joined(separator: ", "))\(exceptions)"))
    return lines
  }

  private var exceptions: String {
    guard let excepted, !excepted.isEmpty else { return "" }
    return "; not so \(excepted.map { displayText($0) }.joined(separator: ", "))"
  }
}
