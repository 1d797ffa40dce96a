import Digests
import SyncModel
import Testing

@Suite struct RunManifestTests {
  static let digest = SHA256Hasher.digest(of: [])
  static let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

  static func entry(_ name: String) throws -> RunManifest.Entry {
    RunManifest.Entry(path: try RelativePath(name), digest: try #require(digest))
  }

  @Test func linesAreSortedByBytesAndEscapedAsGNUDoes() throws {
    let names = ["b", "a/z", "a", "n\nl", "back\\slash", "cr\r", "\\n", "A"]
    let manifest = RunManifest(try names.map { (name) throws in try Self.entry(name) })
    let expected =
      ["\(Self.hex)  A", "\\\(Self.hex)  \\\\n", "\(Self.hex)  a", "\(Self.hex)  a/z", "\(Self.hex)  b"]
      + ["\\\(Self.hex)  back\\\\slash", "\\\(Self.hex)  cr\\r", "\\\(Self.hex)  n\\nl"]
    #expect(String(decoding: manifest.encoded, as: UTF8.self) == expected.map { $0 + "\n" }.joined())
  }

  @Test func whatIsWrittenIsReadBack() throws {
    let names: [[UInt8]] = [
      [0x0a], [0x5c], [0x0d], [0x5c, 0x6e], [0x5c, 0x5c], [0xff, 0x0a, 0x5c], [0x20], [0x2a, 0x61], [0x2d], [0x2d, 0x2f, 0x2d],
      Array("plain".utf8),
    ]
    let digest = try #require(Self.digest)
    let manifest = RunManifest(try names.map { (name) throws in RunManifest.Entry(path: try RelativePath(bytes: name), digest: digest) })
    #expect(try RunManifest(parsing: manifest.encoded) == manifest)
    #expect(manifest.entries.count == names.count)
  }

  @Test func everyByteThatANameCanHoldIsReadBack() throws {
    let digest = try #require(Self.digest)
    for byte in UInt8(1)...255 where byte != 0x2f && byte != 0x2e {
      for name in [[byte], [0x61, byte], [byte, 0x61], [byte, byte]] {
        let manifest = RunManifest([RunManifest.Entry(path: try RelativePath(bytes: name), digest: digest)])
        #expect(try RunManifest(parsing: manifest.encoded) == manifest, "byte \(byte)")
      }
    }
  }

  @Test func ofAPathGivenTwiceTheLastCounts() throws {
    let other = try #require(SHA256Hasher.digest(of: [1]))
    let path = try RelativePath("a")
    let manifest = RunManifest([try Self.entry("a"), RunManifest.Entry(path: path, digest: other)])
    #expect(manifest.entries == [RunManifest.Entry(path: path, digest: other)])
  }

  @Test func anEmptyTextIsAManifestOfNothing() throws {
    #expect(RunManifest([]).encoded.isEmpty)
    // An empty file has no line, not even a cut one.
    #expect(try RunManifest(parsing: []).entries.isEmpty)
  }

  @Test func binaryModeCurrentFolderPrefixAndUpperCaseAreRead() throws {
    let text = "\(Self.hex.uppercased()) *./a\n\(Self.hex)  b\n"
    #expect(try RunManifest(parsing: Array(text.utf8)).entries.map(\.path.description) == ["a", "b"])
  }

  @Test(arguments: [
    ("\(hex)  a", 1), ("\(hex)  a\n\(hex)  b", 2), ("\n", 1), ("\(hex)  a\n\n", 2), ("\(hex)  \n", 1), ("\(hex) a\n", 1),
    ("\(hex)\ta\n", 1),
    ("\(hex.dropLast())  a\n", 1), ("g\(hex.dropFirst())  a\n", 1), ("\(hex)0  a\n", 1), (" \(hex)  a\n", 1), ("# comment\n", 1),
    ("\(hex)  ..\n", 1), ("\(hex)  /etc/passwd\n", 1), ("\(hex)  a/../../b\n", 1), ("\(hex)  a//b\n", 1), ("\(hex)  a\0b\n", 1),
    ("\(hex)  ./\n", 1),
    ("\\\(hex)  a\\x\n", 1), ("\\\(hex)  a\\\n", 1), ("\(hex)  a\n\(hex)  a\n", 2), ("\(hex)  a\n\(hex)  ./a\n", 2),
    ("SHA256 (a) = \(hex)\n", 1),
  ])
  func whatIsNotExactlyAManifestIsRefusedWithItsLine(_ text: String, _ line: Int) {
    #expect { try RunManifest(parsing: Array(text.utf8)) } throws: { ($0 as? RunManifest.Malformed)?.line == line }
  }

  @Test func twoNormalisationFormsAreTwoLines() throws {
    let manifest = RunManifest([try Self.entry("\u{e9}"), try Self.entry("e\u{301}")])
    #expect(try RunManifest(parsing: manifest.encoded).entries.count == 2)
  }
}
