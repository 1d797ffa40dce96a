import Foundation
import Glibc
import SyncModel
import Testing
import Transport
import TransportSFTP

/// A kind of destination that the suite runs over. Another driver joins by adding one to `all`.
struct ConformanceSubject: Sendable, CustomTestStringConvertible {
  let name: String
  /// Brings a destination up, with an empty root.
  let start: @Sendable (Duration) async throws -> RunningSubject
  var testDescription: String { name }

  static let all: [ConformanceSubject] = [.pipes]

  /// Runs a body against a destination of its own and takes everything down afterwards.
  func with(
    progressTimeout: Duration = .seconds(30), _ body: (RunningSubject) async throws -> Void
  ) async throws {
    let running = try await start(progressTimeout)
    do { try await body(running) } catch {
      await running.stop()
      throw error
    }
    await running.stop()
  }

  /// `with`, with a session.
  func withSession(
    progressTimeout: Duration = .seconds(30), _ body: (any TransportSession, RunningSubject) async throws -> Void
  ) async throws {
    try await with(progressTimeout: progressTimeout) { running in
      let session = try await running.driver.connect()
      do { try await body(session, running) } catch {
        await session.close()
        throw error
      }
      await session.close()
    }
  }
}

/// A destination that is up.
struct RunningSubject: Sendable {
  let driver: any TransportDriver
  /// The root as the driver names it.
  let root: RemotePath
  /// The folder on this machine behind the root: what a test looks at with its own eyes.
  let folder: String
  /// Stops the server's process that serves, as a NAS that hangs.
  let hang: @Sendable () -> Void
  let stop: @Sendable () async -> Void

  func path(_ relative: String) throws -> RemotePath { root.appending(try RelativePath(relative)) }
  func path(_ bytes: [UInt8]) throws -> RemotePath { root.appending(try RelativePath(bytes: bytes)) }
  /// Where a name below the root is on this machine.
  func local(_ relative: String) -> String { folder + "/" + relative }
}

extension ConformanceSubject {
  /// OpenSSH's server over a socket pair.
  static let pipes = ConformanceSubject(name: "sftp-server over a socket pair") { progressTimeout in
    let scratch = try Scratch()
    let servers = PipeServers(command: ["/usr/lib/openssh/sftp-server", "-e"])
    var settings = SFTPSettings(
      host: "pipe", user: "test", keyFile: nil, knownHostsFile: "/nonexistent", remoteRoot: scratch.path + "/root")
    settings.progressTimeout = progressTimeout
    return RunningSubject(
      driver: SFTPDriver(settings: settings, connector: servers.connector), root: RemotePath(root: settings.remoteRoot),
      folder: scratch.path + "/root", hang: { servers.signalAll(SIGSTOP) },
      stop: {
        servers.signalAll(SIGCONT)
        scratch.remove()
      })
  }
}

/// A temporary folder with `root` in it.
final class Scratch: Sendable {
  let path: String

  init() throws {
    var template = Array((NSTemporaryDirectory() + "/nassync-conformance-XXXXXX").utf8CString)
    guard mkdtemp(&template) != nil else { throw POSIXError(.EIO) }
    path = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    guard mkdir(path + "/root", 0o755) == 0 else { throw POSIXError(.EIO) }
  }

  func remove() {
    // A test that fails half way may leave nothing to remove.
    try? FileManager.default.removeItem(atPath: path)  // reason: best effort on the way out
  }
}

/// What a file holds, read past every driver.
func bytes(of path: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: path))) }

func exists(_ path: String) -> Bool {
  var status = stat()
  return lstat(path, &status) == 0
}

/// Bytes that do not compress and do not repeat, the same for the same seed.
func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
  return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
    for index in 0..<count {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      buffer[index] = UInt8(truncatingIfNeeded: state >> 32)
    }
    initialized = count
  }
}
