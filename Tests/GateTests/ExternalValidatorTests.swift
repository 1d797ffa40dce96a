import Executors
import Foundation
import Glibc
import SyncModel
import TestSupport
import Testing

@testable import Gate

/// Programs of the lab's own, real ones.
@Suite struct ExternalValidatorTests {
  private typealias F = GateFixture

  /// A program in a run's scratch folder, outside the run.
  private func program(_ run: F, _ text: String, timeout: Double = 20, outputLimit: Int = 16 << 20) throws -> ExternalValidator {
    try run.tree.write("check-run", text)
    chmod("\(run.tree.path)/check-run", 0o755)
    return ExternalValidator(command: ["\(run.tree.path)/check-run", "an argument; $HOME"], timeout: timeout, outputLimit: outputLimit)
  }

  private func findings(_ run: F, _ validator: ExternalValidator) async throws -> [Finding] {
    await validator.findings(for: try run.snapshot(), at: try run.location(), context: run.context)
  }

  /// The same with the time that it took, measured where nothing else is waited for.
  private func timed(_ run: F, _ validator: ExternalValidator) async throws -> (findings: [Finding], time: Duration) {
    let input = ValidatorInput(try run.snapshot(), try run.location(), run.context)
    let thread = ThreadExecutor(name: "timed")
    defer { thread.shutdown() }
    return await thread.run {
      var findings: [Finding] = []
      let time = ContinuousClock().measure { findings = validator.findings(input, stop: Interrupter()) }
      return (findings, time)
    }
  }

  /// What a shell script that goes wrong is blamed for.
  private func blame(_ script: String, timeout: Double = 20, outputLimit: Int = 16 << 20) async throws -> String {
    let run = try F()
    try run.write("f")
    let found = try await findings(run, try program(run, "#!/bin/sh\n" + script, timeout: timeout, outputLimit: outputLimit))
    #expect(found.count == 1 && found.first?.problemClass == .validatorFailed && found.first?.tier == .hard, "\(found)")
    #expect(found.first?.validator == "check-run" && found.first?.hint.isEmpty == false)
    #expect(found.first?.detail.contains("the validator check-run ") == true)
    return found.first?.detail ?? ""
  }

  private let nothing = #"cat >/dev/null; echo '{"findings": []}'"#

  @Test func itsFindingsCountLikeAnyOther() async throws {
    var run = try F(record: F.record(overrides: "[\(F.entry("i1", FindingClass(rawValue: "too_blue")))]"))
    try run.write("CON")
    try run.write("blue.fcs")
    let validator = try program(
      run,
      """
      #!/bin/sh
      cat >/dev/null
      cat <<'END'
      {"schema_version": "1.0", "later": true, "findings": [
        {"problem_class": "too_blue", "tier": "hard", "path": "blue.fcs", "detail": "it is blue", "location": "event 3", "hint": "Repaint it."},
        {"problem_class": "too_red", "tier": "hard", "path": null, "detail": "it is red\\u001b[31m"},
        {"problem_class": "empty_file", "tier": "soft", "detail": "$HOME", "hint": null}]}
      END
      """)
    run.context.now = 1_800_000_000
    let verdict = try await run.verdict(CompositeValidator([BuiltInValidator(), validator]))
    // The built-in rule's finding is there as well, and nobody could take it back.
    #expect(verdict.blocking.map(\.problemClass.rawValue) == ["reserved_filesystem_name", "too_red"])
    #expect(verdict.blocking.map(\.validator) == [nil, "check-run"])
    #expect(verdict.overridden.map(\.finding.detail) == ["it is blue"])
    #expect(verdict.overridden.first?.finding.location == "event 3" && verdict.overridden.first?.finding.hint == "Repaint it.")
    #expect(verdict.informing.contains { $0.detail == "$HOME" && !$0.hint.isEmpty })
  }

