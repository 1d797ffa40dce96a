import SyncModel

/// Reads a command line. Pure: nothing is looked up, nothing is printed.
///
/// GNU style: options before or after the operands, `--name value` or `--name=value`, `--` ends the options. An option that takes a value
/// takes the next word whatever it looks like, so that `--reason --` and `--priority -5` can be said.
package enum Arguments {
  /// The words that the process was started with, without the program's name.
  /// - Throws: `UsageError` where a word is not UTF-8: it would be changed silently, and name another file or none.
  package static func ofProcess() throws(UsageError) -> [String] {
    var words: [String] = []
    for index in 1..<max(1, Int(CommandLine.argc)) {
      guard let pointer = CommandLine.unsafeArgv[index] else { break }
      guard let word = String(validatingCString: pointer) else {
        let shown = displayText(of: UnsafeBufferPointer(start: pointer, count: length(of: pointer)).map { UInt8(bitPattern: $0) })
        throw UsageError(message: "\(shown) is not UTF-8, and such names cannot be synced", suggestion: nil, usage: HelpText.hint(nil))
      }
      words.append(word)
    }
    return words
  }

  private static func length(of text: UnsafePointer<CChar>) -> Int {
    var count = 0
    while text[count] != 0 { count += 1 }
    return count
  }

  /// - Parameter words: Without the program's name.
  package static func parse(_ words: [String]) throws(UsageError) -> ParsedCommand {
    let scanned = try scan(words)
    if scanned.flags.contains(.version) { return ParsedCommand(command: .version, options: scanned.globals) }
    if scanned.flags.contains(.help) { return ParsedCommand(command: .help(try helpText(for: scanned)), options: scanned.globals) }
    let spec = try command(of: scanned)
    try validate(scanned, against: spec)
    return ParsedCommand(command: try Arguments.command(spec, scanned), options: scanned.globals)
  }

  /// The words sorted into what they are, before the command's own rules apply.
  private struct Scanned {
    /// What is neither option nor value, in order: the command's words come first.
    var plain: [String] = []
    var flags: Set<OptionName> = []
    var values: [OptionName: String] = [:]
    var order: [OptionName] = []

    var globals: GlobalOptions {
      GlobalOptions(config: values[.config], json: flags.contains(.json), quiet: flags.contains(.quiet))
    }

    /// The command as far as it is known; nil before it was said or where it does not exist.
    var spec: CommandSpec? {
      CommandTable.commands.first { plain.starts(with: $0.name.words) }
    }

    /// What follows the command's words.
    func operands(of spec: CommandSpec) -> [String] { Array(plain.dropFirst(spec.name.words.count)) }
  }

  private static func scan(_ words: [String]) throws(UsageError) -> Scanned {
    var scanned = Scanned()
    var rest = words[...]
    var optionsEnded = false
    while let word = rest.popFirst() {
      if optionsEnded || !word.hasPrefix("-") || word == "-" {
        scanned.plain.append(word)
      } else if word == "--" {
        optionsEnded = true
      } else {
        try take(word, &rest, into: &scanned)
      }
    }
    return scanned
  }

  private static func take(_ word: String, _ rest: inout ArraySlice<String>, into scanned: inout Scanned) throws(UsageError) {
    let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    let typed = parts.first.map(String.init) ?? word
    let attached = parts.count > 1 ? String(parts[1]) : nil
    let name = typed == "-h" ? OptionName.help : typed.hasPrefix("--") ? OptionName(rawValue: String(typed.dropFirst(2))) : nil
    guard let name, let option = CommandTable.anyOption(name) else {
      // Options of the command, where it is known already; else any.
      let known = scanned.spec.map { CommandTable.globalOptions + $0.options } ?? CommandTable.allOptions
      throw UsageError(
        message: "there is no option \(displayText(typed))",
        suggestion: Spelling.nearest(to: typed, among: known.map { "--" + $0.name.rawValue }), usage: HelpText.hint(scanned.spec))
    }
    guard let value = option.value else {
      if attached != nil { throw error("--\(name.rawValue) takes no value", scanned.spec) }
      scanned.flags.insert(name)
      scanned.order.append(name)
      return
    }
    guard let given = attached ?? rest.popFirst() else {
      throw error("--\(name.rawValue) needs a value: --\(name.rawValue) \(value.placeholder)", scanned.spec)
    }
    guard scanned.values[name] == nil else { throw error("--\(name.rawValue) is given twice", scanned.spec) }
    scanned.values[name] = given
    scanned.order.append(name)
  }

  private static func helpText(for scanned: Scanned) throws(UsageError) -> String {
    if let spec = scanned.spec { return HelpText.help(for: spec) }
    guard let first = scanned.plain.first else { return HelpText.overview() }
    if CommandTable.groups.contains(where: { $0.word == first }) { return HelpText.help(forGroup: first) }
    throw unknownCommand(scanned.plain)
  }

  private static func command(of scanned: Scanned) throws(UsageError) -> CommandSpec {
    if let spec = scanned.spec { return spec }
    if scanned.plain.isEmpty { throw UsageError(message: "no command is given", suggestion: nil, usage: HelpText.overview()) }
    throw unknownCommand(scanned.plain)
  }

  private static func unknownCommand(_ plain: [String]) -> UsageError {
    let first = plain.first ?? ""
    if CommandTable.groups.contains(where: { $0.word == first }) {
      let members = CommandName.allCases.filter { $0.group == first }.compactMap(\.words.last)
      let choices = members.joined(separator: ", ")
      guard let second = plain.dropFirst().first else {
        return UsageError(message: "\(first) needs one of \(choices)", suggestion: nil, usage: HelpText.usage(ofGroup: first))
      }
      return UsageError(
        message: "there is no command \(first) \(displayText(second))",
        suggestion: Spelling.nearest(to: second, among: members).map { "\(first) \($0)" }, usage: HelpText.usage(ofGroup: first))
    }
    let known = CommandName.allCases.filter { $0.group == nil }.map(\.rawValue) + CommandTable.groups.map(\.word)
    let suggestion = first == "help" ? "--help" : Spelling.nearest(to: first, among: known)
    return UsageError(message: "there is no command \(displayText(first))", suggestion: suggestion, usage: HelpText.hint(nil))
  }

  private static func validate(_ scanned: Scanned, against spec: CommandSpec) throws(UsageError) {
    let known = Set((CommandTable.globalOptions + spec.options).map(\.name))
    if let stranger = scanned.order.first(where: { !known.contains($0) }) {
      throw error("\(spec.name.rawValue) takes no option --\(stranger.rawValue)", spec)
    }
    let operands = scanned.operands(of: spec)
    if operands.contains("") { throw error("an operand is empty", spec) }
    let minimum = spec.operands.map(\.minimum).reduce(0, +)
    if operands.count < minimum {
      let missing = spec.operands.dropFirst(operands.count).first ?? spec.operands.last
      throw error(
        "\(spec.name.rawValue) needs \(missing?.maximum == nil ? "at least one " : "")\(missing?.placeholder ?? "an operand")", spec)
    }
    if spec.operands.allSatisfy({ $0.maximum != nil }) {
      let maximum = spec.operands.compactMap(\.maximum).reduce(0, +)
      if operands.count > maximum {
        throw error("\(spec.name.rawValue) does not know what to do with \(displayText(operands[maximum]))", spec)
      }
    }
    if let missing = spec.options.first(where: { $0.isRequired && scanned.values[$0.name] == nil }) {
      throw error("\(spec.name.rawValue) needs --\(missing.name.rawValue) \(missing.value?.placeholder ?? "")", spec)
    }
  }

  private static func error(_ message: String, _ spec: CommandSpec?) -> UsageError {
    UsageError(message: message, suggestion: nil, usage: HelpText.hint(spec))
  }
}

