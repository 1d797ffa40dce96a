import Executors
import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// Commands over the system's `ssh`: what hashing on the NAS needs of it.
@Suite struct OpenSSHShellTests {
  private static let connector = OpenSSHConnection.connector(configurationFile: "/dev/null")

  /// Runs a script over a connection of its own with given input, returns its output.
  private func exec(
    _ script: StaticString, _ server: LoopbackSSHD, input: [UInt8] = [], pieces: Int = 70_001
  ) async throws -> (output: [UInt8], complaints: [UInt8]) {
    let settings = server.settings
    return try await onThread { () throws(TransportError) in
      let interrupter = Interrupter()
      let connection = try Self.connector(settings, interrupter)
      defer { connection.close() }
      var rest = input[...]
      var output: [UInt8] = []
      do throws(RemoteCommand.Refusal) {
        let complaints = try RemoteCommand(script: script).run(
          on: connection, interrupter: interrupter, silence: .seconds(20),
          input: {
            defer { rest = rest.dropFirst(pieces) }
            return rest.isEmpty ? nil : Array(rest.prefix(pieces))
          }, output: { output += $0 })
        return (output, complaints)
      } catch {
        if case .failed(let error) = error { throw error }
        throw .unsupported("get an answer")
      }
    }
  }

  @Test func megabytesBothWaysFloodsAndClosedInput() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let input = (0..<(6 << 20)).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 7) }
      let (echo, _) = try await exec("cat", server, input: input)
      #expect(echo.starts(with: RemoteCommand.begin))
      #expect(echo.dropFirst(RemoteCommand.begin.count).dropLast(14) == input[...])
      let end = RemoteCommand.begin + Array("out\nNASSYNC-END 0\n".utf8)
      let (flooded, complaints) = try await exec("head -c 8000000 /dev/zero >&2; echo last words >&2; echo out", server)
      #expect(flooded == end)
      #expect(complaints.count <= 4096)
      let (unread, _) = try await exec("exec 0<&-; echo out", server, input: Array(repeating: 65, count: 12 << 20))
      #expect(unread == end)
    }
  }

  @Test func exitStatusAndChannelsOneAfterAnother() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let settings = server.settings
      let statuses = try await onThread { () throws(TransportError) in
        let connection = try Self.connector(settings, Interrupter())
        defer { connection.close() }
        var statuses: [Int32?] = []
        for command in ["exit 0", "exit 7", "kill -9 $$", "exit 3"] {
          let channel = try connection.openChannel(.exec(command))
          var buffer = [UInt8](repeating: 0, count: 100)
          let deadline = Deadline(after: .seconds(10))
          while !deadline.hasPassed {
            let result: Result<CarrierResult, TransportError> = buffer.withUnsafeMutableBytes { bytes in
              do throws(TransportError) { return .success(try channel.read(into: bytes)) } catch { return .failure(error) }
            }
            if try result.get() == .endOfStream { break }
            _ = waitUntilReady(channel.pollDescriptors(wantsWrite: false), interruption: -1, deadline: deadline)
          }
          statuses.append(channel.exitStatus())
          channel.close()
        }
        return statuses
      }
      #expect(statuses == [0, 7, nil, 3])
    }
  }

  // MARK: The shell

  @Test(arguments: [LoopbackSSHD.Style.sftpOnly, .chroot, .noHashTool]) func accountsThatCannotHash(style: LoopbackSSHD.Style) async throws
  {
    try await LoopbackSSHD.with(style, keyTypes: [.ed25519]) { server in
      guard case .unavailable = try await server.lookForShell(by: Self.connector) else {
        Issue.record("a shell was found where there is none")
        return
      }
    }
  }

  @Test func serversThatAnswerACommandWithSomethingElse() async throws {
    for command in ["echo welcome; exit 0", "cat >/dev/null", "exit 1", "exit 255", "kill -9 $PPID"] {
      try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: ["ForceCommand \(command)"]) { server in
        guard case .unavailable = try await server.lookForShell(by: Self.connector) else {
          Issue.record("a shell was found behind “\(command)”")
          return
        }
      }
    }
  }

  @Test func brokenNetworkIsAnErrorAndALostConnectionIsMadeAgain() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let shell = try await server.shell(by: Self.connector)
      let name = RemotePath(root: server.remoteRoot, relative: try RelativePath("it"))
      try Data([1]).write(to: URL(fileURLWithPath: "\(server.rootFolder)/it"))
      try await server.killSessions()
      #expect(try await shell.digests(of: [name]) { _ in }.count == 1)
      try await server.stop()
      await #expect(throws: TransportError.self) { _ = try await shell.digests(of: [name]) { _ in } }
      await #expect(throws: TransportError.self) { _ = try await server.lookForShell(by: Self.connector) }
      try await server.start()
      #expect(try await shell.digests(of: [name]) { _ in }.count == 1)
    }
  }

  @Test func interruptAndADeadPeerEndHashing() async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      // A named pipe that nobody writes to: hashing it takes for ever.
      try #require(mkfifo(server.rootFolder + "/pipe", 0o600) == 0)
      let pipe = RemotePath(root: server.remoteRoot, relative: try RelativePath("pipe"))
      var settings = server.settings
      settings.keepAliveSeconds = 1
      func hash(_ shell: RemoteShell) -> Task<SyncFailure?, Never> {
        Task {
          do throws(TransportError) {
            _ = try await shell.digests(of: [pipe]) { _ in }
            return nil
          } catch { return error.failure }
        }
      }
      let first = try await server.shell(settings, by: Self.connector)
      let hashing = hash(first)
      try await Task.sleep(for: .milliseconds(500))
      first.interrupt()
      #expect(await hashing.value?.kind == .interrupted)
      let second = try await server.shell(settings, by: Self.connector)
      let patient = hash(second)
      // A peer that only takes its time answers the questions for signs of life.
      try await Task.sleep(for: .seconds(5))
      let start = ContinuousClock.now
      await server.pauseSessions()
      #expect(await patient.value?.kind == .timeout)
      #expect(ContinuousClock.now - start > .milliseconds(500) && ContinuousClock.now - start < .seconds(12))
      await second.close()
      #expect(try OpenSSHTests.carriers(server.port).isEmpty)
    }
  }
}
