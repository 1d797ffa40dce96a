import Foundation
import Glibc
import SyncModel
import Synchronization
import TestSupport
import Testing
import Transport

@Suite struct LossPromises {
  @Test(arguments: ConformanceSubject.all) func interruptsInMidTransfer(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let (large, small) = (try running.path("large"), try running.path("small"))
      try await withThrowingTaskGroup(of: TransportError?.self) { group in
        group.addTask {
          await failure {
            let upload = try await session.beginUpload(large, resumingAt: 0)
            let chunk = noise(1 << 20)
            for number in 0..<100_000 { try await session.write(chunk, at: UInt64(number) << 20, to: upload) }
          }
        }
        for _ in 0..<20 {
          group.addTask {
            await failure {
              for _ in 0..<100_000 { _ = try await session.entry(at: small) }
            }
          }
        }
        try await Task.sleep(for: .milliseconds(200))
        let start = ContinuousClock.now
        session.interrupt()
        for try await error in group {
          #expect(error?.failure.kind == .interrupted)
          #expect(error?.sessionLost == true)
        }
        #expect(ContinuousClock.now - start < .seconds(10))
      }
      await #expect(throws: TransportError.self) { try await session.list(running.root) }
      await session.close()
      await session.close()
    }
  }

  @Test(arguments: ConformanceSubject.all) func noticesAServerThatHangs(_ subject: ConformanceSubject) async throws {
    try await subject.withSession(progressTimeout: subject.impatience) { session, running in
      let path = try running.path("f")
      try await session.put([1], at: path, modified: nil, mode: nil, durable: false)
      // An idle session waits for nothing, however long.
      try await Task.sleep(for: subject.impatience * 1.5)
      #expect(try await session.entry(at: path)?.size == 1)
      try await running.hang()
      let start = ContinuousClock.now
      let upload = Task { await failure { try await session.put(noise(8 << 20), at: path, modified: nil, mode: nil, durable: false) } }
      let error = await failure { _ = try await session.entry(at: path) }
      let waited = ContinuousClock.now - start
      #expect(error?.failure.kind == .timeout)
      #expect(error?.sessionLost == true)
      #expect(waited > subject.impatience * 0.8 && waited < .seconds(12))
      #expect(await upload.value == error)
      #expect(await failure { try await session.removeFile(path) } == error)
    }
  }

  @Test(arguments: ConformanceSubject.all) func connectingCanBeCancelled(_ subject: ConformanceSubject) async throws {
    try await subject.with { running in
      let task = Task { await failure { _ = try await running.driver.connect() } }
      task.cancel()
      let error = await task.value
      #expect(error == nil || error?.failure.kind == .interrupted)
      let session = try await running.driver.connect()
      _ = try await session.list(running.root)
      await session.close()
    }
  }

  @Test(arguments: ConformanceSubject.all) func aClosedSessionThrows(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      await session.close()
      let error = await failure { _ = try await session.list(running.root) }
      #expect(error?.sessionLost == true)
      await session.abandonUpload(UploadHandle(id: 1, path: running.root))
    }
  }
}

/// What a body throws, nil for nothing.
func failure(_ body: () async throws -> Void) async -> TransportError? {
  do {
    try await body()
    return nil
  } catch let error as TransportError {
    return error
  } catch {
    Issue.record(error)
    return nil
  }
}
