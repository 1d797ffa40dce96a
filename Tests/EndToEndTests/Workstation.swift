import Foundation
import Glibc
import TestSupport
import Testing

/// A workstation beside two instruments, with the real program and a real SFTP server as its NAS.
struct Workstation: Sendable {
  /// What `nassync` answered.
  struct Answer: Sendable, CustomStringConvertible {
    let status: Int32
    let text: String
    let errorText: String
    /// The one document of `--json`; null where standard output is none.
    var json: JSONValue {
      (try? JSONDecoder().decode(JSONValue.self, from: Data(text.utf8))) ?? .null  // a test that wants one then finds no key
    }
    var description: String { "exit \(status)\n\(text)\(errorText)" }
  }

  /// What the equipment files and `nassync.yaml` say beyond the ordinary.
  struct Setup: Sendable {
    var equipment = ["CYTOMETER_01", "CONFOCAL_01"]
    /// Replaces or adds keys of `transport`.
    var transport: [String: String] = [:]
    var uploadMbps: Int?
    /// YAML of `completeness`.
    var completeness: String?
    var verifyMethod = "auto"
    var auditInterval = "24h"
    var backoff = "[200ms, 200ms, 200ms]"
    var workers = 2
  }

  let folder: TemporaryFolder
  let server: LoopbackSSHD

  var lab: String { folder.path + "/lab" }
  var state: String { folder.path + "/state" }

  static func with(
    _ style: LoopbackSSHD.Style = .shell, _ setup: Setup = Setup(), serverConfiguration: [String] = [],
    _ body: (Workstation) async throws -> Void
  ) async throws {
    try await LoopbackSSHD.with(style, extraConfiguration: serverConfiguration) { server in
      try await with(server, setup, body)
    }
  }

  /// Another workstation of the same NAS.
  static func with(_ server: LoopbackSSHD, _ setup: Setup = Setup(), _ body: (Workstation) async throws -> Void) async throws {
    try await TemporaryFolder.with { folder in
      let workstation = Workstation(folder: folder, server: server)
      try workstation.configure(setup)
      try FileManager.default.createDirectory(atPath: workstation.lab, withIntermediateDirectories: true)
      try await body(workstation)
    }
  }

  /// Writes the configuration anew.
  func configure(_ setup: Setup) throws {
    try folder.write(
      """
      state_dir: ./state
      equipment_dir: ./equipment
      workers: \(setup.workers)
      retry: { backoff: \(setup.backoff) }
      verify: { method: \(setup.verifyMethod), audit_interval: \(setup.auditInterval) }

      """, to: "nassync.yaml")
    var transport = [
      "type": "sftp", "host": server.host, "port": "\(server.port)", "user": server.user, "key_file": server.keyFile,
      "known_hosts": server.knownHostsFile, "remote_root": server.remoteRoot, "connections": "2", "timeout": "20s",
    ]
    transport.merge(setup.transport) { $1 }
    for id in setup.equipment {
      var lines = ["id: \(id)", "local_root: \(lab)", "exclude: [\"*.tmp\"]", "transport:"]
      lines += transport.sorted { $0.key < $1.key }.map { "  \($0.key): \($0.value)" }
      if let signal = setup.completeness { lines.append("completeness: \(signal)") }
      if let rate = setup.uploadMbps { lines += ["bandwidth:", "  upload_mbps: \(rate)"] }
      try folder.write(lines.joined(separator: "\n") + "\n", to: "equipment/\(id).yaml")
    }
  }

  // MARK: The program

  /// The program that `NASSYNC_PROGRAM` names, as `scripts/test` has the release program tested; else that of this build, which lies beside the test
  /// program.
  static func program() throws -> String {
    if let named = ProcessInfo.processInfo.environment["NASSYNC_PROGRAM"] { return named }
    let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let program = (tests as NSString).deletingLastPathComponent + "/nassync"
    guard FileManager.default.isExecutableFile(atPath: program) else {
      throw TemporaryFolder.Failure("\(program) is not there: build the product nassync first")
    }
    return program
  }

