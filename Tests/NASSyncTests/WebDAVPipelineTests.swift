import Foundation
import NASSync
import TestSupport
import Testing

/// The whole job over WebDAV: the same promises as over SFTP, with read-back as evidence.
@Suite struct WebDAVPipelineTests {
  /// A workstation whose NAS is a real web server.
  private func with(
    _ make: LoopbackWebDAV.Make, tls: Bool = false, login: LoopbackWebDAV.Login = .basic,
    exclude: [String] = [], bandwidth: BandwidthProfile = .unlimited, adjust: @Sendable (inout WebDAVDestination) -> Void = { _ in },
    _ body: @Sendable (NASSyncClient, LoopbackWebDAV, String) async throws -> Void
  ) async throws {
    try await LoopbackWebDAV.with(make, tls: tls, login: login) { server in
      try await TemporaryFolder.with { folder in
        var destination = WebDAVDestination(
          url: server.url, user: login == .bearer ? nil : server.user,
          password: login == .bearer ? nil : SecretReference("file:\(server.passwordFile)"),
          token: login == .bearer ? SecretReference("file:\(server.tokenFile)") : nil,
          login: login == .bearer ? .bearer : login == .digest ? .digest : .basic, caFile: tls ? server.caFile : nil,
          pin: tls ? try await server.pin() : nil,
          insecure: !tls)
        adjust(&destination)
        var configuration = ServiceConfiguration(
          stateDirectory: folder.path + "/state",
          equipment: [
            EquipmentProfile(
              id: "CYTOMETER_01", localRoot: folder.path + "/lab", exclude: exclude, transport: .webdav(destination), bandwidth: bandwidth)
          ])
        configuration.retry = RetrySettings(backoff: [0.2, 0.2])
        let client = NASSyncClient(configuration: configuration)
        try await body(client, server, folder.path + "/lab/CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00")
        await client.close()
      }
    }
  }

  private func write(_ content: [UInt8], to path: String) throws {
    let url = URL(fileURLWithPath: path)
    try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data(content).write(to: url)
  }

  private func makeRun(_ run: String) throws {
    let record = #"{"schema_version":"1.8","level":"run","run_kind":"experimental","sync_status":"pending","validation_overrides":[]}"#
    try write(Array(record.utf8), to: run + "/.exlab-wizard/creation.json")
    for number in 0..<60 { try write(noise(1000 + number, seed: UInt64(number + 1)), to: run + "/sub \(number % 3)/größe \(number).dat") }
    try write(noise(3 << 20), to: run + "/large.bin")
    try write([], to: run + "/empty.dat")
    try FileManager.default.createDirectory(atPath: run + "/nothing", withIntermediateDirectories: true)
  }

