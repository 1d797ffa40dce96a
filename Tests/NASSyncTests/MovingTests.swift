import Foundation
import NASSync
import TestSupport
import Testing

/// A lab changes the place its runs go to: what is published at the old one stays there, and a person sends what is wanted at the new one.
@Suite struct MovingTests {
  private func moved(_ lab: LabFixture) throws -> ServiceConfiguration {
    var other = lab.configuration
    try FileManager.default.createDirectory(atPath: lab.server.rootFolder + "/new", withIntermediateDirectories: true)
    for index in other.equipment.indices {
      guard case .sftp(var destination) = other.equipment[index].transport else { continue }
      destination.remoteRoot += "/new"
      other.equipment[index].transport = .sftp(destination)
    }
    return other
  }

  @Test func aVerifiedRunGoesToTheNewPlaceWhenItIsEnqueuedAgain() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let run = try lab.makeRun()
      let old = NASSyncClient(configuration: lab.configuration)
      try await lab.published(old, run)
      #expect(try await old.enqueue(run).unchanged)
      await old.close()

      let client = NASSyncClient(configuration: try moved(lab))
      let handle = try await client.enqueue(run)
      #expect(!handle.unchanged && handle.state == .queued)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.generation == 2, "\(String(describing: status.lastError))")
      let place = lab.server.rootFolder + "/new" + String(run.dropFirst(lab.lab.count))
      #expect(try await lab.sameTree(run, place))
      #expect(try await lab.checksumsHold(in: place))
      // What was published at the old place is as it was.
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(try await client.enqueue(run).unchanged)
      #expect(try await client.forceVerify(run).ok)
      await client.close()
    }
  }

  @Test func aRunThatIsNotAllHereStaysWhereItIs() async throws {
    try await LabFixture.with(method: .readback) { lab in
      let run = try lab.makeRun(files: ["a.dat": noise(100), "sub/b.dat": noise(50)])
      let old = NASSyncClient(configuration: lab.configuration)
      try await lab.published(old, run)
      try await lab.takeAway(run)
      await old.close()

      let client = NASSyncClient(configuration: try moved(lab))
      // A cleaned run asks for nothing.
      #expect(try await client.enqueue(run).unchanged)
      // A part of it cannot be covered by a manifest.
      try lab.write(noise(100), to: run + "/a.dat")
      let failure = await #expect(throws: SyncFailure.self) { try await client.enqueue(run) }
      #expect(failure?.kind == .misconfigured && failure?.message.contains("b.dat") == true && failure?.hint.contains("restore") == true)
      try lab.write(noise(50), to: run + "/sub/b.dat")
      #expect(try await client.enqueue(run).unchanged == false)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      #expect(try lab.manifestNames(lab.server.rootFolder + "/new" + String(run.dropFirst(lab.lab.count))) == ["a.dat", "sub/b.dat"])
      await client.close()
    }
  }
}
