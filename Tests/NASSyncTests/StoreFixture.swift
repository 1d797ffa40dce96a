import Digests
import Foundation
import JobQueue
import SyncModel
import TestSupport
import Transport

@testable import NASSync

/// A workstation whose destination is a real object store, with a relay on the way that sees every request.
struct StoreFixture: Sendable {
  static let prefix = "lab runs/é"

  let folder: String
  let configuration: ServiceConfiguration
  let store: LoopbackS3
  let relay: HTTPRelay

  var lab: String { folder + "/lab" }

  /// - Parameters:
  ///   - kind: Ceph's takes less than half of the processor time. OpenStack's is met by the program in EndToEndTests and in the campaign, and by
  ///     every promise of the driver in TransportConformance.
  ///   - decide: What becomes of each request.
  ///   - adjust: Changes what the profile says of the store.
  static func with(
    _ kind: LoopbackS3.Kind = .ceph, method: VerifySettings.Method = .auto, exclude: [String] = [],
    bandwidth: BandwidthProfile = .unlimited, deciding decide: @escaping @Sendable (HTTPRelay.Request) -> HTTPRelay.Fate = { _ in .pass },
    adjust: @Sendable (inout S3Destination) -> Void = { _ in }, _ body: @Sendable (StoreFixture) async throws -> Void
  ) async throws {
    try await LoopbackS3.with(kind) { store in
      try await HTTPRelay.with(to: store.port, deciding: decide) { relay in
        var destination = S3Destination(
          endpoint: "http://127.0.0.1:\(relay.port)", bucket: store.bucket, prefix: prefix, region: store.region,
          accessKeyID: store.accessKeyID, secretAccessKey: SecretReference("file:\(store.secretFile)"), insecure: true)
        adjust(&destination)
        let folder = store.folder.path
        var configuration = ServiceConfiguration(
          stateDirectory: folder + "/state",
          equipment: [
            EquipmentProfile(
              id: "CYTOMETER_01", localRoot: folder + "/lab", exclude: exclude, transport: .s3(destination), bandwidth: bandwidth)
          ])
        configuration.retry = RetrySettings(backoff: [0.2, 0.2, 0.2])
        configuration.verify.method = method
        try await body(StoreFixture(folder: folder, configuration: configuration, store: store, relay: relay))
      }
    }
  }

  /// The same lab with a queue of its own.
  func configuration(state name: String) -> ServiceConfiguration {
    var other = configuration
    other.stateDirectory = folder + "/" + name
    return other
  }

  /// A client that need not ask first what the store makes of names, which takes some hundred requests: the answers stand in its queue file.
  func client(state name: String = "state", clock: any SyncClock = SystemClock()) async throws -> NASSyncClient {
    let configuration = configuration(state: name)
    let client = NASSyncClient(configuration: configuration, clock: clock)
    let names = DestinationNames(
      foldsCase: false, foldsNormalization: false, maxNameBytes: 255, maxPathBytes: 1024 - Self.prefix.utf8.count - 2, refused: [.notUTF8],
      holdsSymlinks: false)
    let queue = try await SyncQueue.open(stateDirectory: configuration.stateDirectory, clock: clock)
    for profile in configuration.equipment {
      try await queue.record(DestinationFacts(names: names, freeSpace: nil), of: client.route(for: profile).pool.driver.address)
    }
    await queue.close()
    return client
  }

  // MARK: Here

  static let record = Array(
    #"{"schema_version":"1.8","level":"run","run_kind":"experimental","sync_status":"pending","validation_overrides":[]}"#.utf8)

  func write(_ content: [UInt8], to path: String) throws {
    let url = URL(fileURLWithPath: path)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(content).write(to: url)
  }

  func makeRun(
    project: String = "Alpha", files: [String: [UInt8]] = ["data.fcs": noise(900), "sub/größe +1.txt": Array("fine\n".utf8)]
  ) throws -> String {
    let run = "\(lab)/CYTOMETER_01/\(project)/Runs/Run_2026-11-20T10-00"
    for (name, content) in files { try write(content, to: run + "/" + name) }
    try write(Self.record, to: run + "/.exlab-wizard/creation.json")
    return run
  }

  func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

  func json(_ bytes: [UInt8]) throws -> [String: Any] {
    guard let object = try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any] else {
      throw TemporaryFolder.Failure("no JSON object")
    }
    return object
  }

  // MARK: There

  /// A run's key in the bucket, or that of something in it.
  func key(_ run: String, _ name: String = "") -> String {
    Self.prefix + String(run.dropFirst(lab.count)) + (name.isEmpty ? "" : "/" + name)
  }

  func manifestKey(_ run: String) -> String { key(run, ".exlab-wizard/checksums.sha256") }

  func receipt(_ run: String) async throws -> [String: Any] { try json(try await store.object(key(run, ".exlab-wizard/receipt.json"))) }

  /// Whether the store holds the run's files and nothing beside: every object under the run's key has the digest that the manifest there
  /// says, and is byte for byte the local file. Read past the program under test.
  func expectWhole(_ run: String, plus foreign: Set<String> = [], _ what: String = "") async throws {
    let manifest = String(decoding: try await store.object(manifestKey(run)), as: UTF8.self)
    var named: [String: String] = [:]
    for line in manifest.split(separator: "\n") { named[String(line.dropFirst(66))] = String(line.prefix(64)) }
    var local: Set<String> = []
    for case let path as String in FileManager.default.enumerator(atPath: run) ?? .init() where !path.hasPrefix(".exlab-wizard") {
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: run + "/" + path, isDirectory: &isFolder), !isFolder.boolValue { local.insert(path) }
    }
    guard Set(named.keys) == local else { throw TemporaryFolder.Failure("\(what): the manifest names \(named.keys), here are \(local)") }
    let bookkeeping = ["checksums.sha256", "creation.json", "receipt.json"].map { ".exlab-wizard/" + $0 }
    let base = key(run) + "/"
    let digests = try await store.digests(base)
    let there = digests.keys.map { String($0.dropFirst(base.count)) }.filter { !$0.hasSuffix("/") && !$0.isEmpty }
    guard Set(there) == local.union(bookkeeping).union(foreign) else { throw TemporaryFolder.Failure("\(what): the store has \(there)") }
    for name in local {
      guard let digest = digests[base + name], digest == named[name], digest == SHA256Hasher.digest(of: try bytes(run + "/" + name))?.hex
      else {
        throw TemporaryFolder.Failure("\(what): \(name) differs in the store")
      }
    }
  }

  /// What this program keeps beside runs while it works, and should have removed: claims, probes, uploads that were not ended.
  func leftovers() async throws -> [String] {
    let hidden = try await store.keys(Self.prefix).filter { $0.contains("/.nassync-") }
    return hidden + (try await store.openUploads().map { "upload of \(String(decoding: $0.key, as: UTF8.self))" })
  }

  // MARK: Clients

  /// Drains until the run is settled; the backoff of the tests is short.
  func settle(_ client: NASSyncClient, _ run: String, seconds: Double = 60) async throws -> RunStatus {
    let deadline = ContinuousClock.now + .seconds(seconds)
    while true {
      _ = try await client.drain()
      let status = try await client.status(of: run)
      if case .job(let state) = status.state, !state.isActive { return status }
      guard ContinuousClock.now < deadline else { return status }
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  /// Makes sure that a run is published.
  func published(_ client: NASSyncClient, _ run: String) async throws {
    try await client.enqueue(run)
    let status = try await settle(client, run)
    guard status.state == .job(.verified) else { throw TemporaryFolder.Failure("not verified: \(status)") }
  }
}
