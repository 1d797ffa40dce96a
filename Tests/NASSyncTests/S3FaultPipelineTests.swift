import Foundation
import Glibc
import JobQueue
import Synchronization
import TestSupport
import Testing
import TransportHTTP

@testable import NASSync

/// What goes wrong between a workstation and its object store, over the whole pipeline and a real store.
@Suite struct S3FaultPipelineTests {
  private static let part = 8 << 20

  /// The requests that sent parts of a file, by the number of the part.
  private func parts(_ lab: StoreFixture, _ leaf: String) -> [(number: Int, status: Int?)] {
    lab.relay.requests.filter { $0.method == "PUT" && $0.path.hasSuffix("/" + leaf) && $0.query.contains("partNumber=") }.compactMap {
      request in
      let value = request.query.split(separator: "&").first { $0.hasPrefix("partNumber=") }?.dropFirst("partNumber=".count)
      return value.flatMap { Int($0) }.map { ($0, request.status) }
    }
  }

  /// The process dies while a large file is on its way: the next one, with the queue file as it was at that moment, goes on with the part
  /// that was missing.
  @Test func aLargeFileGoesOnWithItsNextPartAfterTheProgramDied() async throws {
    let copied = Mutex<(from: String, to: String)?>(nil)
    let dead = Mutex(false)
    // Ends every connection from the third part on, with the queue as it is then.
    try await StoreFixture.with(
      bandwidth: BandwidthProfile(uploadMbps: 80),
      deciding: { request in
        if dead.withLock({ $0 }) { return .cutBefore }
        guard request.method == "PUT", request.query.contains("partNumber=3"), let (from, to) = copied.withLock({ $0.take() }) else {
          return .pass
        }
        dead.withLock { $0 = true }
        blocking { try await CrashTests.copyQueue(from, to) }
        return .cutBefore
      }
    ) { lab in
      let run = try lab.makeRun(files: ["movie.tiff": noise(4 * Self.part + 1000), "data.fcs": noise(900)])
      let (first, second) = (lab.configuration(state: "first"), lab.configuration(state: "second"))
      copied.withLock { $0 = (first.stateDirectory, second.stateDirectory) }
      let doomed = try await lab.client(state: "first")
      try await doomed.enqueue(run)
      _ = try await doomed.drain()
      await doomed.close()
      #expect(dead.withLock { $0 })
      #expect(try await lab.store.openUploads().count == 1)
      dead.withLock { $0 = false }
      let known = try await queued(second, run)
      #expect(known.uploadToken != nil, "\(known)")

      let fresh = NASSyncClient(configuration: second)
      let status = try await lab.settle(fresh, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      let arrived = parts(lab, "movie.tiff").filter { $0.status == 200 }.map(\.number)
      #expect(arrived.sorted() == [1, 2, 3, 4, 5], "\(parts(lab, "movie.tiff"))")
      try await lab.expectWhole(run)
      #expect(try await lab.leftovers() == [])
      await fresh.close()
    }
  }

  private func queued(_ configuration: ServiceConfiguration, _ run: String) async throws -> ComponentRow {
    let queue = try await SyncQueue.open(stateDirectory: configuration.stateDirectory, clock: SystemClock())
    guard let job = try await queue.latestJob(ofRun: run) else { throw TemporaryFolder.Failure("no job") }
    let row = try await queue.components(of: job).first { $0.entry.path.description == "movie.tiff" }
    await queue.close()
    guard let row else { throw TemporaryFolder.Failure("no component") }
    return row
  }

  /// Told to stop, it writes down what arrived: nothing of it is sent again.
  @Test func aLargeFileGoesOnAfterTheClientWasClosed() async throws {
    try await StoreFixture.with(bandwidth: BandwidthProfile(uploadMbps: 120)) { lab in
      let run = try lab.makeRun(files: ["movie.tiff": noise(4 * Self.part + 1000)])
      let first = try await lab.client()
      try await first.enqueue(run)
      let draining = Task { try await first.drain() }
      let deadline = ContinuousClock.now + .seconds(30)
      while parts(lab, "movie.tiff").count < 2, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(10)) }
      await first.close()
      _ = try? await draining.value  // closed in its midst
      let before = parts(lab, "movie.tiff").count { $0.status == 200 }
      #expect(before >= 1 && before < 5)
      let second = NASSyncClient(configuration: lab.configuration)
      let status = try await lab.settle(second, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      #expect(parts(lab, "movie.tiff").filter { $0.status == 200 }.map(\.number).sorted() == [1, 2, 3, 4, 5])
      try await lab.expectWhole(run)
      #expect(try await lab.leftovers() == [])
      await second.close()
    }
  }

