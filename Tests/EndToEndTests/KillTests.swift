import Foundation
import Glibc
import TestSupport
import Testing

/// The program dies at any moment, and the next one goes on.
@Suite struct KillTests {
  /// `NASSYNC_TEST_SEED` repeats the delays of an earlier test.
  private static let seed: UInt64 =
    ProcessInfo.processInfo.environment["NASSYNC_TEST_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0...UInt64.max)

  private static let large = noise(48 << 20, seed: 1)
  private static let smallFiles = 300

  /// A run with one large file and many small ones. The large one is the same in all.
  private func makeRun(_ lab: Workstation, project: String) throws -> String {
    var files = ["raw/stack.bin": Self.large]
    for number in 0..<Self.smallFiles { files["tiles/\(number % 7)/t\(number).tif"] = noise(700 + number, seed: UInt64(number)) }
    return try lab.makeRun(project: project, files: files)
  }

  @Test func killedAtAnyMomentAndDrainedAgain() async throws {
    var random = SeededGenerator(seed: Self.seed)
    try await LoopbackSSHD.with(.shell) { server in
      try await ByteRelay.with(to: server.port) { relay in
        var setup = Workstation.Setup(uploadMbps: 200)
        setup.transport = ["port": "\(relay.port)"]
        let knownHosts = try server.writeKnownHosts(["[127.0.0.1]:\(relay.port) \(try server.hostKey(.ed25519))"], name: "relay_hosts")
        setup.transport["known_hosts"] = knownHosts
        try await Workstation.with(server, setup) { lab in
          // Other tests share the machine: a drain that ends before its kill corrects the duration for the following trials.
          var whole = try await undisturbed(lab)
          print("kill -9: seed \(Self.seed), an undisturbed drain takes \(whole)")
          var kills = 0
          for trial in 0..<6 {
            // Over the whole duration, and more often near its end, where the run is proven and published.
            let span = trial % 3 == 2 ? 0.7...1.0 : 0.05...0.9
            let delay = whole * Double.random(in: span, using: &random)
            if let ended = try await killOnce(lab, relay, project: "KILL-\(trial)", after: delay) {
              whole = min(whole, ended)
            } else {
              kills += 1
            }
          }
          #expect(kills >= 3, "only \(kills) of 6 drains were killed before they ended")
          let probes = try await lab.probeFiles()
          // What a killed process left while it looked for the NAS's shell, the next one removed.
          #expect(probes.isEmpty)
        }
      }
    }
  }

  private func undisturbed(_ lab: Workstation) async throws -> Duration {
    let run = try makeRun(lab, project: "WHOLE")
    #expect(try await lab.nassync("enqueue", run).status == 0)
    let clock = ContinuousClock()
    let start = clock.now
    #expect(try await lab.nassync("drain").status == 0)
    let duration = clock.now - start
    try await lab.expectVerified(run)
    try remove(run, lab)
    return duration
  }

  /// - Returns: How long the drain took, where it ended before it was killed.
  private func killOnce(_ lab: Workstation, _ relay: ByteRelay, project: String, after delay: Duration) async throws -> Duration? {
    let run = try makeRun(lab, project: project)
    #expect(try await lab.nassync("enqueue", run).status == 0)
    let child = try lab.start("drain")
    let clock = ContinuousClock()
    let start = clock.now
    while child.isRunning, clock.now - start < delay { try await Task.sleep(for: .milliseconds(5)) }
    let lived = clock.now - start
    kill(child.id, SIGKILL)
    let ended = await child.exitStatus()
    let killed = try await lab.nassync("--json", "status", run).json
    let known = UInt64(killed["bytes_sent"].number ?? 0)
    let total = UInt64(killed["bytes_total"].number ?? 0)
    let stateAtDeath = killed["state"].text ?? "?"
    let before = relay.bytesUploaded

    let drain = try await lab.nassync("drain")
    let again = relay.bytesUploaded - before
    print("kill -9: \(project) after \(delay) (\(ended)) was \(stateAtDeath) with \(known) of \(total) bytes known, then sent \(again)")
    let history = try await lab.nassync("history", run)
    #expect(drain.status == 0, "killed after \(delay) as \(stateAtDeath): \(drain)\n\(history)")
    try await lab.expectVerified(run)
    // What was known to be on the NAS is not sent again. The rest: SSH's frames, names, the manifest.
    let allowance = 1_500_000 + total / 50
    #expect(again <= total - known + allowance, "killed after \(delay) as \(stateAtDeath), \(known) bytes were known: \(again) sent again")
    if stateAtDeath == "awaiting_verify" { #expect(known == total) }
    try remove(run, lab)
    return ended == 128 + SIGKILL ? nil : lived
  }

  /// Frees the disk, both sides.
  private func remove(_ run: String, _ lab: Workstation) throws {
    try FileManager.default.removeItem(atPath: run)
    try FileManager.default.removeItem(atPath: lab.remote(run))
  }

  @Test func aKilledServiceIsFollowedByADrain() async throws {
    try await Workstation.with(.shell, Workstation.Setup(uploadMbps: 200)) { lab in
      let run = try makeRun(lab, project: "SERVED")
      let service = try lab.start("serve")
      #expect(try await lab.nassync("enqueue", run).status == 0)
      try await lab.waitForProgress(run)
      kill(service.id, SIGKILL)
      _ = await service.exitStatus()
      #expect(try await lab.nassync("drain").status == 0)
      try await lab.expectVerified(run)
    }
  }

  @Test func aServiceThatIsAskedToStopKeepsItsProgress() async throws {
    try await Workstation.with(.shell, Workstation.Setup(uploadMbps: 40)) { lab in
      let run = try makeRun(lab, project: "STOPPED")
      let service = try lab.start("serve")
      #expect(try await lab.nassync("enqueue", run).status == 0)
      try await lab.waitForProgress(run)
      let clock = ContinuousClock()
      let asked = clock.now
      kill(service.id, SIGTERM)
      let ended = await service.exitStatus()
      let log = try lab.log()
      #expect(ended == 0, "\(log)")
      #expect(clock.now - asked < .seconds(10))
      let status = try await lab.nassync("--json", "status", run).json
      #expect(status["state"] == .string("queued"))
      #expect(status["attempts"] == .number(0))
      #expect(status["last_error"] == .null)
      #expect((status["bytes_sent"].number ?? 0) > 0)
      #expect(try await lab.nassync("drain").status == 0)
      try await lab.expectVerified(run)
    }
  }

  @Test func aDrainThatIsAskedToStopSaysTryAgainLater() async throws {
    try await Workstation.with(.shell, Workstation.Setup(uploadMbps: 100)) { lab in
      let run = try makeRun(lab, project: "STOPPED")
      #expect(try await lab.nassync("enqueue", run).status == 0)
      let drain = try lab.start("drain")
      try await lab.waitForProgress(run)
      kill(drain.id, SIGTERM)
      let ended = await drain.exitStatus()
      let log = try lab.log()
      #expect(ended == 75, "\(log)")
      #expect(try await lab.nassync("--json", "status", run).json["state"] == .string("queued"))
      #expect(try await lab.nassync("drain").status == 0)
      try await lab.expectVerified(run)
    }
  }
}

extension Workstation {
  /// Until the queue knows of bytes of a run on the NAS; at most twenty seconds.
  func waitForProgress(_ run: String) async throws {
    for _ in 0..<200 {
      if (try await nassync("--json", "status", run).json["bytes_sent"].number ?? 0) > 0 { return }
      try await Task.sleep(for: .milliseconds(100))
    }
    Issue.record("nothing was sent: \(try log())")
  }
}
