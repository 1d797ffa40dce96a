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