  @Test func whatItIsGiven() async throws {
    let run = try F()
    try run.write("f")
    let validator = try program(
      run,
      """
      #!/bin/sh
      cat >/dev/null
      printf '{"findings": [{"problem_class": "seen", "tier": "soft", "detail": "%s|%s|%s|%s|%s"}]}' \\
        "$(pwd)" "$1" "$(ls /proc/self/fd | tr '\\n' ' ')" "${SECRET_OF_THE_SERVICE-none}" "$(cut -d' ' -f5 /proc/$$/stat)=$$"
      """)
    setenv("SECRET_OF_THE_SERVICE", "hunter2", 1)
    let parts = try #require(try await findings(run, validator).first).detail.split(separator: "|").map(String.init)
    #expect(parts.count == 5, "\(parts)")
    #expect(parts.first == "/" && parts.dropFirst().first == "an argument; $HOME")
    // The three streams, and the folder that `ls` itself reads.
    #expect(parts.dropFirst(2).first == "0 1 2 3 ")
    #expect(parts.dropFirst(3).first == "none")
    let ids = try #require(parts.last).split(separator: "=")
    #expect(ids.first == ids.last, "a process group of its own")
  }

  @Test func aCrashBlocks() async throws {
    #expect(try await blame("cat >/dev/null; kill -SEGV $$").contains("signal 11"))
    let status = try await blame("cat >/dev/null; echo '{\"findings\":[]}'; printf 'no \\033[31mreader\\n' >&2; exit 3")
    #expect(status.contains("exit status 3") && status.contains(#"it said: “no \u{1b}[31mreader”"#), "\(status)")
    let talkative = try await blame("cat >/dev/null; head -c 300000 /dev/zero | tr '\\0' x >&2; echo END >&2; exit 1")
    #expect(talkative.contains("xEND") || talkative.contains("x\\u{a}END"), "\(talkative.suffix(40))")
    #expect(talkative.utf8.count < 4500)
  }

