import Gate
import SyncModel
import TestSupport
import Testing

@Suite struct NameRuleTests {
  @Test func aGoodRunHasNoFindingAtAll() throws {
    let run = try GateFixture()
    try run.write("data/größe 1.fcs")
    try run.write("a<b.txt.dat".replacing("<", with: "-"))
    try run.write("notes.txt", "plain")
    try run.tree.link("\(run.place)/latest", to: "data/größe 1.fcs")
    #expect(try run.findings() == [])
  }

  @Test(arguments: [
    (FindingClass.unresolvedPlaceholderToken, "x <date>.dat"), (.leftoverJinjaMarker, "x {{ date }}.dat"),
    (.leftoverJinjaMarker, "x {%if%}.dat"), (.illegalFilesystemCharacter, "a:b"), (.illegalFilesystemCharacter, "a\\b"),
    (.illegalFilesystemCharacter, "a\nb"), (.illegalFilesystemCharacter, "a\u{7f}b"), (.illegalFilesystemCharacter, "a\u{85}b"),
    (.illegalFilesystemCharacter, "ends."), (.illegalFilesystemCharacter, "ends "), (.illegalFilesystemCharacter, "a|b"),
    (.illegalFilesystemCharacter, "a?b"), (.illegalFilesystemCharacter, "a*b"), (.illegalFilesystemCharacter, "a\"b"),
    (.illegalFilesystemCharacter, "a<b"), (.illegalFilesystemCharacter, "a>b"), (.reservedFilesystemName, "con"),
    (.reservedFilesystemName, "Aux.tar.gz"), (.reservedFilesystemName, "COM9.txt"), (.reservedFilesystemName, "lpt1"),
    (.reservedFilesystemName, "NUL .x"),
  ])
  func flagsANameAtAnyDepth(problemClass: FindingClass, name: String) throws {
    let run = try GateFixture()
    try run.write("deep/er/\(name)/file.dat")
    let findings = try run.findings(problemClass)
    #expect(findings.map(\.path) == ["deep/er/\(name)"])
    #expect(findings.allSatisfy { $0.tier == .hard && !$0.hint.isEmpty && $0.detail.contains("“") })
  }

  @Test(arguments: [
    "<2 mM", "< date >", "<1st>", "<>", "{ x }", "{{ x }", "{% x }", "console", "COM0", "COM10", "nul-1", "LPTX", ".hidden", "a.b",
    "prn_data.txt", " leading",
  ])
  func letsHarmlessNamesPass(name: String) throws {
    let run = try GateFixture()
    try run.write("\(name)/file")
    let classes = try Set(run.findings().map(\.problemClass)).subtracting([.illegalFilesystemCharacter])
    #expect(classes == [])
  }

  @Test func judgesTheFoldersAboveTheRunToo() throws {
    let run = try GateFixture("CONFOCAL_01/<project>/Runs/Run_{{ date }}")
    try run.write("f")
    #expect(try run.findings(.unresolvedPlaceholderToken).map(\.path) == [nil])
    #expect(try run.findings(.unresolvedPlaceholderToken).first?.detail.contains("<project>") == true)
    #expect(try run.findings(.leftoverJinjaMarker).count == 1)
  }

  @Test func namesThatAreNotUTF8() throws {
    let run = try GateFixture()
    try run.write(bytes: [0x61, 0xff])
    #expect(try run.findings(.nameNotUTF8).map(\.path) == ["a\\xff"])
  }

  @Test func namesAndPathsTooLong() throws {
    var run = try GateFixture()
    try run.write("\(String(repeating: "n", count: 100))/\(String(repeating: "m", count: 90))")
    #expect(try run.findings(.pathTooLong) == [])
    run.context.limits.maxSegmentBytes = 95
    #expect(try run.findings(.pathTooLong).count == 1)
    run.context.limits.maxSegmentBytes = 255
    let length = run.place.utf8.count + 1 + 191
    run.context.limits.maxPathBytes = length
    #expect(try run.findings(.pathTooLong) == [])
    run.context.limits.maxPathBytes = length - 1
    #expect(try run.findings(.pathTooLong).count == 1)
  }

  @Test func namesOf255BytesAndTreesOf60Levels() throws {
    var run = try GateFixture()
    try run.write(String(repeating: "n", count: 255))
    try run.write((1...60).map { "level\($0)" }.joined(separator: "/") + "/<deep>/{{ f }}")
    #expect(try run.findings(.pathTooLong) == [])
    let deep = (1...60).map { "level\($0)" }.joined(separator: "/") + "/<deep>"
    #expect(try run.findings(.unresolvedPlaceholderToken).map(\.path) == [deep])
    #expect(try run.findings(.leftoverJinjaMarker).map(\.path) == [deep + "/{{ f }}"])
    // Whatever a destination says, 255 bytes are the most; less counts.
    run.context.limits.maxSegmentBytes = 1000
    #expect(try run.findings(.pathTooLong) == [])
    run.context.limits.maxSegmentBytes = 143
    let finding = try #require(try run.findings(.pathTooLong).first)
    #expect(finding.path == String(repeating: "n", count: 255) && finding.hint.contains("112 bytes") && finding.detail.contains("143"))
  }

