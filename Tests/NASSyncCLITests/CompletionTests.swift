import Foundation
import SyncModel
import Testing

@testable import NASSyncCLI

@Suite("Completion scripts")
struct CompletionTests {
  /// Runs bash on a script given on its standard input, in a folder of its own that holds two folders and a file.
  private func bash(_ script: String, _ arguments: [String] = []) throws -> (status: Int32, lines: [String], errors: String) {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("nassync-completion-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder.appendingPathComponent("Run_1 with blanks"), withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }  // a folder left in /tmp spoils no result
    try FileManager.default.createDirectory(at: folder.appendingPathComponent("other"), withIntermediateDirectories: true)
    try Data("x".utf8).write(to: folder.appendingPathComponent("nassync.yaml"))
    let scriptFile = folder.appendingPathComponent("other/script.bash")
    try Data(script.utf8).write(to: scriptFile)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/bash")
    process.arguments = arguments + [scriptFile.path]
    process.currentDirectoryURL = folder
    let output = Pipe()
    let errors = Pipe()
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let complaint = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    let lines = String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
    return (process.terminationStatus, lines, String(decoding: complaint, as: UTF8.self))
  }

  /// What bash would offer for the words, the last of which is being typed.
  private func offers(_ words: String...) throws -> Set<String> {
    let quoted = words.map { "'\($0)'" }.joined(separator: " ")
    let script =
      CompletionScript.text(for: .bash)
      + "COMP_WORDS=(nassync \(quoted)); COMP_CWORD=\(words.count); _nassync; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    let result = try bash(script)
    #expect(result.status == 0 && result.errors.isEmpty, "\(result.errors)")
    return Set(result.lines)
  }

  @Test("bash accepts the script and completes with it")
  func bashScript() throws {
    let check = try bash(CompletionScript.text(for: .bash), ["-n"])
    #expect(check.status == 0 && check.errors.isEmpty, "\(check.errors)")
    let first = Set(CommandName.allCases.map { $0.words[0] })
    #expect(try offers("") == first)
    #expect(try offers("ver") == ["verify"])
    #expect(try offers("--json", "st") == ["status"])
    #expect(try offers("--config", "c.yaml", "dr") == ["drain"])
    #expect(try offers("--config", "=", "c.yaml", "dr") == ["drain"])
    #expect(try offers("override", "") == ["add", "revoke", "list"])
    #expect(try offers("override", "add", "--cl") == ["--class"])
    #expect(try offers("asset", "") == ["add", "run", "status", "list", "abandon", "check"])
    #expect(try offers("asset", "add", "nas") == ["nassync.yaml"])
    #expect(try offers("asset", "add", "nassync.yaml", "--ty") == ["--type"])
    #expect(try offers("override", "add", "--class", "case_") == ["case_collision"])
    #expect(try offers("override", "add", "--class", "=", "case_") == ["case_collision"])
    #expect(try offers("override", "add", "--class", "=").contains("leftover_jinja_marker"))
    // What no override helps against is not offered.
    #expect(try offers("override", "add", "--class", "").isDisjoint(with: FindingClass.overrideIsVain.map(\.rawValue)))
    #expect(try offers("override", "add", "--reason", "") == [])
    #expect(try offers("completion", "") == ["bash", "zsh", "fish"])
    #expect(try offers("gate", "") == ["Run_1 with blanks", "other"])
    #expect(try offers("override", "list", "Run") == ["Run_1 with blanks"])
    #expect(try offers("--config", "nas") == ["nassync.yaml"])
    #expect(try offers("drain", "") == [])
    for spec in CommandTable.commands {
      let words = spec.name.words + ["--"]
      let expected = Set((CommandTable.globalOptions + spec.options).map { "--" + $0.name.rawValue })
      #expect(try words.count == 2 ? offers(words[0], words[1]) == expected : offers(words[0], words[1], words[2]) == expected)
    }
  }

  @Test("every command and option is in every script", arguments: CompletionShell.allCases)
  func complete(_ shell: CompletionShell) {
    let script = CompletionScript.text(for: shell)
    for name in CommandName.allCases { for word in name.words { #expect(script.contains(word)) } }
    for option in CommandTable.allOptions {
      #expect(script.contains(shell == .fish ? "-l \(option.name.rawValue) " : "--\(option.name.rawValue)"), "\(option.name)")
    }
    #expect(script.hasSuffix("\n"))
  }
}
