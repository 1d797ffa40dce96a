import Cleanup
import SyncModel
import Testing

@testable import Verification

/// The decision alone: every condition, met or not, from facts.
@Suite struct InterlockTests {
  static let day: Double = 86_400
  static let path = parsed("data.fcs")
  static let link = parsed("link")
  static let digest = filled(7)

  static func parsed(_ text: String) -> RelativePath {
    do { return try RelativePath(text) } catch { return .defaultMetadataFolder }
  }

  static func filled(_ byte: UInt8) -> ContentDigest {
    guard let digest = ContentDigest(bytes: [UInt8](repeating: byte, count: 32)) else { preconditionFailure("32 bytes are a digest") }
    return digest
  }

  static func reading(_ seconds: Double, boot: String = "one", wall: Double? = nil) -> ClockReading {
    ClockReading(wall: 1_700_000_000 + (wall ?? seconds), boot: boot, uptime: seconds)
  }

  static func pass(_ seconds: Double, boot: String = "one", ledger: Int = 0) -> CleanupFacts.Pass {
    CleanupFacts.Pass(reading: reading(seconds, boot: boot), ledgerLength: ledger)
  }

  static let print = FileFingerprint(device: 1, inode: 2, size: 3, modified: 4, changed: 5, mode: 0o644)
  static let entry = RunEntry(path: path, kind: .file, fingerprint: print)

  static func snapshot(_ entries: [RunEntry]) -> RunSnapshot {
    RunSnapshot(root: "/run", metadataFolder: ".exlab-wizard", entries: entries, excluded: [], record: nil, recordUnreadable: nil)
  }

  /// Everything speaks for the deletion.
  static var good: CleanupFacts {
    let passes = [pass(100), pass(100 + day)]
    let proof = VerifiedReceipt(proofs: [path: VerifiedReceipt.Proof(digest: digest, evidence: .server)])
    return CleanupFacts(
      state: .cleanupEligible, passes: passes, reference: passes[1], requiredPasses: 2, passSpacing: 3_600, minimumAge: day,
      now: reading(100 + 2 * day), clockSamples: [reading(100 + 2 * day)], nas: .compared(differences: [], documents: [], proof: proof),
      record: .readable([nil]), overrides: .named(["a"]), gate: .judged(blocking: []),
      local: LocalComparison(listed: [entry], snapshot: snapshot([entry]), removalBegan: false), expected: [path: digest])
  }

  static func unmet(_ facts: CleanupFacts) -> [CleanupInterlock.Name] { CleanupInterlocks.all(facts).filter { !$0.met }.map(\.name) }

  @Test func allAreMetAndAllAreNamed() {
    let all = CleanupInterlocks.all(Self.good)
    #expect(all.map(\.name) == CleanupInterlock.Name.allCases)
    #expect(all.allSatisfy { $0.met && $0.remedy == nil && !$0.detail.isEmpty }, "\(all.filter { !$0.met })")
    #expect(CleanupInterlocks.permission(Self.good) != nil)
  }

  /// One change of the facts, and the conditions that it must break.
  struct Case: Sendable, CustomStringConvertible {
    let description: String
    let expected: [CleanupInterlock.Name]
    let change: @Sendable (inout CleanupFacts) -> Void
  }

  static func altered(_ print: FileFingerprint) -> LocalComparison {
    LocalComparison(
      listed: [entry], snapshot: snapshot([RunEntry(path: path, kind: .file, fingerprint: print)]), removalBegan: false)
  }