  @Test func thePathCountsWithTheStagingFolder() throws {
    var run = try GateFixture("CONFOCAL_01/P/Runs/Run_1", record: nil)
    try run.write("sub/file")
    // "CONFOCAL_01/P/Runs/" is 19 bytes, the staging folder 45, "/sub/file" 9.
    run.context.limits.stagingNameBytes = 45
    run.context.limits.maxPathBytes = 73
    #expect(try run.findings(.pathTooLong) == [])
    run.context.limits.maxPathBytes = 72
    let finding = try #require(try run.findings(.pathTooLong).first { $0.path == "sub/file" })
    #expect(finding.detail.contains("“sub/file” has 73 bytes") && finding.detail.contains("holds 72") && finding.hint.contains("1 bytes"))
    run.context.limits.maxPathBytes = 60
    #expect(try run.findings(.pathTooLong).first?.path == nil)
  }

  @Test(arguments: [
    (NameTrait.character(UInt8(ascii: "&")), "R&D.txt", "RnD.txt"), (.leadingDot, ".hidden", "hidden."), (.leadingSpace, " x", "x y"),
    (.nonASCII, "größe", "groesse"), (.fourByteCharacter, "🔬", "µ"), (.composed, "caf\u{e9}", "cafe\u{301}"),
    (.decomposed, "cafe\u{301}", "caf\u{e9}"), (.upperCase, "Data", "data"),
  ])
  func whatTheDestinationRefuses(trait: NameTrait, bad: String, good: String) throws {
    var run = try GateFixture("confocal/p/runs/run", record: nil)
    try run.write("deep/\(bad)/f")
    try run.write("deep/\(good)/f")
    #expect(try run.findings(.illegalFilesystemCharacter).filter { $0.path == "deep/\(bad)" } == [])
    run.context.limits.refused = [trait]
    let findings = try run.findings(.illegalFilesystemCharacter).filter { $0.detail.contains("which this destination refuses") }
    // Bytes: String equality takes NFC and NFD for one.
    #expect(findings.compactMap(\.path).map { Array($0.utf8) } == [Array("deep/\(bad)".utf8)])
    #expect(findings.allSatisfy { $0.tier == .hard && $0.detail.contains("\(trait)") && $0.hint.contains("nassync check") })
  }

  /// A server that hides dot names is asked for the metadata folder by its name: only the others are stopped.
  @Test func whatTheDestinationHoldsAllTheSame() throws {
    var run = try GateFixture()
    try run.write(".hidden/f")
    try run.write("a/.exlab-wizard")
    run.context.limits.refused = [.leadingDot]
    #expect(try run.findings(.illegalFilesystemCharacter).count == 3)
    run.context.limits.excepted = [".exlab-wizard"]
    #expect(try run.findings(.illegalFilesystemCharacter).map(\.path) == [".hidden"])
  }

  @Test func whatIsIllegalEverywhereStaysSo() throws {
    var run = try GateFixture()
    try run.write("a:b")
    try run.write("CON")
    run.context.limits = DestinationLimits(isKnown: true, foldsCase: false, foldsNormalization: false)
    #expect(try run.findings(.illegalFilesystemCharacter).map(\.path) == ["a:b"])
    #expect(try run.findings(.reservedFilesystemName).map(\.path) == ["CON"])
    #expect(try run.findings(.illegalFilesystemCharacter).first?.hint.contains("would not help") == false)
    run.context.limits.refused = [.character(UInt8(ascii: ":")), .deviceName, .notUTF8]
    #expect(try run.findings(.illegalFilesystemCharacter).map(\.path) == ["a:b"])
    #expect(try run.findings(.illegalFilesystemCharacter).first?.hint.contains("would not help") == true)
  }

  @Test func namesThatTheNASWouldFoldTogether() throws {
    var run = try GateFixture()
    try run.write("Data.fcs")
    try run.write("data.fcs")
    try run.write("x/Größe")
    try run.write("x/GRÖSSE")
    try run.write("x/GRÖßE")
    try run.write("y/Σas")
    try run.write("y/ςas")
    try run.write("other/data.fcs")
    #expect(try run.findings(.caseCollision).map(\.path) == ["data.fcs", "x/Größe", "y/ςas"])
    #expect(try run.findings(.normalizationCollision) == [])
    run.context.limits.foldsCase = false
    #expect(try run.findings(.caseCollision) == [])
  }

  @Test func foldersThatFoldTogetherMakeTheirFilesCollide() throws {
    let run = try GateFixture()
    try run.write("A/f")
    try run.write("a/F")
    #expect(try run.findings(.caseCollision).map(\.path) == ["a", "a/F"])
  }

  @Test func bookkeepingNamesCollideToo() throws {
    let run = try GateFixture()
    try run.write(".exlab-wizard/Receipt.JSON")
    #expect(try run.findings(.caseCollision).map(\.path) == [".exlab-wizard/Receipt.JSON"])
  }

  @Test func namesThatDifferOnlyInTheirEncoding() throws {
    var run = try GateFixture()
    try run.write("u\u{308}ber")
    try run.write("\u{fc}ber")
    #expect(try run.findings(.normalizationCollision).count == 1)
    #expect(try run.findings(.caseCollision) == [])
    run.context.limits.foldsNormalization = false
    #expect(try run.findings(.normalizationCollision) == [])
    try run.write("\u{dc}BER")
    #expect(try run.findings(.caseCollision).count == 1)
  }
}
