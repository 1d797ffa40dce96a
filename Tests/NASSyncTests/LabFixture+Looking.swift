import Foundation
import NASSync
import TestSupport
import TransportSFTP

extension LabFixture {
  /// The driver that the client makes by itself.
  var realDriver: SFTPDriver {
    SFTPDriver(
      settings: SFTPSettings(
        host: "127.0.0.1", port: UInt16(server.port), user: server.user, keyFile: server.keyFile, knownHostsFile: server.knownHostsFile,
        remoteRoot: server.remoteRoot, connectTimeout: .seconds(30), progressTimeout: .seconds(30)))
  }

  /// A client whose calls on the NAS go through a plan.
  func client(_ plan: FaultPlan, configuration other: ServiceConfiguration? = nil) -> NASSyncClient {
    let real = realDriver
    return NASSyncClient(configuration: other ?? configuration, driver: { _ in FaultingDriver(base: real, plan: plan) })
  }

  /// The same lab with a queue of its own.
  func configuration(state name: String) -> ServiceConfiguration {
    var other = configuration
    other.stateDirectory = folder + "/" + name
    return other
  }

  /// Drains until the run is settled; the backoff of the tests is short.
  func settle(_ client: NASSyncClient, _ run: String, seconds: Double = 120) async throws -> RunStatus {
    let deadline = Date().addingTimeInterval(seconds)
    while true {
      _ = try await client.drain()
      let status = try await client.status(of: run)
      if case .job(let state) = status.state, !state.isActive { return status }
      guard Date() < deadline else { return status }
      try await Task.sleep(nanoseconds: 20_000_000)
    }
  }

  /// Makes a run, sends it and makes sure that it is published.
  func published(_ client: NASSyncClient, _ run: String) async throws {
    try await client.enqueue(run)
    let status = try await settle(client, run)
    guard status.state == .job(.verified) else { throw TemporaryFolder.Failure("not verified: \(status)") }
  }

  func bytes(_ path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

  func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

  func json(_ path: String) throws -> [String: Any] {
    guard let object = try JSONSerialization.jsonObject(with: Data(try bytes(path))) as? [String: Any] else {
      throw TemporaryFolder.Failure("\(path) is no JSON object")
    }
    return object
  }

  func syncStatus(_ run: String) throws -> String? { try json(run + "/.exlab-wizard/creation.json")["sync_status"] as? String }

  /// Changes one byte of a file and nothing else that a listing shows.
  func flip(_ path: String) throws {
    var content = try bytes(path)
    guard !content.isEmpty else { throw TemporaryFolder.Failure("\(path) is empty") }
    content[content.count / 2] ^= 1
    let modified = try FileManager.default.attributesOfItem(atPath: path)[.modificationDate]
    let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    try handle.write(contentsOf: Data(content))
    try handle.close()
    if let modified { try FileManager.default.setAttributes([.modificationDate: modified], ofItemAtPath: path) }
  }

  /// The staging folder of a run on the server's disk, if there is one.
  func staging(of run: String) throws -> String? {
    let parent = (remote(run) as NSString).deletingLastPathComponent
    return try FileManager.default.contentsOfDirectory(atPath: parent).first { $0.hasPrefix(".nassync-") }.map { parent + "/" + $0 }
  }

  /// Whether two trees hold the same names, kinds, contents and link targets; the bookkeeping files do not count.
  func sameTree(_ left: String, _ right: String) async throws -> Bool {
    let excluded = ["creation.json", "checksums.sha256", "receipt.json", "*.tmp"].flatMap { ["-x", $0] }
    return try await runProcess(["diff", "-r", "--no-dereference"] + excluded + [left, right]).status == 0
  }
}
