import Foundation
import Synchronization
import TestSupport
import Testing
import Transport
import TransportHTTP

@testable import NASSync

/// The process dies at a request that it makes of a real web server, before the server hears of it and after the server has carried it out;
/// what it leaves is the queue file as it was at that moment, and the server. A fresh process must bring the run to its end from there.
@Suite struct HTTPCrashTests {
  /// Where the process dies.
  struct Death: Sendable, Hashable, CustomStringConvertible {
    /// Of the requests about the run.
    let request: Int
    let afterwards: Bool
    var description: String { "\(afterwards ? "after" : "before") request \(request)" }
  }

  /// Ends the requests of the projects whose process is to die.
  final class Reaper: Sendable {
    private struct Doom {
      let death: Death?
      let queues: (from: String, to: String)
      var count = 0
      var isDead = false
      var seen: [HTTPRelay.Request] = []
    }
    private let dooms = Mutex<[String: Doom]>([:])

    /// Requests about a project are counted from here on; at its death the queue file is copied.
    func begin(_ project: String, _ death: Death?, from: String, to: String) {
      dooms.withLock { $0[project] = Doom(death: death, queues: (from, to)) }
    }

    /// - Returns: The requests that came, and whether the death did.
    func end(_ project: String) -> (seen: [HTTPRelay.Request], died: Bool) {
      let doom = dooms.withLock { $0.removeValue(forKey: project) }
      return (doom?.seen ?? [], doom?.isDead ?? false)
    }

    func decide(_ request: HTTPRelay.Request) -> HTTPRelay.Fate {
      let words = (request.target.removingPercentEncoding ?? request.target).components(separatedBy: "/CYTOMETER_01/")
      guard words.count > 1 else { return .pass }
      let project = String(words[words.count - 1].prefix { $0 != "/" && $0 != "&" })
      let copied = dooms.withLock { dooms -> (death: Death, from: String, to: String)? in
        guard var doom = dooms[project], !doom.isDead else { return nil }
        doom.count += 1
        doom.seen.append(request)
        doom.isDead = doom.count == doom.death?.request
        dooms[project] = doom
        return doom.isDead ? doom.death.map { ($0, doom.queues.from, doom.queues.to) } : nil
      }
      if let copied {
        blocking { try await CrashTests.copyQueue(copied.from, copied.to) }
        return copied.death.afterwards ? .cutAfter : .cutBefore
      }
      return dooms.withLock { $0[project]?.isDead == true } ? .cutBefore : .pass
    }
  }

  /// What differs between the kinds of servers.
  struct Ground: Sendable {
    let lab: String
    /// With the given folder's name as its state.
    let configuration: @Sendable (String) -> ServiceConfiguration
    let driver: any TransportDriver
    /// Whether a reader would take the run for one that is there.
    let isVisible: @Sendable (String) async throws -> Bool
    /// Throws where the run there is not the whole run and nothing else.
    let expectWhole: @Sendable (_ run: String, _ what: String) async throws -> Void
    /// What lies there that is none of any run, for a project.
    let leftovers: @Sendable (String) async throws -> [String]
  }

  // MARK: The servers