  @Test(arguments: [
    ("", "nothing at all"), ("[]", "not an object"), ("{", "no JSON"), ("{}", "findings"), (#"{"findings": {}}"#, "findings"),
    (#"{"findings": [], "findings": []}"#, "findings"), (#"{"findings": [1]}"#, "findings[0]"), (#"{"findings": []} x"#, "no JSON"),
    (#"{"findings": [{"tier": "hard", "detail": "d"}]}"#, "problem_class"),
    (#"{"findings": [{"problem_class": "Bad Name", "tier": "hard", "detail": "d"}]}"#, "snake_case"),
    (#"{"findings": [{"problem_class": "a", "tier": "fatal", "detail": "d"}]}"#, "tier"),
    (#"{"findings": [{"problem_class": "a", "tier": "hard"}]}"#, "detail"),
    (#"{"findings": [{"problem_class": "a", "tier": "hard", "detail": 3}]}"#, "detail is not a string"),
    (#"{"findings": [{"problem_class": "a", "tier": "hard", "detail": "d", "path": ["x"]}]}"#, "path is not a string"),
    (#"{"findings": [{"problem_class": "a", "tier": "soft", "tier": "hard", "detail": "d"}]}"#, "tier stands there twice"),
  ])
  func anAnswerThatIsNotAsAgreedBlocks(answer: String, told: String) async throws {
    let detail = try await blame("cat >/dev/null; printf '%s' '\(answer)'")
    #expect(detail.contains("did not answer as agreed") && detail.contains(told), "\(detail)")
  }

  @Test func aTimeOutEndsItAndAllThatItStarted() async throws {
    let run = try F()
    try run.write("f")
    let script = """
      #!/bin/sh
      trap '' TERM
      sh -c 'trap "" TERM; while :; do sleep 0.1; done' &
      echo $! > "$(dirname "$0")/child"
      echo $$ > "$(dirname "$0")/self"
      while :; do sleep 0.1; done
      """
    let (found, time) = try await timed(run, try program(run, script, timeout: 1.5))
    #expect(found.first?.detail.contains("did not end within 1.5 s") == true, "\(found)")
    #expect(time < .seconds(8))
    for name in ["child", "self"] {
      let id = try #require(Int32(String(decoding: try run.tree.read(name), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)))
      // The program itself is no zombie of ours; what it left is for init to collect.
      #expect(name == "self" ? kill(id, 0) != 0 : !ProcessTree.isAlive(id), "\(name)")
    }
  }

  @Test func aFloodEnds() async throws {
    let told = try await blame("cat >/dev/null; exec yes '{\"findings\": ['", outputLimit: 1 << 20)
    #expect(told.contains("more than 1024 KiB"), "\(told)")
  }

  @Test func findingsWithoutEndAreCounted() async throws {
    let run = try F()
    try run.write("f")
    let script = """
      #!/bin/sh
      cat >/dev/null
      printf '{"findings": ['
      seq -f '{"problem_class": "much", "tier": "hard", "path": "%.0f", "detail": "d"},' 1 20000
      printf '{"problem_class": "much", "tier": "hard", "detail": "d"}]}'
      """
    let found = try await findings(run, try program(run, script, timeout: 60))
    #expect(found.count == 1001)
    #expect(found.last?.detail.contains("19001 more") == true && found.last?.path == nil)
  }

  /// Whatever the size of the run: a program that has not read it cannot have judged it.
  @Test(arguments: [1, 3000]) func notReadingTheRunBlocks(files: Int) async throws {
    let run = try F()
    for number in 0..<files { try run.write("a-name-of-some-length-\(number)") }
    for script in [
      "echo '{\"findings\": []}'", "exec <&-; sleep 0.2; echo '{\"findings\": []}'", "head -c 10 >/dev/null; echo '{\"findings\": []}'",
    ] {
      let found = try await findings(run, try program(run, "#!/bin/sh\n\(script)\n"))
      #expect(found.first?.detail.contains("without having read all") == true, "\(script): \(found)")
    }
  }

  @Test func aGrandchildThatHoldsTheOutputIsNotWaitedFor() async throws {
    let held = try F()
    try held.write("f")
    let loose = try program(held, "#!/bin/sh\ncat >/dev/null\nsleep 300 &\necho '{\"findings\": []}'\n", timeout: 60)
    let (told, time) = try await timed(held, loose)
    #expect(told.first?.detail.contains("still holds its standard output") == true, "\(told)")
    #expect(time < .seconds(20))
    // One that holds only standard error is nobody's business, and is ended with the program's group.
    let run = try F()
    try run.write("f")
    let quiet = try program(
      run, "#!/bin/sh\ncat >/dev/null\nsleep 300 >/dev/null &\necho $! > \"$(dirname \"$0\")/child\"\necho '{\"findings\": []}'\n")
    #expect(try await findings(run, quiet).isEmpty)
    let id = try #require(
      Int32(String(decoding: try run.tree.read("child"), as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)))
    // A killed process takes a moment to be gone.
    let deadline = ContinuousClock.now + .seconds(30)
    while ProcessTree.isAlive(id), .now < deadline { try await Task.sleep(nanoseconds: 10_000_000) }
    #expect(!ProcessTree.isAlive(id))
  }

  @Test func whatCannotBeStartedBlocks() async throws {
    let run = try F()
    try run.write("f")
    try run.tree.write("plain", "#!/bin/sh\n")
    chmod("\(run.tree.path)/plain", 0o644)
    try run.tree.write("noise", [0, 1, 2, 3])
    chmod("\(run.tree.path)/noise", 0o755)
    try run.tree.write("lost", "#!/no/such/interpreter\n")
    chmod("\(run.tree.path)/lost", 0o755)
    for (command, told) in [
      (["/no/such/program"], "No such file"), (["no-such-program-of-the-lab"], "PATH"),
      ([run.tree.path], "no file that this user may execute"),
      (["\(run.tree.path)/plain"], "may execute"), (["\(run.tree.path)/noise"], "Exec format"), (["\(run.tree.path)/lost"], "No such file"),
      ([], "no name"),
    ] {
      let found = try await findings(run, ExternalValidator(command: command, timeout: 5))
      #expect(found.map(\.problemClass) == [.validatorFailed] && found.first?.detail.contains(told) == true, "\(command): \(found)")
    }
    // A bare name is looked up.
    let found = try await findings(run, ExternalValidator(command: ["sh", "-c", nothing], timeout: 20))
    #expect(found.isEmpty, "\(found)")
  }

  /// As while somebody saves it: the kernel starts no program that is open for writing.
  @Test func oneThatIsBeingSavedIsWaitedFor() async throws {
    let run = try F()
    try run.write("f")
    let validator = try program(run, "#!/bin/sh\n" + nothing)
    let path = "\(run.tree.path)/check-run"
    let writing = open(path, O_WRONLY | O_CLOEXEC)
    try #require(writing >= 0)
    let saving = Task.detached {
      usleep(200_000)
      close(writing)
    }
    let found = try await findings(run, validator)
    #expect(found.isEmpty, "\(found)")
    await saving.value
    // And one that stays so is told.
    let kept = open(path, O_WRONLY | O_CLOEXEC)
    defer { close(kept) }
    let told = try await findings(run, validator)
    #expect(told.map(\.problemClass) == [.validatorFailed] && told.first?.detail.contains("Text file busy") == true, "\(told)")
  }

  @Test func cancellingStopsItAtOnce() async throws {
    let run = try F()
    try run.write("f")
    let validator = try program(
      run, "#!/bin/sh\necho $$ > \"$(dirname \"$0\")/self\"\ntrap '' TERM\nwhile :; do sleep 0.1; done\n", timeout: 600)
    let asking = Task { try await findings(run, validator) }
    while access("\(run.tree.path)/self", F_OK) != 0 { try await Task.sleep(for: .milliseconds(5)) }
    let clock = ContinuousClock()
    let start = clock.now
    asking.cancel()
    let found = try await asking.value
    // Other tests are busy meanwhile; ten minutes it was not.
    #expect(clock.now - start < .seconds(60))
    #expect(found.map(\.problemClass) == [.validatorFailed])
  }

  /// It talks before it has read, reads slowly, and writes more than a pipe holds: nobody waits for the other for ever.
  @Test func aHundredThousandFiles() async throws {
    let run = try F()
    let print = FileFingerprint(device: 1, inode: 1, size: 1, modified: 1_700_000_000_123_456_789, changed: 0, mode: 0o644)
    let entries = try (0..<100_000).map { number in
      RunEntry(path: try RelativePath("folder/a-file-of-the-run-\(number).fcs"), kind: .file, fingerprint: print)
    }
    let snapshot = RunSnapshot(
      root: run.root, metadataFolder: ".exlab-wizard", entries: entries, excluded: [], record: nil, recordUnreadable: nil)
    let validator = try program(
      run,
      """
      #!/usr/bin/env python3
      import json, sys
      sys.stdout.write(" " * 1000000 + '{"findings": [')
      sys.stdout.flush()
      run = json.load(sys.stdin)
      names = [e["path"] for e in run["entries"]]
      assert len(names) == 100000 and names[-1] == "folder/a-file-of-the-run-99999.fcs"
      print(json.dumps({"problem_class": "counted", "tier": "soft", "detail": str(len(set(names)))}) + "]}")
      """, timeout: 120)
    let found = await validator.findings(for: snapshot, at: try run.location(), context: run.context)
    #expect(found.map(\.detail) == ["100000"])
  }

  /// What is written is what the schema promises, seen by a validator of schemas that is none of ours.
  @Test func theInputFollowsItsSchema() async throws {
    var run = try F()
    try run.write("sub/notes \"1\".txt")
    try run.write(bytes: [0x61, 0xff, 0x0a])
    try run.write("left.tmp")
    try run.tree.link("\(run.place)/link", to: "sub")
    mkfifo("\(run.root)/pipe", 0o600)
    let digest = try #require(ContentDigest(hex: String(repeating: "ab", count: 32)))
    run.context.published = [
      try RelativePath("sub/old.txt"): PublishedComponent(
        digest: digest, fingerprint: FileFingerprint(device: 0, inode: 0, size: 7, modified: -1, changed: 0, mode: 0))
    ]
    let snapshot = try run.snapshot(excluding: ["*.tmp"])
    let input = ValidatorInput(snapshot, try run.location(), run.context).wholeText
    try run.tree.write("input.json", input)
    let unreadable = RunSnapshot(
      root: run.root, metadataFolder: ".exlab-wizard", entries: [], excluded: [], record: [0xff], recordUnreadable: nil)
    try run.tree.write("second.json", ValidatorInput(unreadable, try run.location(), run.context).wholeText)
    try run.tree.write("output.json", #"{"findings": [{"problem_class": "a_b", "tier": "soft", "detail": "d", "path": null}]}"#)
    try run.tree.write("wrong.json", #"{"findings": [{"problem_class": "A", "tier": "soft", "detail": "d"}]}"#)
    let script = """
      import json, sys, jsonschema
      folder, schemas = sys.argv[1:]
      def check(schema, document):
          rules = json.load(open(f"{schemas}/validator-{schema}.schema.json", encoding="utf-8"))
          jsonschema.Draft202012Validator.check_schema(rules)
          jsonschema.Draft202012Validator(rules).validate(json.load(open(f"{folder}/{document}", encoding="utf-8")))
      check("input", "input.json"); check("input", "second.json"); check("output", "output.json")
      try:
          check("output", "wrong.json")
          sys.exit("a wrong answer was let through")
      except jsonschema.ValidationError:
          pass
      """
    let result = try await runProcess(["python3", "-c", script, run.tree.path, try Self.repository() + "/Specs/schemas"])
    #expect(result.status == 0, "\(result.errorText)")

    let object = try #require(try JSONSerialization.jsonObject(with: Data(input)) as? [String: Any])
    let entries = try #require(object["entries"] as? [[String: Any]])
    #expect(entries.count == snapshot.entries.count)
    #expect(
      entries.contains {
        $0["path_bytes"] as? String == Data([0x61, 0xff, 0x0a]).base64EncodedString() && $0["path"] as? String == "a\\xff\\u{a}"
      })
    #expect(entries.contains { $0["kind"] as? String == "symlink" && $0["target"] as? String == "sub" })
    #expect((object["excluded"] as? [[String: Any]])?.count == 1)
    #expect(object["record"] as? String == F.goodRecord)
    #expect(String(decoding: input, as: UTF8.self).contains(#""size":7,"mtime":-0.000000001"#))
  }

  /// The example in `equipment/`, as it is.
  @Test func theExampleFindsFilesThatWereCutShort() async throws {
    let run = try F()
    let example = ExternalValidator(command: [try Self.repository() + "/equipment/validators/require-fcs.py"], timeout: 60)
    let whole = Self.fcs()
    try run.tree.write("\(run.place)/good.fcs", whole)
    try run.tree.write("\(run.place)/notes.txt", [1])
    #expect(try await findings(run, example).isEmpty)
    try run.tree.write("\(run.place)/cut.FCS", Array(whole.dropLast(10)))
    try run.tree.write("\(run.place)/head.fcs", Array(whole.prefix(30)))
    try run.tree.write("\(run.place)/other.fcs", "RIFF")
    try run.tree.write(bytes: Array("\(run.place)/".utf8) + [0xff] + Array(".fcs".utf8), [1])
    let found = try await findings(run, example)
    #expect(Set(found.map { $0.path ?? "" }) == ["cut.FCS", "head.fcs", "other.fcs", "\\xff.fcs"])
    #expect(found.allSatisfy { $0.problemClass.rawValue == "incomplete_fcs" && $0.tier == .hard && $0.validator == "require-fcs.py" })
    #expect(found.first { $0.path == "cut.FCS" }?.detail.contains("cut short") == true)
    #expect(try await run.verdict(CompositeValidator([BuiltInValidator(), example])).isOpen == false)
  }

  /// A small FCS 3.0 file: header, TEXT, DATA of four floats.
  static func fcs() -> [UInt8] {
    func text(_ begin: Int, _ end: Int) -> String {
      func padded(_ number: Int) -> String { String(repeating: "0", count: 8 - String(number).count) + String(number) }
      return "|$BEGINDATA|\(padded(begin))|$ENDDATA|\(padded(end))|$BYTEORD|1,2,3,4|$DATATYPE|F|$MODE|L|$PAR|1|$TOT|4|$P1B|32|$P1N|FSC||A|"
    }
    let begin = 58 + text(0, 0).utf8.count
    func column(_ number: Int) -> String { String(repeating: " ", count: 8 - String(number).count) + String(number) }
    let header = "FCS3.0    " + [58, begin - 1, begin, begin + 15, 0, 0].map(column).joined()
    return Array((header + text(begin, begin + 15)).utf8) + [UInt8](repeating: 0, count: 16)
  }

  /// The folder of the package.
  static func repository(_ file: String = #filePath) throws -> String {
    var url = URL(fileURLWithPath: file)
    for _ in 0..<3 { url.deleteLastPathComponent() }
    return url.path
  }
}
