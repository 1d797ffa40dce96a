import Foundation
import NASSync
import TestSupport

/// A workstation with two instruments, and a real SFTP server as its NAS.
struct LabFixture: Sendable {
  let folder: String
  let configuration: ServiceConfiguration
  let server: LoopbackSSHD

  var lab: String { folder + "/lab" }

  static func with(
    _ style: LoopbackSSHD.Style = .shell, method: VerifySettings.Method = .auto, backoff: [Double] = [0.2, 0.2, 0.2],
    adjust: @Sendable (inout ServiceConfiguration) -> Void = { _ in }, _ body: @Sendable (LabFixture) async throws -> Void
  ) async throws {
    try await LoopbackSSHD.with(style) { server in
      try await TemporaryFolder.with { folder in
        let destination = SFTPDestination(
          host: "127.0.0.1", port: Int(server.port), user: server.user, keyFile: server.keyFile, knownHosts: server.knownHostsFile,
          remoteRoot: server.remoteRoot, connections: 2, connectTimeout: 30, progressTimeout: 30)
        let lab = folder.path + "/lab"
        var configuration = ServiceConfiguration(
          stateDirectory: folder.path + "/state",
          equipment: ["CYTOMETER_01", "CONFOCAL_01"].map {
            EquipmentProfile(id: $0, localRoot: lab, exclude: ["*.tmp"], transport: .sftp(destination))
          })
        configuration.retry = RetrySettings(backoff: backoff)
        configuration.verify.method = method
        adjust(&configuration)
        try FileManager.default.createDirectory(atPath: lab, withIntermediateDirectories: true)
        try await body(LabFixture(folder: folder.path, configuration: configuration, server: server))
      }
    }
  }

  /// Makes a run with the given files and returns its path.
  func makeRun(
    _ equipment: String = "CYTOMETER_01", project: String = "Alpha", leaf: String = "Run_2026-11-20T10-00", record: Bool = true,
    files: [String: [UInt8]] = ["data.fcs": Array("measured".utf8), "sub/notes.txt": Array("fine\n".utf8)]
  ) throws -> String {
    let run = "\(lab)/\(equipment)/\(project)/Runs/\(leaf)"
    for (name, content) in files { try write(content, to: run + "/" + name) }
    if record {
      try write(
        Array(#"{"schema_version":"1.8","level":"run","run_kind":"experimental","sync_status":"pending","validation_overrides":[]}"#.utf8),
        to: run + "/.exlab-wizard/creation.json")
    }
    return run
  }

  func write(_ content: [UInt8], to path: String) throws {
    let url = URL(fileURLWithPath: path)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(content).write(to: url)
  }

  /// The folder on the server's disk that a run is published in.
  func remote(_ run: String) -> String { server.rootFolder + String(run.dropFirst(lab.count)) }

  /// What `sha256sum -c` says in a run's folder on the NAS, checked from outside the product.
  func checksumsHold(in folder: String) async throws -> Bool {
    try await runProcess(
      ["sh", "-c", "cd \"$1\" && sha256sum --strict --quiet -c .exlab-wizard/checksums.sha256", "sh", folder]
    ).status == 0
  }

  /// Names in a run's parent folder on the NAS.
  func siblings(of run: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: (remote(run) as NSString).deletingLastPathComponent).sorted()
  }
}
