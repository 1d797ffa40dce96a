import Gate
import Glibc
import SyncModel
import TestSupport
import Testing

@Suite struct TreeRuleTests {
  @Test func linksThatLeaveTheRun() throws {
    let run = try GateFixture()
    try run.write("sub/dir/file")
    let links = [
      ("abs", "/etc/passwd", true), ("inside-abs", run.root, true), ("up", "..", true), ("sub/up2", "../../x", true),
      ("sub/fine", "../sub/dir/file", false), ("here", ".", false), ("dangling", "no/where", false), ("self", "self", false),
      ("ping", "pong", false), ("pong", "ping", false), ("chain", "sub/hop/../..", true), ("sub/hop", "dir", false),
      ("sub/viahere", "../here/here/sub/dir", false), ("steal", "here/abs", true), ("climb", "here/../x", true),
      ("sub/dir/out", "../../hopper/../..", true), ("hopper", "sub/dir", false),
    ]
    for (name, target, _) in links { try run.tree.link("\(run.place)/\(name)", to: target) }
    let flagged = try Set(run.findings(.symlinkEscapesRun).compactMap(\.path))
    // "chain" is sub/hop → sub/dir, then two up: the run itself; "out" likewise. Only real escapes count.
    let expected = Set(links.filter { $0.2 && $0.0 != "chain" && $0.0 != "sub/dir/out" }.map(\.0))
    #expect(flagged == expected)
  }

  @Test func specialFilesAndTakenNames() throws {
    let run = try GateFixture()
    try run.write("f")
    mkfifo("\(run.root)/pipe", 0o600)
    try run.tree.makeFolder("\(run.place)/.exlab-wizard/checksums.sha256")
    try run.tree.makeFolder("\(run.place)/sub/.exlab-wizard/checksums.sha256")
    #expect(try run.findings(.specialFile).map(\.path) == [".exlab-wizard/checksums.sha256", "pipe"])
  }

  @Test func linksWhereTheDestinationHoldsNone() throws {
    var run = try GateFixture()
    try run.write("f")
    try run.tree.link("\(run.place)/latest", to: "f")
    #expect(try run.findings(.specialFile) == [])
    run.context.limits.holdsSymlinks = false
    let finding = try #require(try run.findings(.specialFile).first)
    #expect(finding.path == "latest" && finding.detail.contains("“f”") && finding.tier == .hard)
  }

  @Test func unreadableFiles() throws {
    let run = try GateFixture()
    let fingerprint = FileFingerprint(device: 1, inode: 1, size: 1, modified: 0, changed: 0, mode: 0)
    let entry = RunEntry(path: try RelativePath("closed.txt"), kind: .file, fingerprint: fingerprint, unreadable: "Permission denied")
    // Was listed, and is not there when the text is to be scanned: not a file without findings.
    let vanished = RunEntry(path: try RelativePath("vanished.txt"), kind: .file, fingerprint: fingerprint)
    let snapshot = RunSnapshot(
      root: run.root, metadataFolder: ".exlab-wizard", entries: [entry, vanished], excluded: [], record: nil, recordUnreadable: nil)
    let subject = GateSubject(snapshot: snapshot, location: try run.location(), context: run.context)
    let findings = BuiltInValidator().findings(in: subject).filter { $0.problemClass == .unreadableFile }
    #expect(findings.map(\.path) == ["closed.txt", "vanished.txt"])
    #expect(findings.first?.detail.contains("Permission denied") == true)
  }

  @Test func emptyRuns() async throws {
    let run = try GateFixture()
    try run.tree.makeFolder("\(run.place)/folder")
    #expect(try run.findings(.emptyRun).count == 1)
    #expect(try await !run.verdict().isOpen)
    try run.write("f.tmp")
    #expect(try run.findings(.emptyRun) == [])
    let subject = GateSubject(snapshot: try run.snapshot(excluding: ["*.tmp"]), location: try run.location(), context: run.context)
    #expect(BuiltInValidator().findings(in: subject).contains { $0.problemClass == .emptyRun && $0.detail.contains("1") })
  }

  @Test func emptyFilesInform() async throws {
    let run = try GateFixture()
    try run.write("flag", "")
    try run.write("f")
    #expect(try run.findings(.emptyFile).map(\.path) == ["flag"])
    #expect(try await run.verdict().isOpen)
  }

