import Gate
import SyncModel
import TestSupport
import Testing

@Suite struct ContentRuleTests {
  private func locations(_ name: String, _ text: String, _ problemClass: FindingClass) throws -> [String?] {
    let run = try GateFixture()
    try run.write("deep/\(name)", text)
    let findings = try run.findings(problemClass)
    #expect(findings.allSatisfy { $0.path == "deep/\(name)" })
    return findings.map(\.location)
  }

  @Test func findsMarkersWithTheirLines() throws {
    #expect(try locations("a.txt", "1\n2 <name> <x>\n3\n<_y2>", .unresolvedPlaceholderToken) == ["line 2", "line 2", "line 4"])
    #expect(try locations("a.CONF", "1\n{{ a\nb }}\n{% if %}{{}}", .leftoverJinjaMarker) == ["line 2", "line 4", "line 4"])
    #expect(
      try locations("a.yaml", "sample:\n  list:\n  - name: <who>\n  b: 1\n", .unresolvedPlaceholderToken) == ["line 3 (sample.list.name)"])
    #expect(try locations("a.txt", "<2 mM <a b> <1a> < a> <é> {{ } }} {% }", .unresolvedPlaceholderToken) == [])
    #expect(try locations("a.txt", "{{ } }} {% } {{", .leftoverJinjaMarker) == [])
  }

  @Test func saysTheKeyPath() throws {
    let json = "{\n \"sample\": {\"id\": 1, \"na\\\"me\": \"x\"},\n \"wells\": [1, {\"a\": 2},\n  {\"label\": \"<who>\"}],\n \"<key>\": 0}"
    #expect(try locations("a.json", json, .unresolvedPlaceholderToken) == ["line 4 (wells[2].label)", "line 5 (<key>)"])
    #expect(try locations("a.json", "[\n\"{{ x }}\"]", .leftoverJinjaMarker) == ["line 2 ([0])"])
    #expect(try locations("a.json", "<no json", .unresolvedPlaceholderToken) == [])
    #expect(try locations("a.json", "<none>", .unresolvedPlaceholderToken) == ["line 1"])
    #expect(
      try locations("a.json", String(repeating: "[", count: 100_000) + "\"<x>\"", .unresolvedPlaceholderToken) == ["line 1"])
    let toml = "title = \"<t>\"\n[laser.red]\n# note\npower = 1\nlabel = \"<who>\"\n[[channel]]\nnames = [\n  \"<a>\",\n]\n"
    #expect(
      try locations("a.toml", toml, .unresolvedPlaceholderToken)
        == ["line 1 (title)", "line 5 (laser.red.label)", "line 8 (channel.names)"])
    #expect(
      try locations("a.INI", "; x\n[Stage]\n  X Axis = {{ x }}\n[<section>]\n", .leftoverJinjaMarker) == ["line 3 (Stage.X Axis)"])
    #expect(try locations("a.ini", "; x\n[<section>]\n", .unresolvedPlaceholderToken) == ["line 2 (<section>)"])
    #expect(try locations("a.cfg", "<free> text", .unresolvedPlaceholderToken) == ["line 1"])
    #expect(
      try locations("a.md", "---\nlab:\n  pi: <name>\n---\n", .unresolvedPlaceholderToken) == ["line 3 (lab.pi)"])
    // Hostile keys are shown harmless.
    #expect(try locations("a.json", "{\"a\u{1b}[2J\": \"<x>\"}", .unresolvedPlaceholderToken) == ["line 1 (a\\u{1b}[2J)"])
  }

  @Test func utf16IsNoText() throws {
    #expect(try locations("a.txt", "<\0n\0>\0", .unresolvedPlaceholderToken) == [])
  }

  @Test func looksOnlyIntoEligibleFiles() throws {
    for name in ["a.xml", "a.html", "a.csv", "a.dat", "txt", ".txt"] {
      #expect(try locations(name, "<name> {{ x }}", .unresolvedPlaceholderToken) == [])
    }
    #expect(try locations("binary.txt", "<name>\0", .unresolvedPlaceholderToken) == [])
    let late = "<name>" + String(repeating: "x", count: 8192) + "\0"
    #expect(try locations("late-nul.txt", late, .unresolvedPlaceholderToken) == ["line 1"])
  }

  @Test func honoursTheSettings() throws {
    var run = try GateFixture()
    try run.write("a.txt", "<name> 0123456789")
    try run.write("b.log", "<name>")
    run.context.content = ContentScanSettings(extensions: [".log", ".txt"], maxBytes: 10)
    #expect(try run.findings(.unresolvedPlaceholderToken).map(\.path) == ["b.log"])
  }

  @Test func ofMarkdownOnlyTheFrontMatter() throws {
    #expect(try locations("a.md", "# <title>\n{{ x }}", .unresolvedPlaceholderToken) == [])
    #expect(try locations("a.md", "---\ntitle: <t>\n---\n<body>\n", .unresolvedPlaceholderToken) == ["line 2 (title)"])
    #expect(try locations("a.md", "---\r\ntitle: '{{ t }}'\r\n---\r\n{{ b }}", .leftoverJinjaMarker) == ["line 2 (title)"])
    #expect(try locations("a.md", "---\ntitle: <t>\n", .unresolvedPlaceholderToken) == [])
  }

  @Test(arguments: [
    ("---\ntitle: x\n", true), ("---\n\ttitle: x\n---\n", true), ("---\njust words\n---\n", true), ("---\na: 1\nb\n---\n", true),
    ("---\na: 1\nlist:\n- x\n- y: 2\ntext: |\n  free\n  form: yes\n# note\n\"q k\": 1\n---\nbody", false), ("---\n---\n", false),
    ("---\n{a: 1}\n---\n", false), ("no front matter --- here\n", false), ("", false), ("----\n", false),
  ])
  func malformedFrontMatterInforms(text: String, malformed: Bool) async throws {
    let run = try GateFixture()
    try run.write("README.md", text)
    try run.write("data")
    #expect(try run.findings(.malformedYAMLFrontMatter).count == (malformed ? 1 : 0))
    #expect(try await run.verdict().isOpen)
  }

  @Test func theNumberOfFindingsIsBounded() async throws {
    let run = try GateFixture()
    try run.write("many.txt", String(repeating: "<x>\n", count: 5000))
    let inFile = try run.findings(.unresolvedPlaceholderToken)
    #expect(inFile.count == 21)
    #expect(inFile.last?.detail.contains("4980") == true)
    for index in 0..<1500 { try run.write("bad/\(index)?") }
    try run.write("one:")
    for index in 0..<3 { try run.write("aux.\(index)") }
    let findings = try run.findings()
    #expect(findings.count < 1010)
    #expect(findings.filter { $0.problemClass == .reservedFilesystemName }.count == 3)
    let last = try #require(findings.last { $0.problemClass == .illegalFilesystemCharacter })
    #expect(last.path == nil && last.tier == .hard)
    let listed = findings.filter { $0.problemClass == .illegalFilesystemCharacter && $0.path != nil }.count
    #expect(last.detail.hasPrefix("\(1501 - listed) more"))
    #expect(try await !run.verdict().isOpen)
  }

  @Test func manyOpeningsWithoutEndTakeNoQuadraticTime() throws {
    let run = try GateFixture()
    try run.write("a.txt", String(repeating: "{{", count: 400_000) + String(repeating: "<a", count: 400_000))
    let clock = ContinuousClock()
    let findings = try run.subject()
    let time = clock.measure { #expect(BuiltInValidator().findings(in: findings) == []) }
    #expect(time < .seconds(30))
  }
}
