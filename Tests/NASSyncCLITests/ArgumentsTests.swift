import SyncModel
import Testing

@testable import NASSyncCLI

@Suite("The command line")
struct ArgumentsTests {
  private func parse(_ line: String) throws -> ParsedCommand { try Arguments.parse(line.split(separator: " ").map(String.init)) }

  private func complaint(_ words: [String]) -> UsageError? {
    do {
      let parsed = try Arguments.parse(words)
      Issue.record("\(words) was understood as \(parsed)")
      return nil
    } catch { return error }
  }

  @Test("every command is understood in its simplest form")
  func everyCommand() throws {
    let simplest: [(String, Command)] = [
      ("init", .initialize(directory: nil)), ("init here", .initialize(directory: "here")), ("check", .check(equipment: nil)),
      ("gate a --equipment X_1", .gate(runs: ["a"], equipment: "X_1")),
      ("check --equipment CYTOMETER_01", .check(equipment: "CYTOMETER_01")), ("gate a b", .gate(runs: ["a", "b"], equipment: nil)),
      ("enqueue a", .enqueue(runs: ["a"], equipment: nil, priority: 0)), ("drain", .drain), ("serve", .serve),
      ("status", .status(run: nil, watch: false, limit: nil)), ("status a --watch", .status(run: "a", watch: true, limit: nil)),
      ("status --all", .status(run: nil, watch: false, limit: .max)), ("status --limit 7", .status(run: nil, watch: false, limit: 7)),
      ("verify a b", .verify(.runs(["a", "b"]), localOnly: false)), ("verify --all --local-only", .verify(.all, localOnly: true)),
      ("problems", .problems), ("retry a", .retry(.runs(["a"]))), ("retry --all-failed", .retry(.all)),
      (
        "override add a --class case_collision --reason x",
        .overrideAdd(run: "a", problemClass: .caseCollision, reason: "x", path: nil, expires: nil)
      ),
      ("override revoke a 8c7e --reason x", .overrideRevoke(run: "a", id: "8c7e", reason: "x")),
      ("override list a", .overrideList(run: "a")),
      ("history a", .history(run: "a")), ("restore a b", .restore(run: "a", destination: "b", equipment: nil)),
      ("asset add a b --type t", .assetAdd(files: ["a", "b"], type: "t")),
      (
        "asset add a --type t --service s --key k --media-type text/plain",
        .assetAdd(files: ["a"], type: "t", service: "s", key: "k", mediaType: "text/plain")
      ),
      ("asset run", .assetRun(numbers: [])), ("asset run 2 31", .assetRun(numbers: [2, 31])), ("asset status 2", .assetStatus(number: 2)),
      ("asset list", .assetList(all: false)), ("asset list --all", .assetList(all: true)), ("asset abandon 2", .assetAbandon(number: 2)),
      ("asset check", .assetCheck(service: nil)), ("asset check --service s", .assetCheck(service: "s")),
      ("completion fish", .completion(.fish)), ("--version", .version),
    ]
    for (line, command) in simplest { #expect(try parse(line).command == command, "\(line)") }
  }

  @Test("options stand anywhere, with a blank or an equals sign, and global ones on both sides of the command")
  func optionPlaces() throws {
    let expected = Command.enqueue(runs: ["a", "b"], equipment: "X1", priority: -5)
    for line in [
      "enqueue a b --equipment X1 --priority -5", "enqueue --equipment=X1 a --priority=-5 b", "--priority -5 enqueue a --equipment X1 b",
    ] { #expect(try parse(line).command == expected, "\(line)") }
    let options = GlobalOptions(config: "c.yaml", json: true, quiet: true)
    for line in ["--config c.yaml --json --quiet drain", "drain --quiet --json --config=c.yaml", "--json drain --config c.yaml --quiet"] {
      #expect(try parse(line) == ParsedCommand(command: .drain, options: options), "\(line)")
    }
  }

  @Test("after -- everything is an operand, and a value is taken whatever it looks like")
  func endOfOptions() throws {
    #expect(try parse("gate -- --all -x").command == .gate(runs: ["--all", "-x"], equipment: nil))
    #expect(try parse("gate - a").command == .gate(runs: ["-", "a"], equipment: nil))
    #expect(
      try Arguments.parse(["override", "revoke", "a", "i", "--reason", "--json"])
        == ParsedCommand(command: .overrideRevoke(run: "a", id: "i", reason: "--json"), options: GlobalOptions()))
    #expect(try Arguments.parse(["--config=a=b", "drain"]).options.config == "a=b")
    #expect(try Arguments.parse(["gate", "two words", "new\nline"]).command == .gate(runs: ["two words", "new\nline"], equipment: nil))
  }

  @Test(
    "what cannot be understood names the fault, and the way out",
    arguments: [
      (["--jsn", "drain"], "no option --jsn", "--json"), (["enqeue", "a"], "no command enqeue", "enqueue"),
      (["stat"], "no command stat", "status"), (["help"], "no command help", "--help"),
      (["override", "ad", "a"], "no command override ad", "override add"),
      (["gate", "a", "--prioritty", "X"], "no option --prioritty", nil),
      (["enqueue", "a", "--equipmnt", "X"], "no option --equipmnt", "--equipment"),
      (["completion", "bsh"], "no completion for bsh", "bash"), (["completion", "powershell"], "no completion for powershell", nil),
      (["override", "add", "a", "--class", "case_colision", "--reason", "x"], "no class case_colision", "case_collision"),
      (["override", "add", "a", "--class", "Case Collision", "--reason", "x"], "no class Case Collision", "case_collision"),
      (["frobnicate"], "no command frobnicate", nil), (["-x"], "no option -x", nil),
      (["gate", "a", "--priority", "1"], "takes no option --priority", nil),
      (["override"], "needs one of add, revoke, list", nil), (["gate"], "gate needs at least one RUN", nil),
      (["history"], "history needs RUN", nil),
      (["history", "a", "b"], "what to do with b", nil), (["drain", "a"], "what to do with a", nil),
      (["gate", ""], "operand is empty", nil),
      (["override", "revoke", "a", "--reason", "x"], "needs ID", nil), (["override", "revoke", "a", "i"], "needs --reason R", nil),
      (["override", "add", "a", "--class", "case_collision", "--reason", " \t"], "--reason is empty", nil),
      (["override", "add", "a", "--class", "case_collision", "--reason", "x", "--path", "../a"], "path inside the run", nil),
      (["override", "add", "a", "--class", "case_collision", "--reason", "x", "--expires", "soon"], "--expires takes", nil),
      (["verify"], "at least one RUN, or --all", nil), (["verify", "a", "--all"], "exclude each other", nil),
      (["retry", "--all-failed", "a"], "exclude each other", nil), (["enqueue", "a", "--priority", "high"], "whole number", nil),
      (["enqueue", "a", "--priority", "99999999999999999999"], "whole number", nil),
      (["status", "--limit", "0"], "from 1 on", nil), (["status", "--limit", "7", "--all"], "exclude each other", nil),
      (["status", "a", "--limit", "7"], "exclude each other", nil), (["status", "a", "--all"], "exclude each other", nil),
      (["enqueue", "a", "--priority"], "needs a value", nil),
      (["enqueue", "a", "--equipment", "lower"], "capital letters", nil), (["drain", "--json=yes"], "takes no value", nil),
      (["--config", "a", "drain", "--config", "b"], "given twice", nil), ([], "no command is given", nil),
      (["drain\u{1b}[2J"], "drain\\u{1b}[2J", nil),
    ] as [([String], String, String?)])
  func mistakes(_ words: [String], message: String, suggestion: String?) throws {
    let error = try #require(complaint(words))
    #expect(error.message.contains(message), "\(error.message)")
    #expect(error.suggestion == suggestion)
    #expect(error.description.contains("Usage: nassync"))
    #expect(!error.description.contains("\u{1b}"))
  }

  @Test("help is there for the program, for each command and for the group, whatever else is missing")
  func help() throws {
    guard case .help(let overview) = try parse("--help").command else { return #expect(Bool(false), "no overview") }
    for name in CommandName.allCases { #expect(overview.contains(name.words[0])) }
    for name in CommandName.allCases {
      let words = name.words
      guard case .help(let text) = try Arguments.parse(words + ["--help"]).command else {
        Issue.record("no help for \(name.rawValue)")
        continue
      }
      let spec = CommandTable.spec(of: name)
      #expect(text.hasPrefix("Usage: nassync \(name.rawValue)"))
      for option in spec.options { #expect(text.contains("--\(option.name.rawValue)") && spec.usage.contains("--\(option.name.rawValue)")) }
      for operand in spec.operands where operand.kind == .folder { #expect(spec.usage.contains(operand.placeholder)) }
      for line in text.split(separator: "\n") where line.hasPrefix("  ") { #expect(line.count <= 140, "\(line)") }
    }
    guard case .help(let group) = try parse("override --help").command else { return #expect(Bool(false), "no help for the group") }
    #expect(group.contains("override revoke"))
    #expect(try parse("-h gate").command == parse("gate --help").command)
    #expect(throws: UsageError.self) { try Arguments.parse(["frobnicate", "--help"]) }
  }

  @Test("an option means the same in every command")
  func optionsAgree() {
    for spec in CommandTable.commands {
      for option in spec.options { #expect((option.value == nil) == (CommandTable.anyOption(option.name)?.value == nil)) }
      #expect(Set(spec.options.map(\.name)).isDisjoint(with: CommandTable.globalOptions.map(\.name)))
    }
    #expect(Set(CommandTable.allOptions.map(\.name)) == Set(OptionName.allCases))
  }

  @Test(
    "the end of an override",
    arguments: [
      ("1970-01-01", .at(0)), ("2026-10-18T09:14:22Z", .at(1_792_314_862)), ("2024-02-29", .at(1_709_164_800)),
      ("2100-03-01", .at(4_107_542_400)),
      ("2026-10-18T11:14+02:00", .at(1_792_314_840)), ("2026-10-18T05:44:22-03:30", .at(1_792_314_862)), ("12h", .after(43_200)),
      ("30d", .after(2_592_000)), ("8w", .after(4_838_400)), ("2023-02-29", nil), ("2100-02-29", nil), ("2026-13-01", nil),
      ("2026-1-1", nil),
      ("2026-10-18T09:14:22", nil), ("2026-10-18T24:00Z", nil), ("2026-10-18Z", nil), ("2026-10-18T09:14:22Zz", nil), ("0d", nil),
      ("-1d", nil),
      ("1.5h", nil), ("9999999d", nil), ("", nil), ("d", nil), ("30", nil), ("30 d", nil), ("1969-12-31", nil),
    ] as [(String, OverrideExpiry?)])
  func expiry(_ text: String, expected: OverrideExpiry?) { #expect(OverrideExpiry(parsing: text) == expected) }

  @Test("slips of the finger are counted as people make them")
  func slips() {
    #expect(Spelling.slips(Array("gate".utf8), Array("gaet".utf8)) == 1)
    #expect(Spelling.slips(Array("".utf8), Array("abc".utf8)) == 3)
    #expect(Spelling.slips(Array("abc".utf8), Array("".utf8)) == 3)
    #expect(Spelling.slips(Array("drain".utf8), Array("brian".utf8)) == 2)
    #expect(Spelling.nearest(to: "zz", among: ["gate", "init"]) == nil)
    #expect(Spelling.nearest(to: "", among: ["gate"]) == nil)
  }
}
