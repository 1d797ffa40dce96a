import Foundation
import NASSync
import SyncModel
import Testing

@testable import NASSyncCLI

@Suite("How commands end, and what --json says")
struct OutcomeTests {
  @Test("the most serious exit code wins")
  func worst() {
    #expect(ExitCode.worst([ExitCode]()) == .done)
    let order: [ExitCode] = [.usage, .failed, .mismatch, .blocked, .tryAgainLater, .done]
    for (index, code) in order.enumerated() {
      #expect(ExitCode.worst(order[index...]) == code)
      #expect(ExitCode.worst(order[index...].reversed()) == code)
    }
  }

  @Test("each kind of failure has its exit code")
  func kinds() {
    let expected: [SyncFailure.Kind: ExitCode] = [
      .misconfigured: .usage, .blocked: .blocked, .hashMismatch: .mismatch, .remoteCorrupted: .mismatch,
    ]
    for kind in SyncFailure.Kind.allCases { #expect(ExitCode(kind) == expected[kind] ?? .failed, "\(kind)") }
  }

  @Test("a drain fails before it is blocked, and is blocked before it waits")
  func drain() throws {
    let run =
      #"{"run_path": "/r", "state": "failed", "generation": 1, "attempts": 1, "files_total": 1, "files_done": 0,"#
      + #" "bytes_total": 7, "bytes_sent": 0, "verify_passes": 0}"#
    func report(_ failed: Int, _ blocked: Int, _ waiting: Int) throws -> DrainReport {
      func list(_ count: Int) -> String { "[" + Array(repeating: run, count: count).joined(separator: ",") + "]" }
      let text =
        #"{"done": [], "failed": \#(list(failed)), "blocked": \#(list(blocked)), "waiting": \#(list(waiting)), "elsewhere": false, "failedBefore": 0}"#
      return try JSONDecoder().decode(DrainReport.self, from: Data(text.utf8))
    }
    #expect(DrainCommand.exitCode(try report(0, 0, 0)) == .done)
    #expect(DrainCommand.exitCode(try report(0, 0, 1)) == .tryAgainLater)
    #expect(DrainCommand.exitCode(try report(0, 1, 1)) == .blocked)
    #expect(DrainCommand.exitCode(try report(1, 1, 1)) == .failed)
    #expect(DrainCommand.summary(try report(0, 0, 0)) == ["Nothing was due."])
    #expect(DrainCommand.summary(try report(1, 0, 2)) == ["1 failed, 2 waiting for a later try."])
  }

  @Test(
    "check distinguishes what to mend from what to wait for",
    arguments: [
      (nil, true, .done), ("misconfigured", false, .usage), ("network", false, .tryAgainLater), ("timeout", false, .tryAgainLater),
      ("host_key", false, .failed), ("auth", false, .failed), (nil, false, .failed),
    ] as [(String?, Bool, ExitCode)])
  func check(_ kind: String?, ok: Bool, code: ExitCode) throws {
    let error = kind.map { #", "error": {"kind": "\#($0)", "message": "m", "retry": true, "hint": "h"}"# } ?? ""
    let text = #"{"equipment_id": "A", "label": "L", "address": "sftp://h", "ok": \#(ok), "lines": []\#(error)}"#
    #expect(CheckCommand.exitCode(try JSONDecoder().decode(CheckReport.self, from: Data(text.utf8))) == code)
  }

  private func object(_ value: some Encodable) throws -> [String: Any] {
    try #require(try JSONSerialization.jsonObject(with: Data(try JSONOutput.text(value).utf8)) as? [String: Any])
  }

  @Test("an error is a document with exactly the contract's keys")
  func errorDocument() throws {
    let failure = CommandFailure(SyncFailure(.hostKey, "the key of n\u{1b}as changed", hint: "Ask why."))
    #expect(failure.exit == .failed)
    let document = try object(ErrorDocument(failure))
    #expect(Array(document.keys) == ["error"])
    let error = try #require(document["error"] as? [String: Any])
    #expect(Set(error.keys) == ["kind", "message", "retry", "hint"])
    #expect(error["kind"] as? String == "host_key" && error["retry"] as? Bool == false)
    #expect(failure.lines == ["nassync: the key of n\\u{1b}as changed", "Ask why."])
    #expect(try object(ErrorDocument(failure, run: "a/b"))["run_path"] as? String == "a/b")
  }

  @Test("a configuration's problems are all told, with their places")
  func configurationDocument() throws {
    let failure = CommandFailure(
      ConfigurationError([
        .init(file: "/c.yaml", line: 3, column: 1, keyPath: "workers", message: "is no number", hint: "write 4"),
        .init(message: "another", hint: "mend it"),
      ]))
    #expect(failure.exit == .usage && failure.lines.count == 2)
    let error = try #require(try object(ErrorDocument(failure))["error"] as? [String: Any])
    let problems = try #require(error["problems"] as? [[String: Any]])
    #expect(problems.count == 2 && problems[0]["key_path"] as? String == "workers" && problems[0]["line"] as? Int == 3)
    #expect(error["kind"] as? String == "misconfigured")
  }

  @Test("a command line that cannot be understood says how it is used")
  func usage() throws {
    let failure = CommandFailure(try #require(throws: UsageError.self) { try Arguments.parse(["stat"]) })
    #expect(failure.exit == .usage && failure.kind == "usage")
    #expect(failure.lines.contains("Did you mean status?") && failure.lines.first == "nassync: there is no command stat")
  }

  @Test("a handle, snake case throughout, dates with Z")
  func handle() throws {
    let text = #"{"jobID": "j", "state": "queued", "runPath": "/a/b", "blockingFindings": [], "jobState": "verified", "unchanged": true}"#
    let document = try object(try JSONDecoder().decode(SyncJobHandle.self, from: Data(text.utf8)))
    #expect(Set(document.keys) == ["job_id", "state", "run_path", "blocking_findings", "job_state", "unchanged"])
    #expect(try JSONOutput.text([Date(timeIntervalSince1970: 1_792_314_862)]).contains(#""2026-10-18T09:14:22Z""#))
    #expect(try JSONOutput.text(["a/b"]).contains("a/b"))
  }

  @Test("names in JSON are the names, and nothing that a terminal would act on")
  func namesInJSON() throws {
    let name = "\u{1b}]0;x\u{7}\u{7f}\u{85}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\u{feff}\u{e0041}\n\"\\é日𝔘"
    let text = try JSONOutput.text([name])
    #expect(text.unicodeScalars.allSatisfy { $0 == "\n" || displayText(String($0)) == String($0) }, "\(displayText(text))")
    #expect(text.contains(#"\u007f\u0085\u009b31m\u202e"#) && text.contains(#"\udb40\udc41"#) && text.contains("é日𝔘"))
    #expect(try JSONDecoder().decode([String].self, from: Data(text.utf8)) == [name])
  }

  @Test("the end of an override")
  func overrideEnd() {
    #expect(OverrideAddCommand.moment(.at(5), now: 100) == Date(timeIntervalSince1970: 5))
    #expect(OverrideAddCommand.moment(.after(5), now: 100) == Date(timeIntervalSince1970: 105))
  }
}