  @Test func modeAndPrefixMustAgree() throws {
    func mismatches(_ place: String, _ kind: String) throws -> Int {
      let run = try GateFixture(place, record: GateFixture.record(kind: kind))
      try run.write("f")
      return try run.findings(.modePrefixMismatch).count
    }
    // Kind, parent and prefix: each against each.
    for (kind, folder, prefix) in [("experimental", "Runs", "Run_"), ("test", "TestRuns", "TestRun_")] {
      for (parent, parentFits) in [("Runs", folder == "Runs"), ("TestRuns", folder == "TestRuns"), ("runs", false), ("Data", false)] {
        for (leaf, leafFits) in [
          ("Run_1", prefix == "Run_"), ("TestRun_1", prefix == "TestRun_"), ("run_1", false), ("1", false),
          (String(prefix.dropLast()), false),
        ] {
          let expected = (parentFits ? 0 : 1) + (leafFits ? 0 : 1)
          #expect(try mismatches("CONFOCAL_01/P/\(parent)/\(leaf)", kind) == expected, "\(kind) \(parent)/\(leaf)")
        }
      }
    }
    #expect(try mismatches("CONFOCAL_01/P/Runs/Run_1", "experimental") == 0)
    #expect(try mismatches("CONFOCAL_01/P/TestRuns/TestRun_1", "test") == 0)
    #expect(try mismatches("CONFOCAL_01/P/Runs/TestRun_1", "experimental") == 1)
    #expect(try mismatches("CONFOCAL_01/P/TestRuns/Run_1", "experimental") == 1)
    #expect(try mismatches("CONFOCAL_01/P/Runs/Run_1", "test") == 2)
    #expect(try mismatches("CONFOCAL_01/P/Runs/Run_1", "calibration") == 1)
    let other = try GateFixture("CONFOCAL_01/whatever", record: #"{"schema_version": "1.0"}"#)
    try other.write("f")
    #expect(try other.findings(.modePrefixMismatch) == [])
  }

  @Test func filesThatChangedAfterTheyWerePublished() throws {
    var run = try GateFixture()
    for name in ["same", "touched", "grown", "rewritten", "replaced", "gone"] { try run.write(name, "1234") }
    let zero = try #require(ContentDigest(bytes: Array(repeating: 0, count: 32)))
    let one = try #require(ContentDigest(bytes: Array(repeating: 1, count: 32)))
    for entry in try run.snapshot().entries where entry.kind == .file {
      run.context.published[entry.path] = PublishedComponent(digest: zero, fingerprint: entry.fingerprint)
    }
    #expect(try run.findings(.changedAfterSync) == [])
    usleep(20_000)
    try run.write("touched", "1234")
    try run.write("grown", "12345")
    try run.write("rewritten", "4321")
    try run.write("new", "1")
    for name in ["replaced", "gone"] { unlink("\(run.root)/\(name)") }
    try run.tree.link("\(run.place)/replaced", to: "same")
    #expect(try run.findings(.changedAfterSync).map(\.path) == ["grown", "replaced", "rewritten", "touched"])
    run.context.digestOfFile = { _, path in path.description == "touched" ? zero : one }
    #expect(try run.findings(.changedAfterSync).map(\.path) == ["grown", "replaced", "rewritten"])
  }

  @Test func requiredFieldsInform() async throws {
    var run = try GateFixture(record: #"{"schema_version": "1.4", "created_at": "x", "created_by": "", "level": "run"}"#)
    try run.write("f")
    #expect(try run.findings(.missingRequiredField).map(\.location) == ["created_by", "run_kind"])
    run.context.requiredFields = ["operator", "irb", "empty", "PI"]
    #expect(try run.findings(.missingRequiredField).count == 6)
    try run.write(
      ".exlab-wizard/readme_fields.json",
      #"{"core_fields": {"operator": "a", "empty": "  "}, "config_fields": {"irb": 3}, "custom_fields": [{"label": "PI", "value": "x"}]}"#)
    #expect(try run.findings(.missingRequiredField).map(\.location) == ["created_by", "run_kind", "empty"])
    try run.write(".exlab-wizard/readme_fields.json", "{")
    #expect(try run.findings(.missingRequiredField).count == 3)
    #expect(try await run.verdict().isOpen)
  }

  @Test func aRunWithoutRecordIsAnOrphanAndMayPass() async throws {
    let run = try GateFixture(record: nil)
    try run.write("f")
    let verdict = try await run.verdict()
    #expect(verdict.informing.map(\.problemClass) == [.orphan])
    #expect(verdict.isOpen)
  }
}
