import Foundation
import Glibc

/// A model of Nextcloud's WebDAV with its chunked upload, on a free port of 127.0.0.1: `Tests/Servers/nextcloud-model.py`, which says what
/// it is and is not. Stopped by process id and removed when the body returns or throws.
public actor LoopbackNextcloud {
  /// A request that the model refuses although it is right.
  public struct Fault: Codable, Sendable {
    let method: String
    let contains: String
    let status: Int
    let skip: Int
    let times: Int

    /// - Parameters:
    ///   - contains: A part of the address.
    ///   - status: 0 cuts the connection.
    ///   - skip: How many such requests pass before.
    public init(_ method: String, _ contains: String, status: Int, skip: Int = 0, times: Int = 1) {
      self.method = method
      self.contains = contains
      self.status = status
      self.skip = skip
      self.times = times
    }
  }

  /// The model's own folder.
  public nonisolated let folder: TemporaryFolder
  /// Where it listens.
  public nonisolated let port: Int
  /// Who may log in.
  public nonisolated let user = "labuser"
  /// The user's app password.
  public nonisolated let password = "app-p4ssword"
  /// Where the user's files are on the server.
  public nonisolated let rootPath = "/remote.php/dav/files/labuser/lab"
  /// The folder behind `rootPath` on this machine's disk. Exists, empty.
  public nonisolated var rootFolder: String { "\(folder.path)/srv/lab" }
  /// The folder that holds a folder for each unfinished upload.
  public nonisolated var uploadsFolder: String { "\(folder.path)/uploads" }
  /// The root's address.
  public nonisolated var url: String { "http://127.0.0.1:\(port)\(rootPath)" }
  private var process: ServerProcess?

  /// Starts a model, runs the body, stops the model.
  public static func with<Result>(
    isolation: isolated (any Actor)? = #isolation, _ body: (LoopbackNextcloud) async throws -> Result
  ) async throws -> Result {
    try await TemporaryFolder.with { folder in
      let server = LoopbackNextcloud(folder, port: try freePort())
      try FileManager.default.createDirectory(atPath: server.rootFolder, withIntermediateDirectories: true)
      do {
        try await server.start()
        let result = try await body(server)
        try await server.stop()
        return result
      } catch {
        try await server.stop()
        throw error
      }
    }
  }

  private init(_ folder: TemporaryFolder, port: Int) {
    self.folder = folder
    self.port = port
  }

  private func start() async throws {
    let script =
      URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().path + "/Servers/nextcloud-model.py"
    process = try await ServerProcess.start(
      "the model of Nextcloud", ["python3", script, folder.path, String(port), user, password],
      environment: ["PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"], folder: folder,
      streams: ChildProcess.Streams(output: "\(folder.path)/out", error: "\(folder.path)/err"),
      until: { [port] in accepts(port) },
      log: { [folder] in (try? String(contentsOfFile: "\(folder.path)/err", encoding: .utf8)) ?? "" })  // perhaps it said nothing
  }

  private func stop() async throws {
    guard let process else { return }
    self.process = nil
    try await process.stop()
  }

  /// From now on such requests are refused.
  public nonisolated func inject(_ faults: [Fault]) throws {
    try JSONEncoder().encode(faults).write(to: URL(fileURLWithPath: "\(folder.path)/faults"), options: .atomic)
  }

  /// Requests so far, as `METHOD PATH STATUS`.
  public nonisolated func requests() throws -> [String] {
    try String(contentsOfFile: "\(folder.path)/requests", encoding: .utf8).split(separator: "\n").map(String.init)
  }
}