  @Test func aTransferToAnObjectStoreSurvivesDeathAtAnyRequest() async throws {
    let reaper = Reaper()
    try await StoreFixture.with(deciding: { reaper.decide($0) }) { store in
      var settings = S3Settings(
        http: HTTPSettings(
          origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(store.relay.port)), allowsPlainHTTP: true, connections: 2),
        bucket: store.store.bucket, prefix: StoreFixture.prefix, region: store.store.region
      ) { [store = store.store] () throws(SyncFailure) in
        S3Credentials(accessKeyID: store.accessKeyID, secretAccessKey: store.secretAccessKey)
      }
      settings.partSize = 5 << 20
      let ground = Ground(
        lab: store.lab, configuration: { store.configuration(state: $0) }, driver: S3Driver(settings: settings),
        isVisible: { try await store.store.exists(store.manifestKey($0)) },
        expectWhole: { try await store.expectWhole($0, $1) },
        leftovers: { project in try await store.leftovers().filter { $0.contains("/\(project)/") } })
      // Two parts: an upload that is begun, gone on with, and completed.
      try await sweep(
        ground, reaper, files: ["large.bin": noise(6 << 20, seed: 3), "data.fcs": noise(900), "sub/notes.txt": [7]], deaths: 4)
    }
  }

  @Test func aTransferOverWebDAVSurvivesDeathAtAnyRequest() async throws {
    let reaper = Reaper()
    try await LoopbackWebDAV.with(.nginx) { server in
      try await HTTPRelay.with(to: server.port, deciding: { reaper.decide($0) }) { relay in
        try await TemporaryFolder.with { folder in
          let (lab, root) = (folder.path + "/lab", server.rootFolder)
          let url = "http://127.0.0.1:\(relay.port)\(server.rootPath)"
          let destination = WebDAVDestination(
            url: url, user: server.user, password: SecretReference("file:\(server.passwordFile)"), insecure: true)
          let (user, password) = (server.user, server.password)
          let http = HTTPSettings(
            origin: HTTPOrigin(scheme: .http, host: "127.0.0.1", port: UInt16(relay.port)), user: user, allowsPlainHTTP: true,
            connections: 2,
            credentials: { () throws(SyncFailure) in .basic(user: user, password: password) })
          let ground = Ground(
            lab: lab,
            configuration: { name in
              var configuration = ServiceConfiguration(
                stateDirectory: folder.path + "/" + name,
                equipment: [EquipmentProfile(id: "CYTOMETER_01", localRoot: lab, transport: .webdav(destination))])
              configuration.retry = RetrySettings(backoff: [0.1, 0.1, 0.1])
              return configuration
            },
            driver: WebDAVDriver(
              settings: WebDAVSettings(http: http, root: server.rootPath, metadataFolder: try RelativePath(".exlab-wizard"))),
            isVisible: { FileManager.default.fileExists(atPath: root + String($0.dropFirst(lab.count))) },
            expectWhole: { run, what in
              let there = root + String(run.dropFirst(lab.count))
              let script =
                "cd \"$2\" && sha256sum --strict --quiet -c .exlab-wizard/checksums.sha256 && diff -r --exclude=.exlab-wizard \"$1\" \"$2\" "
                + "&& ls .exlab-wizard && wc -l < .exlab-wizard/checksums.sha256"
              let looked = try await runProcess(["sh", "-c", script, "sh", run, there])
              guard looked.status == 0, looked.text == "checksums.sha256\ncreation.json\nreceipt.json\n4\n" else {
                throw TemporaryFolder.Failure("\(what): \(looked.text)\(looked.errorText)")
              }
            },
            leftovers: { project in
              try FileManager.default.contentsOfDirectory(atPath: "\(root)/CYTOMETER_01/\(project)/Runs").filter {
                $0 != "Run_2026-11-20T10-00"
              }
            })
          let files = ["large.bin": noise(600_000, seed: 3), "data.fcs": noise(900), "sub/notes.txt": [7], "sub/deep/empty.dat": []]
          try await sweep(ground, reaper, files: files, deaths: 10)
        }
      }
    }
  }

  // MARK: The sweep

  private func sweep(_ ground: Ground, _ reaper: Reaper, files: [String: [UInt8]], deaths usual: Int) async throws {
    try FileManager.default.createDirectory(atPath: ground.lab, withIntermediateDirectories: true)
    // What the server makes of names is asked once.
    let asked = NASSyncClient(configuration: ground.configuration("asked"), driver: { _ in ground.driver })
    let check = try await asked.check()
    #expect(check.allSatisfy { $0.ok }, "\(check)")
    await asked.close()
    let whole = try await attempt(nil, ground, reaper, files)
    #expect(whole.count > 20)
    let all = whole.indices.flatMap { index in
      // A request that only looks leaves nothing behind: dying after it is dying before the next one.
      (whole[index].changes ? [false, true] : [false]).map { Death(request: index + 1, afterwards: $0) }
    }
    let chosen = SweepAmount.chosen(all, usual: usual)
    let died = try await withThrowingTaskGroup(of: Int.self) { group in
      var next = chosen.makeIterator()
      var died = 0
      for _ in 0..<4 {
        if let death = next.next() { group.addTask { try await attempt(death, ground, reaper, files).isEmpty ? 0 : 1 } }
      }
      while let one = try await group.next() {
        died += one
        if let death = next.next() { group.addTask { try await attempt(death, ground, reaper, files).isEmpty ? 0 : 1 } }
      }
      return died
    }
    // Sessions share the work differently from time to time, so the last moments may not come.
    #expect(died >= chosen.count * 9 / 10, "\(died) of \(chosen.count)")
    if SweepAmount.asked != nil { print("sweep: \(died) deaths of \(chosen.count) chosen, \(all.count) possible, \(whole.count) requests") }
  }

  /// - Returns: The requests that the doomed client made; none where it did not come to its death.
  private func attempt(
    _ death: Death?, _ ground: Ground, _ reaper: Reaper, _ files: [String: [UInt8]]
  ) async throws -> [HTTPRelay.Request] {
    let project = death.map { "P\($0.request)\($0.afterwards ? "a" : "b")" } ?? "Whole"
    let run = "\(ground.lab)/CYTOMETER_01/\(project)/Runs/Run_2026-11-20T10-00"
    for (name, content) in files {
      let url = URL(fileURLWithPath: run + "/" + name)
      try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(content).write(to: url)
    }
    try FileManager.default.createDirectory(atPath: run + "/.exlab-wizard", withIntermediateDirectories: true)
    try Data(StoreFixture.record).write(to: URL(fileURLWithPath: run + "/.exlab-wizard/creation.json"))
    let first = ground.configuration("first-\(project)")
    let second = ground.configuration("second-\(project)")
    try await CrashTests.copyQueue(ground.configuration("asked").stateDirectory, first.stateDirectory)

    reaper.begin(project, death, from: first.stateDirectory, to: second.stateDirectory)
    let doomed = NASSyncClient(configuration: first, driver: { _ in ground.driver })
    try await doomed.enqueue(run)
    _ = try await doomed.drain()
    await doomed.close()
    let (seen, died) = reaper.end(project)
    let what = "\(death?.description ?? "alive") (\(death.flatMap { seen.dropFirst($0.request - 1).first }?.description ?? "-"))"
    // Nobody sees half a run.
    if try await ground.isVisible(run) {
      do { try await ground.expectWhole(run, what) } catch { Issue.record("half a run is to be seen: \(error)") }
    }

    let fresh = NASSyncClient(configuration: died ? second : first, driver: { _ in ground.driver })
    let deadline = ContinuousClock.now + .seconds(60)
    var status = try await fresh.status(of: run)
    while status.state != .job(.verified), status.state != .job(.failed), ContinuousClock.now < deadline {
      _ = try await fresh.drain()
      status = try await fresh.status(of: run)
    }
    #expect(status.state == .job(.verified), "\(what): \(String(describing: status.lastError))")
    do { try await ground.expectWhole(run, what) } catch { Issue.record(error) }
    let left = try await ground.leftovers(project)
    #expect(left == [], "\(what)")
    let history = try await fresh.history(of: run)
    #expect(!history.contains { $0.event == "digest_mismatch" }, "\(what)")
    #expect(try await fresh.verify(run).ok, "\(what)")
    await fresh.close()
    return death == nil || died ? seen : []
  }
}
