import Foundation
import NASSync
import Testing

@testable import NASSyncCLI
import SyncModel

@Suite("What commands show")
struct RenderingTests {
  private let names = RunNames(seenFrom: "/data")

  @Test(
    "a word survives the shell",
    arguments: [
      ("/a/B-1.2_c,d@e:f+g", "/a/B-1.2_c,d@e:f+g"), ("", "''"), ("two words", "'two words'"), ("it's", #"'it'\''s'"#),
      ("$(rm)", "'$(rm)'"), ("Grün", "'Grün'"), ("~/x", "'~/x'"), ("a\nb'\\", #"$'a\x0ab\'\\'"#), ("\u{1b}[2J", #"$'\x1b[2J'"#),
      ("\u{202e}x", #"$'\xe2\x80\xaex'"#),
    ])
  func words(_ word: String, quoted: String) { #expect(shellWord(word) == quoted) }

  @Test(
    "bash reads back what was quoted", arguments: ["a\nb'\\", "\u{1b}[2J", "it's $(x) `y` \"z\"", "\u{202e}x", "-n", "a\u{7f}1", "😀 é"])
  func bash(_ word: String) throws {
    // Through a real shell, by popen: what matters is what it makes of the words.
    let stream = try #require(
      popen("LC_ALL=C.UTF-8 bash -c 'read -r -d \"\" line; eval \"printf %s $line\"' <<'EOT'\n\(shellWord(word))\nEOT", "r"))
    defer { pclose(stream) }
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = fread(&bytes, 1, bytes.count, stream)
    #expect(String(decoding: bytes.prefix(count), as: UTF8.self) == word)
  }

  @Test("runs are called as a person in that folder would type them")
  func runNames() {
    #expect(names.short("/data/A/b") == "A/b" && names.short("/database") == "/database" && names.short("/data") == "/data")
    #expect(RunNames(seenFrom: "/").short("/data/A") == "/data/A" && RunNames.whole.short("/data/A") == "/data/A")
    #expect(names.shown("/data/\u{7}") == "\\u{7}")
  }

  private func finding(_ problemClass: FindingClass, _ path: String?) -> Finding {
    Finding(problemClass, .hard, path: path, detail: "bad \u{1b}[31m", hint: "Mend it.")
  }

  @Test("a blocked run shows where, what, and the exact command")
  func findings() {
    let one = [finding(.caseCollision, nil), finding(.reservedFilesystemName, "a b/CON")]
    let lines = FindingText.lines(one)
    #expect(lines.contains("  reserved_filesystem_name  a b/CON") && lines.contains("    Mend it."))
    #expect(!lines.joined().contains("\u{1b}"))
    let steps = FindingText.nextSteps(one, run: "A/it's", config: "c.yaml")
    #expect(steps.contains(#"    nassync --config c.yaml override add 'A/it'\''s' --class case_collision --reason 'WHY'"#))
    #expect(
      steps.contains(
        #"    nassync --config c.yaml override add 'A/it'\''s' --class reserved_filesystem_name --path 'a b/CON' --reason 'WHY'"#))
  }

  @Test("several findings of a class take one command, and a class without override takes none")
  func commands() {
    let steps = FindingText.nextSteps(
      [finding(.caseCollision, "a"), finding(.caseCollision, "b"), finding(.malformedRecord, nil)], run: "r", config: nil)
    #expect(steps.filter { $0.contains("override add") } == ["    nassync override add r --class case_collision --reason 'WHY'"])
    #expect(steps.contains { $0.contains("malformed_record") && $0.contains("repaired") })
    // An override would let the run in, and the sending would fail.
    for vain in [FindingClass.specialFile, .unreadableFile, .changedAfterSync] {
      #expect(!FindingText.nextSteps([finding(vain, "a")], run: "r", config: nil).contains { $0.contains("override add") })
    }
    #expect(!FindingText.nextSteps([finding(.nameNotUTF8, "x")], run: "r", config: nil).contains { $0.contains("override add") })
    #expect(FindingText.lines(Array(repeating: finding(.caseCollision, nil), count: 70)).last == "  … and 20 more; `--json` lists all")
  }

  @Test("the command that is shown is understood")
  func commandsParse() throws {
    let step = try #require(
      FindingText.nextSteps([finding(.caseCollision, "a/b")], run: "A/r", config: nil).first { $0.contains("override add") })
    let words = step.split(separator: " ").dropFirst().map { $0.replacingOccurrences(of: "'", with: "") }
    let path = try RelativePath("a/b")
    #expect(
      try Arguments.parse(words).command
        == .overrideAdd(run: "A/r", problemClass: .caseCollision, reason: "WHY", path: path, expires: nil))
  }

  private func status(_ json: String) throws -> RunStatus {
    let base = #""run_path": "/data/A/r\u001b", "job_id": "j", "generation": 1, "attempts": 0, "files_done": 1, "verify_passes": 0"#
    return try JSONDecoder().decode(RunStatus.self, from: Data("{\(base), \(json)}".utf8))
  }

  @Test("100 % means every byte")
  func sent() throws {
    #expect(StatusText.sent(try status(#""state": "running", "files_total": 2, "bytes_total": 1000, "bytes_sent": 999"#)) == "99 %")
    #expect(StatusText.sent(try status(#""state": "running", "files_total": 2, "bytes_total": 1000, "bytes_sent": 1000"#)) == "100 %")
    #expect(StatusText.sent(try status(#""state": "queued", "files_total": 2, "bytes_total": 0, "bytes_sent": 0"#)) == "0 %")
    #expect(StatusText.sent(try status(#""state": "verified", "files_total": 0, "bytes_total": 0, "bytes_sent": 0"#)) == "100 %")
    #expect(StatusText.sent(try status(#""state": "none", "files_total": 0, "bytes_total": 0, "bytes_sent": 0"#)) == "")
  }

  @Test("a failed run says why and what to do, in the table and alone")
  func trouble() throws {
    let failed = try status(
      #""state": "failed", "files_total": 2, "bytes_total": 9, "bytes_sent": 3, "#
        + #""last_error": {"kind": "auth", "message": "no key fits", "retry": false, "hint": "Add one."}"#)
    let table = StatusText.table([failed], names: names, width: nil)
    #expect(table.count == 2 && table[1].contains("A/r\\u{1b}") && table[1].contains("auth: no key fits"))
    #expect(StatusText.details(failed).contains { $0.hasPrefix("next step") && $0.hasSuffix("Add one.") })
    #expect(StatusText.trouble(failed, names) == ["failed: A/r\\u{1b}", "  no key fits (auth)", "  Add one."])
    #expect(StatusText.table([], names: names, width: 80) == ["The queue is empty."])
  }

  private func progress(_ job: String, _ bytes: Int, _ total: Int) throws -> SyncEvent {
    let text = #"{"jobID": "\#(job)", "runPath": "/r", "filesDone": 1, "filesTotal": 2, "bytesSent": \#(bytes), "bytesTotal": \#(total)}"#
    return .progress(try JSONDecoder().decode(JobProgress.self, from: Data(text.utf8)))
  }

  @Test("the bar counts all runs together, finished ones in full and failed ones not")
  func drainProgress() throws {
    var all = DrainProgress([
      try status(#""state": "queued", "files_total": 4, "bytes_total": 100, "bytes_sent": 10"#),
      try JSONDecoder().decode(
        RunStatus.self,
        from: Data(
          (#"{"run_path": "/x", "job_id": "old", "generation": 1, "attempts": 0, "files_done": 1, "verify_passes": 1, "#
            + #""state": "verified", "files_total": 1, "bytes_total": 5000, "bytes_sent": 5000}"#).utf8)),
    ])
    #expect(all.reading(rate: nil).bytesTotal == 100 && all.bytesDone == 10)
    all.apply(try progress("j", 60, 100))
    all.apply(try progress("k", 5, 50))
    #expect(all.reading(rate: nil).bytesTotal == 150 && all.bytesDone == 65)
    all.apply(.stateChanged(jobID: "j", runPath: "/r", from: .awaitingVerify, to: .verified))
    #expect(all.bytesDone == 105 && all.reading(rate: nil).filesDone == 3)
    all.apply(.stateChanged(jobID: "k", runPath: "/r", from: .running, to: .failed))
    #expect(all.reading(rate: nil).bytesTotal == 100 && all.bytesDone == 100)
    all.apply(.verifying(jobID: "j", runPath: "/a/Run_1", filesProven: 3, filesTotal: 12))
    #expect(all.reading(rate: nil).current == "proving Run_1: 3 of 12 files")
  }

  @Test("an event is one line, whatever the names hold")
  func events() throws {
    let failure = SyncFailure(.network, "nas\ndown", hint: "Wait.")
    let events: [SyncEvent] = [
      .stateChanged(jobID: "j", runPath: "/data/a\nb", from: .queued, to: .running), .recovered(destination: "n\r"),
      .failed(jobID: "j", runPath: "/data/a\n", failure: failure, nextAttemptAt: 1e300), .outage(destination: "d", failure: failure),
      .warning(runPath: nil, message: "x\ny"), .blocked(runPath: "/r", findings: [finding(.caseCollision, "p\n")]), try progress("j", 1, 2),
    ]
    for event in events {
      let line = EventText.line(event, names)
      #expect(!line.isEmpty && !line.contains("\n") && !line.contains("\r") && !line.contains("\u{1b}"), "\(line)")
    }
    #expect(EventText.line(events[0], names) == "a\\u{a}b: being sent")
    #expect(EventText.weight(of: events[1]) == .change && EventText.weight(of: events[2]) == .trouble)
  }

  @Test("an integrity report names the file and the side")
  func integrity() throws {
    func report(_ mismatches: String, ok: Bool) throws -> IntegrityReport {
      let decoder = JSONDecoder()
      decoder.dateDecodingStrategy = .iso8601
      let text =
        #"{"run_path": "/data/A/r", "remote_path": "/nas/r", "ok": \#(ok), "files_checked": 2, "bytes_checked": 10, "#
        + #""evidence": "readback", "checked_at": "2026-10-18T09:14:22Z", "mismatches": [\#(mismatches)]}"#
      return try decoder.decode(IntegrityReport.self, from: Data(text.utf8))
    }
    let whole = try report("", ok: true)
    #expect(VerifyCommand.exitCode(whole) == .done)
    #expect(VerifyCommand.lines(whole, names, seconds: 1.5) == ["whole: A/r (2 files, 10 B, NAS by readback, 1.5 s)"])
    let broken = try report(#"{"path": "a.fcs", "place": "nas", "problem": "differs", "detail": "d"}"#, ok: false)
    #expect(VerifyCommand.exitCode(broken) == .mismatch)
    #expect(VerifyCommand.lines(broken, names, seconds: 0).contains("  different on the NAS: a.fcs"))
  }

  @Test("moments")
  func moments() {
    #expect(Moment.log(Date(timeIntervalSince1970: 1_792_314_862.9)) == "2026-10-18T09:14:22Z")
    #expect(Moment.log(Date(timeIntervalSince1970: -.greatestFiniteMagnitude)).hasSuffix("01-01T00:00:00Z"))
    #expect(Moment.local(Date(timeIntervalSince1970: .infinity)).count >= 19)
  }
}
