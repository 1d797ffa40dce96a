import SyncModel

/// Collects what is wrong with one file.
final class ConfigurationReport {
  let file: String
  private(set) var problems: [ConfigurationError.Problem] = []

  init(file: String) { self.file = file }

  func add(_ mark: YAMLMark?, _ keyPath: String, _ message: String, hint: String) {
    problems.append(
      ConfigurationError.Problem(
        file: file, line: mark?.line, column: mark?.column, keyPath: keyPath, message: message, hint: hint))
  }

  /// In the order of the lines; what belongs to none comes first.
  var sorted: [ConfigurationError.Problem] {
    problems.enumerated().sorted { left, right in
      let (first, second) = (left.element, right.element)
      if first.line != second.line { return (first.line ?? 0) < (second.line ?? 0) }
      if first.column != second.column { return (first.column ?? 0) < (second.column ?? 0) }
      return left.offset < right.offset
    }.map(\.element)
  }
}
