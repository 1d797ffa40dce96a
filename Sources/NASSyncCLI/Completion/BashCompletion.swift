extension CompletionScript {
  /// For bash 4.4 and later, without the bash-completion package.
  static func bash() -> [String] {
    let withValue = CommandTable.allOptions.filter { $0.value != nil }
    var lines = [
      "# bash completion for nassync", "_nassync() {", "  local current=${COMP_WORDS[COMP_CWORD]} command= option= word index",
      "  COMPREPLY=()",
      "  # Which command is it, and does the word before want a value? `--name=value` comes as three words.",
      "  for ((index = 1; index < COMP_CWORD; index++)); do", "    word=${COMP_WORDS[index]}", "    if [[ -n $option ]]; then",
      "      [[ $word == = ]] || option=", "      continue", "    fi", "    case $word in",
      "      \(withValue.map(long).joined(separator: "|"))) option=$word ;;", "      -* | =) ;;",
    ]
    let goesOn = (["-z $command"] + CommandTable.groups.map { "$command == \($0.word)" }).joined(separator: " || ")
    lines.append("      *) if [[ \(goesOn) ]]; then command=\"${command:+$command }$word\"; fi ;;")
    lines += [
      "    esac", "  done", "  [[ $current == = ]] && current=", "", "  local words= folders= files=", "  if [[ -n $option ]]; then",
      "    case $option in",
    ]
    for option in withValue {
      guard let value = option.value else { continue }
      lines.append("      \(long(option))) \(assignment(of: value.kind)) ;;")
    }
    lines += [
      "    esac", "  elif [[ $current == -* ]]; then", "    words='\(CommandTable.globalOptions.map(long).joined(separator: " "))'",
      "    case $command in",
    ]
    for spec in CommandTable.commands where !spec.options.isEmpty {
      lines.append("      '\(spec.name.rawValue)') words+=' \(spec.options.map(long).joined(separator: " "))' ;;")
    }
    lines += ["    esac", "  else", "    case $command in", "      '') words='\(firstWords.map(\.word).joined(separator: " "))' ;;"]
    for group in CommandTable.groups {
      lines.append("      \(group.word)) words='\(members(of: group.word).map(\.word).joined(separator: " "))' ;;")
    }
    for spec in CommandTable.commands {
      guard let kind = spec.operands.first?.kind else { continue }
      lines.append("      '\(spec.name.rawValue)') \(assignment(of: kind)) ;;")
    }
    lines += [
      "    esac", "  fi", "",
      "  # compopt refuses outside a real completion, where its effect does not matter either.",
      "  if [[ -n $words ]]; then", "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$current\")",
      "  elif [[ -n $folders ]]; then", "    compopt -o filenames 2>/dev/null", "    mapfile -t COMPREPLY < <(compgen -d -- \"$current\")",
      "  elif [[ -n $files ]]; then", "    compopt -o filenames 2>/dev/null", "    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")",
      "  fi", "}", "complete -F _nassync nassync",
    ]
    return lines
  }

  private static func assignment(of kind: WordKind) -> String {
    switch kind {
    case .file: "files=yes"
    case .folder: "folders=yes"
    case .choice(let words): "words='\(words.joined(separator: " "))'"
    case .text: ":"
    }
  }
}
