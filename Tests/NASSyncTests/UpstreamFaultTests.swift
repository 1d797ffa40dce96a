import Foundation
import Glibc
import NASSync
import TestSupport
import Testing

/// Faults of the public original of this system that no other suite has a test for. `Specs/upstream-faults.md` lists all of them.
@Suite(.serialized) struct UpstreamFaultTests {
  /// A transfer that hangs holds up neither another instrument of the same NAS nor one whose runs go elsewhere.
  @Test(arguments: ["same NAS", "another NAS"]) func aHungTransferHoldsUpNoOtherInstrument(place: String) async throws {
    try await LabFixture.with(adjust: { $0.workers = 2 }) { lab in
      try await LoopbackSSHD.with(.shell) { other in
        var configuration = lab.configuration
        if place == "another NAS", case .sftp(var destination) = configuration.equipment[1].transport {
          destination.port = Int(other.port)
          destination.keyFile = other.keyFile
          destination.knownHosts = other.knownHostsFile
          destination.user = other.user
          destination.remoteRoot = other.remoteRoot
          configuration.equipment[1].transport = .sftp(destination)
        }
        // Every file of the first instrument hangs for longer than the test waits.
        let plan = FaultPlan(before: { call throws(TransportError) in
          guard call.name == "put", call.path?.description.contains("/CYTOMETER_01/") == true else { return }
          do { try await Task.sleep(nanoseconds: 60_000_000_000) } catch { throw FaultPlan.lost }
        })
        let real = lab.realDriver
        let client = NASSyncClient(
          configuration: configuration, driver: { $0.id == "CYTOMETER_01" ? FaultingDriver(base: real, plan: plan) : nil })
        for number in 0..<4 { try await client.enqueue(try lab.makeRun(project: "P\(number)")) }
        try await client.start()
        while !plan.calls.contains(where: { $0.name == "put" }) { try await Task.sleep(nanoseconds: 10_000_000) }
        let run = try lab.makeRun("CONFOCAL_01")
        try await client.enqueue(run)
        let deadline = Date().addingTimeInterval(180)
        while try await client.status(of: run).state != .job(.verified), Date() < deadline {
          try await Task.sleep(nanoseconds: 20_000_000)
        }
        #expect(try await client.status(of: run).state == .job(.verified))
        #expect(try await client.statuses().count { $0.state == .job(.verified) } == 1)
        await client.close()
      }
    }
  }

  /// A name that is no text, given to a file while the run waits: the job ends with a finding and is neither stranded nor retried for ever.
  @Test func aNameThatIsNoTextStrandsNoJob() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try await client.enqueue(run)
      let name: [CChar] = Array((run + "/bad").utf8CString.dropLast()) + [CChar(bitPattern: 0xff), 0]
      let file = open(name, O_WRONLY | O_CREAT, 0o644)
      try #require(file >= 0)
      close(file)
      let report = try await client.drain()
      #expect(report.blocked.map(\.runPath) == [run])
      let status = try await client.status(of: run)
      #expect(status.state == .job(.failed) && status.lastError?.kind == .blocked)
      #expect(status.lastError?.message.contains("name_not_utf8") == true)
      try #require(unlink(name) == 0)
      try await client.retry(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      await client.close()
    }
  }

  /// Links are compared by what they point at, whenever they are compared.
  @Test(arguments: [VerifySettings.Method.server, .readback]) func linksMatchEveryTime(method: VerifySettings.Method) async throws {
    try await LabFixture.with(method: method) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun()
      try FileManager.default.createSymbolicLink(atPath: run + "/sub/latest", withDestinationPath: "../data.fcs")
      try FileManager.default.createSymbolicLink(atPath: run + "/nowhere", withDestinationPath: "not-there")
      try await lab.published(client, run)
      for _ in 0..<3 {
        let report = try await client.verify(run)
        #expect(report.ok, "\(report.mismatches)")
      }
      await client.close()
    }
  }

  /// Only the run's own bookkeeping is left out, and only at the top.
  @Test func aMetadataFolderFurtherDownIsData() async throws {
    try await LabFixture.with { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      let run = try lab.makeRun(files: [
        "data.fcs": [1], "sub/.exlab-wizard/creation.json": Array("{}".utf8), ".exlab-wizard/readme_fields.json": Array("{}".utf8),
      ])
      try await lab.published(client, run)
      for name in ["sub/.exlab-wizard/creation.json", ".exlab-wizard/readme_fields.json"] {
        #expect(try lab.bytes(lab.remote(run) + "/" + name) == Array("{}".utf8))
      }
      let manifest = String(decoding: try lab.bytes(lab.remote(run) + "/.exlab-wizard/checksums.sha256"), as: UTF8.self)
      #expect(manifest.contains("  sub/.exlab-wizard/creation.json\n"))
      await client.close()
    }
  }
}
