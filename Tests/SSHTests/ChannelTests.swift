import Executors
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

@Suite struct ChannelTests {
  /// Runs a script over a new connection with given input, returns its output.
  private func exec(
    _ script: StaticString, _ server: LoopbackSSHD, _ library: Library, input: [UInt8] = [], pieces: Int = 70_001
  ) async throws -> (output: [UInt8], complaints: [UInt8]) {
    let settings = server.settings
    return try await onThread { () throws(TransportError) in
      let interrupter = Interrupter()
      let connection = try library.connect(settings, interrupter)
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

  /// At one go, and with new keys after each mebibyte, as some servers want them.
  @Test(arguments: Library.allCases, [[], ["RekeyLimit 1M"]]) func echoesManyMegabytesBothWaysAtOnce(
    library: Library, configuration: [String]
  ) async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: configuration) { server in
      var state: UInt64 = 88_172_645_463_325_252
      let input = (0..<(6 << 20)).map { _ -> UInt8 in
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return UInt8(truncatingIfNeeded: state)
      }
      let (output, _) = try await exec("cat", server, library, input: input)
      #expect(output.starts(with: RemoteCommand.begin))
      #expect(output.suffix(14) == Array("NASSYNC-END 0\n".utf8)[...])
      #expect(output.dropFirst(RemoteCommand.begin.count).dropLast(14) == input[...])
    }
  }

  @Test(arguments: Library.allCases) func floodOfComplaintsBlocksNothing(library: Library) async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let (output, complaints) = try await exec("head -c 8000000 /dev/zero >&2; echo last words >&2; echo out", server, library)
      #expect(output == RemoteCommand.begin + Array("out\nNASSYNC-END 0\n".utf8))
      #expect(complaints.count <= 4096)
    }
  }

  @Test(arguments: Library.allCases) func inputThatNobodyReads(library: Library) async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let (output, _) = try await exec("exec 0<&-; echo out", server, library, input: Array(repeating: 65, count: 12 << 20))
      #expect(output == RemoteCommand.begin + Array("out\nNASSYNC-END 0\n".utf8))
    }
  }

  @Test(arguments: Library.allCases) func exitStatusAndChannelsOneAfterAnother(library: Library) async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519]) { server in
      let settings = server.settings
      let statuses = try await onThread { () throws(TransportError) in
        let connection = try library.connect(settings, Interrupter())
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

  @Test(arguments: Library.allCases) func subsystemThatEndsAtOnce(library: Library) async throws {
    try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: ["Subsystem sftp /bin/false"]) { server in
      let settings = server.settings
      let ended = try await onThread { () throws(TransportError) in
        let connection = try library.connect(settings, Interrupter())
        let channel = try connection.openChannel(.sftp)
        var buffer = [UInt8](repeating: 0, count: 100)
        let deadline = Deadline(after: .seconds(10))
        while !deadline.hasPassed {
          let result: Result<CarrierResult, TransportError> = buffer.withUnsafeMutableBytes { bytes in
            do throws(TransportError) { return .success(try channel.read(into: bytes)) } catch { return .failure(error) }
          }
          if try result.get() == .endOfStream { return true }
          _ = waitUntilReady(channel.pollDescriptors(wantsWrite: false), interruption: -1, deadline: deadline)
        }
        return false
      }
      #expect(ended)
    }
  }
}
