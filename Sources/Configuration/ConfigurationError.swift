import SyncModel

/// Everything that is wrong with a configuration, as far as it could be read: a person mends it in one go.
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
  /// One thing that is wrong.
  public struct Problem: Hashable, Sendable, CustomStringConvertible {
    /// The file, nil for a configuration built in code.
    public let file: String?
    /// From 1; nil where the problem is no line's.
    public let line: Int?
    /// From 1, in characters.
    public let column: Int?
    /// The keys from the top of the file, `transport.port` or `schedule[2].from`; empty for the file as a whole.
    public let keyPath: String
    /// What is wrong and what was expected, one sentence without its full stop. Never holds a secret's text.
    public let message: String
    /// What to do next.
    public let hint: String

    /// A problem; everything but the message may be unknown.
    public init(file: String? = nil, line: Int? = nil, column: Int? = nil, keyPath: String = "", message: String, hint: String) {
      self.file = file
      self.line = line
      self.column = column
      self.keyPath = keyPath
      self.message = message
      self.hint = hint
    }

    /// `file:line:column: key: message. Hint`, as compilers write it. Safe to show.
    public var description: String {
      var place = file.map { displayText($0) } ?? ""
      if let line {
        place += ":\(line)"
        if let column { place += ":\(column)" }
      }
      let sentences = displayText(message) + ". " + displayText(hint.prefix(1).uppercased() + hint.dropFirst())
      return [place, displayText(keyPath), sentences].filter { !$0.isEmpty }.joined(separator: ": ")
    }
  }

  /// At least one, in the order of the files and their lines.
  public let problems: [Problem]

  /// - Parameter problems: At least one.
  public init(_ problems: [Problem]) { self.problems = problems }

  /// One problem a line.
  public var description: String { problems.map(\.description).joined(separator: "\n") }
}
