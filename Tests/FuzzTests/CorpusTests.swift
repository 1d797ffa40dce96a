import Foundation
import Testing

/// Every input that has taught the fuzzer something, and everything that once ended a parser badly, again.
@Suite struct CorpusTests {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Corpus")

  @Test(arguments: FuzzTarget.allCases) fileprivate func replays(_ target: FuzzTarget) throws {
    let folder = Self.folder.appendingPathComponent(target.rawValue)
    let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).sorted { $0.path < $1.path }
    #expect(files.count >= 3, "no corpus of \(target.rawValue)")
    for file in files {
      let bytes = Array(try Data(contentsOf: file))
      target.run(bytes)
      // Cut off, and with a byte changed: what a bad line and a bad disk do.
      for cut in [bytes.count / 3, bytes.count - 1] where cut > 0 { target.run(Array(bytes.prefix(cut))) }
      for place in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 64)) {
        var changed = bytes
        changed[place] ^= 0x20
        target.run(changed)
      }
    }
    print("fuzz: \(target.rawValue): \(files.count) inputs replayed")
  }
}
