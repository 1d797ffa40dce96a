extension CompletionScript {
  /// For fish 3 and later.
  static func fish() -> [String] {
    var lines = [
      "# fish completion for nassync", "complete -c nassync -f", "",
      "# Whether the words typed so far, without options and their values, are exactly these, or start with them.",
      "function __nassync_words", "  set -l skip 0", "  for word in (commandline -opc)[2..-1]", "    if test $skip -eq 1",
      "      set skip 0",
      "      continue", "    end", "    switch $word",
      "      case \(CommandTable.allOptions.filter { $0.value != nil }.map(long).joined(separator: " "))", "        set skip 1",
      "      case '-*'", "      case '*'", "        echo $word", "    end", "  end", "end", "function __nassync_at",
      "  test \"$(__nassync_words | string join ' ')\" = \"$argv\"", "end", "function __nassync_in", "  set -l words (__nassync_words)",
      "  test (count $words) -ge (count $argv); and test \"$words[1..$(count $argv)]\" = \"$argv\"", "end", "",
    ]
    lines += CommandTable.globalOptions.map { option($0, condition: nil) }
    lines += firstWords.map { "complete -c nassync -n '__nassync_at' -a \($0.word) -d '\(quoted($0.summary))'" }
    for group in CommandTable.groups {
      lines += members(of: group.word).map {
        "complete -c nassync -n '__nassync_at \(group.word)' -a \($0.word) -d '\(quoted($0.summary))'"
      }
    }
    for spec in CommandTable.commands {
      let condition = "__nassync_in \(spec.name.rawValue)"
      lines += spec.options.map { option($0, condition: condition) }
      switch spec.operands.first?.kind {
      case .folder: lines.append("complete -c nassync -n '\(condition)' -a '(__fish_complete_directories)'")
      case .file: lines.append("complete -c nassync -n '\(condition)' -F")
      case .choice(let words): lines.append("complete -c nassync -n '\(condition)' -a '\(words.joined(separator: " "))'")
      case .text, nil: break
      }
    }
    return lines
  }

  private static func option(_ option: OptionSpec, condition: String?) -> String {
    var words = ["complete -c nassync"]
    if let condition { words.append("-n '\(condition)'") }
    words.append("-l \(option.name.rawValue)")
    switch option.value?.kind {
    case .file: words.append("-r -F")
    case .folder: words.append("-x -a '(__fish_complete_directories)'")
    case .choice(let choices): words.append("-x -a '\(choices.joined(separator: " "))'")
    case .text: words.append("-x")
    case nil: break
    }
    words.append("-d '\(quoted(option.summary))'")
    return words.joined(separator: " ")
  }

  private static func quoted(_ text: String) -> String {
    text.reduce(into: "") { $0 += $1 == "'" || $1 == "\\" ? "\\\($1)" : String($1) }
  }
}
