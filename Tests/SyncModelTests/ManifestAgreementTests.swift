import Digests
import SyncModel
import TestSupport
import Testing

/// The manifest against the real `sha256sum`, in both directions.
@Suite struct ManifestAgreementTests {
  /// Names that a file system takes and a careless reader or shell does not.
  static let hostile: [[UInt8]] =
    [
      "plain", "with space", " leading space", "trailing space ", "two  spaces", "new\nline", "\nleading newline", "trailing newline\n",
      "back\\slash", "\\leading backslash", "trailing backslash\\", "\\n", "\\\\", "carriage\rreturn", "trailing return\r", "\r", "\n",
      "-leading",
      "--check", "-c", "*star", "#hash", "tab\tname", "$(touch pwned)", "`id`", "quote'\"", "%s%n", "semi;colon", "\u{e9}", "e\u{301}", "🔬",
      "...",
      "..name", "folder\n/inner\\file", "folder/-", "\u{1b}[31mred", "\u{202e}gpj", "SHA256 (a) = b", "caf\u{e9}\r\n\\",
    ].map { Array($0.utf8) } + [
      [0xff], [0xfe, 0x0a, 0xff], [0x61, 0x80, 0x5c], [UInt8](repeating: 0x78, count: 255), [UInt8](repeating: 0x5c, count: 255),
    ]

  static func makeTree(_ names: [[UInt8]]) throws -> (TemporaryTree, RunManifest) {
    let tree = try TemporaryTree()
    var entries: [RunManifest.Entry] = []
    for (number, name) in names.enumerated() {
      let content = Array("content \(number)".utf8)
      try tree.write(bytes: name, content)
      entries.append(RunManifest.Entry(path: try RelativePath(bytes: name), digest: try #require(SHA256Hasher.digest(of: content))))
    }
    return (tree, RunManifest(entries))
  }

  @Test func sha256sumWritesTheVerySameText() async throws {
    let (tree, manifest) = try Self.makeTree(Self.hostile)
    let script = "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum --"
    let result = try await runProcess(["sh", "-c", script], directory: tree.path)
    #expect(result.status == 0)
    #expect(result.stdout == manifest.encoded)
    #expect(try RunManifest(parsing: result.stdout) == manifest)
    #expect(manifest.entries.count == Self.hostile.count)
  }

  @Test(arguments: hostile.indices) func sha256sumAcceptsEachNameAlone(_ index: Int) async throws {
    let (tree, manifest) = try Self.makeTree([Self.hostile[index]])
    let result = try await runProcess(["sha256sum", "--strict", "-c", "/dev/stdin"], input: manifest.encoded, directory: tree.path)
    #expect(result.status == 0, "\(result.text) \(result.errorText)")
  }

  @Test func sha256sumAcceptsAllAndNamesTheOneThatChanged() async throws {
    let (tree, manifest) = try Self.makeTree(Self.hostile)
    let accepted = try await runProcess(["sha256sum", "--strict", "-c", "/dev/stdin"], input: manifest.encoded, directory: tree.path)
    #expect(accepted.status == 0)
    try tree.write("back\\slash", "changed")
    let refused = try await runProcess(["sha256sum", "--quiet", "-c", "/dev/stdin"], input: manifest.encoded, directory: tree.path)
    #expect(refused.status == 1)
    #expect(refused.text == "back\\slash: FAILED\n")
  }

  /// `sha256sum` takes a listed `-` for its standard input, so the manifest must not name a file so.
  @Test func aFileNamedDashIsAFile() async throws {
    let (tree, manifest) = try Self.makeTree([[0x2d], Array("a".utf8)])
    try tree.write("sums", manifest.encoded)
    let result = try await runProcess(["sha256sum", "--strict", "-c", "sums"], directory: tree.path)
    #expect(result.status == 0, "\(result.text) \(result.errorText)")
    #expect(try RunManifest(parsing: manifest.encoded) == manifest)
  }
}
