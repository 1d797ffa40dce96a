import Foundation
import NASSync
import TestSupport
import Testing

/// The integrity check of the admin.
@Suite(.serialized) struct IntegrityTests {
  /// What is damaged, and what the check must say of it.
  struct Damage: Sendable, CustomStringConvertible {
    let what: String
    let expected: [String]
    let body: @Sendable (LabFixture, String) throws -> Void
    var description: String { what }
  }

  static let all: [Damage] = [
    Damage(what: "a byte there", expected: ["nas differs sub/b.dat"]) { lab, run in try lab.flip(lab.remote(run) + "/sub/b.dat") },
    Damage(what: "a file missing there", expected: ["nas missing a.dat"]) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/a.dat")
    },
    Damage(what: "a file too many there", expected: ["nas extra sub/own.txt"]) { lab, run in
      try lab.write([1], to: lab.remote(run) + "/sub/own.txt")
    },
    Damage(what: "a folder instead of a file", expected: ["nas otherKind a.dat"]) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/a.dat")
      try FileManager.default.createDirectory(atPath: lab.remote(run) + "/a.dat", withIntermediateDirectories: true)
    },
    Damage(what: "a link that points elsewhere", expected: ["nas otherKind link"]) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/link")
      try FileManager.default.createSymbolicLink(atPath: lab.remote(run) + "/link", withDestinationPath: "sub/b.dat")
    },
    Damage(what: "the manifest", expected: ["nas damagedManifest .exlab-wizard/checksums.sha256"]) { lab, run in
      try lab.flip(lab.remote(run) + "/.exlab-wizard/checksums.sha256")
    },
    Damage(what: "the manifest missing", expected: ["nas missing .exlab-wizard/checksums.sha256"]) { lab, run in
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/.exlab-wizard/checksums.sha256")
    },
    Damage(what: "the receipt", expected: ["nas damagedManifest .exlab-wizard/receipt.json"]) { lab, run in
      try lab.write(Array("{}".utf8), to: lab.remote(run) + "/.exlab-wizard/receipt.json")
    },
    Damage(what: "the record's copy", expected: ["nas damagedManifest .exlab-wizard/creation.json"]) { lab, run in
      try lab.flip(lab.remote(run) + "/.exlab-wizard/creation.json")
    },
    Damage(what: "a byte here", expected: ["local differs a.dat"]) { lab, run in try lab.flip(run + "/a.dat") },
    Damage(what: "a file missing here", expected: ["local missing a.dat"]) { lab, run in
      try FileManager.default.removeItem(atPath: run + "/a.dat")
    },
    Damage(what: "a file too many here", expected: ["local extra late.dat"]) { lab, run in try lab.write([1], to: run + "/late.dat") },
    Damage(what: "a link here", expected: ["local otherKind link"]) { lab, run in
      try FileManager.default.removeItem(atPath: run + "/link")
      try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "sub/b.dat")
    },
    Damage(what: "the link missing here", expected: ["local missing link"]) { lab, run in
      try FileManager.default.removeItem(atPath: run + "/link")
    },
    Damage(what: "several at once", expected: ["nas differs a.dat", "local differs sub/b.dat", "nas extra x"]) { lab, run in
      try lab.flip(lab.remote(run) + "/a.dat")
      try lab.flip(run + "/sub/b.dat")
      try lab.write([1], to: lab.remote(run) + "/x")
    },
    Damage(
      what: "the whole run there",
      expected: [
        "nas missing .exlab-wizard/checksums.sha256", "nas missing .exlab-wizard/receipt.json", "nas missing a.dat", "nas missing link",
        "nas missing sub", "nas missing sub/b.dat",
      ]
    ) { lab, run in try FileManager.default.removeItem(atPath: lab.remote(run)) },
  ]

  @Test(arguments: [VerifySettings.Method.server, .readback]) func everyDamageIsNamed(method: VerifySettings.Method) async throws {
    try await LabFixture.with(method: method) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      // Where digests come from matters to the files alone.
      let damages = method == .server ? Self.all : Array(Self.all.prefix(3))
      for number in damages.indices {
        let run = try lab.makeRun(project: "P\(number)", files: ["a.dat": noise(900), "sub/b.dat": noise(70_000)])
        try FileManager.default.createSymbolicLink(atPath: run + "/link", withDestinationPath: "a.dat")
        try await client.enqueue(run)
      }
      #expect(try await client.drain().done.count == damages.count)
      for (number, damage) in damages.enumerated() {
        let run = "\(lab.lab)/CYTOMETER_01/P\(number)/Runs/Run_2026-11-20T10-00"
        let before = try await client.status(of: run)
        if number == 0 {
          let whole = try await client.forceVerify(run)
          #expect(whole.ok && whole.filesChecked == 2 && whole.bytesChecked == 70_900 && whole.evidence?.rawValue == method.rawValue)
        }
        try damage.body(lab, run)
        let report = try await client.forceVerify(run)
        let found = report.mismatches.map { "\($0.place) \($0.problem) \($0.path)" }.filter { !$0.hasSuffix(" .exlab-wizard") }
        #expect(found == damage.expected && !report.ok, "\(damage.what)")
        #expect(report.mismatches.allSatisfy { !$0.detail.isEmpty })
        // It looked, and changed nothing.
        #expect(try await client.status(of: run) == before, "\(damage.what)")
        let told = try await client.history(of: run).last
        #expect(told?.event.hasSuffix("mismatch_on_demand") == true)
        let here = try await client.verify(run, localOnly: true)
        #expect(here.mismatches.map(\.path) == report.mismatches.filter { $0.place == .local }.map(\.path))
        #expect(here.remotePath == nil && here.evidence == nil)
      }
      await client.close()
    }
  }

  /// A NAS that gives more than such a file can have is not listened to for ever: memory is bounded, and the file is named.
  @Test(arguments: ["checksums.sha256", "receipt.json", "creation.json"]) func aDocumentThatIsTooLongIsDamaged(name: String) async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await lab.published(client, run)
      let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: lab.remote(run) + "/.exlab-wizard/" + name))
      try handle.truncate(atOffset: 80 << 20)
      try handle.close()
      let report = try await client.forceVerify(run)
      #expect(report.mismatches.map(\.path) == [".exlab-wizard/" + name])
      #expect(report.mismatches.first?.detail.contains("longer than") == true, "\(report.mismatches)")
      await client.close()
    }
  }

  @Test func aRunThatWasNeverPublishedCannotBeChecked() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      await #expect { try await client.forceVerify(run) } throws: { ($0 as? SyncFailure)?.kind == .misconfigured }
      try await client.enqueue(run)
      await #expect { try await client.forceVerify(run) } throws: { ($0 as? SyncFailure)?.kind == .misconfigured }
      await #expect { try await client.forceVerify(lab.lab + "/CYTOMETER_01/Alpha/Runs/Run_none") } throws: {
        ($0 as? SyncFailure) != nil
      }
      await client.close()
    }
  }

  /// The queue file is lost: the manifest in the run is what there is to go by.
  @Test func withoutAQueueTheManifestInTheRunTells() async throws {
    try await LabFixture.with { lab in
      let first = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await lab.published(first, run)
      await first.close()
      let other = NASSyncClient(configuration: lab.configuration(state: "new"))
      #expect(try await other.forceVerify(run).ok)
      try lab.flip(lab.remote(run) + "/data.fcs")
      #expect(try await other.forceVerify(run).mismatches.map(\.path) == ["data.fcs"])
      try lab.write(Array("nonsense\n".utf8), to: run + "/.exlab-wizard/checksums.sha256")
      await #expect { try await other.forceVerify(run) } throws: { ($0 as? SyncFailure)?.kind == .misconfigured }
      await other.close()
    }
  }
}
