import Foundation
import TestSupport
import Testing

/// The real program with an object store and with a web server as its NAS: what `check` says of them, and how a run came to be verified.
@Suite struct WebDestinationTests {
  /// A folder with a configuration in it.
  struct Desk {
    let folder: TemporaryFolder

    init(_ folder: TemporaryFolder, transport: [String], verifyMethod: String = "auto") throws {
      self.folder = folder
      try folder.write(
        "state_dir: ./state\nequipment_dir: ./equipment\nverify: { method: \(verifyMethod) }\nretry: { backoff: [200ms, 200ms] }\n",
        to: "nassync.yaml")
      let lines = ["id: CYTOMETER_01", "local_root: \(folder.path)/lab", "transport:"] + transport.map { "  " + $0 }
      try folder.write(lines.joined(separator: "\n") + "\n", to: "equipment/CYTOMETER_01.yaml")
      try FileManager.default.createDirectory(atPath: folder.path + "/lab", withIntermediateDirectories: true)
    }

    var run: String { "\(folder.path)/lab/CYTOMETER_01/P/Runs/Run_1" }

    func makeRun() throws { _ = try makeRun("P/Runs/Run_1") }

    /// - Returns: Where it is.
    func makeRun(_ place: String, file: String = "data.fcs") throws -> String {
      try folder.write(Workstation.record, to: "lab/CYTOMETER_01/\(place)/.exlab-wizard/creation.json")
      try folder.write(noise(9000, seed: 1), to: "lab/CYTOMETER_01/\(place)/\(file)")
      return "\(folder.path)/lab/CYTOMETER_01/\(place)"
    }

    func nassync(_ arguments: String...) async throws -> Workstation.Answer {
      let words = [try Workstation.program(), "--config", folder.path + "/nassync.yaml"] + arguments
      let result = try await runProcess(
        words, environment: ["PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "TZ": "UTC"], directory: folder.path)
      return Workstation.Answer(status: result.status, text: result.text, errorText: result.errorText)
    }

    /// What `check` says, by the lines' names.
    func grades(sourceLocation: SourceLocation = #_sourceLocation) async throws -> [String: String] {
      let check = try await nassync("--json", "check")
      #expect(check.status == 0, "\(check)", sourceLocation: sourceLocation)
      let lines = check.json.elements.first?["lines"].elements ?? []
      return Dictionary(lines.map { ($0["name"].text ?? "", $0["grade"].text ?? "") }) { first, _ in first }
    }

    /// Sends the run and expects it to be verified, and to be told as proven by the evidence.
    func expectVerified(by evidence: String, sourceLocation: SourceLocation = #_sourceLocation) async throws {
      #expect(try await nassync("enqueue", run).status == 0, sourceLocation: sourceLocation)
      let drain = try await nassync("drain")
      #expect(drain.status == 0, "\(drain)", sourceLocation: sourceLocation)
      let status = try await nassync("--json", "status", run).json
      #expect(
        status["state"] == .string("verified") && status["evidence"] == .string(evidence), "\(status)", sourceLocation: sourceLocation)
      for text in [try await nassync("status", run).text, try await nassync("status").text] {
        #expect(text.contains(", by \(evidence)"), "\(text)", sourceLocation: sourceLocation)
      }
      #expect(try await nassync("history", run).text.contains("evidence: \(evidence)"), sourceLocation: sourceLocation)
      let verify = try await nassync("verify", run)
      #expect(verify.status == 0 && verify.text.contains("NAS by readback"), "\(verify)", sourceLocation: sourceLocation)
    }
  }