extension Arguments {
  /// How many runs are to be listed: `Int.max` for all of them.
  private static func limit(_ scanned: Scanned, _ operands: [String], _ spec: CommandSpec) throws(UsageError) -> Int? {
    let all = scanned.flags.contains(.all)
    guard let text = scanned.values[.limit] else {
      if all, !operands.isEmpty { throw error("--all and a run exclude each other", spec) }
      return all ? .max : nil
    }
    guard !all else { throw error("--all and --limit exclude each other", spec) }
    guard operands.isEmpty else { throw error("--limit and a run exclude each other", spec) }
    guard let number = Int(text), number >= 1 else {
      throw error("--limit takes a whole number from 1 on, not \(displayText(text))", spec)
    }
    return number
  }

  /// The typed command. `validate` has seen to the number of operands and the required options.
  private static func command(_ spec: CommandSpec, _ scanned: Scanned) throws(UsageError) -> Command {
    let operands = scanned.operands(of: spec)
    let values = scanned.values
    func operand(_ index: Int) throws(UsageError) -> String {
      guard operands.indices.contains(index) else { throw error("\(spec.name.rawValue) needs more", spec) }
      return operands[index]
    }
    func selection(orAll flag: OptionName) throws(UsageError) -> RunSelection {
      let all = scanned.flags.contains(flag)
      if all == operands.isEmpty { return all ? .all : .runs(operands) }
      throw error(
        all
          ? "--\(flag.rawValue) and single runs exclude each other" : "\(spec.name.rawValue) needs at least one RUN, or --\(flag.rawValue)",
        spec)
    }
    func reason() throws(UsageError) -> String {
      let text = values[.reason] ?? ""
      guard text.contains(where: { !$0.isWhitespace }) else {
        throw error("--reason is empty; say why, for whoever reads the record later", spec)
      }
      return text
    }

    switch spec.name {
    case .initialize: return .initialize(directory: operands.first)
    case .check: return .check(equipment: try equipment(values, spec))
    case .gate: return .gate(runs: operands, equipment: try equipment(values, spec))
    case .enqueue:
      let text = values[.priority] ?? "0"
      guard let priority = Int(text), (-1_000_000...1_000_000).contains(priority) else {
        throw error("--priority takes a whole number, not \(displayText(text))", spec)
      }
      return .enqueue(runs: operands, equipment: try equipment(values, spec), priority: priority)
    case .drain: return .drain
    case .serve: return .serve
    case .status:
      return .status(run: operands.first, watch: scanned.flags.contains(.watch), limit: try limit(scanned, operands, spec))
    case .verify: return .verify(try selection(orAll: .all), localOnly: scanned.flags.contains(.localOnly))
    case .problems: return .problems
    case .retry: return .retry(try selection(orAll: .allFailed))
    case .overrideAdd:
      return .overrideAdd(
        run: try operand(0), problemClass: try problemClass(values, spec), reason: try reason(), path: try pathInRun(values, spec),
        expires: try expiry(values, spec), equipment: try equipment(values, spec))
    case .overrideRevoke:
      return .overrideRevoke(
        run: try operand(0), id: try operand(1), reason: try reason(), equipment: try equipment(values, spec))
    case .overrideList: return .overrideList(run: try operand(0), equipment: try equipment(values, spec))
    case .cleanup: return .cleanup(runs: operands, dryRun: scanned.flags.contains(.dryRun))
    case .history: return .history(run: try operand(0), equipment: try equipment(values, spec))
    case .recover:
      return .recover(runs: operands, equipment: try equipment(values, spec), dryRun: scanned.flags.contains(.dryRun))
    case .restore:
      return .restore(run: try operand(0), destination: try operand(1), equipment: try equipment(values, spec))
    case .assetAdd:
      return .assetAdd(
        files: operands, type: values[.type] ?? "", service: values[.service], key: values[.key], mediaType: values[.mediaType])
    case .assetRun: return .assetRun(numbers: try operands.map { (text) throws(UsageError) in try assetNumber(text, spec) })
    case .assetStatus: return .assetStatus(number: try assetNumber(try operand(0), spec))
    case .assetList: return .assetList(all: scanned.flags.contains(.all))
    case .assetAbandon: return .assetAbandon(number: try assetNumber(try operand(0), spec))
    case .assetCheck: return .assetCheck(service: values[.service])
    case .completion:
      let name = try operand(0)
      guard let shell = CompletionShell(rawValue: name) else {
        throw UsageError(
          message: "there is no completion for \(displayText(name))",
          suggestion: Spelling.nearest(to: name, among: CompletionShell.allCases.map(\.rawValue)), usage: HelpText.hint(spec))
      }
      return .completion(shell)
    }
  }