  static let cases: [Case] = [
    Case(description: "queued", expected: [.state]) { $0.state = .queued },
    Case(description: "failed", expected: [.state]) { $0.state = .failed },
    Case(description: "cleaned", expected: [.state]) { $0.state = .cleaned },
    Case(description: "a newer job", expected: [.newestJob]) { $0.newerJob = "other" },
    Case(description: "one pass", expected: [.verifyPasses, .age]) { $0.passes = [pass(100)] },
    Case(description: "no pass at all", expected: [.verifyPasses, .age, .clock, .noRevocation]) {
      $0.passes = []
      $0.reference = nil
    },
    Case(description: "two passes at one moment", expected: [.verifyPasses, .age]) { $0.passes = [pass(100), pass(100)] },
    Case(description: "two passes too close", expected: [.verifyPasses, .age]) { $0.passes = [pass(100), pass(700)] },
    Case(description: "too young", expected: [.age]) { $0.now = reading(100 + 2 * day - 10) },
    // The wall says ten years, the machine ran for a minute.
    Case(description: "clock set forward", expected: [.age, .clock]) { $0.now = reading(160 + day, wall: 10 * 365 * day) },
    Case(description: "clock set forward after the age", expected: [.clock]) { $0.now = reading(100 + 3 * day, wall: 100 + 4 * day) },
    Case(description: "clock set back", expected: [.age, .clock]) { $0.now = reading(100 + 3 * day, wall: 50) },
    Case(description: "restarted a minute ago, switched off for a year", expected: [.age]) {
      $0.now = reading(60, boot: "two", wall: 365 * day)
      $0.clockSamples = [reading(200 + day), reading(50, boot: "two", wall: 365 * day - 10)]
    },
    Case(description: "NAS gone", expected: [.nasReachable, .nasCopyProven, .nasManifestIntact]) { $0.nas = .unreachable("no answer") },
    Case(description: "NAS not asked", expected: [.nasReachable, .nasCopyProven, .nasManifestIntact]) { $0.nas = .unasked("early") },
    Case(description: "NAS in trouble", expected: [.nasCopyProven, .nasManifestIntact]) { $0.nas = .failed("denied") },
    Case(description: "NAS copy differs", expected: [.nasCopyProven]) {
      $0.nas = .compared(differences: ["data.fcs"], documents: [], proof: nil)
    },
    Case(description: "manifest damaged", expected: [.nasCopyProven, .nasManifestIntact]) {
      $0.nas = .compared(differences: [], documents: ["checksums.sha256"], proof: nil)
    },
    Case(description: "another digest in the queue", expected: [.nasCopyProven]) { $0.expected = [path: filled(8)] },
    Case(description: "a file without a proof", expected: [.nasCopyProven]) {
      $0.expected[link] = digest
    },
    Case(description: "nothing to prove", expected: [.nasCopyProven]) {
      $0.expected = [:]
      $0.local = LocalComparison(listed: [], snapshot: snapshot([]), removalBegan: false)
      $0.nas = .compared(differences: [], documents: [], proof: VerifiedReceipt(proofs: [:]))
    },
    Case(description: "record unreadable", expected: [.recordReadable, .noRevocation]) { $0.record = .unreadable("half a file") },
    Case(description: "record gone", expected: [.recordReadable, .noRevocation]) { $0.record = .vanished },
    Case(description: "gate closed", expected: [.gateOpen]) { $0.gate = .judged(blocking: ["symlink_escapes_run"]) },
    Case(description: "gate not asked", expected: [.gateOpen]) { $0.gate = .unasked("no folder") },
    Case(description: "revoked since", expected: [.noRevocation]) { $0.record = .readable([nil, "b"]) },
    Case(description: "revoked before the last verification, and not used", expected: []) {
      $0.record = .readable([nil, "b"])
      $0.reference = pass(100 + day, ledger: 2)
    },
    Case(description: "a used one revoked at any time", expected: [.noRevocation]) {
      $0.record = .readable([nil, "a"])
      $0.reference = pass(100 + day, ledger: 2)
    },
    Case(description: "entries taken out of the record", expected: [.noRevocation]) { $0.reference = pass(100 + day, ledger: 2) },
    Case(description: "receipt unread", expected: [.noRevocation]) { $0.overrides = .unknown("damaged") },
    Case(description: "other inode", expected: [.localUnchanged]) {
      $0.local = altered(FileFingerprint(device: 1, inode: 9, size: 3, modified: 4, changed: 5, mode: 0o644))
    },
    Case(description: "other size", expected: [.localUnchanged]) {
      $0.local = altered(FileFingerprint(device: 1, inode: 2, size: 9, modified: 4, changed: 5, mode: 0o644))
    },
    Case(description: "other mtime", expected: [.localUnchanged]) {
      $0.local = altered(FileFingerprint(device: 1, inode: 2, size: 3, modified: 9, changed: 5, mode: 0o644))
    },
    Case(description: "other ctime", expected: [.localUnchanged]) {
      $0.local = altered(FileFingerprint(device: 1, inode: 2, size: 3, modified: 4, changed: 9, mode: 0o644))
    },
    Case(description: "a link in its place", expected: [.localUnchanged]) {
      $0.local = LocalComparison(
        listed: [entry], snapshot: snapshot([RunEntry(path: path, kind: .symlink(target: [1]), fingerprint: print)]), removalBegan: false)
    },
    Case(description: "a missing file", expected: [.nothingMissing]) {
      $0.local = LocalComparison(listed: [entry], snapshot: snapshot([]), removalBegan: false)
    },
    Case(description: "gone, but by our own hand", expected: []) {
      $0.local = LocalComparison(listed: [entry], snapshot: nil, removalBegan: true)
    },
    Case(description: "a new file", expected: [.nothingUnknown]) {
      $0.local = LocalComparison(
        listed: [entry], snapshot: snapshot([entry, RunEntry(path: link, kind: .file, fingerprint: print)]), removalBegan: false)
    },
    Case(description: "a new pipe", expected: [.nothingUnknown]) {
      $0.local = LocalComparison(
        listed: [entry], snapshot: snapshot([entry, RunEntry(path: link, kind: .special("named pipe"), fingerprint: print)]),
        removalBegan: false)
    },
    Case(description: "a new folder that cannot be read", expected: [.nothingUnknown]) {
      $0.local = LocalComparison(
        listed: [entry],
        snapshot: snapshot([entry, RunEntry(path: link, kind: .folder, fingerprint: print, unreadable: "denied")]), removalBegan: false)
    },
    Case(description: "a new empty folder", expected: []) {
      $0.local = LocalComparison(
        listed: [entry], snapshot: snapshot([entry, RunEntry(path: link, kind: .folder, fingerprint: print)]), removalBegan: false)
    },
    Case(description: "being written", expected: [.nothingBeingWritten]) { $0.local.beingWritten = [path] },
    Case(
      description: "folder cannot be read", expected: [.localUnchanged, .nothingMissing, .nothingUnknown, .nothingBeingWritten]
    ) { $0.local = LocalComparison(unreadable: "permission denied") },
  ]

