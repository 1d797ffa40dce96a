import Gate
import SyncModel
import TestSupport
import Testing

/// Names that a kind of destination is never given, whatever an operator says.
@Suite struct WithheldNameTests {
  private typealias F = GateFixture
  private static let names = [WithheldName(".htaccess", reason: "is read by somebody")]

  private func fixture(
    _ place: String = "CONFOCAL_01/P/Runs/Run_1", files: [String], overrides: [String] = []
  ) throws -> GateFixture {
    var run = try F(place, record: F.record(overrides: "[\(overrides.joined(separator: ","))]"))
    for file in files { try run.write(file) }
    run.context.limits.withheld = Self.names
    return run
  }

  @Test(arguments: [
    ".htaccess", ".HtAccess", ".htaccess.", ".htaccess. .", ".htaccess::$DATA", ".htacce\u{17f}\u{17f}", ".htacce\u{df}",
    ".ht\u{200b}access",
    "\u{feff}.HTACCESS",
  ])
  func whatAFileSystemWouldOpenAsIt(name: String) throws {
    #expect(Self.names[0].matches(Array(name.utf8)[...]))
  }

  @Test(arguments: [
    "htaccess", ".htaccess2", ".htpasswd", ".htaccess.bak", ".htacces", "x.htaccess", ".htäccess", ".", "", ":", ".htacceśs",
  ])
  func otherNames(name: String) {
    #expect(!Self.names[0].matches(Array(name.utf8)[...]))
    #expect(!Self.names[0].matches([0x2e, 0xff]))
  }

  @Test(arguments: [".htaccess", "deep/er/.htaccess/file.dat", "deep/.HTACCESS"]) func isStoppedAtAnyDepth(file: String) async throws {
    let verdict = try await fixture(files: [file, "ok.dat"]).verdict()
    let finding = try #require(verdict.blocking.first)
    #expect(verdict.blocking.count == 1 && finding.problemClass == .illegalFilesystemCharacter && finding.isFinal && finding.overrideIsVain)
    #expect(finding.path?.lowercased().hasSuffix(".htaccess") == true)
    #expect(finding.detail.contains("is read by somebody") && finding.hint.contains("exclude"))
  }

  @Test func isStoppedAboveTheRunToo() async throws {
    let verdict = try await fixture("CONFOCAL_01/.htaccess/Runs/Run_1", files: ["ok.dat"]).verdict()
    #expect(verdict.blocking.map(\.path) == [nil] && verdict.blocking.map(\.isFinal) == [true])
    #expect(verdict.blocking.first?.detail.contains("the folder name “.htaccess”") == true)
  }

  /// Everything else of the class passes on the record.
  @Test func noOverrideLetsItThrough() async throws {
    for override in [
      F.entry("i1", .illegalFilesystemCharacter), F.entry("i1", .illegalFilesystemCharacter, more: #""path": ".htaccess", "#),
    ] {
      let verdict = try await fixture(files: [".htaccess"], overrides: [override]).verdict()
      #expect(verdict.blocking.map(\.path) == [".htaccess"] && verdict.overridden.isEmpty)
    }
    let many = (0..<1300).map { "\($0)?" } + (0..<1300).map { "d\($0)/.htaccess" }
    let verdict = try await fixture(files: many, overrides: [F.entry("i1", .illegalFilesystemCharacter)]).verdict()
    // The closing finding, which stands for those that are not listed, is as final as they are.
    #expect(!verdict.isOpen && verdict.blocking.allSatisfy(\.isFinal) && verdict.overridden.allSatisfy { !$0.finding.isFinal })
    #expect(verdict.blocking.last?.detail.contains("not listed") == true)
  }

  /// A caller's own rules take the place of the built-in ones, and not of this.
  @Test func aValidatorThatFindsNothingDoesNotLetItThrough() async throws {
    struct Content: RunValidator {
      func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async throws -> [Finding] { [] }
    }
    #expect(try await fixture(files: [".htaccess"]).verdict(Content()).blocking.count == 1)
  }

  /// Of what lies there already, proven, nothing is kept back here: a copy that did no harm there may be cleaned up.
  @Test func whatIsPublishedIsNoFinding() async throws {
    var run = try fixture("CONFOCAL_01/.htaccess/Runs/Run_1", files: ["a/.htaccess/x", "new/.htaccess"])
    let path = try RelativePath("a/.htaccess/x")
    let entry = try #require(try run.snapshot().entries.first { $0.path == path })
    let digest = try #require(ContentDigest(bytes: [UInt8](repeating: 7, count: 32)))
    run.context.published = [path: PublishedComponent(digest: digest, fingerprint: entry.fingerprint)]
    #expect(try await run.verdict().blocking.map(\.path) == ["new/.htaccess"])
  }

  @Test func whereItIsAlsoRefusedItIsSaidOnce() async throws {
    var run = try fixture(files: [".htaccess", ".htpasswd"])
    run.context.limits.refused = [.webServerFile]
    let verdict = try await run.verdict()
    #expect(Set(verdict.blocking.map(\.path)) == [".htaccess", ".htpasswd"] && verdict.blocking.count == 2)
    #expect(verdict.blocking.count { $0.isFinal } == 1)
  }

  @Test func otherDestinationsTakeIt() async throws {
    var run = try fixture(files: [".htaccess"])
    run.context.limits.withheld = []
    #expect(try await run.verdict().isOpen)
  }
}
