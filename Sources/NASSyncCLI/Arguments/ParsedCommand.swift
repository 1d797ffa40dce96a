import SyncModel

/// A shell that a completion script is made for.
package enum CompletionShell: String, Hashable, Sendable, CaseIterable { case bash, zsh, fish }

/// Which runs a command is about.
package enum RunSelection: Hashable, Sendable {
  /// The paths as typed, at least one.
  case runs([String])
  /// `--all` of `verify`, `--all-failed` of `retry`.
  case all
}

/// When an override ends.
package enum OverrideExpiry: Hashable, Sendable {
  /// Seconds since 1970.
  case at(Int64)
  /// Seconds from the moment the override is recorded.
  case after(Int64)
}

/// Options that every command takes.
package struct GlobalOptions: Hashable, Sendable {
  /// The path as typed, nil where `--config` was not given.
  package var config: String?
  package var json = false
  package var quiet = false
  package init(config: String? = nil, json: Bool = false, quiet: Bool = false) {
    self.config = config
    self.json = json
    self.quiet = quiet
  }
}

/// A command with what it needs, checked as far as that is possible without looking at anything but the words.
package enum Command: Hashable, Sendable {
  case initialize(directory: String?)
  case check(equipment: String?)
  case gate(runs: [String], equipment: String?)
  case enqueue(runs: [String], equipment: String?, priority: Int)
  case drain
  case serve
  /// `limit`: how many runs of a queue are listed; nil where nothing was said.
  case status(run: String?, watch: Bool, limit: Int?)
  case verify(RunSelection, localOnly: Bool)
  case problems
  case retry(RunSelection)
  case overrideAdd(
    run: String, problemClass: FindingClass, reason: String, path: RelativePath?, expires: OverrideExpiry?, equipment: String? = nil)
  case overrideRevoke(run: String, id: String, reason: String, equipment: String? = nil)
  case overrideList(run: String, equipment: String? = nil)
  case history(run: String, equipment: String? = nil)
  /// No runs: one pass over all of them.
  case cleanup(runs: [String], dryRun: Bool)
  case restore(run: String, destination: String, equipment: String?)
  case recover(runs: [String], equipment: String?, dryRun: Bool)
  case assetAdd(files: [String], type: String, service: String? = nil, key: String? = nil, mediaType: String? = nil)
  /// No numbers: all that are open.
  case assetRun(numbers: [Int64])
  case assetStatus(number: Int64)
  case assetList(all: Bool)
  case assetAbandon(number: Int64)
  case assetCheck(service: String?)
  case completion(CompletionShell)
  /// The text to print on standard output.
  case help(String)
  case version
}

/// What a command line says.
package struct ParsedCommand: Hashable, Sendable {
  package let command: Command
  package let options: GlobalOptions
}

/// A command line that cannot be understood. Exit code 2.
package struct UsageError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What is wrong, as a sentence without a full stop.
  package let message: String
  /// What was probably meant.
  package let suggestion: String?
  /// How the command is used, one line or the whole overview.
  package let usage: String

  /// All of it, for standard error, without a trailing newline.
  package var description: String {
    var lines = ["nassync: \(message)"]
    if let suggestion { lines.append("Did you mean \(suggestion)?") }
    lines.append(usage)
    return lines.joined(separator: "\n")
  }
}