  @Test func anObjectStoreIsToldAsWhatItIs() async throws {
    try await LoopbackS3.with(.swift) { store in
      func transport(bucket: String) -> [String] {
        [
          "type: s3", "endpoint: \(store.endpoint)", "bucket: \(bucket)", "prefix: confocal", "region: \(store.region)",
          "access_key_id: \"\(store.accessKeyID)\"", "secret_access_key: file:\(store.secretFile)", "insecure: true",
        ]
      }
      let desk = try Desk(store.folder, transport: transport(bucket: store.bucket))
      let text = try await desk.nassync("check")
      #expect(text.status == 0 && text.text.contains("Runs will be sent and proven."), "\(text)")
      for phrase in [
        "bytes that are not the ones that were signed are refused", "the store does not know If-None-Match", "no symbolic links",
        "(store)", "large files go in parts", "NOT encrypted",
      ] { #expect(text.text.contains(phrase), "\(phrase) is not in \(text)") }
      let grades = try await desk.grades()
      let wanted = [
        "login": "good", "root": "good", "content_hash": "good", "publish": "limited", "resume": "good", "symlinks": "limited",
        "times": "limited", "fsync": "limited", "free_space": "limited", "evidence": "good", "uploads": "good",
      ]
      for (name, grade) in wanted { #expect(grades[name] == grade, "\(name): \(grades)") }
      try desk.makeRun()
      try await desk.expectVerified(by: "store")
      #expect(try await store.exists("confocal/CYTOMETER_01/P/Runs/Run_1/.exlab-wizard/checksums.sha256"))

      // What a store cannot do is refused when it is asked for.
      _ = try Desk(store.folder, transport: transport(bucket: store.bucket), verifyMethod: "server")
      let server = try await desk.nassync("check")
      #expect(server.status == 1 && server.text.contains("verify.method is server"), "\(server)")
      _ = try Desk(store.folder, transport: transport(bucket: "another-bucket"))
      let elsewhere = try await desk.nassync("check")
      #expect(elsewhere.status == 2 && elsewhere.text.contains("another-bucket") && elsewhere.text.contains("`bucket`"), "\(elsewhere)")
    }
  }

  @Test(arguments: [LoopbackWebDAV.Make.nginx, .apache]) func aWebServerIsToldAsWhatItIs(make: LoopbackWebDAV.Make) async throws {
    try await LoopbackWebDAV.with(make) { server in
      try await TemporaryFolder.with { folder in
        func transport(user: String) -> [String] {
          ["type: webdav", "url: \(server.url)", "user: \(user)", "password: file:\(server.passwordFile)", "insecure: true"]
        }
        let desk = try Desk(folder, transport: transport(user: server.user))
        let text = try await desk.nassync("check")
        #expect(text.status == 0 && text.text.contains("Runs will be sent and proven."), "\(text)")
        for phrase in ["(readback)", "no symbolic links", "by one rename of its folder, which replaces nothing", "NOT encrypted"] {
          #expect(text.text.contains(phrase), "\(phrase) is not in \(text)")
        }
        let grades = try await desk.grades()
        for (name, grade) in ["login": "good", "root": "good", "publish": "good", "symlinks": "limited", "evidence": "limited"] {
          #expect(grades[name] == grade, "\(name): \(grades)")
        }
        try desk.makeRun()
        try await desk.expectVerified(by: "readback")

        // Another one of the same instrument, which Apache would make unreachable with all the others.
        for place in [".htaccess/Runs/Run_1", "P/Runs/Run_2"] {
          let hostile = try desk.makeRun(place, file: place.hasPrefix("P") ? "raw/.HtAccess/data.fcs" : "data.fcs")
          for _ in 1...2 {
            let stopped = try await desk.nassync("enqueue", hostile)
            #expect(stopped.status == 3 && stopped.text.contains("no override lets it through"), "\(stopped)")
            #expect(stopped.text.contains("No override helps") && !stopped.text.contains("override add"), "\(stopped)")
            let words = ["--class", "illegal_filesystem_character", "--reason", "we need it"]
            #expect(try await desk.nassync("override", "add", hostile, words[0], words[1], words[2], words[3]).status == 0)
          }
          let gate = try await desk.nassync("--json", "gate", hostile).json
          #expect(gate["verdict"]["blocking_findings"].elements.map { $0["final"] } == [.bool(true)], "\(gate)")
        }
        #expect(try await desk.nassync("drain").status == 0)
        #expect(try await desk.nassync("verify", desk.run).status == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: server.rootFolder + "/CYTOMETER_01") == ["P"])
        #expect(try FileManager.default.contentsOfDirectory(atPath: server.rootFolder + "/CYTOMETER_01/P/Runs") == ["Run_1"])

        _ = try Desk(folder, transport: transport(user: "somebody"))
        let stranger = try await desk.nassync("check")
        #expect(stranger.status == 1 && stranger.text.contains("does not accept the credentials"), "\(stranger)")
        #expect(!"\(stranger)".contains(server.password))
      }
    }
  }
  /// What Apache usually takes from nobody harms nobody either: whether this one does is asked of it, as of any other name.
  @Test func namesThatAWebServerRefusesAreFoundByAsking() async throws {
    let rule = ["<FilesMatch \"^\\.ht\">", "Require all denied", "</FilesMatch>"]
    for (configuration, isRefused) in [(rule, true), ([], false)] {
      try await LoopbackWebDAV.with(.apache, configuration: configuration) { server in
        try await TemporaryFolder.with { folder in
          let transport = [
            "type: webdav", "url: \(server.url)", "user: \(server.user)", "password: file:\(server.passwordFile)", "insecure: true",
          ]
          let desk = try Desk(folder, transport: transport)
          let run = try desk.makeRun("P/Runs/Run_1", file: "raw/.htpasswd")
          let check = try await desk.nassync("check")
          #expect(check.status == 0 && check.text.contains("“.ht” at the beginning") == isRefused, "\(check)")
          let enqueued = try await desk.nassync("enqueue", run)
          #expect(enqueued.status == (isRefused ? 3 : 0), "\(enqueued)")
          #expect(enqueued.text.contains("“.ht” at the beginning") == isRefused, "\(enqueued)")
          guard !isRefused else { return }
          #expect(try await desk.nassync("drain").status == 0)
          #expect(FileManager.default.fileExists(atPath: server.rootFolder + "/CYTOMETER_01/P/Runs/Run_1/raw/.htpasswd"))
        }
      }
    }
  }
}
