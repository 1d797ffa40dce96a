import Foundation
import SyncModel
import TestSupport
import Testing
import Transport

@testable import TransportSFTP

/// A disk that cannot take what was written says so once, to the first who flushes: a real sftp-server whose fsync(2) fails.
@Suite struct RefusedFlushTests {
  /// - Parameter which: Which fsync of a session fails, as strace counts them.
  private func with(_ which: String, _ body: (SFTPDriver) async throws -> Void) async throws {
    let server =
      "Subsystem sftp /usr/bin/strace -f -o /dev/null -e trace=fsync -e inject=fsync:error=EIO:when=\(which) /usr/lib/openssh/sftp-server"
    try await LoopbackSSHD.with(keyTypes: [.ed25519], extraConfiguration: [server]) { server in
      try await body(SFTPDriver(settings: server.settings))
    }
  }

  private func refused(_ body: () async throws(TransportError) -> Void) async -> Bool {
    do throws(TransportError) {
      try await body()
      return false
    } catch { return !error.sessionLost }
  }

  @Test func aSmallFileThatWasNotFlushedIsNotLeftForWhole() async throws {
    try await with("1") { driver in
      let session = try await driver.connect()
      let path = driver.root.appending(try RelativePath("small"))
      #expect(
        await refused { () throws(TransportError) in
          try await session.put([1, 2, 3], at: path, modified: 1_000_000, mode: nil, durable: true)
        })
      #expect(try await session.entry(at: path) == nil)
      try await session.put([1, 2, 3], at: path, modified: 1_000_000, mode: nil, durable: true)
      let found = try #require(try await session.entry(at: path))
      #expect(found.size == 3 && found.modified == 1_000_000)
      await session.close()
    }
  }

  @Test func aLargeFileGetsItsTimeOnlyOnceItIsFlushed() async throws {
    try await with("1") { driver in
      let session = try await driver.connect()
      let path = driver.root.appending(try RelativePath("large"))
      let handle = try await session.beginUpload(path, resumingAt: 0)
      try await session.write([UInt8](repeating: 7, count: 300_000), at: 0, to: handle)
      #expect(
        await refused { () throws(TransportError) in try await session.finishUpload(handle, modified: 1_000_000, mode: nil, durable: true) }
      )
      let found = try #require(try await session.entry(at: path))
      #expect(found.size == 300_000 && found.modified != 1_000_000)
      await session.abandonUpload(handle)
      await session.close()
    }
  }
}