  /// Uploads that nobody will go on with: those in the run's own place end when the job is claimed, whoever began them.
  @Test func orphanedUploadsAreFoundAndEnded() async throws {
    try await StoreFixture.with { lab in
      let run = try lab.makeRun(files: ["movie.tiff": noise(Self.part + 1000)])
      let place = lab.key(run, "movie.tiff").dropFirst(StoreFixture.prefix.count + 1)
      let settings = S3Settings(
        http: HTTPSettings(origin: HTTPOrigin(scheme: .http, host: lab.store.host, port: UInt16(lab.store.port)), allowsPlainHTTP: true),
        bucket: lab.store.bucket, prefix: StoreFixture.prefix, region: lab.store.region
      ) { [store = lab.store] () throws(SyncFailure) in
        S3Credentials(accessKeyID: store.accessKeyID, secretAccessKey: store.secretAccessKey)
      }
      let driver = S3Driver(settings: settings)
      for name in [String(place), String(place).replacingOccurrences(of: "Alpha", with: "Beta")] {
        let session = try await driver.connect()
        let path = driver.root.appending(try RelativePath(name))
        let size = UInt64(3 * Self.part)
        let upload = try await session.beginUpload(path, resumingAt: 0, size: size, modified: nil)
        try await session.write(noise(Self.part), at: 0, to: upload)
        try await session.flush(upload, durable: true)
        await session.close()
      }
      #expect(try await lab.store.openUploads().count == 2)
      let client = NASSyncClient(configuration: lab.configuration)
      let lines = try #require(try await client.check().first).lines
      #expect(lines.contains { $0.name == "uploads" && $0.detail.hasPrefix("2 interrupted") }, "\(lines)")
      try await lab.published(client, run)
      // The other one is another run's, and may be going on.
      #expect(try await lab.store.openUploads().map { String(decoding: $0.key, as: UTF8.self).contains("/Beta/") } == [true])
      await client.close()
      // A week later nobody is.
      let later = S3Driver(settings: settings.ending(uploadsAfter: -3600))
      let session = try await later.connect()
      await session.close()
      #expect(try await lab.store.openUploads().isEmpty)
    }
  }

