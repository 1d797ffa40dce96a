import Executors
import Foundation
import Glibc
import Intake
import SyncModel
import TestSupport
import Testing

@testable import Gate

private func edited(_ text: String, _ edit: (RunRecord) throws -> RunRecord) throws -> String {
  String(decoding: try edit(try RunRecord(parsing: Array(text.utf8))).document.bytes, as: UTF8.self)
}

private let revocation = Revocation(id: "t", revokes: "i", operatorName: "a\"b", recordedAt: 0, reason: "é\n")
private let flat =
  #""id": "t", "revokes": "i", "operator": "a\"b", "recorded_at": "1970-01-01T00:00:00Z", "reason": "é\n", "revoked": true"#

@Suite struct JSONDocumentTests {
  @Test func changesOnlyTheValue() throws {
    let before = "\u{20}{ \"z\" : 1.50e+2,\r\n\t\"sync_status\"\t:  \"pending\" , \"a\":[ 0.10, {\"z\":null} ],\"é\\u00e9\": \"\\/\" }\n\n"
    let after = try edited(before) { try $0.setting(.synced) }
    #expect(after == before.replacing("\"pending\"", with: "\"synced\""))
  }

  @Test func addsAMemberInTheStyleOfTheOthers() throws {
    func check(_ before: String, _ after: String) throws { #expect(try edited(before) { try $0.setting(.failed) } == after) }
    try check("{}", #"{"sync_status":"failed"}"#)
    try check(#"{"a":1,"b":2}"#, #"{"a":1,"b":2,"sync_status":"failed"}"#)
    try check(#"{"a": 1}"#, #"{"a": 1, "sync_status": "failed"}"#)
    try check("{\n    \"a\": 1\n}\n", "{\n    \"a\": 1,\n    \"sync_status\": \"failed\"\n}\n")
    try check("{\r\n\t\"a\": {}\r\n}", "{\r\n\t\"a\": {},\r\n\t\"sync_status\": \"failed\"\r\n}")
  }

  @Test func appendsAnEntryInTheStyleOfTheOthers() throws {
    func check(_ before: String, _ after: String) throws {
      // The chain is the matter of `OverrideLedgerTests`; here it is one member more.
      let text = try edited(before) { try $0.appending(.revocation(revocation)) }
      #expect(text.replacing(/,\s*"previous_sha256": ?"[0-9a-f]{64}"/, with: "") == after)
    }
    let spread = flat.replacing(", \"", with: ",\n      \"")
    try check(
      "{\n  \"validation_overrides\": []\n}", "{\n  \"validation_overrides\": [\n    {\n      \(spread)\n    }\n  ]\n}")
    try check("{\n  \"a\": 1\n}", "{\n  \"a\": 1,\n  \"validation_overrides\": [\n    {\n      \(spread)\n    }\n  ]\n}")
    let tight = flat.replacing(": ", with: ":").replacing(", ", with: ",")
    try check(#"{"validation_overrides":[],"z":0}"#, #"{"validation_overrides":[{"# + tight + #"}],"z":0}"#)
    try check(#"{"validation_overrides": [ {} ] }"#, #"{"validation_overrides": [ {}, {"# + flat + "} ] }")
    try check(
      "{\n  \"validation_overrides\": [\n    {\n      \"x\": 1\n    }\n  ]\n}",
      "{\n  \"validation_overrides\": [\n    {\n      \"x\": 1\n    },\n    {\n      \(spread)\n    }\n  ]\n}")
    try check(
      "{\n  \"validation_overrides\": [\n    {\"x\": 1},\n    {\"y\": 1}\n  ]\n}",
      "{\n  \"validation_overrides\": [\n    {\"x\": 1},\n    {\"y\": 1},\n    {\(flat)}\n  ]\n}")
  }

  @Test(arguments: [
    "01", "1.", ".5", "+1", "1e", "-", "nul", "tru", "'a'", "\"a", "\"\\x\"", "\"\\u12g4\"", "\"\t\"", "[1,]", "[1 2]", "{\"a\"}", "{a:1}",
    "{\"a\":1,}", "// c\n1", "1 1", "\u{feff}1", "NaN", "Infinity", "[", "\"\u{0}\"", "0x1", "",
  ])
  func refusesWhatIsNotJSON(text: String) {
    #expect(throws: JSONSyntaxError.self) { try JSONDocument(parsing: Array("{\"a\":\(text)}".utf8)) }
    #expect(throws: JSONSyntaxError.self) { try JSONDocument(parsing: Array(text.utf8)) }
  }

  @Test(arguments: ["0", "-0", "1e9", "1.25E-3", "\"\\ud83d\\ude00\"", "\"\\ud800\"", "\"\\/\"", "[]", "{}", " [ 1 , 2 ] ", "true", "null"])
  func takesWhatIsJSON(text: String) throws {
    _ = try JSONDocument(parsing: Array("{\"a\":\(text)}".utf8))
  }

  @Test func refusesInvalidUTF8AndDepth() {
    #expect(throws: JSONSyntaxError.self) { try JSONDocument(parsing: Array("{\"a\":\"".utf8) + [0xff] + Array("\"}".utf8)) }
    let deep = "{\"a\":" + String(repeating: "[", count: 100_000)
    #expect(throws: JSONSyntaxError.self) { try JSONDocument(parsing: Array(deep.utf8)) }
  }

  /// Whatever the bytes: no crash; and where they are still a record, an edit changes nothing but its value.
  @Test func survivesRandomMutations() throws {
    var random = SystemRandomNumberGenerator()
    let seed = Array(GateFixture.record(overrides: "[\(GateFixture.entry("i", .emptyFile))]").utf8)
    let spice = Array("{}[]\",:\\u0 \n-.eE19tfn".utf8) + [0xff, 0xc3, 0x00]
    var readable = 0
    for _ in 0..<20_000 {
      var bytes = seed
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        let at = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes[at] = spice.randomElement(using: &random) ?? 0
        case 1: bytes.insert(spice.randomElement(using: &random) ?? 0, at: at)
        case 2: bytes.remove(at: at)
        default: bytes.removeSubrange(at..<min(bytes.count, at + Int.random(in: 1...40, using: &random)))
        }
        if bytes.isEmpty { bytes = [0x7b] }
      }
      guard let record = try? RunRecord(parsing: bytes) else { continue }  // most mutations are no record; that none crashes is the test
      readable += 1
      let failed = try record.setting(.failed)
      #expect(failed.syncStatus == "failed")
      if let old = record.syncStatus, case .one(let node) = record.document.lookUp("sync_status"), case .string = node.value {
        let restored = bytes[..<node.range.lowerBound] + Array("\"failed\"".utf8) + bytes[node.range.upperBound...]
        #expect(Array(restored) == failed.document.bytes, "\(old)")
      }
    }
    #expect(readable > 100)
  }
}

@Suite struct RecordStoreTests {
  private func store(_ run: GateFixture, patience: Double = 30) -> RecordStore {
    RecordStore(runRoot: run.root, metadataFolder: ".exlab-wizard", patience: patience)
  }

  private let entry = Override(problemClass: .pathTooLong, operatorName: "asmith", recordedAt: 0, reason: "flag run")

  @Test func rewritesKeepingModeAndEverythingElse() throws {
    let run = try GateFixture()
    let path = "\(run.place)/.exlab-wizard/creation.json"
    chmod("\(run.tree.path)/\(path)", 0o640)
    let before = String(decoding: try run.tree.read(path), as: UTF8.self)
    #expect(try store(run).setSyncStatus(.blockedByValidation))
    let after = String(decoding: try run.tree.read(path), as: UTF8.self)
    #expect(after == before.replacing("\"pending\"", with: "\"blocked_by_validation\""))
    var status = stat()
    #expect(lstat("\(run.tree.path)/\(path)", &status) == 0 && status.st_mode & 0o7777 == 0o640)
    #expect(try store(run).read()?.syncStatus == "blocked_by_validation")
    let inode = status.st_ino
    #expect(try store(run).setSyncStatus(.blockedByValidation))
    #expect(lstat("\(run.tree.path)/\(path)", &status) == 0 && status.st_ino == inode)
    #expect(try run.snapshot().entries.map(\.path.description) == [".exlab-wizard"])
  }

  @Test func keepsTheOwner() throws {
    let run = try GateFixture()
    let path = "\(run.root)/.exlab-wizard/creation.json"
    // Only the superuser can prepare this; for others the owner is the own user anyway, and must stay so.
    let owner: uid_t = geteuid() == 0 ? 4242 : geteuid()
    chown(path, owner, getegid())
    try store(run).setSyncStatus(.synced)
    var status = stat()
    #expect(lstat(path, &status) == 0 && status.st_uid == owner)
  }

  @Test func aRunWithoutRecord() throws {
    let run = try GateFixture(record: nil)
    #expect(try store(run).read() == nil)
    #expect(try !store(run).setSyncStatus(.synced))
    #expect(try run.snapshot().entries.isEmpty)
    #expect(throws: RecordError.self) { try store(run).appendRevocation(revocation) }
    try store(run).appendOverride(entry)
    let record = try #require(try store(run).read())
    #expect(record.overrides == [.override(entry)])
    #expect(record.schemaVersion == "1.8")
    #expect(record.syncStatus == nil)
  }

  @Test func appendsAndRevokes() throws {
    let run = try GateFixture()
    try store(run).appendOverride(entry)
    #expect(throws: RecordError.self) { try store(run).appendRevocation(revocation) }
    let revoking = Revocation(revokes: entry.id, operatorName: "b", recordedAt: 5, reason: "over")
    try store(run).appendRevocation(revoking)
    let record = try #require(try store(run).read())
    #expect(record.overrides == [.override(entry), .revocation(revoking)])
    #expect(Overrides.active(record.overrides, now: 0).isEmpty)
    #expect(throws: RecordError.self) {
      try store(run).appendOverride(Override(problemClass: .malformedRecord, operatorName: "a", recordedAt: 0, reason: "r"))
    }
  }

  @Test func writesTheStatusBesideAMalformedOverride() throws {
    let run = try GateFixture(record: GateFixture.record(overrides: "[{}]"))
    #expect(try store(run).setSyncStatus(.blockedByValidation))
    #expect(try store(run).read()?.overrideProblems.count == 1)
  }

  @Test func touchesNoRecordThatItCannotRead() throws {
    let broken = try GateFixture(record: "{\"sync_status\": ")
    #expect(throws: RecordError.self) { try store(broken).setSyncStatus(.synced) }
    #expect(throws: RecordError.self) { try store(broken).appendOverride(entry) }
    #expect(try broken.tree.read("\(broken.place)/.exlab-wizard/creation.json") == Array("{\"sync_status\": ".utf8))

    let linked = try GateFixture(record: nil)
    try linked.tree.write("elsewhere.json", "{}")
    try linked.tree.makeFolder("\(linked.place)/.exlab-wizard")
    try linked.tree.link("\(linked.place)/.exlab-wizard/creation.json", to: "\(linked.tree.path)/elsewhere.json")
    #expect(throws: RecordError.self) { try store(linked).setSyncStatus(.synced) }
    #expect(try linked.tree.read("elsewhere.json") == Array("{}".utf8))

    let folder = try GateFixture(record: nil)
    try folder.tree.makeFolder("real")
    try folder.tree.link("\(folder.place)/.exlab-wizard", to: "\(folder.tree.path)/real")
    #expect(throws: RecordError.self) { try store(folder).appendOverride(entry) }
  }

  @Test func removesWhatADeadWriterLeft() throws {
    let run = try GateFixture()
    try run.write(".exlab-wizard/.nassync-record-dead")
    try store(run).setSyncStatus(.synced)
    #expect(access("\(run.root)/.exlab-wizard/.nassync-record-dead", F_OK) != 0)
  }

  @Test func eightConcurrentWritersLoseNothing() async throws {
    let run = try GateFixture()
    let store = store(run)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<8 {
        group.addTask {
          let thread = ThreadExecutor(name: "writer")
          defer { thread.shutdown() }
          let result = await thread.run { () -> Result<Void, RecordError> in
            do throws(RecordError) {
              for index in 0..<12 {
                try store.appendOverride(
                  Override(id: "\(writer)-\(index)", problemClass: .pathTooLong, operatorName: "o", recordedAt: 0, reason: "r"))
                try store.setSyncStatus(index % 2 == 0 ? .pending : .failed)
              }
              return .success(())
            } catch { return .failure(error) }
          }
          try result.get()
        }
      }
      try await group.waitForAll()
    }
    let record = try #require(try store.read())
    #expect(record.overrideProblems == [])
    let ids = Overrides.overrides(record.overrides).map(\.id)
    #expect(Set(ids).count == 96 && ids.count == 96)
    for writer in 0..<8 { #expect(ids.filter { $0.hasPrefix("\(writer)-") } == (0..<12).map { "\(writer)-\($0)" }) }
  }

  /// The lock holds between processes: flock(1) of util-linux has it here.
  @Test func waitsForAnotherProcess() throws {
    let run = try GateFixture()
    let holder = Process()
    holder.executableURL = URL(fileURLWithPath: "/usr/bin/flock")
    holder.arguments = ["--no-fork", "\(run.root)/.exlab-wizard", "sh", "-c", "echo held; exec sleep 30"]
    let output = Pipe()
    holder.standardOutput = output
    try holder.run()
    defer {
      kill(holder.processIdentifier, SIGKILL)
      holder.waitUntilExit()
    }
    _ = output.fileHandleForReading.readData(ofLength: 5)
    #expect { try store(run, patience: 0.2).setSyncStatus(.synced) } throws: { error in
      if case .busy = error as? RecordError { true } else { false }
    }
    #expect(try store(run).read()?.syncStatus == "pending")
  }

  /// A program that does not know the lock rewrites the record between reading and renaming.
  @Test func noticesAWriterWithoutTheLock() throws {
    let run = try GateFixture()
    let folder = try RunFolder(root: "\(run.root)/.exlab-wizard").descriptor
    let before = RecordReplacement.status(in: folder)
    let replacement = try RecordReplacement(folder: folder, bytes: Array("{}".utf8), like: before)
    try run.write(".exlab-wizard/creation.json", #"{"theirs": true}"#)
    #expect(try !replacement.commit(ifStill: before))
    #expect(try run.tree.read("\(run.place)/.exlab-wizard/creation.json") == Array(#"{"theirs": true}"#.utf8))
  }
}
