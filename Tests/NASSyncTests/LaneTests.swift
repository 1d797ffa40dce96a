import Foundation
import Synchronization
import TestSupport
import Testing
import Transport

@testable import NASSync

/// One file over several sessions.
@Suite struct LaneTests {
  /// Rounds of a link that carries so much with one session, two, three, …
  private func settles(_ rates: [UInt64], learned: Int? = nil) -> Int {
    var climb = LaneClimb(learned: learned)
    for _ in 0..<20 where !climb.isOver {
      if climb.wants > rates.count {
        climb.settle(at: rates.count)
      } else {
        climb.learn(bytes: rates[climb.wants - 1] / 4, nanoseconds: 250_000_000, lanes: climb.wants)
      }
    }
    #expect(climb.isOver)
    return climb.wants
  }

  @Test func asManySessionsAsTheLinkAsksFor() {
    // A long link: each session's window brings as much again.
    #expect(settles([37_000_000, 74_000_000, 111_000_000, 125_000_000]) == 4)
    // Two cores encrypt: the third session brings nothing.
    #expect(settles([400_000_000, 700_000_000, 710_000_000, 700_000_000]) == 2)
    #expect(settles([10_000_000, 10_000_000]) == 2)
    // No other session is to be had.
    #expect(settles([100_000_000]) == 1)
    #expect(settles([37_000_000, 74_000_000], learned: 3) == 3)
    // Where the way is long nothing has to be tried.
    #expect(LaneClimb(isLong: true, most: 4).wants == 4)
  }

  /// Over a long way the number of files on their way is what counts; what is read for them stays bounded.
  @Test func moreSmallFilesAtOnceOverALongWay() {
    let small = [UInt64](repeating: 4096, count: 10_000)
    #expect(ComponentSender.lanes(small, width: 4, isLong: false) == 192)
    #expect(ComponentSender.lanes(small, width: 4, isLong: true) == 1024)
    #expect(ComponentSender.lanes([UInt64](repeating: 64 << 10, count: 1_000), width: 2, isLong: true) == 256)
    #expect(ComponentSender.lanes([UInt64](repeating: 255 << 10, count: 1_000), width: 2, isLong: true) == 96)
    // The largest may come one after the other, however many small ones there are.
    #expect(ComponentSender.lanes(small + [UInt64](repeating: 255 << 10, count: 1_000), width: 4, isLong: true) == 192)
    #expect(ComponentSender.lanes([], width: 1, isLong: true) == 48)
    #expect(ComponentSender.lanes([0, 0], width: 1, isLong: true) == 256)
  }

  /// A round in which fewer wrote than are wanted says nothing about the wish.
  @Test func onlyAWholeRoundCounts() {
    var climb = LaneClimb()
    climb.learn(bytes: 1, nanoseconds: 1, lanes: 1)
    #expect(climb.wants == 2 && !climb.isOver)
  }

  static let size = 80 << 20

  @Test func severalSessionsWriteOneFile() async throws {
    try await LabFixture.with(adjust: Self.wide) { lab in
      let run = try lab.makeRun(files: ["stack.tif": noise(Self.size), "small.dat": [1]])
      let plan = FaultPlan()
      let client = lab.client(plan)
      try await client.enqueue(run)
      #expect(try await lab.settle(client, run).state == .job(.verified))
      #expect(plan.calls.contains { $0.name == "joinUpload" && $0.isFor("stack.tif") })
      #expect(plan.bytesSent == Self.size + 1)
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      await client.close()
    }
  }

  /// One of several sessions is lost with bytes that it had taken, or was told to stop before it wrote them: what the others wrote behind them is
  /// not taken for a part of the file's beginning.
  @Test(arguments: [40, 90, 180, 270], [true, false]) func aPieceThatIsNotWrittenLeavesNoHole(_ write: Int, isLost: Bool) async throws {
    try await LabFixture.with(adjust: Self.wide) { lab in
      let run = try lab.makeRun(files: ["stack.tif": noise(Self.size, seed: UInt64(write))])
      let count = Mutex(0)
      let plan = FaultPlan(before: { call throws(TransportError) in
        guard call.name == "write",
          count.withLock({
            $0 += 1; return $0
          }) == write
        else { return }
        // The others are ahead by then.
        do { try await Task.sleep(for: .milliseconds(100)) } catch { throw TransportError.wrapping(error) }
        throw isLost ? FaultPlan.lost : .failure(FaultPlan.lost.failure, sessionLost: false)
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified))
      #expect(try await lab.checksumsHold(in: lab.remote(run)))
      #expect(plan.timesSent("stack.tif") == 2, "sent on from where it was, not found out by the proof")
      await client.close()
    }
  }

  /// A server that lets nobody else in has the file sent over the one session.
  @Test func withoutAnotherSessionOneIsEnough() async throws {
    try await LabFixture.with(adjust: Self.wide) { lab in
      let run = try lab.makeRun(files: ["stack.tif": noise(Self.size)])
      let plan = FaultPlan(before: { call throws(TransportError) in
        guard call.name == "joinUpload" else { return }
        throw FaultPlan.lost
      })
      let client = lab.client(plan)
      try await client.enqueue(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified) && status.attempts == 0, "\(status)")
      // All that were asked at once, and nobody afterwards.
      #expect((1...3).contains(plan.calls.count { $0.name == "joinUpload" }))
      #expect(plan.bytesSent == Self.size)
      await client.close()
    }
  }

  @Sendable private static func wide(_ configuration: inout ServiceConfiguration) {
    for index in configuration.equipment.indices {
      guard case .sftp(var destination) = configuration.equipment[index].transport else { continue }
      destination.connections = 4
      configuration.equipment[index].transport = .sftp(destination)
    }
  }
}