  @Test(arguments: cases) func eachDoubtAlone(_ doubt: Case) {
    var facts = Self.good
    doubt.change(&facts)
    #expect(Self.unmet(facts) == doubt.expected)
    #expect((CleanupInterlocks.permission(facts) == nil) == !doubt.expected.isEmpty)
    #expect(CleanupInterlocks.all(facts).allSatisfy { ($0.remedy == nil) == $0.met })
  }

  @Test func nothingIsLeftOutBecauseSomethingElseIsUnmet() {
    var facts = Self.good
    facts.state = .failed
    facts.newerJob = "x"
    facts.passes = []
    facts.reference = nil
    facts.nas = .unreachable("x")
    facts.record = .unreadable("x")
    facts.overrides = .unknown("x")
    facts.gate = .unasked("x")
    facts.local = LocalComparison(unreadable: "x")
    #expect(Self.unmet(facts) == CleanupInterlock.Name.allCases)
  }

  /// A daily audit must not hold up a deletion that is due a day after the second verification.
  @Test func furtherPassesDoNotBeginTheAgeAnew() {
    var facts = Self.good
    facts.passes = (0..<30).map { Self.pass(100 + Double($0) * Self.day) }
    facts.reference = facts.passes.last
    facts.now = Self.reading(100 + 29 * Self.day + 60)
    #expect(CleanupInterlocks.completing(facts)?.reading == Self.reading(100 + Self.day))
    #expect(Self.unmet(facts) == [])
  }

  /// After a jump the next verification that counts is the new measure, and the age stays one of witnessed time.
  @Test func aLaterVerificationFreesARunAfterAJump() {
    var facts = Self.good
    let jumped = CleanupFacts.Pass(reading: Self.reading(100 + 3 * Self.day, wall: 400 * Self.day), ledgerLength: 0)
    facts.now = Self.reading(200 + 3 * Self.day, wall: 400 * Self.day + 100)
    #expect(Self.unmet(facts) == [.clock])
    facts.passes.append(jumped)
    facts.reference = jumped
    #expect(Self.unmet(facts) == [])
  }

  @Test func timeOverARestartCountsWhereItWasWitnessed() {
    var facts = Self.good
    facts.now = Self.reading(Self.day, boot: "two", wall: 3 * Self.day)
    facts.clockSamples = [Self.reading(100 + Self.day + 60), facts.now]
    #expect(Self.unmet(facts) == [])
  }
}