  private static var environment: [String: String] {
    ["PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "TZ": "UTC"]
  }

  private func words(_ arguments: [String]) throws -> [String] {
    [try Self.program(), "--config", folder.path + "/nassync.yaml"] + arguments
  }

  /// Runs `nassync` to its end in the workstation's folder, with its configuration.
  func nassync(_ arguments: String...) async throws -> Answer { try await run(words(arguments)) }

  func nassync(_ arguments: [String]) async throws -> Answer { try await run(words(arguments)) }

  /// Runs any words in the workstation's folder.
  func run(_ words: [String]) async throws -> Answer {
    let result = try await runProcess(words, environment: Self.environment, directory: folder.path)
    return Answer(status: result.status, text: result.text, errorText: result.errorText)
  }

  /// Starts `nassync`; whoever starts it ends it and awaits its end.
  func start(_ arguments: String..., log: String = "started.log") throws -> ChildProcess {
    try ChildProcess(
      try words(arguments), environment: Self.environment, directory: folder.path,
      streams: ChildProcess.Streams(output: "\(folder.path)/\(log).out", error: "\(folder.path)/\(log)"))
  }

  /// What a started program wrote to standard error.
  func log(_ name: String = "started.log") throws -> String { try String(contentsOfFile: "\(folder.path)/\(name)", encoding: .utf8) }

  // MARK: Runs

  static let record = Array(
    #"{"schema_version":"1.8","level":"run","run_kind":"experimental","sync_status":"pending","validation_overrides":[],"kept":{"a":1}}"#
      .utf8)

  /// Makes a run with a record.
  func makeRun(
    _ equipment: String = "CYTOMETER_01", project: String = "PROJ-0042", leaf: String = "Run_2026-04-17T14-32",
    files: [String: [UInt8]] = ["data.fcs": Array("measured".utf8), "sub/notes.txt": Array("fine\n".utf8)]
  ) throws -> String {
    let run = "lab/\(equipment)/\(project)/Runs/\(leaf)"
    for (name, content) in files { try folder.write(content, to: "\(run)/\(name)") }
    try folder.write(Self.record, to: "\(run)/.exlab-wizard/creation.json")
    return "\(folder.path)/\(run)"
  }

  /// `sync_status` of a run's record.
  func syncStatus(_ run: String) throws -> String? {
    let data = try Data(contentsOf: URL(fileURLWithPath: run + "/.exlab-wizard/creation.json"))
    return try JSONDecoder().decode(JSONValue.self, from: data)["sync_status"].text
  }

  /// The folder on the NAS's disk that a run is published in.
  func remote(_ run: String) -> String { server.rootFolder + String(run.dropFirst(lab.count)) }

  /// Runs `sha256sum -c` in a run's folder on the NAS; the product has no part in it.
  func expectWhole(_ run: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let folder = remote(run)
    let result = try await runProcess(
      ["sh", "-c", "cd \"$1\" && sha256sum --strict --quiet -c .exlab-wizard/checksums.sha256", "sh", folder])
    #expect(result.status == 0, "sha256sum -c in \(folder): \(result.text)\(result.errorText)", sourceLocation: sourceLocation)
    // The manifest names every file, and the NAS has every file that the workstation has.
    let difference = try await runProcess(["diff", "-r", "--no-dereference", "--exclude=.exlab-wizard", run, folder])
    #expect(difference.status == 0, "\(difference.text)\(difference.errorText)", sourceLocation: sourceLocation)
  }

  /// Staging folders below the NAS's root and what is in them.
  func stagingFolders() async throws -> String {
    try await runProcess(["find", server.rootFolder, "-path", "*/.nassync-*", "!", "-path", "*/.nassync-probe-*"]).text
  }

  /// Files with which the program found out what the NAS can do, and that it did not remove.
  func probeFiles() async throws -> String {
    try await runProcess(["find", server.rootFolder, "-name", ".nassync-probe-*"]).text
  }

  /// Expects a run to be proven, whole on the NAS, with nothing left over.
  func expectVerified(_ run: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let status = try await nassync("--json", "status", run).json
    #expect(status["state"] == .string("verified"), "\(status)", sourceLocation: sourceLocation)
    try await expectWhole(run, sourceLocation: sourceLocation)
    let left = try await stagingFolders()
    #expect(left.isEmpty, "\(left.prefix(2_000)) job \(status["job_id"].text ?? "?")", sourceLocation: sourceLocation)
  }
}
