import SyncModel

/// One mapping of a configuration file, read strictly: what is asked for is checked and marked as known, `close()` names the rest.
///
/// Every read gives a usable value, the default or an empty one where the file is wrong, so that one pass finds all that is wrong.
/// The caller throws the whole result away when the report has a problem.
struct SettingsSection {
  /// What a scalar must look like, for a message: `expected a number from 1 to 65535`.
  typealias Expectation = String

  let report: ConfigurationReport
  /// The keys from the top of the file to here.
  let path: String
  let mark: YAMLMark
  private let entries: [YAMLNode.Entry]
  private var known: [String] = []

  /// The section a node holds; an empty one, with a problem, where it holds something else.
  init(_ node: YAMLNode, path: String, report: ConfigurationReport) {
    self.report = report
    self.path = path
    self.mark = node.mark
    if case .mapping(let entries) = node.content {
      self.entries = entries
    } else {
      self.entries = []
      report.add(
        node.mark, path, "this is \(node.kind.rawValue), and a mapping of `key: value` was expected",
        hint: node.kind == .null ? "give it entries, indented below it, or remove the line" : "write `key: value` lines, indented below it")
    }
  }

  /// A section that the file does not have: every read gives its default.
  init(absentAt path: String, mark: YAMLMark, report: ConfigurationReport) {
    self.report = report
    self.path = path
    self.mark = mark
    self.entries = []
  }

