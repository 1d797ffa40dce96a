/// A place in a YAML text.
struct YAMLMark: Hashable, Sendable {
  /// From 1.
  let line: Int
  /// From 1, in characters.
  let column: Int
}

/// A YAML document as it was written: the order of the keys, the quoting and the place of everything are kept.
struct YAMLNode: Hashable, Sendable {
  /// A key of a mapping and what it holds.
  struct Entry: Hashable, Sendable {
    let key: String
    let mark: YAMLMark
    let value: YAMLNode
  }

  indirect enum Content: Hashable, Sendable {
    /// A text; plain ones (without quotes) may stand for a number, a truth value or nothing.
    case scalar(String, plain: Bool)
    case sequence([YAMLNode])
    case mapping([Entry])
  }

  /// What a plain scalar is taken for by YAML 1.2's core schema; a quoted one is always text.
  enum Kind: String, Hashable, Sendable {
    case null = "nothing"
    case truth = "true or false"
    case number = "a number"
    case text = "a text"
    case list = "a list"
    case mapping = "a mapping"
  }

  let mark: YAMLMark
  let content: Content

  var kind: Kind {
    switch content {
    case .sequence: return .list
    case .mapping: return .mapping
    case .scalar(_, plain: false): return .text
    case .scalar(let text, plain: true):
      switch text {
      case "", "~", "null", "Null", "NULL": return .null
      case "true", "True", "TRUE", "false", "False", "FALSE": return .truth
      default: return Self.looksLikeNumber(text) ? .number : .text
      }
    }
  }

  /// YAML 1.2, chapter 10.3.2: `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, hexadecimal, octal, infinity and NaN.
  private static func looksLikeNumber(_ text: String) -> Bool {
    let special: Set<String> = [".inf", ".Inf", ".INF", "-.inf", "-.Inf", "-.INF", "+.inf", "+.Inf", "+.INF", ".nan", ".NaN", ".NAN"]
    if special.contains(text) { return true }
    var rest = Array(text.utf8)[...]
    func digits() -> Int {
      let run = rest.prefix { (0x30...0x39).contains($0) }
      rest = rest.dropFirst(run.count)
      return run.count
    }
    func sign() { if rest.first == 0x2b || rest.first == 0x2d { rest = rest.dropFirst() } }
    if rest.starts(with: [0x30, 0x78]) || rest.starts(with: [0x30, 0x6f]) {
      return rest.count > 2 && Int(text.dropFirst(2), radix: 16) != nil
    }
    sign()
    var count = digits()
    if rest.first == 0x2e {
      rest = rest.dropFirst()
      count += digits()
    }
    guard count > 0 else { return false }
    if rest.first == 0x65 || rest.first == 0x45 {
      rest = rest.dropFirst()
      sign()
      guard digits() > 0 else { return false }
    }
    return rest.isEmpty
  }
}
