import SyncModel
import Testing

@testable import TransportSFTP

/// The strict reading of a hashing command's output, without a network.
@Suite struct HashAnswerTests {
  private static let digest = String(repeating: "ab", count: 32)

  private func parse(
    _ text: String, names: [String], program: HashProgram = .sha256sum, pieces: Int = .max
  ) throws(HashAnswer.Malformed) -> [Bool] {
    var answer = HashAnswer(program: program, count: names.count) { Array(names[$0].utf8) }
    var rest = Array(text.utf8)[...]
    while !rest.isEmpty {
      try answer.feed(rest.prefix(pieces))
      rest = rest.dropFirst(pieces)
    }
    try answer.finish()
    return answer.digests.map { $0?.hex == HashAnswerTests.digest }
  }

  private func isRefused(_ text: String, names: [String] = ["/a", "/b"], program: HashProgram = .sha256sum) -> Bool {
    do throws(HashAnswer.Malformed) {
      _ = try parse(text, names: names, program: program)
      return false
    } catch {
      return true
    }
  }

  @Test(arguments: [1, 2, 7, 64, 1000]) func anyCutOfTheStream(pieces: Int) throws {
    let record = Self.digest + "  "
    let text = "Welcome\nNASSYNC-BEGIN\n\(record)/a\n\(record)/b c\nNASSYNC-END 0\n"
    #expect(try parse(text, names: ["/a", "/b c"], pieces: pieces) == [true, true])
    let partly = "NASSYNC-BEGIN\n\(record)/b c\nNASSYNC-END 123\n"
    #expect(try parse(partly, names: ["/a", "/b c", "/d"], pieces: pieces) == [false, true, false])
  }

  @Test func eachProgramsForm() throws {
    let digest = Self.digest
    #expect(try parse("NASSYNC-BEGIN\n\(digest) */a\nNASSYNC-END 0\n", names: ["/a"], program: .openssl) == [true])
    #expect(try parse("NASSYNC-BEGIN\n\(digest)  /a\n/b\0NASSYNC-END 0\n", names: ["/a\n/b"], program: .sha256sumZero) == [true])
    #expect(try parse("NASSYNC-BEGIN\n\(digest) /a\nNASSYNC-END 0\n", names: ["/a"], program: .sha256) == [true])
    #expect(isRefused("NASSYNC-BEGIN\n\(digest)  /a\nNASSYNC-END 0\n", names: ["/a"], program: .openssl))
    #expect(!HashProgram.openssl.prints("a\\b".utf8))
    #expect(HashProgram.sha256sumZero.prints("a\n\\b".utf8))
  }

  @Test func nothingIsPartlyUnderstood() {
    let record = Self.digest + "  "
    let good = "NASSYNC-BEGIN\n\(record)/a\n\(record)/b\nNASSYNC-END 0\n"
    #expect(!isRefused(good))
    // Every cut is noticed.
    for length in 0..<good.utf8.count { #expect(isRefused(String(good.prefix(length)))) }
    for wrong in [
      "", "This service allows sftp connections only.\n", good + "more", good + good,
      "NASSYNC-BEGIN\n\(record)/b\n\(record)/a\nNASSYNC-END 123\n",
      "NASSYNC-BEGIN\n\(record)/a\n\(record)/a\nNASSYNC-END 123\n", "NASSYNC-BEGIN\n\(record)/c\nNASSYNC-END 123\n",
      "NASSYNC-BEGIN\n\(record)/a\nNASSYNC-END 0\n", "NASSYNC-BEGIN\n\(record)/a\nNASSYNC-END 125\n", "NASSYNC-BEGIN\nNASSYNC-END 127\n",
      "NASSYNC-BEGIN\n\(record)/a\nsha256sum: /b: Permission denied\nNASSYNC-END 123\n", "NASSYNC-BEGIN\n\n\(record)/a\nNASSYNC-END 123\n",
      "NASSYNC-BEGIN\n\(record.uppercased().dropLast(3))/a\nNASSYNC-END 123\n", "NASSYNC-BEGIN\nNASSYNC-END \n",
      "NASSYNC-BEGIN\nNASSYNC-END -1\n",
      "NASSYNC-BEGIN\n\\\(record)/a\nNASSYNC-END 123\n", "x NASSYNC-BEGIN\n\(record)/a\n\(record)/b\nNASSYNC-END 0\n",
    ] {
      #expect(isRefused(wrong), "accepted: \(wrong)")
    }
    #expect(isRefused(String(repeating: "noise\n", count: 20_000)))
    #expect(isRefused("NASSYNC-BEGIN\n" + String(repeating: "a", count: 100_000)))
  }

  @Test func candidatesForTheShellsView() {
    let survey = ShellSurvey(
      [
        "home /home/labuser", "home /home/labuser", "mount /", "mount /volume1", #"mount /with\040space"#, "has openssl", "home relative",
        "junk",
      ].map {
        Array($0.utf8)[...]
      })
    let found = survey.candidates(for: Array("/home/lab".utf8)).map { String(decoding: $0, as: UTF8.self) }
    #expect(
      found == [
        "/home/lab", "/home/labuser/home/lab", "/volume1/home/lab", "/with space/home/lab", "/lab", "/home/labuser/lab", "/volume1/lab",
        "/with space/lab",
        "",
        "/home/labuser", "/volume1", "/with space",
      ])
    #expect(survey.programs == ["openssl"])
    // Relative to the login folder, and the root of the server.
    #expect(survey.candidates(for: Array("lab".utf8)).contains(Array("/home/labuser/lab".utf8)))
    #expect(survey.candidates(for: []).contains(Array("/volume1".utf8)))
  }

  /// csh, fish and busybox pass these on unharmed.
  @Test func commandsSuitAnyLoginShell() {
    for command in HashProgram.allCases.map(\.command) + [ShellSurvey.command, ShellSurvey.folders] {
      #expect(command.text.split(separator: "'", omittingEmptySubsequences: false).count == 3)
      #expect(!command.text.contains("!") && !command.text.contains("\n") && !command.text.contains("\\\\"))
    }
  }
}
