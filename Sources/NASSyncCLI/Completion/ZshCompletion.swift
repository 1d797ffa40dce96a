extension CompletionScript {
  /// For zsh's own completion system: a function file named `_nassync`, or evaluated after `compinit`.
  static func zsh() -> [String] {
    var lines = [
      "#compdef nassync", "# zsh completion for nassync", "_nassync() {", "  local curcontext=$curcontext state line",
      "  typeset -A opt_args", "  local -a options=(",
    ]
    lines += CommandTable.globalOptions.map { "    \(specification($0))" }
    lines += ["  )", "  _arguments -C $options '1:command:->command' '*::argument:->argument'", "  case $state in", "    command)"]
    lines += described(firstWords, "command", indent: "      ")
    lines += ["      ;;", "    argument)", "      case $words[1] in"]
    for spec in CommandTable.commands where spec.name.group == nil {
      lines += ["        \(spec.name.rawValue))"] + arguments(of: spec, indent: "          ") + ["          ;;"]
    }
    for group in CommandTable.groups {
      lines += [
        "        \(group.word))", "          _arguments -C $options '1:command:->member' '*::argument:->rest'", "          case $state in",
        "            member)",
      ]
      lines += described(members(of: group.word), "command", indent: "              ")
      lines += ["              ;;", "            rest)", "              case $words[1] in"]
      for spec in CommandTable.commands where spec.name.group == group.word {
        lines +=
          ["                \(spec.name.words.last ?? ""))"] + arguments(of: spec, indent: "                  ") + ["                  ;;"]
      }
      lines += ["              esac", "              ;;", "          esac", "          ;;"]
    }
    lines += [
      "      esac", "      ;;", "  esac", "}", "# Called by the completion system when autoloaded; registered when evaluated.",
      "if [[ $funcstack[1] == _nassync ]]; then", "  _nassync \"$@\"", "else", "  compdef _nassync nassync", "fi",
    ]
    return lines
  }

  private static func described(_ entries: [(word: String, summary: String)], _ tag: String, indent: String) -> [String] {
    ["\(indent)local -a entries=("] + entries.map { "\(indent)  '\($0.word):\(quoted($0.summary))'" }
      + ["\(indent))", "\(indent)_describe \(tag) entries"]
  }

  private static func arguments(of spec: CommandSpec, indent: String) -> [String] {
    var words = ["_arguments $options"] + spec.options.map(specification)
    for (index, operand) in spec.operands.enumerated() {
      let position = operand.maximum == nil ? "*" : operand.minimum == 0 ? "\(index + 1):" : "\(index + 1)"
      words.append("'\(position):\(operand.placeholder):\(action(operand.kind))'")
    }
    return [indent + words.joined(separator: " \\\n\(indent)  ")]
  }

  private static func specification(_ option: OptionSpec) -> String {
    guard let value = option.value else { return "'\(long(option))[\(quoted(option.summary))]'" }
    return "'\(long(option))=[\(quoted(option.summary))]:\(value.placeholder):\(action(value.kind))'"
  }

  private static func action(_ kind: WordKind) -> String {
    switch kind {
    case .file: "_files"
    case .folder: "_files -/"
    case .choice(let words): "(\(words.joined(separator: " ")))"
    case .text: " "
    }
  }

  /// Inside single quotes, where brackets and colons mean something to `_arguments`.
  private static func quoted(_ text: String) -> String {
    var result = ""
    for character in text {
      switch character {
      case "'": result += "'\\''"
      case "[", "]", ":", "\\": result += "\\\(character)"
      default: result.append(character)
      }
    }
    return result
  }
}