  /// A wrong key is told as what it is, keeps the job, and shows no secret; with the right one the job goes on.
  @Test func aWrongSecretStopsTheJobAndLosesNothing() async throws {
    try await StoreFixture.with { lab in
      let wrong = lab.folder + "/wrong"
      try lab.write(Array("not-the-secret-0123456789\n".utf8), to: wrong)
      guard chmod(wrong, 0o600) == 0 else { throw TemporaryFolder.Failure("chmod") }
      var configuration = lab.configuration
      guard case .s3(var destination) = configuration.equipment[0].transport else { throw TemporaryFolder.Failure("no store") }
      destination.secretAccessKey = SecretReference("file:\(wrong)")
      configuration.equipment[0].transport = .s3(destination)
      let client = NASSyncClient(configuration: configuration)
      await (try await lab.client()).close()
      let run = try lab.makeRun()
      let report = try #require(try await client.check().first)
      #expect(!report.ok && report.error?.kind == .auth && report.error?.hint.contains("secret_access_key") == true, "\(report)")
      try await client.enqueue(run)
      _ = try await client.drain()
      let failed = try await client.status(of: run)
      #expect(failed.state == .job(.failed) && failed.lastError?.kind == .auth && failed.lastError?.retry == false, "\(failed)")
      let shown = "\(report) \(failed) \(try await client.problems()) \(try await client.history(of: run))"
      #expect(!shown.contains("not-the-secret") && !shown.contains(lab.store.secretAccessKey))
      #expect(try await lab.store.keys().isEmpty)
      // The file is put right; the configuration stays.
      try lab.write(Array((lab.store.secretAccessKey + "\n").utf8), to: wrong)
      try await client.retry(run)
      let status = try await lab.settle(client, run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      try await lab.expectWhole(run)
      await client.close()
      let found = try await runProcess(["grep", "-rlaF", lab.store.secretAccessKey, lab.folder + "/state", lab.lab])
      #expect(found.status == 1, "\(found.text)")
    }
  }

  /// What a store cannot hold is stopped at the gate, each with its name, before a byte was sent.
  @Test func namesThatAStoreCannotHoldAreStoppedAtTheGate() async throws {
    try await StoreFixture.with(adjust: { $0.prefix = String(repeating: "p", count: 400) }) { lab in
      let client = NASSyncClient(configuration: lab.configuration)
      // 1,024 bytes are a key's most: this path has 672 below the run, and the prefix 400.
      let long = (0..<4).map { String(repeating: "\($0)", count: 160) }.joined(separator: "/") + "/data.bin"
      let names: [(project: String, make: (String) throws -> Void, problem: FindingClass, path: String)] = [
        (
          "Link", { try FileManager.default.createSymbolicLink(atPath: $0 + "/latest", withDestinationPath: "data.fcs") }, .specialFile,
          "latest"
        ),
        ("Long", { try lab.write([1], to: $0 + "/" + long) }, .pathTooLong, long),
        (
          "Bytes",
          { run in
            let name = (Array((run + "/caf").utf8) + [0xe9, 0]).map { CChar(bitPattern: $0) }
            let file = open(name, O_CREAT | O_WRONLY, 0o644)
            guard file >= 0 else { throw TemporaryFolder.Failure("no such name can be made here") }
            close(file)
          }, .nameNotUTF8, "caf"
        ),
      ]
      var runs: [String] = []
      for (project, make, _, _) in names {
        runs.append(try lab.makeRun(project: project))
        try make(runs[runs.count - 1])
      }
      #expect(try await client.check().allSatisfy { $0.ok })
      lab.relay.forget()
      for (run, (project, _, problem, path)) in zip(runs, names) {
        let handle = try await client.enqueue(run)
        #expect(handle.state == .blocked, "\(project)")
        let findings = handle.blockingFindings.filter { $0.problemClass == problem }
        #expect(!findings.isEmpty && findings.allSatisfy { !$0.hint.isEmpty }, "\(handle.blockingFindings)")
        #expect(findings.contains { $0.path?.hasPrefix(path) == true }, "\(handle.blockingFindings)")
      }
      #expect(lab.relay.requests.isEmpty)
      // Without the link, the rest of that run goes.
      try FileManager.default.removeItem(atPath: runs[0] + "/latest")
      try await lab.published(client, runs[0])
      await client.close()
    }
  }

  /// The store is out in the midst of a run: the job waits without burning an attempt and goes on by itself.
  @Test func aStoreThatIsOutCostsTimeOnly() async throws {
    let out = Mutex(false)
    let seen = Mutex(0)
    try await StoreFixture.with(deciding: { request in
      if out.withLock({ $0 }) { return .answer("HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") }
      guard request.method == "PUT", request.path.hasSuffix(".dat") else { return .pass }
      let count = seen.withLock { count in
        count += 1
        return count
      }
      if count == 3 { out.withLock { $0 = true } }
      return .pass
    }) { lab in
      var configuration = lab.configuration
      configuration.retry = RetrySettings(backoff: [0.2])
      await (try await lab.client()).close()
      let client = NASSyncClient(configuration: configuration)
      var files: [String: [UInt8]] = [:]
      for number in 0..<9 { files["\(number).dat"] = noise(300 + number) }
      let run = try lab.makeRun(files: files)
      try await client.start()
      try await client.enqueue(run)
      let deadline = ContinuousClock.now + .seconds(30)
      while try await client.problems().allSatisfy({ $0.problemClass != "destination_unreachable" }), ContinuousClock.now < deadline {
        try await Task.sleep(for: .milliseconds(50))
      }
      let problems = try await client.problems()
      #expect(problems.map(\.problemClass) == ["destination_unreachable"], "\(problems)")
      // It is tried again every now and then.
      let waiting = try await client.status(of: run).state
      #expect(waiting == .job(.queued) || waiting == .job(.running), "\(waiting)")
      out.withLock { $0 = false }
      while try await client.status(of: run).state != .job(.verified), ContinuousClock.now < deadline + .seconds(60) {
        try await Task.sleep(for: .milliseconds(50))
      }
      let status = try await client.status(of: run)
      #expect(status.state == .job(.verified) && status.attempts == 0, "\(status)")
      try await lab.expectWhole(run)
      #expect(try await lab.leftovers() == [])
      await client.close()
    }
  }
}

extension S3Settings {
  fileprivate func ending(uploadsAfter age: Double) -> S3Settings {
    var other = self
    other.abortsUploadsAfter = age
    return other
  }
}

/// Waits on a thread that is nobody else's for something asynchronous.
func blocking(_ body: @escaping @Sendable () async throws -> Void) {
  let done = DispatchSemaphore(value: 0)
  Task.detached {
    do { try await body() } catch { Issue.record(error) }
    done.signal()
  }
  done.wait()
}
