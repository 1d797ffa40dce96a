import Foundation
import Glibc
import TestSupport
import Testing

/// The object stores that the other tests stand on, and the eyes that look into them.
@Suite struct LoopbackS3Tests {
  @Test(arguments: LoopbackS3.Kind.allCases) func anyKeyIsSeenAsItIs(_ kind: LoopbackS3.Kind) async throws {
    try await LoopbackS3.with(kind) { store in
      let keys = ["runs/a b/é+&?.tif", "runs/a b/%41#", "runs/plain", "other/'\"$(x)`;", "other/日本語"]
      for (number, key) in keys.enumerated() { try await store.plant(Array(repeating: UInt8(number), count: number), at: key) }
      #expect(try await Set(store.keys()) == Set(keys))
      #expect(try await Set(store.keys("runs/a b/")) == Set(keys.prefix(2)))
      let found = try await store.objects(Array("other/日".utf8))
      #expect(found.map(\.size) == [4])
      #expect(try await store.object("other/日本語") == [4, 4, 4, 4])
      #expect(try await store.exists("runs/plain"))
      #expect(try await store.exists("runs/plai") == false)
      try await store.corrupt("other/日本語")
      #expect(try await store.object("other/日本語") == [4, 4, 5, 4])
      try await store.remove("other/日本語")
      #expect(try await store.exists("other/日本語") == false)
      #expect(try await store.openUploads().isEmpty)
      await #expect(throws: TemporaryFolder.Failure.self) { try await store.object("other/日本語") }
      // Neither bucket sees into the other, though it is one store.
      try await LoopbackS3.with(kind) { other in
        #expect(other.endpoint == store.endpoint && other.bucket != store.bucket)
        let keys = try await other.keys()
        #expect(keys.isEmpty)
      }
    }
  }

  /// libcurl's own signature, without the eyes' signer; and buckets as hosts.
  @Test(arguments: LoopbackS3.Kind.allCases) func curlIsLetIn(_ kind: LoopbackS3.Kind) async throws {
    try await LoopbackS3.with(kind) { store in
      try await store.plant([1, 2, 3], at: "runs/plain")
      let ofNothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
      let user = store.accessKeyID.replacingOccurrences(of: ":", with: "%3A")
      for address in ["127.0.0.1:\(store.port)/\(store.bucket)", "\(store.bucket).\(store.virtualHost):\(store.port)"] {
        for (secret, status) in [(store.secretAccessKey, "200"), ("wrong", "403")] {
          let configuration = """
            url = "http://\(user):\(secret)@\(address)/runs/plain"
            aws-sigv4 = "aws:amz:\(store.region):s3"
            header = "x-amz-content-sha256: \(ofNothing)"

            """
          let result = try await runProcess(
            ["curl", "-q", "-s", "--noproxy", "*", "-o", "\(store.folder.path)/body", "-w", "%{http_code}", "-K", "-"],
            input: Array(configuration.utf8))
          #expect(result.text == status, "\(address): \(result.errorText)")
          let body = try Data(contentsOf: URL(fileURLWithPath: "\(store.folder.path)/body"))
          #expect((body == Data([1, 2, 3])) == (status == "200"))
        }
      }
    }
  }

  /// Killed outright, the script leaves none of the servers behind.
  @Test func whatKillsTheScriptKillsItsServers() async throws {
    try await TemporaryFolder.with { folder in
      let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
      let output = "\(folder.path)/out"
      let script = try ChildProcess(
        [root.appendingPathComponent("scripts/servers/object-store.py").path, "swift", "\(folder.path)/store"],
        streams: ChildProcess.Streams(output: output, error: "\(folder.path)/err"))
      let deadline = ContinuousClock.now + .seconds(90)
      while (try? String(contentsOfFile: output, encoding: .utf8)) != "READY\n" {  // not made yet
        try #require(script.isRunning && ContinuousClock.now < deadline)
        try await Task.sleep(for: .milliseconds(50))
      }
      #expect(try await processes(mentioning: folder.path).count == 5)
      kill(script.id, SIGKILL)
      #expect(await script.exitStatus() == 128 + SIGKILL)
      for _ in 0..<200 {
        if try await processes(mentioning: folder.path).isEmpty { break }
        try await Task.sleep(for: .milliseconds(50))
      }
      #expect(try await processes(mentioning: folder.path).isEmpty)
    }
  }

  /// Processes that name a folder among their arguments.
  private func processes(mentioning folder: String) async throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").filter { name in
      guard Int(name) != nil, let command = FileManager.default.contents(atPath: "/proc/\(name)/cmdline") else { return false }
      return String(decoding: command, as: UTF8.self).contains(folder)
    }
  }
}
