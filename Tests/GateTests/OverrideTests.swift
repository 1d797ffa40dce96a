import Foundation
import Gate
import SyncModel
import TestSupport
import Testing

@Suite struct OverrideTests {
  private typealias F = GateFixture

  private func verdict(_ overrides: [String], files: [String] = ["a:b"], now: Double = 1_800_000_000) async throws -> GateVerdict {
    var run = try F(record: F.record(overrides: "[\(overrides.joined(separator: ","))]"))
    for name in files { try run.write(name) }
    run.context.now = now
    return try await run.verdict()
  }

  @Test func anActiveOverrideLetsItsClassPass() async throws {
    let open = try await verdict([F.entry("i1", .illegalFilesystemCharacter)])
    #expect(open.isOpen)
    #expect(open.overridden.map(\.overrideID) == ["i1"])
    #expect(open.activeOverrides.map(\.operatorName) == ["asmith"])
    let other = try await verdict([F.entry("i1", .reservedFilesystemName)])
    #expect(!other.isOpen)
    #expect(other.activeOverrides.isEmpty)
  }

  @Test func aPathNarrowsIt() async throws {
    let narrow = F.entry("i1", .illegalFilesystemCharacter, more: #""path": "sub/a:b", "#)
    #expect(try await verdict([narrow], files: ["sub/a:b"]).isOpen)
    #expect(try await verdict([narrow], files: ["sub/a:b", "a:b"]).blocking.map(\.path) == ["a:b"])
    // The same letters in another encoding are another path.
    let nfc = F.entry("i1", .illegalFilesystemCharacter, more: "\"path\": \"\u{fc}:\", ")
    #expect(try await !verdict([nfc], files: ["u\u{308}:"]).isOpen)
  }

  @Test func aPathOverrideDoesNotLetPassWhatIsNotListed() async throws {
    let files = (0..<1200).map { "\($0)?" }
    let narrow = files.map { F.entry("i\($0)", .illegalFilesystemCharacter, more: "\"path\": \"\($0)\", ") }
    #expect(try await !verdict(narrow, files: files).isOpen)
    #expect(try await verdict([F.entry("all", .illegalFilesystemCharacter)], files: files).isOpen)
  }

  @Test func expiryIsExactAndFailsClosed() async throws {
    let at = F.entry("i1", .illegalFilesystemCharacter, more: #""expires_at": "2026-10-18T09:14:22.5+02:00", "#)
    let moment = 1_792_307_662.5
    #expect(try await verdict([at], now: moment - 0.25).isOpen)
    #expect(try await !verdict([at], now: moment).isOpen)
    for bad in [#""soon""#, #""2026-10-18""#, #""2099-10-18T09:14:22""#, "12", #""2099-13-01T00:00:00Z""#, #""""#] {
      let entry = F.entry("i1", .illegalFilesystemCharacter, more: "\"expires_at\": \(bad), ")
      let closed = try await verdict([entry])
      #expect(closed.blocking.contains { $0.problemClass == .malformedRecord }, "\(bad)")
    }
    #expect(try await verdict([F.entry("i1", .illegalFilesystemCharacter, more: #""expires_at": null, "#)]).isOpen)
  }

  /// Upstream counted a revocation only inside a window of time.
  @Test(arguments: ["1999-01-01T00:00:00Z", "2026-05-01T11:02:14Z", "2099-01-01T00:00:00Z"])
  func aRevocationCountsWheneverItWasMade(time: String) async throws {
    let entry = F.entry("i1", .illegalFilesystemCharacter)
    let revocation = F.revocation("i2", of: "i1", at: time)
    #expect(try await !verdict([entry, revocation]).isOpen)
    #expect(try await !verdict([revocation, entry]).isOpen)
    #expect(try await verdict([entry, revocation, F.entry("i3", .illegalFilesystemCharacter)]).isOpen)
  }

  @Test func entriesWithoutEffectAreSaid() async throws {
    let verdict = try await verdict([F.revocation("i2", of: "nobody"), F.entry("i3", .malformedRecord)], files: ["f"])
    #expect(verdict.informing.map(\.problemClass) == [.unknownOverride, .unknownOverride])
    #expect(verdict.isOpen)
  }

  @Test func noOverrideForWhatCannotBeKnown() async throws {
    let run = try F(record: F.record(overrides: "[\(F.entry("i1", .nameNotUTF8))]"))
    try run.write(bytes: [0xff])
    #expect(try await run.verdict().blocking.map(\.problemClass) == [.nameNotUTF8])
  }

  /// Upstream took an unreadable record for one without overrides and went on.
  @Test(arguments: [
    "", "{", "[]", "null", "{\"a\":1,}", #"{"validation_overrides": {}}"#, #"{"validation_overrides": null}"#,
    #"{"sync_status": "a", "sync\u005fstatus": "b"}"#, #"{"validation_overrides": [], "validation_overrides": []}"#,
    #"{"run_kind": 3}"#, #"{"validation_overrides": [1]}"#, #"{"validation_overrides": [{}]}"#,
    #"{"validation_overrides": [{"id":"a","operator":"o","recorded_at":"2026-01-01T00:00:00Z","reason":"r","problem_class":"orphan"}]}"#,
    """
    {"validation_overrides": [{"id":"a","id":"b","operator":"o","recorded_at":"2026-01-01T00:00:00Z","reason":"r",
     "problem_class":"orphan","revoked":false}]}
    """,
    #"{"validation_overrides": [{"id":"a","operator":"o","recorded_at":"2026-01-01T00:00:00Z","reason":"r","revoked":true}]}"#,
  ])
  func aRecordThatCannotBeReadClosesTheGate(text: String) async throws {
    let run = try F(record: text)
    try run.write("f")
    #expect(try run.findings(.malformedRecord).count == 1)
    #expect(try await run.verdict().blocking.map(\.problemClass) == [.malformedRecord])
    // Whatever the validator says.
    #expect(try await run.verdict(Approving()).blocking.map(\.problemClass) == [.malformedRecord])
  }

  @Test func oneMalformedEntryMakesAllOverridesVoid() async throws {
    let verdict = try await verdict([F.entry("i1", .illegalFilesystemCharacter), "{}"])
    #expect(Set(verdict.blocking.map(\.problemClass)) == [.illegalFilesystemCharacter, .malformedRecord])
  }

  @Test func aValidatorThatThrowsBlocks() async throws {
    let run = try F()
    try run.write("f")
    let verdict = try await run.verdict(Throwing())
    #expect(verdict.blocking.map(\.problemClass) == [.validatorFailed])
    #expect(verdict.blocking.first?.detail.contains("out of paper") == true)
  }

  @Test func aVerdictGoesThroughJSON() async throws {
    let verdict = try await verdict([F.entry("i1", .illegalFilesystemCharacter)], files: ["a:b", "nul"])
    let data = try JSONEncoder().encode(verdict)
    #expect(try JSONDecoder().decode(GateVerdict.self, from: data) == verdict)
    let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(object["open"] as? Bool == false)
    #expect((object["blocking_findings"] as? [[String: Any]])?.first?["problem_class"] as? String == "reserved_filesystem_name")
  }

  private struct Approving: RunValidator {
    func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async throws -> [Finding] { [] }
  }

  private struct Throwing: RunValidator {
    struct Trouble: Error, CustomStringConvertible { let description = "out of paper" }
    func findings(for run: RunSnapshot, at location: RunLocation, context: GateContext) async throws -> [Finding] { throw Trouble() }
  }
}

@Suite struct TimestampTests {
  @Test func readsWhatItWrites() {
    #expect(Timestamp.text(0) == "1970-01-01T00:00:00Z")
    #expect(Timestamp.text(1_792_307_662.9) == "2026-10-18T07:14:22Z")
    for seconds in stride(from: -60_000_000_000.0, to: 250_000_000_000, by: 86_399_999_7) {
      #expect(Timestamp.seconds(parsing: Timestamp.text(seconds)) == seconds.rounded(.down))
    }
    #expect(Timestamp.text(.infinity) == "1970-01-01T00:00:00Z")
  }

  @Test func readsZonesAndFractionsStrictly() {
    #expect(Timestamp.seconds(parsing: "2024-02-29T23:30:00-01:30") == 1_709_254_800)
    #expect(Timestamp.seconds(parsing: "2024-02-29T23:30:00-0130") == 1_709_254_800)
    #expect(Timestamp.seconds(parsing: "1970-01-01t00:00:00.25z") == 0.25)
    for bad in [
      "2023-02-29T00:00:00Z", "2024-02-29T24:00:00Z", "2024-02-29T00:00:00", "2024-02-29T00:00:00Zx", "", "2024-02-29T00:00:00.Z",
      "+024-02-29T00:00:00Z",
    ] {
      #expect(Timestamp.seconds(parsing: bad) == nil, "\(bad)")
    }
  }
}
