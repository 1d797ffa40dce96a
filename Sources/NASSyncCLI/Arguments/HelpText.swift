/// What `--help` prints, made from the table.
enum HelpText {
  static func overview() -> String {
    var lines = [
      "NASSync checks finished instrument runs, queues them, sends them to a NAS and proves that they arrived.", "",
      "Usage: nassync [--config FILE] [--json] [--quiet] COMMAND", "", "Commands:",
    ]
    var groupsShown: Set<String> = []
    var rows: [(String, String)] = []
    for spec in CommandTable.commands {
      if let group = spec.name.group {
        guard groupsShown.insert(group).inserted, let described = CommandTable.groups.first(where: { $0.word == group }) else { continue }
        let members = CommandName.allCases.filter { $0.group == group }.compactMap(\.words.last)
        rows.append(("\(group) \(members.joined(separator: "|"))", described.summary))
      } else {
        rows.append((spec.name.rawValue, spec.summary))
      }
    }
    lines += columns(rows)
    lines += ["", "Options:"] + columns(CommandTable.globalOptions.map(row))
    lines += ["", "Exit codes:"] + columns(allExitCodes.map { (String($0.code.rawValue), $0.meaning) })
    lines += ["Of several runs the most serious counts, in the order 2, 1, 4, 3, 75."]
    lines += ["", "`nassync COMMAND --help` says more about one of them."]
    return lines.joined(separator: "\n")
  }

  static func help(for spec: CommandSpec) -> String {
    var lines = [usage(of: spec), "", spec.summary.prefix(1).uppercased() + spec.summary.dropFirst() + ".", ""]
    lines += wrapped(spec.details, to: 96)
    if !spec.options.isEmpty { lines += ["", "Options:"] + columns(spec.options.map(row)) }
    lines += ["", "Options of every command:"] + columns(CommandTable.globalOptions.map(row))
    let codes = allExitCodes.prefix(3).map { ($0.code, $0.meaning) } + spec.exitCodes.map { ($0.code, $0.meaning) }
    lines += ["", "Exit codes:"] + columns(codes.map { (String($0.0.rawValue), $0.1) })
    return lines.joined(separator: "\n")
  }

  static func help(forGroup group: String) -> String {
    let summary = CommandTable.groups.first { $0.word == group }?.summary ?? ""
    let members = CommandTable.commands.filter { $0.name.group == group }
    var lines = [usage(ofGroup: group), "", summary.prefix(1).uppercased() + summary.dropFirst() + ".", "", "Commands:"]
    lines += columns(members.map { ($0.name.rawValue, $0.summary) })
    lines += ["", "`nassync \(group) COMMAND --help` says more about one of them."]
    return lines.joined(separator: "\n")
  }

  /// How to use the command, and where to read more.
  static func hint(_ spec: CommandSpec?) -> String {
    guard let spec else { return "Usage: nassync [--config FILE] [--json] [--quiet] COMMAND\n`nassync --help` lists the commands." }
    return "\(usage(of: spec))\n`nassync \(spec.name.rawValue) --help` says more."
  }

  static func usage(of spec: CommandSpec) -> String {
    "Usage: nassync \(spec.name.rawValue)" + (spec.usage.isEmpty ? "" : " " + spec.usage)
  }

  static func usage(ofGroup group: String) -> String {
    let members = CommandTable.commands.filter { $0.name.group == group }
    return members.enumerated().map { ($0.offset == 0 ? "Usage: " : "       ") + usage(of: $0.element).dropFirst("Usage: ".count) }
      .joined(separator: "\n")
  }

  private static let allExitCodes: [(code: ExitCode, meaning: String)] = [
    (.done, "done"), (.failed, "something failed"), (.usage, "the command line or the configuration is wrong, or there is no such run"),
    (.blocked, "the gate blocks a run"), (.mismatch, "a file differs from its manifest"), (.tryAgainLater, "not now; try again later"),
  ]

  private static func row(_ option: OptionSpec) -> (String, String) {
    (
      "--" + option.name.rawValue + (option.value.map { " " + $0.placeholder } ?? ""),
      option.summary + (option.isRequired ? " (required)" : "")
    )
  }

  /// The text in lines of at most `width` characters, broken at blanks.
  private static func wrapped(_ text: String, to width: Int) -> [String] {
    text.split(separator: " ").reduce(into: [""]) { lines, word in
      let last = lines.count - 1
      if lines[last].isEmpty {
        lines[last] = String(word)
      } else if lines[last].count + 1 + word.count <= width {
        lines[last] += " " + word
      } else {
        lines.append(String(word))
      }
    }
  }

  /// Two columns, the second aligned.
  private static func columns(_ rows: [(String, String)]) -> [String] {
    let width = rows.map(\.0.count).max() ?? 0
    return rows.map { "  " + $0.0 + String(repeating: " ", count: width - $0.0.count + 2) + $0.1 }
  }
}
