import Configuration
import Foundation
import SyncModel
import Testing

/// What is wrong is named with its file, line, column and key, and every fault of a file at once.
@Suite struct ProblemTests {
  struct Fault: CustomTestStringConvertible, Sendable {
    let text: String
    let line: Int?
    let column: Int?
    let key: String
    let message: String
    let hint: String
    var testDescription: String { text }
    init(_ text: String, _ line: Int?, _ column: Int?, _ key: String, _ message: String, _ hint: String = "") {
      (self.text, self.line, self.column, self.key, self.message, self.hint) = (text, line, column, key, message, hint)
    }

    func check(_ problems: [ConfigurationError.Problem], file: String) {
      #expect(problems.count == 1, "\(problems)")
      guard let problem = problems.first else { return }
      #expect(problem.file?.hasSuffix(file) == true)
      #expect(problem.line == line)
      #expect(problem.column == column)
      #expect(problem.keyPath == key)
      #expect(message.isEmpty || problem.message.contains(message), "\(problem)")
      #expect(hint.isEmpty || problem.hint.contains(hint), "\(problem)")
      #expect(!problem.hint.isEmpty)
    }
  }

  static let service: [Fault] = [
    Fault("worker: 4\n", 1, 1, "worker", "not known", "`workers`"),
    Fault("state_dir: x\nStateDir: y\n", 2, 1, "StateDir", "not known", "`state_dir`"),
    Fault("zebra: 4\n", 1, 1, "zebra", "not known", "known here: asset_services, cleanup"),
    Fault("retry: { backof: [1s] }\n", 1, 10, "retry.backof", "not known", "`backoff`"),
    Fault("workers: \"4\"\n", 1, 10, "workers", "a whole number from 1 to 64", "quotation marks"),
    Fault("workers: many\n", 1, 10, "workers", "this is a text"),
    Fault("workers: 0\n", 1, 10, "workers", "out of range"),
    Fault("workers: 65\n", 1, 10, "workers", "out of range"),
    Fault("workers: 1.5\n", 1, 10, "workers", "out of range"),
    Fault("workers: 99999999999999999999999\n", 1, 10, "workers", "out of range"),
    Fault("workers: 0x10\n", 1, 10, "workers", "out of range"),
    Fault("workers: [4]\n", 1, 10, "workers", "this is a list"),
    Fault("workers: true\n", 1, 10, "workers", "this is true or false"),
    Fault("workers:\n", 1, 1, "workers", "this is nothing", "give it a value"),
    Fault("upload_mbps: -1\n", 1, 14, "upload_mbps", "out of range"),
    Fault("upload_mbps: 0\n", 1, 14, "upload_mbps", "out of range", "leave the key out"),
    Fault("upload_mbps: .inf\n", 1, 14, "upload_mbps", "out of range"),
    Fault("upload_mbps: .nan\n", 1, 14, "upload_mbps", "out of range"),
    Fault("upload_mbps: 1e9\n", 1, 14, "upload_mbps", "out of range"),
    Fault("upload_mbps: fast\n", 1, 14, "upload_mbps", "a rate in Mbit/s"),
    Fault("state_dir: 5\n", 1, 12, "state_dir", "this is a number", "quotation marks"),
    Fault("state_dir: \"a\\tb\"\n", 1, 12, "state_dir", "control character"),
    Fault("state_dir: \"a\\0b\"\n", 1, 12, "state_dir", "control character"),
    Fault("state_dir: ''\n", 1, 12, "state_dir", "empty"),
    Fault("state_dir: ~bob/x\n", 1, 12, "state_dir", "cannot be read as a path"),
    Fault("metadata_dir: a/b\n", 1, 15, "metadata_dir", "no name of a folder"),
    Fault("metadata_dir: ..\n", 1, 15, "metadata_dir", "no name of a folder"),
    Fault("time_zone: Europe/Viena\n", 1, 12, "time_zone", "no time zone", "Europe/Vienna"),
    Fault("retry: { backoff: [30s, 2] }\n", 1, 25, "retry.backoff[1]", "`2` is no time", "unit"),
    Fault("retry: { backoff: [30s, soon] }\n", 1, 25, "retry.backoff[1]", "`soon` is no time"),
    Fault("retry: { backoff: [-5s] }\n", 1, 20, "retry.backoff[0]", "is no time"),
    Fault("retry: { backoff: [0s] }\n", 1, 20, "retry.backoff[0]", "out of range"),
    Fault("retry: { backoff: [31d] }\n", 1, 20, "retry.backoff[0]", "out of range"),
    Fault("retry: { backoff: 30s }\n", 1, 19, "retry.backoff", "a list of times"),
    Fault("retry: { backoff: [] }\n", 1, 19, "retry.backoff", "no time in the list"),
    Fault("retry: 5\n", 1, 8, "retry", "a mapping"),
    Fault("verify:\nworkers: 4\n", 1, 1, "verify", "this is nothing", "remove the line"),
    Fault("verify: { method: servers }\n", 1, 19, "verify.method", "auto, server, readback", "`server`"),
    Fault("verify: { method: 5 }\n", 1, 19, "verify.method", "this is a number"),
    Fault("cleanup: { enabled: yes }\n", 1, 21, "cleanup.enabled", "true or false"),
    Fault("cleanup: { enabled: \"true\" }\n", 1, 21, "cleanup.enabled", "this is a text"),
    Fault("cleanup: { min_age_hours: -1 }\n", 1, 27, "cleanup.min_age_hours", "from 0 to 87600"),
    Fault("gate: { content_scan_extensions: [txt] }\n", 1, 34, "gate.content_scan_extensions", "`txt`", ".txt"),
    Fault("gate: { validators: [{ timeout: 5s }] }\n", 1, 22, "gate.validators[0].command", "missing"),
    Fault("gate: { validators: [{ command: [] }] }\n", 1, 33, "gate.validators[0].command", "no program"),
    Fault("gate: { validators: [{ command: ./x }] }\n", 1, 33, "gate.validators[0].command", "a list of the program"),
    Fault("- a\n- b\n", 1, 1, "", "this is a list"),
    Fault("just words\n", 1, 1, "", "this is a text"),
    Fault("", nil, nil, "", "empty"),
    Fault("# nothing\n", nil, nil, "", "empty"),
    Fault("workers: 4\nverify: { method: auto }\nworkers: 5\n", 3, 1, "workers", "twice, first on line 1"),
    Fault("verify: { method: auto, method: server }\n", 1, 25, "verify.method", "twice"),
    Fault("workers: 4\n---\nworkers: 5\n", 2, 1, "", "second document"),
    Fault("workers: !!str 4\n", 1, 16, "workers", "tags"),
    Fault("? [a]\n: 4\n", 1, 3, "", "a key is a word"),
    Fault("verify: &v { method: auto }\n", 1, 12, "verify", "anchors"),
    Fault("verify:\n\tmethod: auto\n", 2, 1, "", "not YAML", "never with tabs"),
    Fault("workers: 4\nretry: { backoff: [30s\n", 3, 1, "", "not YAML"),
    Fault("state_dir: \"x\n", 1, 13, "", "not YAML", "quotation mark"),
    Fault("workers: 4\n  verify: 5\n", 1, 10, "", "not YAML", "indentation"),
    Fault("state_dir: a\u{1}b\n", 1, 1, "", "control character"),
    Fault("password: hunter2\n", 1, 1, "password", "a secret is written", "credential:NAME"),
    Fault("nas_api_token: hunter2\n", 1, 1, "nas_api_token", "a secret is written"),
    Fault("secret: [hunter2]\n", 1, 1, "secret", "a secret is written"),
  ]

