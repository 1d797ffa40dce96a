/// The exit codes of the contract.
package enum ExitCode: Int32, Hashable, Sendable {
  case done = 0
  case failed = 1
  /// Usage or configuration; also no such run, or a run outside every equipment.
  case usage = 2
  case blocked = 3
  case mismatch = 4
  case tryAgainLater = 75
}

/// The commands, by the words a user types.
package enum CommandName: String, Hashable, Sendable, CaseIterable {
  case initialize = "init"
  case check
  case gate
  case enqueue
  case drain
  case serve
  case status
  case verify
  case problems
  case retry
  case overrideAdd = "override add"
  case overrideRevoke = "override revoke"
  case overrideList = "override list"
  case cleanup
  case history
  case restore
  case recover
  case assetAdd = "asset add"
  case assetRun = "asset run"
  case assetStatus = "asset status"
  case assetList = "asset list"
  case assetAbandon = "asset abandon"
  case assetCheck = "asset check"
  case completion

  /// The words: one, or two for a command of a group.
  var words: [String] { rawValue.split(separator: " ").map(String.init) }
  /// `override` for its three commands, `asset` for its own, nil otherwise.
  var group: String? { words.count > 1 ? words.first : nil }
}

/// The options, by their names without the dashes. An option means the same, and takes a value or not, wherever it occurs.
package enum OptionName: String, Hashable, Sendable, CaseIterable {
  case config, json, quiet, help, version
  case equipment, priority, watch, all, limit
  case localOnly = "local-only"
  case allFailed = "all-failed"
  case problemClass = "class"
  case reason, path, expires
  case dryRun = "dry-run"
  case type, service, key
  case mediaType = "media-type"
}

/// What a word of the command line names: how the shell completes it.
enum WordKind: Hashable, Sendable {
  case file
  case folder
  case choice([String])
  /// Free text, an identifier or a number: nothing to complete.
  case text
}

/// An option as the table describes it.
struct OptionSpec: Sendable {
  let name: OptionName
  /// What stands for the value in the help, and what it names; nil for a flag.
  let value: (placeholder: String, kind: WordKind)?
  let summary: String
  /// Whether the command cannot do without.
  let isRequired: Bool

  /// A flag.
  init(_ name: OptionName, _ summary: String) {
    self.name = name
    value = nil
    self.summary = summary
    isRequired = false
  }

  /// An option with a value.
  init(_ name: OptionName, _ value: (placeholder: String, kind: WordKind), required: Bool = false, _ summary: String) {
    self.name = name
    self.value = value
    self.summary = summary
    isRequired = required
  }
}

/// What a command takes besides options.
struct OperandSpec: Sendable {
  let placeholder: String
  let kind: WordKind
  let minimum: Int
  /// Nil for any number.
  let maximum: Int?

  static func one(_ placeholder: String, _ kind: WordKind) -> OperandSpec {
    .init(placeholder: placeholder, kind: kind, minimum: 1, maximum: 1)
  }
  static func optional(_ placeholder: String, _ kind: WordKind) -> OperandSpec {
    .init(placeholder: placeholder, kind: kind, minimum: 0, maximum: 1)
  }
  static func several(_ placeholder: String, _ kind: WordKind, minimum: Int = 1) -> OperandSpec {
    .init(placeholder: placeholder, kind: kind, minimum: minimum, maximum: nil)
  }
}

/// A command as the table describes it: the parser, the help and the completion scripts are made from this alone.
struct CommandSpec: Sendable {
  let name: CommandName
  /// After the command's words: `RUN… [--equipment ID]`.
  let usage: String
  /// One line, for the list of commands.
  let summary: String
  /// What a user needs to know beyond that, in sentences.
  let details: String
  let operands: [OperandSpec]
  let options: [OptionSpec]
  /// The exit codes it can end with besides 0, 1 and 2, and what they mean there.
  let exitCodes: [(code: ExitCode, meaning: String)]

  init(
    _ name: CommandName, usage: String, _ summary: String, details: String, operands: [OperandSpec] = [], options: [OptionSpec] = [],
    exitCodes: [(code: ExitCode, meaning: String)] = []
  ) {
    self.name = name
    self.usage = usage
    self.summary = summary
    self.details = details
    self.operands = operands
    self.options = options
    self.exitCodes = exitCodes
  }
}
