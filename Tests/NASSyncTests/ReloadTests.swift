import Foundation
import NASSync
import TestSupport
import Testing

/// Another configuration while the client works.
@Suite struct ReloadTests {
  private func serving(
    adjust: @escaping @Sendable (inout ServiceConfiguration) -> Void = { _ in },
    _ body: @escaping @Sendable (LabFixture, NASSyncClient) async throws -> Void
  ) async throws {
    try await LabFixture.with(adjust: adjust) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      do {
        try await client.start()
        try await body(lab, client)
        await client.close()
      } catch {
        await client.close()
        throw error
      }
    }
  }

  private func verified(_ client: NASSyncClient, _ run: String, seconds: Double = 180) async throws -> Bool {
    let deadline = Date().addingTimeInterval(seconds)
    while Date() < deadline {
      if try await client.status(of: run).state == .job(.verified) { return true }
      try await Task.sleep(nanoseconds: 50_000_000)
    }
    return false
  }

  @Test func aLimitIsLiftedForWhatIsInFlight() async throws {
    // At this rate the run would take most of an hour.
    try await serving(adjust: { $0.equipment[0].bandwidth = BandwidthProfile(uploadMbps: 0.02) }) { lab, client in
      let run = try lab.makeRun(files: ["data.fcs": noise(8 << 20)])
      var events = client.events.makeAsyncIterator()
      let handle = try await client.enqueue(run)
      while let event = await events.next() {
        if case .stateChanged(handle.jobID, _, _, .running) = event { break }
      }
      var next = lab.configuration
      next.equipment[0].bandwidth = .unlimited
      next.workers = 1
      #expect(try await client.reload(next) == ["workers 4 → 1", "instrument CYTOMETER_01: bandwidth"])
      #expect(try await verified(client, run))
      // It went on where it was: one attempt.
      #expect(try await client.history(of: run).filter { $0.event == "claimed" }.count == 1)
    }
  }

  @Test func instrumentsComeAndGo() async throws {
    try await serving(adjust: { $0.equipment.removeLast() }) { lab, client in
      let run = try lab.makeRun("CONFOCAL_01", files: ["a.tif": [1], "done.flag": []])
      await #expect(throws: SyncFailure.self) { try await client.enqueue(run) }
      var next = lab.configuration
      var added = next.equipment[0]
      added.id = "CONFOCAL_01"
      added.completeness = .sentinel(file: "done.flag")
      next.equipment.append(added)
      #expect(try await client.reload(next) == ["instrument CONFOCAL_01 added"])
      // The watcher knows it too.
      #expect(try await verified(client, run))
      #expect(try await client.reload(lab.configuration) == ["instrument CONFOCAL_01 removed"])
      await #expect(throws: SyncFailure.self) { try await client.enqueue(run) }
    }
  }

  @Test func whatIsQueuedFollowsItsInstrumentToAnotherPlace() async throws {
    // So slow that the first run is still on its way when the place changes.
    try await serving(adjust: { $0.equipment[0].bandwidth = BandwidthProfile(uploadMbps: 0.02) }) { lab, client in
      let first = try lab.makeRun(files: ["data.fcs": noise(300_000)])
      try await client.enqueue(first)
      var next = lab.configuration
      guard case .sftp(var place) = next.equipment[0].transport else { return }
      place.remoteRoot += "/moved"
      try FileManager.default.createDirectory(atPath: lab.server.rootFolder + "/moved", withIntermediateDirectories: true)
      next.equipment[0].transport = .sftp(place)
      next.equipment[0].bandwidth = .unlimited
      #expect(try await client.reload(next) == ["instrument CYTOMETER_01: transport, bandwidth"])
      let second = try lab.makeRun(leaf: "Run_2")
      try await client.enqueue(second)
      // What was in flight, if it was, ends where it began; what is claimed from now on goes to the new place.
      #expect(try await verified(client, first))
      #expect(try await verified(client, second))
      #expect(lab.exists(lab.server.rootFolder + "/moved" + String(second.dropFirst(lab.lab.count)) + "/data.fcs"))
      #expect(!lab.exists(lab.remote(second)))
    }
  }

  @Test func whatCannotBeTakenChangesNothing() async throws {
    try await serving { lab, client in
      var elsewhere = lab.configuration
      elsewhere.stateDirectory += "2"
      elsewhere.workers = 1
      let refusal = await #expect(throws: SyncFailure.self) { try await client.reload(elsewhere) }
      #expect(refusal?.kind == .misconfigured && refusal?.message.contains("state_dir") == true)
      #expect(refusal?.hint.contains("Restart") == true)
      var renamed = lab.configuration
      renamed.metadataFolder = ".other"
      #expect(await #expect(throws: SyncFailure.self) { try await client.reload(renamed) }?.message.contains("metadata_dir") == true)
      var broken = lab.configuration
      broken.equipment[0].bandwidth = BandwidthProfile(uploadMbps: 5, timeZone: "Nowhere/AtAll")
      await #expect(throws: SyncFailure.self) { try await client.reload(broken) }
      #expect(client.configuration == lab.configuration)
      let run = try lab.makeRun()
      try await client.enqueue(run)
      #expect(try await verified(client, run))
    }
  }

  @Test func theGateTakesItsNewSettings() async throws {
    try await serving { lab, client in
      let run = try lab.makeRun(files: ["notes.txt": Array("<SAMPLE_ID>".utf8)])
      #expect(try await client.enqueue(run).state == .blocked)
      var next = lab.configuration
      next.gate.contentScanExtensions = [".md"]
      #expect(try await client.reload(next) == ["gate"])
      #expect(try await client.enqueue(run).state == .queued)
      #expect(try await verified(client, run))
    }
  }
}
