import Foundation
import Glibc
import TestSupport
import Testing

/// `nassync asset …`, the real program against a service with its store.
@Suite struct AssetCommandTests {
  @Test func filesBecomeOneReadyAsset() async throws {
    try await AssetWorkstation.with { lab in
      let files = try lab.makeFiles()
      let check = try await lab.nassync("asset", "check")
      #expect(check.status == 0 && check.text.contains("it answers"), "\(check)")
      #expect(lab.server.registrations == 0 && lab.server.assets.isEmpty)

      let added = try await lab.nassync("--json", "asset", "add", files, "extra notes.txt", "--type", "checkpoint")
      #expect(added.status == 0, "\(added)")
      #expect(added.json["number"] == .number(1) && added.json["state"] == .string("pending") && added.json["asset_id"] == .null)
      #expect(added.json["last_error"] == .null && added.json["next_attempt_at"] == .null)
      #expect(added.json["components"].elements.compactMap { $0["name"].text } == Self.names)
      // Nothing has left the workstation.
      #expect(lab.server.registrations == 0)
      #expect(try await lab.nassync("--json", "asset", "list").json.elements.count == 1)

      let sent = try await lab.nassync("--json", "asset", "run")
      #expect(sent.status == 0, "\(sent)")
      #expect(sent.json["ready"].elements.count == 1 && sent.json["interrupted"] == .bool(false))
      #expect(sent.json["waiting"] == .array([]) && sent.json["failed"] == .array([]))
      try await lab.expectReady()

      let status = try await lab.nassync("--json", "asset", "status", "1")
      #expect(status.json["state"] == .string("ready") && status.json["asset_id"] == .string("asset-1"), "\(status)")
      #expect(status.json["evidence"] == .string("none") && status.json["service"] == .string(lab.server.url))
      for component in status.json["components"].elements {
        let path = try #require(component["local_path"].text)
        let sum = try await runProcess(["sha256sum", path])
        #expect(component["sha256"].text.map { sum.text.hasPrefix($0) } == true, "\(component)")
        #expect(component["state"] == .string("completed") && component["evidence"] == .string("none"))
      }
      let shown = try await lab.nassync("asset", "status", "1")
      #expect(shown.status == 0 && shown.text.contains("nobody here compared"), "\(shown)")

      // Again: the same asset, and nobody is asked.
      let requests = lab.server.requests.count
      let again = try await lab.nassync("asset", "add", files, "extra notes.txt", "--type", "checkpoint")
      #expect(again.status == 0 && again.text.contains("unchanged: asset 1 "), "\(again)")
      let idle = try await lab.nassync("asset", "run")
      #expect(idle.status == 0 && idle.text.contains("Nothing was to be sent."), "\(idle)")
      #expect(try await lab.nassync("asset", "run", "1").status == 0)
      #expect(lab.server.requests.count == requests)
      #expect(try await lab.nassync("--json", "asset", "list").json == .array([]))
      let all = try await lab.nassync("asset", "list", "--all")
      #expect(all.text.contains("ready") && all.text.contains("checkpoint"), "\(all)")

      // No secret was said, and every file is where it was.
      for answer in [check, added, sent, status, shown, again, idle, all] {
        for secret in [lab.server.secret, lab.server.token] { #expect(!answer.description.contains(secret)) }
      }
      for (name, content) in Self.contents { #expect(try lab.content("files/\(name)") == content) }
    }
  }

  /// The process dies by SIGKILL while the store is taking a component; another one finishes.
  @Test func killedInTheMiddleOfAComponent() async throws {
    try await AssetWorkstation.with(["connections: 1"], service: ["upload_mbps: 4"]) { lab in
      let large = noise(8 << 20, seed: 7)
      try lab.folder.write(large, to: "files/b-large.bin")
      try lab.folder.write("first", to: "files/a-first.txt")
      try lab.folder.write("last", to: "files/c-last.txt")
      #expect(try await lab.nassync("asset", "add", "files", "--type", "checkpoint").status == 0)
      let child = try lab.start("asset", "run")
      // 8 MiB at 4 Mbit/s take sixteen seconds; it dies in the middle of them.
      try await lab.wait { lab.server.bodyBytes > 1 << 20 }
      kill(child.id, SIGKILL)
      let ended = await child.exitStatus()
      #expect(lab.server.bodyBytes < large.count, "the store had all of it when the process died")
      let log = try lab.log()
      #expect(ended == 128 + SIGKILL, "\(log)")
      #expect(try await lab.component("a-first.txt")["state"] == .string("completed"))
      #expect(try await lab.component("b-large.bin")["state"] == .string("uploading"))
      #expect(lab.puts("a-first.txt") == 1 && lab.puts("b-large.bin") == 0 && lab.server.assets.first?.finalizations == 0)

      try lab.configure(["connections: 1"])
      let second = try await lab.nassync("asset", "run")
      #expect(second.status == 0, "\(second)")
      // What was confirmed was not sent again, and nothing was registered or finished twice.
      #expect(lab.puts("a-first.txt") == 1 && lab.puts("b-large.bin") == 1 && lab.puts("c-last.txt") == 1)
      let asset = try #require(lab.server.assets.first)
      #expect(lab.server.assets.count == 1 && lab.server.registrations == 1 && asset.finalized == 1 && asset.finalizations == 1)
      #expect(asset.state == "ready" && asset.objects["b-large.bin"] == large && asset.objects["a-first.txt"] == Array("first".utf8))
    }
  }

  /// The service finishes the asset, and the process dies before it hears of it.
  @Test func killedWhileTheServiceFinishes() async throws {
    try await AssetWorkstation.with { lab in
      let files = try lab.makeFiles()
      #expect(try await lab.nassync("asset", "add", files, "extra notes.txt", "--type", "checkpoint").status == 0)
      let goOn = DispatchSemaphore(value: 0)
      lab.server.override { request in
        if request.path.hasSuffix("/finalize") { _ = goOn.wait(timeout: .now() + 30) }
        return nil
      }
      let child = try lab.start("asset", "run")
      try await lab.wait { lab.server.requests.contains { $0.path.hasSuffix("/finalize") } }
      kill(child.id, SIGKILL)
      #expect(await child.exitStatus() == 128 + SIGKILL)
      lab.server.override { _ in nil }
      goOn.signal()
      try await lab.wait { lab.server.assets.first?.state == "ready" }
      #expect(try await lab.nassync("--json", "asset", "status", "1").json["state"] == .string("pending"))

      let second = try await lab.nassync("--json", "asset", "run")
      #expect(second.status == 0, "\(second)")
      let asset = try #require(lab.server.assets.first)
      #expect(asset.finalized == 1 && asset.finalizations == 2 && lab.server.registrations == 1)
      for name in Self.names { #expect(lab.puts(name) == 1, "\(name)") }
      try await lab.expectReady()
    }
  }

  /// Asked to stop in the middle, it says that it goes on later.
  @Test func askedToStop() async throws {
    try await AssetWorkstation.with(["connections: 1"], service: ["upload_mbps: 4"]) { lab in
      try lab.folder.write(noise(8 << 20, seed: 8), to: "large.bin")
      #expect(try await lab.nassync("asset", "add", "large.bin", "--type", "checkpoint").status == 0)
      let child = try lab.start("--json", "asset", "run")
      try await lab.wait { lab.server.bodyBytes > 1 << 20 }
      let clock = ContinuousClock()
      let asked = clock.now
      kill(child.id, SIGTERM)
      let ended = await child.exitStatus()
      let log = try lab.log()
      #expect(ended == 75, "\(log)")
      #expect(clock.now - asked < .seconds(10))
      let document = try JSONDecoder().decode(JSONValue.self, from: Data(lab.content("started.log.out")))
      #expect(document["interrupted"] == .bool(true) && document["failed"] == .array([]))
      try lab.configure()
      #expect(try await lab.nassync("asset", "run").status == 0)
      #expect(lab.server.assets.first?.state == "ready")
    }
  }

  /// Two at once: one sends, the other waits for it.
  @Test func twoAtOnceSendEachFileOnce() async throws {
    try await AssetWorkstation.with(["connections: 2"], service: ["upload_mbps: 4"]) { lab in
      for number in 0..<4 { try lab.folder.write(noise(400_000, seed: UInt64(number)), to: "files/\(number).bin") }
      #expect(try await lab.nassync("asset", "add", "files", "--type", "checkpoint").status == 0)
      async let first = lab.nassync("--json", "asset", "run")
      async let second = lab.nassync("--json", "asset", "run")
      for answer in try await [first, second] {
        #expect(answer.status == 0 && answer.json["ready"].elements.count == 1, "\(answer)")
      }
      for number in 0..<4 { #expect(lab.puts("\(number).bin") == 1) }
      #expect(lab.server.registrations == 1 && lab.server.assets.map { $0.finalizations } == [1])
    }
  }

  /// A service that a real server speaks TLS for: who vouches for it, and its key, are asked for as the configuration says.
  @Test func theServiceIsWhoItShouldBe() async throws {
    try await LoopbackWebDAV.with(.nginx, tls: true, login: .bearer) { server in
      try await AssetWorkstation.with { lab in
        let pin = try await server.pin()
        func check(_ lines: String...) async throws -> (status: Int32, kind: String?) {
          let service = ["asset_services:", "  lab:", "    url: \(server.url)"] + lines.map { "    " + $0 }
          try lab.folder.write("state_dir: ./state\n" + service.joined(separator: "\n") + "\n", to: "nassync.yaml")
          let answer = try await lab.nassync("--json", "asset", "check")
          #expect(!answer.description.contains(server.token))
          return (answer.status, answer.json.elements.first?["error"]["kind"].text)
        }
        let (token, authority) = ("token: file:\(server.tokenFile)", "ca_file: \(server.caFile)")
        #expect(try await check(token, authority) == (0, nil))
        #expect(try await check(token, authority, "pin: \(pin)") == (0, nil))
        #expect(try await check(token, authority, "pin: \(Self.otherPin)") == (1, "host_key"))
        #expect(try await check(token) == (1, "host_key"))
        // The workstation's own token is another one.
        #expect(try await check("token: file:token", authority) == (1, "auth"))
        #expect(try await check("token: file:nothing", authority) == (2, "misconfigured"))
      }
    }
  }

  /// The same for the stores that the URLs lead to.
  @Test func theStoreIsWhoItShouldBe() async throws {
    try await LoopbackWebDAV.with(.nginx, tls: true, configuration: ["satisfy any; allow all;"]) { store in
      try await AssetWorkstation.with { lab in
        lab.server.placeUploads { id, name in ["name": name, "url": "https://127.0.0.1:\(store.port)\(store.rootPath)/\(id)-\(name)?sig=1"]
        }
        try lab.folder.write("weights", to: "model")
        #expect(try await lab.nassync("asset", "add", "model", "--type", "checkpoint").status == 0)
        let pin = try await store.pin()
        for (stores, kind) in [
          ("hosts: [127.0.0.1]", "host_key"), ("ca_file: \(store.caFile), pin: \(Self.otherPin)", "host_key"),
          ("ca_file: \(store.caFile), hosts: [s3.lab.example]", "misconfigured"),
        ] {
          try lab.configure(stores: stores)
          let refused = try await lab.nassync("--json", "asset", "run")
          #expect(refused.status == 1, "\(refused)")
          #expect(refused.json["failed"].elements.first?["last_error"]["kind"] == .string(kind), "\(stores): \(refused)")
        }
        let problems = try await lab.nassync("--json", "problems").json
        #expect(problems.elements.map { $0["problem_class"] } == [.string("asset_failed")], "\(problems)")
        #expect(problems.elements.first?["next_step"].text?.contains("nassync asset run 1") == true, "\(problems)")
        try lab.configure(stores: "ca_file: \(store.caFile), pin: \(pin), hosts: [127.0.0.1]")
        let sent = try await lab.nassync("asset", "run")
        #expect(sent.status == 0, "\(sent)")
        #expect(try String(contentsOfFile: "\(store.rootFolder)/asset-1-model", encoding: .utf8) == "weights")
        #expect(try await lab.nassync("--json", "problems").json == .array([]))
      }
    }
  }

  private static let otherPin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

  @Test func whatFailsSaysHowItGoesOn() async throws {
    try await AssetWorkstation.with(service: ["retry: { backoff: [1h] }"]) { lab in
      try lab.folder.write("{}", to: "a.json")
      #expect(try await lab.nassync("asset", "add", "a.json", "--type", "report").status == 0)

      // A service in trouble: later, and not before the time on record.
      lab.server.override { _ in .init(503, #"{"message": "come back later"}"#) }
      let waiting = try await lab.nassync("--json", "asset", "run")
      #expect(waiting.status == 75, "\(waiting)")
      let asset = try #require(waiting.json["waiting"].elements.first)
      #expect(asset["last_error"]["kind"] == .string("network") && asset["next_attempt_at"].text != nil && asset["attempts"] == .number(1))
      let check = try await lab.nassync("asset", "check")
      #expect(check.status == 75, "\(check)")
      lab.server.override { _ in nil }
      let requests = lab.server.requests.count
      let problems = try await lab.nassync("--json", "problems").json
      #expect(problems.elements.map { $0["problem_class"] } == [.string("asset_waiting")], "\(problems)")
      let early = try await lab.nassync("asset", "run")
      #expect(early.status == 75 && early.errorText.contains("tried again"), "\(early)")
      #expect(lab.server.requests.count == requests)
      #expect(try await lab.nassync("asset", "abandon", "1").status == 0)
      #expect(try await lab.nassync("asset", "abandon", "1").status == 1)

      // A token that is not taken wants a person.
      try lab.folder.write("another", to: "token", mode: 0o600)
      #expect(try await lab.nassync("asset", "add", "a.json", "--type", "report").status == 0)
      let refused = try await lab.nassync("--json", "asset", "run")
      #expect(refused.status == 1, "\(refused)")
      #expect(refused.json["failed"].elements.first?["last_error"]["kind"] == .string("auth"))
      #expect(try await lab.nassync("asset", "check").status == 1)
      try lab.folder.write(lab.server.token, to: "token", mode: 0o600)
      #expect(try await lab.nassync("asset", "check").status == 0)

      // A file that changed: that asset is given up, the next one has what is there.
      try lab.folder.write("{\"changed\": true}", to: "a.json")
      let changed = try await lab.nassync("--json", "asset", "run")
      #expect(changed.status == 1 && changed.json["failed"].elements.first?["state"] == .string("abandoned"), "\(changed)")
      #expect(lab.server.assets.allSatisfy { $0.state != "ready" })
      let givenUp = try await lab.nassync("asset", "run", "2")
      #expect(givenUp.status == 1 && givenUp.errorText.contains("`nassync asset add` with its files"), "\(givenUp)")
      #expect(try await lab.nassync("asset", "add", "a.json", "--type", "report").status == 0)
      #expect(try await lab.nassync("asset", "run").status == 0)
      #expect(lab.server.assets.filter { $0.state == "ready" }.count == 1)
    }
  }

  @Test func whatIsTypedWronglyIsSaid() async throws {
    try await AssetWorkstation.with { lab in
      try lab.folder.write("{}", to: "a.json")
      try lab.folder.write("{}", to: "below/a.json")
      try FileManager.default.createDirectory(atPath: lab.folder.path + "/empty", withIntermediateDirectories: false)
      try FileManager.default.createSymbolicLink(atPath: lab.folder.path + "/linked", withDestinationPath: "a.json")
      for words in [
        ["status", "7"], ["run", "7"], ["abandon", "7"], ["status", "x"], ["add", "a.json"], ["add", "nothing", "--type", "t"],
        ["add", "a.json", "below", "--type", "t"], ["add", "empty", "--type", "t"], ["add", "linked", "--type", "t"],
        ["add", "a.json", "--type", "t", "--service", "other"], ["check", "--service", "other"],
      ] {
        let answer = try await lab.nassync(["asset"] + words)
        #expect(answer.status == 2 && !answer.errorText.isEmpty, "\(words): \(answer)")
      }
      #expect(try await lab.nassync("--json", "asset", "list", "--all").json == .array([]))
      // The asset belongs to a service that is not there any more.
      #expect(try await lab.nassync("asset", "add", "a.json", "--type", "t").status == 0)
      try lab.folder.write("state_dir: ./state\nequipment_dir: ./equipment\n", to: "nassync.yaml")
      let orphan = try await lab.nassync("asset", "run")
      #expect(orphan.status == 1 && orphan.errorText.contains(lab.server.url), "\(orphan)")
      #expect(lab.server.requests.isEmpty)
    }
  }

  static let contents: [(name: String, content: [UInt8])] = [
    ("empty.bin", []), ("metadata.json", Array("{}".utf8)), ("plots/a b+ü?.png", noise(300_001, seed: 5)),
  ]
  static let names = ["empty.bin", "extra notes.txt", "metadata.json", "plots/a b+ü?.png"]
}

/// A workstation with an asset service, and no instrument.
struct AssetWorkstation: Sendable {
  let folder: TemporaryFolder
  let server: AssetServer

  static func with(
    _ settings: [String] = [], service: [String] = [], _ body: @Sendable (AssetWorkstation) async throws -> Void
  ) async throws {
    try await TemporaryFolder.with { folder in
      try await AssetServer.with { server in
        let lab = AssetWorkstation(folder: folder, server: server)
        try FileManager.default.createDirectory(atPath: folder.path + "/equipment", withIntermediateDirectories: false)
        try folder.write(server.token + "\n", to: "token", mode: 0o600)
        try lab.configure(settings, service: service)
        try await body(lab)
      }
    }
  }

  /// Writes the configuration anew.
  func configure(
    _ settings: [String] = [], service: [String] = [], stores: String = "insecure: true, hosts: [127.0.0.1]"
  ) throws {
    let lines =
      ["state_dir: ./state", "equipment_dir: ./equipment"] + service + ["asset_services:", "  lab:", "    url: \(server.url)"]
      + (["token: file:token", "insecure: true", "stores: { \(stores) }"] + settings).map { "    " + $0 }
    try folder.write(lines.joined(separator: "\n") + "\n", to: "nassync.yaml")
  }

  /// - Returns: The folder, as it is typed.
  func makeFiles() throws -> String {
    for (name, content) in AssetCommandTests.contents { try folder.write(content, to: "files/\(name)") }
    try folder.write("noted", to: "extra notes.txt")
    return "files"
  }

  private static var environment: [String: String] {
    ["PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8", "TZ": "UTC"]
  }

  func nassync(_ arguments: String...) async throws -> Workstation.Answer { try await nassync(arguments) }

  func nassync(_ arguments: [String]) async throws -> Workstation.Answer {
    let result = try await runProcess([try Workstation.program()] + arguments, environment: Self.environment, directory: folder.path)
    return Workstation.Answer(status: result.status, text: result.text, errorText: result.errorText)
  }

  /// Starts `nassync`; whoever starts it ends it and awaits its end.
  func start(_ arguments: String...) throws -> ChildProcess {
    try ChildProcess(
      [try Workstation.program()] + arguments, environment: Self.environment, directory: folder.path,
      streams: ChildProcess.Streams(output: "\(folder.path)/started.log.out", error: "\(folder.path)/started.log"))
  }

  func log() throws -> String { String(decoding: try content("started.log"), as: UTF8.self) }

  func content(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: "\(folder.path)/\(name)"))) }

  /// A component of the only asset, as the program shows it.
  func component(_ name: String) async throws -> JSONValue {
    try await nassync("--json", "asset", "status", "1").json["components"].elements.first { $0["name"] == .string(name) } ?? .null
  }

  /// How often the store got the whole of a component.
  func puts(_ name: String) -> Int { server.requests.count { $0.method == "PUT" && $0.path.hasSuffix("/\(name)") } }

  /// At most twenty seconds.
  func wait(_ location: SourceLocation = #_sourceLocation, until isSo: () async throws -> Bool) async throws {
    for _ in 0..<400 {
      if try await isSo() { return }
      try await Task.sleep(for: .milliseconds(50))
    }
    Issue.record("it did not come to that: \(try log())", sourceLocation: location)
  }

  /// The one asset of the service is ready, once, and holds exactly the files.
  func expectReady(_ location: SourceLocation = #_sourceLocation) async throws {
    #expect(server.assets.count == 1, sourceLocation: location)
    let asset = try #require(server.assets.first, sourceLocation: location)
    #expect(asset.state == "ready" && asset.finalized == 1 && asset.type == "checkpoint", sourceLocation: location)
    var expected = Dictionary(uniqueKeysWithValues: AssetCommandTests.contents.map { ($0.name, $0.content) })
    expected["extra notes.txt"] = Array("noted".utf8)
    #expect(asset.objects == expected, sourceLocation: location)
    #expect(try await nassync("--json", "asset", "status", "1").json["state"] == .string("ready"), sourceLocation: location)
  }
}
