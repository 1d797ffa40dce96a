import Foundation
import SyncModel
import TestSupport
import Testing

@testable import Gate

/// The chain through a record's overrides.
@Suite struct OverrideLedgerTests {
  private typealias F = GateFixture

  private func entry(_ id: String, _ reason: String = "known \u{e9}\u{1}\n\u{1f600}/") -> OverrideEntry {
    .override(
      Override(id: id, problemClass: .reservedFilesystemName, operatorName: "asmith", recordedAt: 0, reason: reason, path: "a\\xff"))
  }

  private func record(_ text: String = F.goodRecord) throws -> RunRecord { try RunRecord(parsing: Array(text.utf8)) }

  private func chain(_ count: Int, from text: String = F.goodRecord) throws -> RunRecord {
    try (0..<count).reduce(try record(text)) { record, number in
      number % 3 == 2
        ? try record.appending(
          .revocation(Revocation(id: "r\(number)", revokes: "i0", operatorName: "b", recordedAt: 1, reason: "over")))
        : try record.appending(entry("i\(number)"))
    }
  }

  @Test func whatIsWrittenIsWhole() throws {
    let ledger = try chain(5).ledger
    #expect(ledger.entries == 5 && ledger.chained == 5 && ledger.faults.isEmpty)
    #expect(try record().ledger.entries == 0)
    // The first entry follows nothing.
    #expect(String(decoding: try chain(1).document.bytes, as: UTF8.self).contains(#""previous_sha256": "\#(OverrideLedger.start)""#))
    // One of another program is taken, and what comes after it hangs on it.
    let mixed = try chain(2, from: F.record(overrides: "[\(F.entry("theirs", .emptyRun))]")).ledger
    #expect(mixed.entries == 3 && mixed.chained == 2 && mixed.faults.isEmpty)
  }

  /// The hash as `Specs/gate.md` describes it, worked out by a program that shares nothing with ours.
  @Test func theHashIsWhatTheSpecificationSays() async throws {
    let tree = try TemporaryTree()
    try tree.write("creation.json", try chain(4).document.bytes)
    let script = """
      import hashlib, json, sys
      before = None
      for entry in json.load(open(sys.argv[1], encoding="utf-8"))["validation_overrides"]:
          text = json.dumps(before, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
          for short, long in (("\\\\n", "\\\\u000a"), ("\\\\r", "\\\\u000d"), ("\\\\t", "\\\\u0009")):
              text = text.replace(short, long)
          wanted = hashlib.sha256(text.encode()).hexdigest() if before else "0" * 64
          assert entry["previous_sha256"] == wanted, (entry, text)
          before = entry
      """
    let result = try await runProcess(["python3", "-c", script, "\(tree.path)/creation.json"])
    #expect(result.status == 0, "\(result.errorText)")
  }

  /// Another program writes the record anew, in its own way.
  @Test(arguments: [
    "json.dump(d, f)", "json.dump(d, f, indent=4, sort_keys=True)", "json.dump(d, f, ensure_ascii=False, separators=(',', ':'))",
  ])
  func anotherProgramMayRewriteTheRecord(how: String) async throws {
    let foreign =
      #"[{"id": "t", "problem_class": "empty_run", "operator": "o", "recorded_at": "2026-01-01T00:00:00Z", "reason": "\u00fc\/","#
      + #" "weight": 1.50e+2, "n": [-0, 0.10, 12345678901234567890, true, null], "revoked": false}]"#
    let tree = try TemporaryTree()
    try tree.write("creation.json", try chain(3, from: F.record(overrides: foreign)).document.bytes)
    let script =
      "import json, sys\np = sys.argv[1]\nd = json.load(open(p, encoding='utf-8'))\nwith open(p, 'w', encoding='utf-8') as f: \(how)\n"
    let result = try await runProcess(["python3", "-c", script, "\(tree.path)/creation.json"])
    #expect(result.status == 0, "\(result.errorText)")
    let rewritten = try RunRecord(parsing: try tree.read("creation.json"))
    #expect(rewritten.ledger.entries == 4 && rewritten.ledger.faults.isEmpty, "\(rewritten.ledger)")
    #expect(try rewritten.appending(entry("more")).ledger.faults.isEmpty)
  }