  private static func equipment(_ values: [OptionName: String], _ spec: CommandSpec) throws(UsageError) -> String? {
    guard let id = values[.equipment] else { return nil }
    guard let first = id.utf8.first, (0x41...0x5a).contains(first), id.utf8.count <= 32,
      id.utf8.allSatisfy({ (0x41...0x5a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f })
    else {
      throw error("--equipment takes an id of capital letters, digits and _, such as CYTOMETER_01, not \(displayText(id))", spec)
    }
    return id
  }

  private static func assetNumber(_ text: String, _ spec: CommandSpec) throws(UsageError) -> Int64 {
    guard let number = Int64(text), number > 0 else {
      throw error("an asset has a number, as `asset list` shows it, not \(displayText(text))", spec)
    }
    return number
  }

  private static func problemClass(_ values: [OptionName: String], _ spec: CommandSpec) throws(UsageError) -> FindingClass {
    let name = values[.problemClass] ?? ""
    let isName = !name.isEmpty && name.utf8.allSatisfy { (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
    let known = CommandTable.overridableClasses.map(\.rawValue)
    let nearest = known.contains(name) ? nil : Spelling.nearest(to: name, among: known)
    // A name that resembles none of ours may be an external validator's; one that nearly is ours is a slip.
    guard isName, nearest == nil else {
      throw UsageError(message: "--class: there is no class \(displayText(name))", suggestion: nearest, usage: HelpText.hint(spec))
    }
    return FindingClass(rawValue: name)
  }

  private static func pathInRun(_ values: [OptionName: String], _ spec: CommandSpec) throws(UsageError) -> RelativePath? {
    guard let text = values[.path] else { return nil }
    do { return try RelativePath(text) } catch {
      throw Arguments.error("--path takes a path inside the run, as `gate` shows it, not \(displayText(text))", spec)
    }
  }

  private static func expiry(_ values: [OptionName: String], _ spec: CommandSpec) throws(UsageError) -> OverrideExpiry? {
    guard let text = values[.expires] else { return nil }
    guard let expiry = OverrideExpiry(parsing: text) else {
      throw error(
        "--expires takes a date (2026-12-31), a moment (2026-12-31T18:00Z) or a span (12h, 30d, 8w), not \(displayText(text))", spec)
    }
    return expiry
  }
}