  @Test(arguments: service) func ofTheService(_ fault: Fault) throws {
    let problems = try ConfigurationFolder.problems(service: fault.text)
    fault.check(problems, file: "/nassync.yaml")
    for problem in problems { #expect(!problem.description.contains("hunter2")) }
  }

  /// Line 9 is the first after the eight of the valid file.
  static let equipment: [Fault] = [
    Fault("labl: x\n", 9, 1, "labl", "not known", "`label`"),
    Fault("completeness: { signal: sentinel }\n", 9, 15, "completeness.file", "missing"),
    Fault("completeness: { signal: sentinel, file: ../x }\n", 9, 41, "completeness.file", "no path inside a run"),
    Fault("completeness: { signal: manifest, file: /x }\n", 9, 41, "completeness.file", "no path inside a run"),
    Fault("completeness: { signal: quiet }\n", 9, 15, "completeness.after", "missing"),
    Fault("completeness: { signal: quiet, after: 10 }\n", 9, 39, "completeness.after", "`10` is no time"),
    Fault("completeness: { signal: manual, file: x }\n", 9, 33, "completeness.file", "not known"),
    Fault("completeness: { file: x }\n", 9, 15, "completeness.signal", "missing"),
    Fault("completeness: { signal: sentry }\n", 9, 25, "completeness.signal", "sentinel, manifest, quiet, manual"),
    Fault("exclude: \"*.tmp\"\n", 9, 10, "exclude", "a list"),
    Fault("exclude: [\"*.tmp\", 5]\n", 9, 20, "exclude[1]", "this is a number"),
    Fault("bandwidth: { upload_mbps: -3 }\n", 9, 27, "bandwidth.upload_mbps", "out of range"),
    Fault("bandwidth: { upload_mbps: 0 }\n", 9, 27, "bandwidth.upload_mbps", "nothing would ever be sent"),
    Fault(window("from: \"08:00\", to: \"08:00\", upload_mbps: 5"), 9, 25, "bandwidth.schedule[0]", "empty", "24:00"),
    Fault(window("days: [], from: \"08:00\", to: \"09:00\", upload_mbps: 5"), 9, 25, "bandwidth.schedule[0]", "empty"),
    Fault(window("days: [mon, mon], from: \"08:00\", to: \"09:00\", upload_mbps: 5"), 9, 33, "bandwidth.schedule[0].days", "twice"),
    Fault(window("days: [mo], from: \"08:00\", to: \"09:00\", upload_mbps: 5"), 9, 34, "bandwidth.schedule[0].days[0]", "`mo`", "`mon`"),
    Fault(window("from: \"08:60\", to: \"09:00\", upload_mbps: 5"), 9, 33, "bandwidth.schedule[0].from", "no time of day"),
    Fault(window("from: \"24:00\", to: \"09:00\", upload_mbps: 5"), 9, 33, "bandwidth.schedule[0].from", "23:59"),
    Fault(window("from: \"23:00\", to: \"24:01\", upload_mbps: 5"), 9, 46, "bandwidth.schedule[0].to", "24:00"),
    Fault(window("from: 800, to: \"09:00\", upload_mbps: 5"), 9, 33, "bandwidth.schedule[0].from", "this is a number"),
    Fault(window("to: \"09:00\", upload_mbps: 5"), 9, 25, "bandwidth.schedule[0].from", "missing"),
    Fault(window("from: \"08:00\", to: \"09:00\""), 9, 25, "bandwidth.schedule[0].upload_mbps", "missing"),
    Fault(
      "bandwidth:\n  schedule:\n    - { days: [mon], from: 08:00, to: 10:00, upload_mbps: 5 }\n"
        + "    - { days: [mon], from: 09:59, to: 11:00, upload_mbps: 6 }\n", 12, 7, "bandwidth.schedule[1]",
      "schedule[0] overlap on mon"),
    Fault(
      "bandwidth:\n  schedule:\n    - { days: [sun], from: 22:00, to: 02:00, upload_mbps: 5 }\n"
        + "    - { days: [mon], from: 01:59, to: 03:00, upload_mbps: unlimited }\n", 12, 7, "bandwidth.schedule[1]", "overlap on mon"),
    Fault("transport: { type: sftp }\n", 9, 1, "transport", "twice"),
  ]

  private static func window(_ text: String) -> String { "bandwidth: { schedule: [{ \(text) }] }\n" }

  @Test(arguments: equipment) func ofAnInstrument(_ fault: Fault) throws {
    fault.check(try ConfigurationFolder.problems(equipment: ConfigurationFolder.equipment + fault.text), file: "/equipment/A.yaml")
  }

  /// One line of the valid transport, which starts on line 3, is replaced.
  static let transport: [Fault] = [
    Fault("type: vault", 4, 9, "transport.type", "not supported by this version", "s3"),
    Fault("type: stfp", 4, 9, "transport.type", "`stfp` is not known", "`sftp`"),
    Fault("host: lab@nas", 5, 9, "transport.host", "no host name"),
    Fault("host: sftp://nas/", 5, 9, "transport.host", "no host name"),
    Fault("host: -oProxyCommand=x", 5, 9, "transport.host", "no host name"),
    Fault("host: nas:2222", 5, 9, "transport.host", "no host name", "`port`"),
    Fault("user: -lroot", 6, 9, "transport.user", "no account name"),
    Fault("user: a:b", 6, 9, "transport.user", "no account name", "without a password"),
    Fault("key_file: \"-----BEGIN OPENSSH PRIVATE KEY-----\"", 7, 13, "transport.key_file", "a private key itself"),
    Fault("agent: false", 3, 1, "transport.key_file", "no way to log in", "ssh-keygen"),
    Fault("remote_root: ~/lab", 8, 16, "transport.remote_root", "means nothing"),
    Fault("remote_root: /srv/../etc", 8, 16, "transport.remote_root", "climbs"),
  ]

  @Test(arguments: transport) func ofATransport(_ fault: Fault) throws {
    let keys = fault.text.hasPrefix("agent") ? "key_file" : String(fault.text.prefix { $0 != ":" })
    let lines = ConfigurationFolder.equipment.split(separator: "\n").map(String.init)
    let text = lines.map { $0.hasPrefix("  \(keys):") ? "  " + fault.text : $0 }.joined(separator: "\n") + "\n"
    let problems = try ConfigurationFolder.problems(equipment: text)
    if fault.text == "agent: false" {
      #expect(problems.map(\.keyPath) == ["transport.key_file"])
      #expect(problems.first?.message.contains(fault.message) == true)
    } else {
      fault.check(problems, file: "/equipment/A.yaml")
    }
  }

  static let added: [Fault] = [
    Fault("port: 0", 9, 9, "transport.port", "1 to 65535"),
    Fault("port: 65536", 9, 9, "transport.port", "out of range"),
    Fault("port: \"22\"", 9, 9, "transport.port", "this is a text"),
    Fault("connections: 17", 9, 16, "transport.connections", "1 to 16"),
    Fault("connect_timeout: 0s", 9, 20, "transport.connect_timeout", "out of range"),
    Fault("timeout: 2h", 9, 12, "transport.timeout", "from 100ms to 1h"),
    Fault("ssh_config: /etc/nassync/ssh_config", 9, 15, "transport.ssh_config", "reads no such file", "openssh"),
    Fault("ssh: putty", 9, 8, "transport.ssh", "builtin, openssh"),
    Fault("password: hunter2", 9, 3, "transport.password", "a secret is written"),
    Fault("key_passphrase: hunter2", 9, 3, "transport.key_passphrase", "a secret is written"),
    Fault("password: env:NAS", 9, 3, "transport.password", "not known here", "key_file"),
    Fault("known_host: x", 9, 3, "transport.known_host", "not known", "`known_hosts`"),
  ]

  @Test(arguments: added) func ofAnAddedKey(_ fault: Fault) throws {
    let problems = try ConfigurationFolder.problems(equipment: ConfigurationFolder.equipment + "  \(fault.text)\n")
    fault.check(problems, file: "/equipment/A.yaml")
    for problem in problems { #expect(!problem.description.contains("hunter2")) }
  }

  @Test(arguments: ["id", "local_root", "transport"]) func aMissingKeyOfAnInstrument(_ key: String) throws {
    let blocks = [
      "id": "id: A\n", "local_root": "local_root: /x\n",
      "transport": "transport: {type: sftp, host: h, user: u, agent: true, remote_root: r}\n",
    ]
    let text = blocks.filter { $0.key != key }.map(\.value).joined()
    let problems = try ConfigurationFolder.problems(equipment: text)
    #expect(problems.map(\.keyPath) == [key])
    #expect(problems.first?.message.contains("missing") == true)
    #expect(problems.first?.line == 1)
  }

  @Test(arguments: ["type", "host", "user", "remote_root"]) func aMissingKeyOfATransport(_ key: String) throws {
    let all = ["type": "sftp", "host": "h", "user": "u", "agent": "true", "remote_root": "r"]
    let keys = all.filter { $0.key != key }.map { "\($0): \($1)" }.joined(separator: ", ")
    let problems = try ConfigurationFolder.problems(equipment: "id: A\nlocal_root: /x\ntransport: {\(keys)}\n")
    #expect(problems.map(\.keyPath) == ["transport.\(key)"])
    #expect(problems.first?.line == 3)
  }

  @Test(arguments: ["confocal", "1A", "_A", "A-B", "A B", "É", "A" + String(repeating: "B", count: 32)])
  func anIdThatIsNone(_ id: String) throws {
    let text = ConfigurationFolder.equipment.replacingOccurrences(of: "CONFOCAL_01", with: "\"\(id)\"")
    let problems = try ConfigurationFolder.problems(equipment: text)
    #expect(problems.map(\.keyPath) == ["id"])
    #expect(problems.first?.line == 1)
    #expect(EquipmentProfile.isValid(id: "A" + String(repeating: "9", count: 31)))
  }

  @Test func everyFaultOfEveryFileIsNamedAtOnce() throws {
    try ConfigurationFolder.with([
      "nassync.yaml": "workers: 0\nzebra: 1\nverify: { method: x }\n", "equipment/a.yaml": "id: a\nlocal_root: 5\n",
      "equipment/b.yaml": "id: [\n", "equipment/c.yaml": ConfigurationFolder.equipment,
    ]) { folder in
      let problems = folder.problems()
      #expect(
        problems.map { "\(URL(fileURLWithPath: $0.file ?? "").lastPathComponent):\($0.line ?? 0) \($0.keyPath)" } == [
          "nassync.yaml:1 workers", "nassync.yaml:2 zebra", "nassync.yaml:3 verify.method", "a.yaml:1 transport", "a.yaml:1 id",
          "a.yaml:2 local_root", "b.yaml:2 ",
        ])
      #expect(ConfigurationError(problems).description.split(separator: "\n").count == problems.count)
    }
  }

  @Test func twoFilesWithOneIdAreBothNamed() throws {
    try ConfigurationFolder.with([
      "nassync.yaml": "{}", "equipment/a.yaml": "# x\n" + ConfigurationFolder.equipment, "equipment/b.yaml": ConfigurationFolder.equipment,
    ]) { folder in
      let problems = folder.problems()
      #expect(problems.count == 1)
      #expect(problems.first?.file == folder.path + "/equipment/b.yaml")
      #expect(problems.first?.message.contains(folder.path + "/equipment/a.yaml, line 2") == true)
    }
  }

  @Test func twoInstrumentsMayShareALocalRoot() throws {
    let other = ConfigurationFolder.equipment.replacingOccurrences(of: "CONFOCAL_01", with: "CONFOCAL_02")
    try ConfigurationFolder.with([
      "nassync.yaml": "{}", "equipment/a.yaml": ConfigurationFolder.equipment, "equipment/b.yaml": other,
    ]) { #expect($0.problems() == []) }
  }

  @Test func aliasBombsAreRefusedWhileTheyAreSmall() throws {
    var bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for (previous, next) in zip("abcdefgh", "bcdefghi") {
      bomb += "\(next): &\(next) [" + [String](repeating: "*\(previous)", count: 9).joined(separator: ", ") + "]\n"
    }
    let problems = try ConfigurationFolder.problems(service: bomb)
    #expect(problems.contains { $0.message.contains("aliases") && $0.line == 2 })
    #expect(problems.count < 200)
  }

  @Test func deepNestingIsRefused() throws {
    let problems = try ConfigurationFolder.problems(service: "a: " + String(repeating: "[", count: 20_000) + "\n")
    #expect(problems.count == 1)
    #expect(problems.first?.message.contains("16 levels") == true)
  }

  @Test func aFileOverOneMebibyteIsRefused() throws {
    let text = "workers: 4\n#" + String(repeating: "x", count: 1 << 20)
    #expect(try ConfigurationFolder.problems(service: text).first?.message.contains("1 MiB") == true)
    #expect(try ConfigurationFolder.problems(service: String(text.prefix((1 << 20) - 1)) + "\n") == [])
  }

  @Test func bytesThatAreNoTextAreRefused() throws {
    try ConfigurationFolder.with { folder in
      try folder.write("nassync.yaml", Data("workers: 4\nstate_dir: ".utf8) + Data([0xff, 0xfe]))
      #expect(folder.problems().map(\.line) == [2])
      #expect(folder.problems().first?.message.contains("UTF-8") == true)
    }
  }

  @Test func whatIsNoRegularFileIsRefused() throws {
    try ConfigurationFolder.with { folder in
      #expect(folder.problems("equipment").first?.message.contains("not a regular file") == true)
      #expect(mkfifo(folder.path + "/pipe", 0o600) == 0)
      #expect(folder.problems("pipe").first?.message.contains("not a regular file") == true)
      #expect(symlink("loop.yaml", folder.path + "/loop.yaml") == 0)
      #expect(folder.problems("loop.yaml").first?.message.contains("symbolic links") == true)
    }
  }

  @Test func aMissingEquipmentFolderIsNamed() throws {
    let problems = try ConfigurationFolder.problems(service: "equipment_dir: ./nowhere\n")
    #expect(problems.map(\.keyPath) == ["equipment_dir"])
    #expect(problems.first?.message.contains("/nowhere") == true)
  }

  @Test func withoutAHomeATildeIsRefused() throws {
    try ConfigurationFolder.with(["nassync.yaml": "state_dir: ~/x\n"]) { folder in
      #expect(folder.problems(environment: [:]).map(\.keyPath) == ["state_dir"])
    }
  }

  @Test func textsAreSafeToShow() {
    let problem = ConfigurationError.Problem(
      file: "/a\u{1b}[2J", line: 3, column: 4, keyPath: "x\u{202e}y", message: "`\n` is wrong", hint: "mend it")
    #expect(problem.description == "/a\\u{1b}[2J:3:4: x\\u{202e}y: `\\u{a}` is wrong. Mend it")
  }
}