  @Test(arguments: [(LoopbackWebDAV.Make.apache, true), (.nginx, false), (.rclone, false)])
  func aRunIsSentProvenAndPublishedAndAFlippedByteIsNamed(make: LoopbackWebDAV.Make, tls: Bool) async throws {
    try await with(make, tls: tls) { client, server, run in
      try makeRun(run)
      let check = try await client.check()
      #expect(!check.contains { !$0.ok }, "\(check)")
      try await client.enqueue(run)
      _ = try await client.drain()
      let status = try await client.status(of: run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
      #expect(status.evidence == .readback && status.verifyPasses == 1)
      let remote = server.rootFolder + "/CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00"
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: server.rootFolder + "/CYTOMETER_01/Alpha/Runs") == ["Run_2026-11-20T10-00"])
      let sums = try await runProcess(
        ["sh", "-c", "cd \"$1\" && sha256sum --strict --quiet -c .exlab-wizard/checksums.sha256", "sh", remote])
      #expect(sums.status == 0, "\(sums.errorText)")
      #expect(FileManager.default.fileExists(atPath: remote + "/nothing"))
      #expect(try await client.forceVerify(run).ok)
      // Another generation: what is there is adopted, the new file is added.
      try write([1, 2, 3], to: run + "/late/more.bin")
      try await client.enqueue(run)
      _ = try await client.drain()
      let second = try await client.status(of: run)
      #expect(second.state == .job(.verified) && second.generation == 2, "\(String(describing: second.lastError))")
      #expect(FileManager.default.fileExists(atPath: remote + "/late/more.bin"))
      // One byte.
      var content = Array(try Data(contentsOf: URL(fileURLWithPath: remote + "/large.bin")))
      content[content.count / 2] ^= 1
      let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: remote + "/large.bin"))
      try handle.write(contentsOf: Data(content))
      try handle.close()
      let report = try await client.forceVerify(run)
      #expect(!report.ok)
      #expect("\(report.mismatches)".contains("large.bin") && !"\(report.mismatches)".contains("empty.dat"))
    }
  }

  @Test func digestLogsInWithoutThePasswordOnTheWire() async throws {
    try await with(.apache, login: .digest) { client, _, run in
      try makeRun(run)
      try await client.enqueue(run)
      _ = try await client.drain()
      let status = try await client.status(of: run)
      #expect(status.state == .job(.verified), "\(String(describing: status.lastError))")
    }
  }

  @Test func aWrongPasswordIsAnAuthenticationFailureThatShowsNoSecret() async throws {
    try await with(.nginx, adjust: { $0.user = "somebody" }) { client, server, run in
      try makeRun(run)
      let report = try #require(try await client.check().first)
      #expect(!report.ok && report.error?.kind == .auth)
      try await client.enqueue(run)
      _ = try await client.drain()
      let status = try await client.status(of: run)
      #expect(status.state == .job(.failed) && status.lastError?.kind == .auth, "\(status)")
      #expect(!"\(report) \(status)".contains(server.password))
    }
  }

  @Test func anotherKeyThanThePinnedOneIsRefused() async throws {
    let other = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    try await with(.nginx, tls: true, adjust: { $0.pin = other }) { client, _, _ in
      let report = try await client.check().first
      #expect(report?.error?.kind == .hostKey, "\(String(describing: report))")
    }
    // An authority that did not sign it: the system's.
    try await with(.nginx, tls: true, adjust: { $0.caFile = nil }) { client, _, _ in
      let report = try await client.check().first
      #expect(report?.error?.kind == .hostKey, "\(String(describing: report))")
    }
    // A name that the certificate does not have.
    try await with(.nginx, tls: true, adjust: { $0.url = $0.url.replacingOccurrences(of: "127.0.0.1", with: "localhost") }) {
      client, _, _ in
      let report = try await client.check().first
      #expect(report?.error?.kind == .hostKey, "\(String(describing: report))")
    }
  }

  /// WebDAV has none: the run is stopped at the gate, before anything was asked or sent, and leaving the link out is the operator's word.
  @Test func aSymbolicLinkIsStoppedAtTheGate() async throws {
    try await with(.nginx) { client, server, run in
      try makeRun(run)
      try FileManager.default.createSymbolicLink(atPath: run + "/latest", withDestinationPath: "large.bin")
      try await server.stop()
      let handle = try await client.enqueue(run)
      #expect(handle.state == .blocked)
      let finding = try #require(handle.blockingFindings.first)
      #expect(handle.blockingFindings.count == 1 && finding.problemClass == .specialFile && finding.path == "latest")
      #expect(finding.detail.contains("cannot hold links") && finding.hint.contains("exclude it"))
    }
    try await with(.nginx, exclude: ["latest"]) { client, server, run in
      try makeRun(run)
      try FileManager.default.createSymbolicLink(atPath: run + "/latest", withDestinationPath: "large.bin")
      try await client.enqueue(run)
      _ = try await client.drain()
      #expect(try await client.status(of: run).state == .job(.verified))
      let receipt = server.rootFolder + "/CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00/.exlab-wizard/receipt.json"
      #expect(try String(contentsOfFile: receipt, encoding: .utf8).contains("latest"))
    }
  }

  /// What a listing would not show, or would break, is known before the first byte goes out.
  @Test(arguments: [(LoopbackWebDAV.Make.nginx, ".hidden"), (.rclone, "bell\u{7}")])
  func namesThatCannotBeListedBackAreStoppedAtTheGate(make: LoopbackWebDAV.Make, name: String) async throws {
    try await with(make) { client, server, run in
      try makeRun(run)
      try write([1], to: run + "/" + name)
      try await client.enqueue(run)
      _ = try await client.drain()
      let status = try await client.status(of: run)
      // nginx was asked when the job was claimed; a control character is stopped everywhere.
      #expect(make == .nginx ? status.lastError?.kind == .blocked : status.state == .none, "\(status)")
      #expect(try await client.check().allSatisfy { $0.ok })
      let blocking = try await client.gate(run).verdict.blocking.filter { $0.problemClass == .illegalFilesystemCharacter }
      #expect(blocking.count == 1 && blocking[0].hint.contains("an override would not help"), "\(blocking)")
      #expect(!FileManager.default.fileExists(atPath: server.rootFolder + "/CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00"))
    }
  }

  /// A token that ends while a run is on its way: the job fails as `auth`, is not tried again by itself, and goes on when the token is good.
  @Test func aTokenThatEndsStopsTheJobAndIsWrittenNowhere() async throws {
    try await with(.nginx, tls: true, login: .bearer, bandwidth: BandwidthProfile(uploadMbps: 40)) { client, server, run in
      let (lab, events) = (URL(fileURLWithPath: run + "/../../../../..").standardizedFileURL.path, client.events)
      let heard = Task {
        var text = ""
        for await event in events { text += "\(event)\n" }
        return text
      }
      try makeRun(run)
      for number in 0..<8 { try write(noise(1 << 20, seed: UInt64(100 + number)), to: run + "/part \(number)") }
      var shown = "\(try await client.check())"
      #expect(try await client.check().allSatisfy { $0.ok })
      try await client.enqueue(run)
      let draining = Task { try await client.drain() }
      let deadline = ContinuousClock.now + .seconds(60)
      while try await client.status(of: run).bytesSent < 2 << 20, ContinuousClock.now < deadline {
        try await Task.sleep(for: .milliseconds(20))
      }
      try server.setTokenEnded(true)
      shown += "\(try await draining.value)"
      let failed = try await client.status(of: run)
      #expect(failed.state == .job(.failed) && failed.lastError?.kind == .auth && failed.lastError?.retry == false, "\(failed)")
      #expect(failed.attempts == 1 && failed.bytesSent < failed.bytesTotal && failed.verifyPasses == 0, "\(failed)")
      shown += "\(failed) \(try await client.check()) \(try await client.problems()) \(try await client.history(of: run))"
      #expect(shown.contains("does not accept the credentials"))
      try server.setTokenEnded(false)
      try await client.retry(run)
      _ = try await client.drain()
      let done = try await client.status(of: run)
      #expect(done.state == .job(.verified), "\(String(describing: done.lastError))")
      shown += "\(done)"
      await client.close()
      shown += await heard.value
      // The state directory with queue.db, the run with its receipt, the NAS, the server's own words, and everything that was said.
      #expect(!shown.contains(server.token))
      let found = try await runProcess(["grep", "-rlaF", server.token, lab, server.rootFolder])
      #expect(found.status == 1 && found.text.isEmpty, "\(found.text)")
      #expect(!server.log.contains(server.token))
    }
  }

  /// A file that is cut off on its way to a Nextcloud goes on with the chunk that was missing; proven like every other. The server is a model
  /// of the protocol.
  @Test func aLargeFileGoesOnInsideANextcloud() async throws {
    try await LoopbackNextcloud.with { server in
      try await TemporaryFolder.with { folder in
        try folder.write(server.password, to: "password", mode: 0o600)
        let destination = WebDAVDestination(
          url: server.url, user: server.user, password: SecretReference("file:\(folder.path)/password"), insecure: true)
        var configuration = ServiceConfiguration(
          stateDirectory: folder.path + "/state",
          equipment: [EquipmentProfile(id: "CYTOMETER_01", localRoot: folder.path + "/lab", transport: .webdav(destination))])
        configuration.retry = RetrySettings(backoff: [0.2, 0.2])
        let client = NASSyncClient(configuration: configuration)
        let run = folder.path + "/lab/CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00"
        try makeRun(run)
        try write(noise(80 << 20, seed: 9), to: run + "/movie.tiff")
        #expect(try await client.check().allSatisfy { $0.ok })
        try server.inject([LoopbackNextcloud.Fault("PUT", "/00003", status: 0)])
        try await client.enqueue(run)
        let deadline = ContinuousClock.now + .seconds(60)
        repeat {
          _ = try await client.drain()
          try await Task.sleep(for: .milliseconds(100))
        } while try await client.status(of: run).state == .job(.queued) && ContinuousClock.now < deadline
        let status = try await client.status(of: run)
        #expect(status.state == .job(.verified) && status.evidence == .readback, "\(String(describing: status.lastError))")
        let chunks = try server.requests().filter { $0.hasPrefix("PUT /remote.php/dav/uploads/") && $0.contains("/0000") }
        // One of each kind at the trying and in the transfer, and the third once more: none was sent twice that had arrived.
        #expect(chunks.filter { $0.contains("/00001 ") }.count == 2 && chunks.filter { $0.contains("/00002 ") }.count == 1, "\(chunks)")
        #expect(chunks.filter { $0.contains("/00003 ") }.map { $0.hasSuffix(" 201") } == [false, true])
        let sums = try await runProcess(
          [
            "sh", "-c", "cd \"$1\" && sha256sum --strict --quiet -c .exlab-wizard/checksums.sha256", "sh",
            server.rootFolder + "/CYTOMETER_01/Alpha/Runs/Run_2026-11-20T10-00",
          ])
        #expect(sums.status == 0, "\(sums.errorText)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: server.uploadsFolder) == [])
        await client.close()
      }
    }
  }
}