  /// The full name of a key of this section.
  func name(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

  /// Whether the file has the key.
  func has(_ key: String) -> Bool { entries.contains { $0.key == key } }

  /// Where the value of a key stands, or the section where it is absent. Also of an entry of a list: `schedule[2]`, `schedule[2].from`.
  func mark(of key: String) -> YAMLMark {
    let parts = key.split(separator: "[", maxSplits: 1)
    guard let value = entries.first(where: { $0.key == parts[0] })?.value else { return mark }
    guard parts.count == 2, case .sequence(let items) = value.content else { return value.mark }
    let rest = parts[1].split(separator: "]", maxSplits: 1)
    guard let number = rest.first.flatMap({ Int($0) }), items.indices.contains(number) else { return value.mark }
    guard rest.count == 2, case .mapping(let entries) = items[number].content else { return items[number].mark }
    return entries.first { $0.key == rest[1].dropFirst() }?.value.mark ?? items[number].mark
  }

  /// Records a problem of a key.
  func fail(_ key: String, _ message: String, hint: String) { report.add(mark(of: key), name(key), message, hint: hint) }

  private mutating func take(_ key: String) -> YAMLNode? {
    known.append(key)
    return entries.first { $0.key == key }?.value
  }

  private func missing(_ key: String, _ expected: Expectation) {
    report.add(mark, name(key), "the key `\(key)` is missing; \(expected) was expected", hint: "add `\(key):` here")
  }

  private func wrong(_ node: YAMLNode, _ key: String, _ expected: Expectation) {
    let hint =
      switch node.kind {
      case .null: "give it a value or remove the line"
      case .number, .truth: "if it is meant as a text, put it in quotation marks"
      case .text where Self.isQuoted(node): "if it is meant as a number or as true or false, remove the quotation marks"
      default: "see the example that `nassync init` writes"
      }
    report.add(node.mark, name(key), "this is \(node.kind.rawValue), and \(expected) was expected", hint: hint)
  }

  private static func isQuoted(_ node: YAMLNode) -> Bool {
    if case .scalar(_, plain: false) = node.content { return true }
    return false
  }

  // MARK: Scalars

  /// A text without control characters.
  mutating func text(_ key: String, _ expected: Expectation) -> String? {
    guard let node = take(key) else { return nil }
    return text(of: node, key, expected)
  }

  /// A text that must be given.
  mutating func requiredText(_ key: String, _ expected: Expectation) -> String {
    guard has(key) else {
      known.append(key)
      missing(key, expected)
      return ""
    }
    return text(key, expected) ?? ""
  }

  private func text(of node: YAMLNode, _ key: String, _ expected: Expectation) -> String? {
    guard node.kind == .text, case .scalar(let text, _) = node.content else {
      wrong(node, key, expected)
      return nil
    }
    if text.isEmpty {
      report.add(node.mark, name(key), "this is empty, and \(expected) was expected", hint: "give it a value or remove the line")
      return nil
    }
    if text.unicodeScalars.contains(where: { $0.value < 0x20 || $0.value == 0x7f }) {
      report.add(
        node.mark, name(key), "this has a control character, and \(expected) was expected", hint: "write it on one line, without escapes")
      return nil
    }
    return text
  }

  /// `true` or `false`.
  mutating func truth(_ key: String, default fallback: Bool) -> Bool {
    guard let node = take(key) else { return fallback }
    guard node.kind == .truth, case .scalar(let text, _) = node.content else {
      wrong(node, key, "true or false")
      return fallback
    }
    return text.lowercased() == "true"
  }

  /// A whole number.
  mutating func integer(_ key: String, in range: ClosedRange<Int>, default fallback: Int) -> Int {
    guard let node = take(key) else { return fallback }
    let expected = "a whole number from \(range.lowerBound) to \(range.upperBound)"
    guard node.kind == .number, case .scalar(let text, _) = node.content else {
      wrong(node, key, expected)
      return fallback
    }
    guard let value = Int(text), range.contains(value) else {
      report.add(node.mark, name(key), "\(text) is out of range; \(expected) was expected", hint: "choose a number in that range")
      return fallback
    }
    return value
  }

  /// A decimal number.
  mutating func decimal(_ key: String, in range: ClosedRange<Double>, default fallback: Double) -> Double {
    guard let node = take(key) else { return fallback }
    let expected = "a number from \(Self.short(range.lowerBound)) to \(Self.short(range.upperBound))"
    guard node.kind == .number, case .scalar(let text, _) = node.content else {
      wrong(node, key, expected)
      return fallback
    }
    guard let value = Double(text), value.isFinite, range.contains(value) else {
      report.add(node.mark, name(key), "\(text) is out of range; \(expected) was expected", hint: "choose a number in that range")
      return fallback
    }
    return value
  }

  /// Mbit/s; nil is no limit, which is what the word `unlimited` and an absent key say.
  mutating func rate(_ key: String, zero: String?) -> Double? {
    guard let node = take(key) else { return nil }
    if case .scalar("unlimited", _) = node.content { return nil }
    let least = zero == nil ? BandwidthProfile.minimumMbps : 0
    let expected = "a rate in Mbit/s from \(Self.short(least)) to \(Self.short(BandwidthProfile.maximumMbps)), or `unlimited`,"
    guard node.kind == .number, case .scalar(let text, _) = node.content else {
      wrong(node, key, expected)
      return nil
    }
    guard let value = Double(text), value.isFinite, value >= least, BandwidthProfile.isValid(rate: value) else {
      report.add(
        node.mark, name(key), "\(text) is out of range; \(expected) was expected",
        hint: zero == nil ? "leave the key out for no limit" : "leave the key out for no limit; \(zero ?? "")")
      return nil
    }
    return value
  }

  /// Seconds, written as a number and its unit.
  mutating func duration(_ key: String, in range: ClosedRange<Double>, default fallback: Double) -> Double {
    guard let node = take(key) else { return fallback }
    return duration(of: node, name(key), in: range) ?? fallback
  }

  private func duration(of node: YAMLNode, _ place: String, in range: ClosedRange<Double>) -> Double? {
    let expected = "a time from \(DurationText.write(range.lowerBound)) to \(DurationText.write(range.upperBound))"
    let hint = "write a number and its unit: 30s, 2m, 8h or 1d"
    guard case .scalar(let text, _) = node.content, node.kind != .null else {
      report.add(node.mark, place, "this is \(node.kind.rawValue), and \(expected) was expected", hint: hint)
      return nil
    }
    guard let seconds = DurationText.read(text) else {
      report.add(node.mark, place, "`\(text)` is no time; \(expected) was expected", hint: hint)
      return nil
    }
    guard range.contains(seconds) else {
      report.add(node.mark, place, "\(text) is out of range; \(expected) was expected", hint: hint)
      return nil
    }
    return seconds
  }

  /// One of some words.
  mutating func choice<Value: RawRepresentable & CaseIterable>(_ key: String, default fallback: Value) -> Value
  where Value.RawValue == String {
    guard let node = take(key) else { return fallback }
    return choice(of: node, name(key)) ?? fallback
  }

  private func choice<Value: RawRepresentable & CaseIterable>(of node: YAMLNode, _ place: String) -> Value?
  where Value.RawValue == String {
    let words = Value.allCases.map(\.rawValue)
    guard case .scalar(let text, _) = node.content, let value = Value(rawValue: text) else {
      var found = "this is \(node.kind.rawValue)"
      var hint = "choose one of them"
      if case .scalar(let text, _) = node.content, node.kind == .text {
        found = "`\(text)` is not known here"
        if let near = Suggestion.nearest(to: text, in: words) { hint = "did you mean `\(near)`?" }
      }
      report.add(node.mark, place, "\(found); one of \(words.joined(separator: ", ")) was expected", hint: hint)
      return nil
    }
    return value
  }

  // MARK: Lists and sections

  private mutating func items(_ key: String, _ expected: Expectation, limit: Int) -> [YAMLNode]? {
    guard let node = take(key) else { return nil }
    guard case .sequence(let items) = node.content else {
      wrong(node, key, "a list of \(expected), `[…]`,")
      return []
    }
    guard items.count <= limit else {
      report.add(node.mark, name(key), "the list has \(items.count) entries, and at most \(limit) are allowed", hint: "shorten the list")
      return []
    }
    return items
  }

  /// A list of texts, nil where the key is absent.
  mutating func texts(_ key: String, _ expected: Expectation, limit: Int = 256) -> [String]? {
    guard let items = items(key, expected, limit: limit) else { return nil }
    return items.enumerated().compactMap { text(of: $1, "\(key)[\($0)]", expected) }
  }

  /// A list of times in seconds, nil where the key is absent.
  mutating func durations(_ key: String, in range: ClosedRange<Double>, limit: Int = 64) -> [Double]? {
    guard let items = items(key, "times", limit: limit) else { return nil }
    return items.enumerated().compactMap { duration(of: $1, "\(name(key))[\($0)]", in: range) }
  }

  /// A list of words out of some, nil where the key is absent.
  mutating func choices<Value: RawRepresentable & CaseIterable>(_ key: String) -> [Value]? where Value.RawValue == String {
    guard let items = items(key, Value.allCases.map(\.rawValue).joined(separator: ", "), limit: 64) else { return nil }
    return items.enumerated().compactMap { choice(of: $1, "\(name(key))[\($0)]") }
  }

  /// A section below this one; an absent one gives every default.
  mutating func section(_ key: String) -> SettingsSection {
    guard let node = take(key) else { return SettingsSection(absentAt: name(key), mark: mark, report: report) }
    return SettingsSection(node, path: name(key), report: report)
  }

  /// The sections of a mapping whose keys are names that the file chooses, in the file's order.
  mutating func namedSections(_ key: String, limit: Int) -> [(name: String, section: SettingsSection)] {
    guard let node = take(key) else { return [] }
    let all = SettingsSection(node, path: name(key), report: report)
    guard all.entries.count <= limit else {
      fail(key, "this has \(all.entries.count) entries, and at most \(limit) are allowed", hint: "remove those that are not used")
      return []
    }
    return all.entries.map { ($0.key, SettingsSection($0.value, path: all.name($0.key), report: report)) }
  }

  /// A reference to a secret; relative paths are seen from the file.
  mutating func secret(_ key: String, _ paths: ConfigurationPaths) -> SecretReference? {
    guard let text = text(key, "the place of a secret, `file:PATH`, `env:NAME` or `credential:NAME`,") else { return nil }
    guard let reference = SecretReference(text) else {
      fail(
        key, "a secret is written in a configuration file",
        hint: "remove it and change the secret; only a reference may stand in a file: `file:PATH`, `env:NAME` or `credential:NAME`")
      return nil
    }
    guard case .file(let path) = reference.place else { return reference }
    guard let absolute = paths.resolve(path) else {
      fail(key, "`\(path)` cannot be read as a path", hint: "write the whole path")
      return nil
    }
    return SecretReference("file:\(absolute)")
  }

  /// A list of sections.
  mutating func sections(_ key: String, limit: Int = 256) -> [SettingsSection] {
    let items = items(key, "mappings", limit: limit) ?? []
    return items.enumerated().map { SettingsSection($1, path: "\(name(key))[\($0)]", report: report) }
  }

  /// Names every key that nobody asked for.
  func close() {
    for entry in entries where !known.contains(entry.key) {
      if SecretReference.isSecret(key: entry.key) {
        reportSecret(entry)
        continue
      }
      let near = Suggestion.nearest(to: entry.key, in: known.filter { !has($0) }) ?? Suggestion.nearest(to: entry.key, in: known)
      let hint =
        near.map { "did you mean `\($0)`?" } ?? (known.isEmpty ? "remove it" : "known here: \(known.sorted().joined(separator: ", "))")
      report.add(entry.mark, name(entry.key), "the key `\(entry.key)` is not known here", hint: hint)
    }
  }

  /// Marks every key as known: for a section that is refused as a whole.
  mutating func ignoreRest() { known += entries.map(\.key) }

  private func reportSecret(_ entry: YAMLNode.Entry) {
    if case .scalar(let text, _) = entry.value.content, SecretReference(text) != nil {
      report.add(
        entry.mark, name(entry.key), "the key `\(entry.key)` is not known here, and no secret is used here",
        hint: "remove it; SFTP logs in with `key_file` or `agent: true`, WebDAV with `password` or `token`, S3 with `secret_access_key`")
    } else {
      report.add(
        entry.mark, name(entry.key), "a secret is written in a configuration file",
        hint: "remove it and change the secret; only a reference may stand in a file: `file:PATH`, `env:NAME` or `credential:NAME`")
    }
  }

  private static func short(_ number: Double) -> String {
    if let whole = Int(exactly: number) { return String(whole) }
    return String(number)
  }
}