  @Test func numbersHaveOneSpelling() {
    for (spelling, canonical) in [
      ("150", "15e1"), ("1.50e+2", "15e1"), ("150.0", "15e1"), ("-0", "0"), ("0.000", "0"), ("0e9", "0"), ("-0.010", "-1e-2"),
      ("1e400", "1e400"), ("10E-1", "1e0"), ("12345678901234567890123", "12345678901234567890123e0"),
      ("1e99999999999999999999", "1e99999999999999999999"),
    ] {
      #expect(String(decoding: CanonicalJSON.number(Array(spelling.utf8)), as: UTF8.self) == canonical, "\(spelling)")
    }
  }

  @Test func tamperingIsFound() throws {
    let text = String(decoding: try chain(5).document.bytes, as: UTF8.self)
    func faults(_ text: String) throws -> [Int] { try record(text).ledger.faults.map(\.entry) }
    #expect(try faults(text) == [])
    #expect(try faults(text.replacing("\"i1\"", with: "\"i9\"")) == [3])
    #expect(try faults(text.replacing("asmith", with: "bsmith", maxReplacements: 2)) == [2])
    var object = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let entries = try #require(object["validation_overrides"] as? [Any])
    func rewritten(_ list: [Any]) throws -> [Int] {
      object["validation_overrides"] = list
      return try faults(String(decoding: try JSONSerialization.data(withJSONObject: object), as: UTF8.self))
    }
    #expect(try rewritten(entries) == [])
    #expect(try rewritten(Array(entries.dropFirst())) == [1])
    #expect(try rewritten([entries[0], entries[1], entries[3], entries[4]]) == [3])
    #expect(try rewritten([entries[0], entries[2], entries[1], entries[3], entries[4]]) == [2, 3, 4])
    // What the chain alone cannot see; the receipt and the queue can.
    #expect(try rewritten(Array(entries.dropLast())) == [])
  }

  @Test func theGateSaysItAndGoesOn() async throws {
    let text = String(decoding: try chain(2).document.bytes, as: UTF8.self).replacing("\"i0\"", with: "\"i7\"")
    let run = try F(record: text)
    try run.write("f")
    let verdict = try await run.verdict()
    #expect(verdict.isOpen)
    #expect(verdict.informing.map(\.problemClass) == [.overrideLedgerBroken])
    #expect(verdict.informing.first?.detail.contains("entry 2 of validation_overrides (i1)") == true)
  }

  @Test func aLapsedOverrideIsNamed() async throws {
    let expired = F.entry("i1", .reservedFilesystemName, more: #""expires_at": "2026-10-18T09:14:22Z", "#)
    let run = try F(record: F.record(overrides: "[\(expired)]"))
    try run.write("CON")
    #expect(try await run.verdict().blocking.first?.detail.contains("the override i1 expired at 2026-10-18T09:14:22Z") == true)
    let revoked = try F(record: F.record(overrides: "[\(expired), \(F.revocation("i2", of: "i1"))]"))
    try revoked.write("CON")
    #expect(try await revoked.verdict().blocking.first?.detail.contains("i1 was revoked by asmith at 2026-05-01T11:02:14Z") == true)
  }

  /// Everything that a record may hold beside the keys that are ours stays byte for byte.
  @Test func nothingElseIsTouched() throws {
    let odd =
      #""n": [1e400, -0, 1.0, 0.10, 1E+2], "e": "\u00e9\/\ud83d\ude00é", "twice": 1, "twice": 2, "deep": "#
      + String(repeating: "[", count: 100) + String(repeating: "]", count: 100)
    for before in [
      "{\r\n  \(odd),\r\n  \"validation_overrides\": []\r\n}\r\n", "{\(odd)}", "{ \"validation_overrides\" :[ ] ,\(odd) }\n\n",
      "{\n\t\(odd)\n}",
    ] {
      let after = String(decoding: try record(before).appending(entry("x")).document.bytes, as: UTF8.self)
      #expect(after.contains(odd), "\(before)")
      #expect(try record(after).overrides.count == 1)
      #expect(after.hasSuffix(before.hasSuffix("\r\n") ? "}\r\n" : before.hasSuffix("\n\n") ? "}\n\n" : "}"))
      // Where it stood in lines ended by CR LF, it stands so still.
      if before.contains("\r\n") { #expect(!after.replacing("\r\n", with: "").utf8.contains(0x0a)) }
    }
    // A byte order mark is no JSON, and a record with one is refused rather than rewritten without it.
    #expect(throws: RecordError.self) { try record("\u{feff}{}") }
    #expect(throws: RecordError.self) {
      try record("{\"deep\":" + String(repeating: "[", count: 200) + String(repeating: "]", count: 200) + "}")
    }
  }
}
