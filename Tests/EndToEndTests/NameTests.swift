import Foundation
import Glibc
import TestSupport
import Testing

/// File names that want to be something else.
@Suite(.serialized) struct NameTests {
  /// The gate lets these through.
  private static let allowed = [
    "with blanks  in it.fcs", "it's quoted.fcs", "-rf", "--help", "$(touch pwned)", "`touch pwned`", ";touch pwned;", "a&touch pwned&.txt",
    "~", "#comment", "%s%n.txt", "😀 é.fcs", "{a,b}", "=cmd", "!history", ".hidden", "$HOME", "-- -x",
    String(repeating: "n", count: 251) + ".fcs",
  ]
  /// These need an override.
  private static let refused = [
    "new\nline.txt", "back\\slash.txt", "tab\there", "\u{1b}[31mred\u{1b}[0m", "quo\"te", "a|touch pwned", "question?", "star*", "\\",
    "end ",
    "\rreturn", "\\n",
  ]

  @Test(arguments: ["auto", "readback"]) func hostileNames(method: String) async throws {
    try await Workstation.with(.shell, Workstation.Setup(verifyMethod: method)) { lab in
      var files: [String: [UInt8]] = [:]
      for (number, name) in (Self.allowed + Self.refused).enumerated() { files[name] = Array("content \(number)".utf8) }
      files["$(touch pwned).d/;touch pwned;.d/-n"] = [1]
      let run = try lab.makeRun(project: "it's $(touch pwned); a project", files: files)

      let blocked = try await lab.nassync("enqueue", run)
      #expect(blocked.status == 3, "\(blocked)")
      try expectPrintable(blocked)
      #expect(blocked.text.contains("\\u{1b}"))
      let document = try await lab.nassync("--json", "gate", run)
      #expect(document.status == 3)
      let findings = document.json["verdict"]["blocking_findings"].elements
      #expect(Set(findings.map { $0["problem_class"] }) == [.string("illegal_filesystem_character")], "\(document)")
      #expect(findings.count == Self.refused.count, "\(document)")

      let added = try await lab.nassync("override", "add", run, "--class", "illegal_filesystem_character", "--reason", "the vendor's names")
      #expect(added.status == 0, "\(added)")
      try expectPrintable(added)
      for command in [["enqueue", run], ["drain"], ["status", run], ["status"], ["verify", run], ["history", run]] {
        let answer = try await lab.nassync(command)
        #expect(answer.status == 0, "\(answer)")
        try expectPrintable(answer)
      }
      let status = try await lab.nassync("--json", "status", run).json
      #expect(status["evidence"] == .string(method == "auto" ? "server" : "readback"))
      try await lab.expectVerified(run)

      // A mismatch names the file, and the name stays one that a terminal may show.
      let victim = lab.remote(run) + "/\u{1b}[31mred\u{1b}[0m"
      try Data("changed 12".utf8).write(to: URL(fileURLWithPath: victim))
      let verify = try await lab.nassync("verify", run)
      #expect(verify.status == 4)
      #expect(verify.text.contains("\\u{1b}[31mred"), "\(verify)")
      try expectPrintable(verify)
      try await expectNobodyObeyed(lab)
    }
  }

  /// Nothing but text and newlines.
  private func expectPrintable(_ answer: Workstation.Answer, sourceLocation: SourceLocation = #_sourceLocation) throws {
    for byte in (answer.text + answer.errorText).utf8 where byte < 0x20 && byte != 0x0a || byte == 0x7f {
      Issue.record("a raw control character \(byte) in \(answer)", sourceLocation: sourceLocation)
      return
    }
  }

  private func expectNobodyObeyed(_ lab: Workstation) async throws {
    for place in [lab.folder.path, lab.server.folder.path] {
      #expect(try await runProcess(["find", place, "-name", "pwned"]).text.isEmpty)
    }
    // Where a login shell would have made it.
    let home = getpwuid(geteuid()).map { String(cString: $0.pointee.pw_dir) } ?? "/"
    #expect(!FileManager.default.fileExists(atPath: home + "/pwned"))
    #expect(!FileManager.default.fileExists(atPath: "/pwned"))
  }
}
