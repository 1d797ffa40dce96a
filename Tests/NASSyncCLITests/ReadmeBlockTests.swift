import Foundation
import NASSync
import Testing

@testable import NASSyncCLI

/// What a reader of README.md copies is taken by the program: every configuration in it is loaded, every command understood.
@Suite("README blocks")
struct ReadmeBlockTests {
  /// A fenced block: its language and its lines.
  private struct Block {
    let language: String
    let text: String
    var firstLine: String { text.split(separator: "\n").first.map(String.init) ?? "" }
  }

  private static func readme() throws -> String {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    return try String(contentsOf: root.appendingPathComponent("README.md"), encoding: .utf8)
  }

  private static func blocks(_ text: some StringProtocol) -> [Block] {
    var blocks: [Block] = []
    var open: (language: String, lines: [Substring])?
    for line in String(text).split(separator: "\n", omittingEmptySubsequences: false) {
      if line.hasPrefix("```") {
        if let done = open {
          blocks.append(Block(language: done.language, text: done.lines.joined(separator: "\n") + "\n"))
          open = nil
        } else {
          open = (String(line.dropFirst(3)), [])
        }
      } else {
        open?.lines.append(line)
      }
    }
    return blocks
  }

  /// Loads a `nassync.yaml` and the instruments' files that follow it.
  private static func load(_ files: [Block]) throws -> ServiceConfiguration {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("nassync-readme-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder.appendingPathComponent("equipment"), withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }  // a folder left in /tmp spoils no result
    for file in files {
      let name = String(file.firstLine.dropFirst(2))
      #expect(name == "nassync.yaml" || (name.hasPrefix("equipment/") && name.hasSuffix(".yaml")), "\(name) is no file's name")
      try Data(file.text.utf8).write(to: folder.appendingPathComponent(name))
    }
    return try ServiceConfiguration.load(from: "nassync.yaml", environment: ["HOME": "/home/lab"], currentDirectory: folder.path)
  }

  /// The commands of a shell block.
  private static func commands(_ block: Block) -> [[String]] {
    block.text.split(separator: "\n").flatMap { line -> [[String]] in
      let code = line.components(separatedBy: " #").first ?? ""
      return code.components(separatedBy: "&&").map { $0.split(separator: " ").map(String.init) }.filter { !$0.isEmpty }
    }
  }

  @Test("every configuration in it is loaded by the real decoder")
  func configurations() throws {
    var sets: [[Block]] = []
    for block in Self.blocks(try Self.readme()) where block.language == "yaml" {
      if block.firstLine == "# nassync.yaml" {
        sets.append([block])
      } else {
        try #require(!sets.isEmpty, "\(block.firstLine) stands before any nassync.yaml")
        sets[sets.count - 1].append(block)
      }
    }
    #expect(sets.count >= 5)
    for files in sets {
      do { _ = try Self.load(files) } catch { Issue.record("\(files.map(\.firstLine)): \(error)") }
    }
  }

  @Test(
    "each driver has its block: a configuration and the commands that check, send and show the proof",
    arguments: ["sftp", "webdav", "s3", "presigned"])
  func driver(_ driver: String) throws {
    let readme = try Self.readme()
    let start = try #require(readme.range(of: "<!-- driver: \(driver) -->"))
    let rest = readme[start.upperBound...]
    let end = [rest.range(of: "<!-- driver: "), rest.range(of: "\n## ")].compactMap { $0?.lowerBound }.min() ?? rest.endIndex
    let blocks = Self.blocks(rest[..<end])
    let configuration = try Self.load(blocks.filter { $0.language == "yaml" })
    switch (driver, configuration.equipment.first?.transport) {
    case ("sftp", .sftp), ("webdav", .webdav), ("s3", .s3): #expect(configuration.equipment.count == 1)
    case ("presigned", nil): #expect(configuration.assetServices.map(\.name) == ["lab"])
    default: Issue.record("the configuration of \(driver) is another's: \(configuration)")
    }
    let shell = blocks.filter { $0.language == "sh" }
    #expect(shell.count == 1)
    let lines = shell.flatMap { $0.text.split(separator: "\n") }
    #expect(lines.count == 3)
    var names: [String] = []
    for words in shell.flatMap(Self.commands) {
      #expect(words.first == "nassync")
      let parsed = try Arguments.parse(Array(words.dropFirst())).command
      names.append("\(parsed)".prefix { $0.isLetter }.description)
      if case .check(.some(let id)) = parsed { #expect(configuration.equipment(id: id) != nil) }
    }
    #expect(
      names == (driver == "presigned" ? ["assetCheck", "assetAdd", "assetRun", "assetStatus"] : ["check", "enqueue", "drain", "status"]))
  }

  @Test("every command that is shown anywhere in it is understood")
  func commandsAnywhere() throws {
    var count = 0
    for block in Self.blocks(try Self.readme()) where block.language == "sh" {
      for words in Self.commands(block) where words.first == "nassync" {
        count += 1
        do throws(UsageError) { _ = try Arguments.parse(Array(words.dropFirst())) } catch { Issue.record("\(words): \(error)") }
      }
    }
    #expect(count >= 12)
  }
}
