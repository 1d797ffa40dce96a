import Foundation
import Testing

/// The list of the original's faults names tests; a name without a test would be an empty promise.
@Suite struct UpstreamFaultListTests {
  @Test func everyFaultHasTestsThatExist() throws {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let list = try String(contentsOf: tests.deletingLastPathComponent().appending(path: "Specs/upstream-faults.md"), encoding: .utf8)
    var code = ""
    let files = try #require(FileManager.default.enumerator(at: tests, includingPropertiesForKeys: nil))
    for case let file as URL in files where file.pathExtension == "swift" { code += try String(contentsOf: file, encoding: .utf8) }
    let rows = list.split(separator: "\n").filter { $0.hasPrefix("| ") }.dropFirst()
    #expect(rows.count >= 25)
    for row in rows {
      let names = row.split(separator: "|").last?.split(separator: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element) ?? []
      #expect(!names.isEmpty, "no test: \(row)")
      for name in names { #expect(code.contains("func \(name)("), "there is no test \(name)") }
    }
  }
}
