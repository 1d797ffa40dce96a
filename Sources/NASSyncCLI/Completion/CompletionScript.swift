/// Scripts that complete `nassync` in a shell, made from the command table.
package enum CompletionScript {
  /// The script, ending with a newline.
  package static func text(for shell: CompletionShell) -> String {
    let lines =
      switch shell {
      case .bash: bash()
      case .zsh: zsh()
      case .fish: fish()
      }
    return lines.joined(separator: "\n") + "\n"
  }

  /// The first words of the commands, each once, with their summaries.
  static let firstWords: [(word: String, summary: String)] = {
    var seen: Set<String> = []
    return CommandTable.commands.compactMap { spec in
      guard let word = spec.name.words.first, seen.insert(word).inserted else { return nil }
      return (word, CommandTable.groups.first { $0.word == word }?.summary ?? spec.summary)
    }
  }()

  /// The second words of a group, with their summaries.
  static func members(of group: String) -> [(word: String, summary: String)] {
    CommandTable.commands.compactMap { spec in
      guard spec.name.group == group, let word = spec.name.words.last else { return nil }
      return (word, spec.summary)
    }
  }

  static func long(_ option: OptionSpec) -> String { "--" + option.name.rawValue }
}
