import Configuration
import Testing

/// `asset_services`: what is read, and what is refused.
@Suite struct AssetServiceSettingsTests {
  private func service(_ lines: [String], name: String = "lab") -> String {
    ConfigurationFolder.service + (["asset_services:", "  \(name):"] + lines.map { "    " + $0 } + [""]).joined(separator: "\n")
  }

  private static let token = ["token: file:secret"]
  private static let pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

  @Test func everyKeyIsRead() throws {
    let text = service([
      "url: https://assets:8443/a%20pi/", "token: \"file:secret\"", "auth: bearer", "ca_file: ca.pem", "pin: \(Self.pin)",
      "signs_digests: true", "connections: 8", "connect_timeout: 5s", "timeout: 2m", "stores:", "  hosts: [S3.lab, \"::1\"]",
      "  ca_file: ~/store.pem", "  pin: \(Self.pin)", "  insecure: true", "  insecure_host: s3.lab", "  prove: true",
    ])
    try ConfigurationFolder.with(["nassync.yaml": text]) { folder in
      let configuration = try folder.load()
      let read = try #require(configuration.assetService(name: "lab"))
      #expect(configuration.assetServices == [read] && configuration.assetService(name: "la") == nil)
      #expect(read.address?.host == "assets" && read.address?.port == 8443 && read.address?.path == "/a pi")
      // Relative to the file.
      #expect(read.token?.description == "file:\(folder.path)/secret" && read.login == .bearer)
      #expect(read.caFile == "\(folder.path)/ca.pem" && read.pin == Self.pin && !read.insecure && read.insecureHost == nil)
      #expect(read.signsDigests && read.connections == 8 && read.connectTimeout == 5 && read.progressTimeout == 120)
      #expect(read.stores.hosts == ["s3.lab", "::1"] && read.stores.caFile == "/home/lab/store.pem" && read.stores.pin == Self.pin)
      #expect(read.stores.insecure && read.stores.insecureHost == "s3.lab" && read.stores.prove)
      // One that was loaded passes the rules for those that are built in code.
      try configuration.validate()
    }
  }

  /// What `nassync init` shows in comments is right once the comment signs are taken away.
  @Test func theExampleOfInitIsTaken() throws {
    let text = try #require(StarterConfiguration.files.first).text
    let start = try #require(text.range(of: "# asset_services:\n"))
    let example = text[start.lowerBound...].split(separator: "\n").map { $0.dropFirst(2) }.joined(separator: "\n") + "\n"
    let read = try ConfigurationFolder.with(["nassync.yaml": ConfigurationFolder.service + example]) { try $0.load() }
    #expect(read.assetServices.map { $0.name } == ["lab"])
    // The keys that stay comments there are known ones.
    for line in example.split(separator: "\n") where line.contains("    # ") {
      let key = line.drop { $0 == " " || $0 == "#" }.prefix { $0 != ":" }
      let problems = try ConfigurationFolder.problems(
        service: service(["url: https://a"] + Self.token + ["\(key): { never: right }"]))
      #expect(!problems.contains { $0.message.contains("not known here") && $0.keyPath.hasSuffix(".\(key)") }, "\(key)")
    }
  }

  @Test func defaultsAreThoseOfTheLibrary() throws {
    try ConfigurationFolder.with(["nassync.yaml": service(["url: https://assets"] + Self.token)]) { folder in
      let read = try #require(try folder.load().assetServices.first)
      #expect(read == AssetServiceSettings(name: "lab", url: "https://assets", token: SecretReference("file:\(folder.path)/secret")))
    }
    let without = try ConfigurationFolder.with(["nassync.yaml": ConfigurationFolder.service]) { try $0.load() }
    #expect(without.assetServices.isEmpty)
  }

  static let faults: [(lines: [String], key: String)] = [
    (token, "url"), (["url: ftp://a/x"] + token, "url"), (["url: https://me:pw@a/x"] + token, "url"),
    (["url: https://a/x?y=1"] + token, "url"),
    (["url: https://a/b/../c"] + token, "url"), (["url: http://a/x"] + token, "url"), (["url: http://127.0.0.1/x"] + token, "url"),
    (["url: 7"] + token, "url"), (["url: http://a/x", "insecure: true"] + token, "insecure_host"),
    (["url: http://a/x", "insecure: true", "insecure_host: b"] + token, "insecure_host"),
    (["url: http://127.0.0.1/x", "insecure: true", "ca_file: a.pem"] + token, "ca_file"),
    (["url: https://a/x", "insecure: 1"] + token, "insecure"), (["url: https://a/x"], "token"),
    (["url: https://a/x", "token: hunter2"], "token"),
    (["url: https://a/x", "auth: none"] + token, "auth"), (["url: https://a/x", "auth: basic"] + token, "auth"),
    (["url: https://a/x", "password: hunter2"] + token, "password"), (["url: https://a/x", "pin: abc"] + token, "pin"),
    (["url: https://a/x", "connections: 17"] + token, "connections"), (["url: https://a/x", "timeout: 2"] + token, "timeout"),
    (["url: https://a/x", "host: a"] + token, "host"), (["url: https://a/x", "stores: { pins: a }"] + token, "stores.pins"),
    (["url: https://a/x", "stores: { hosts: [] }"] + token, "stores.hosts"),
    (["url: https://a/x", "stores: { hosts: [a, \"https://b\"] }"] + token, "stores.hosts[1]"),
    (["url: https://a/x", "stores: { pin: abc }"] + token, "stores.pin"),
    (["url: https://a/x", "stores: { insecure_host: b }"] + token, "stores.insecure_host"),
    (["url: https://a/x", "stores: { prove: true }"] + token, "stores.prove"), (["url: https://a/x", "stores: [a]"] + token, "stores"),
  ]

  @Test(arguments: faults) func faultsAreNamed(lines: [String], key: String) throws {
    let problems = try ConfigurationFolder.problems(service: service(lines))
    #expect(problems.map { $0.keyPath } == ["asset_services.lab.\(key)"], "\(problems)")
    #expect(problems.allSatisfy { $0.line ?? 0 > 3 && !$0.hint.isEmpty }, "\(problems)")
    #expect(!"\(problems)".contains("hunter2"))
  }

  @Test func theWholeOfItIsAMappingOfNames() throws {
    let sound = ["url: https://a/x"] + Self.token
    #expect(try ConfigurationFolder.problems(service: service(sound, name: "\"a b\"")).map { $0.keyPath } == ["asset_services.a b"])
    for wrong in ["asset_services: [a]", "asset_services: https://a", "asset_services:", "asset_services: { lab: https://a }"] {
      let problems = try ConfigurationFolder.problems(service: ConfigurationFolder.service + wrong + "\n")
      #expect(problems.first?.keyPath.hasPrefix("asset_services") == true, "\(wrong): \(problems)")
    }
    // In the queue file an asset is known by its service's address.
    let twice = service(sound + ["  "]) + "  other:\n    url: https://a:443/x/\n    token: env:T\n"
    #expect(try ConfigurationFolder.problems(service: twice).map { $0.keyPath } == ["asset_services.other.url"])
  }

  @Test func onesBuiltInCodeFollowTheSameRules() throws {
    var configuration = ServiceConfiguration(stateDirectory: "/s", equipment: [])
    let sound = AssetServiceSettings(name: "lab", url: "https://a/x", token: SecretReference("env:T"))
    configuration.assetServices = [sound]
    try configuration.validate()
    var wrong = sound
    wrong.name = "-x"
    wrong.token = nil
    wrong.connections = 99
    wrong.caFile = "a.pem"
    configuration.assetServices = [sound, wrong]
    do {
      try configuration.validate()
      Issue.record("nothing is wrong")
    } catch {
      let keys = Set(error.problems.map { $0.keyPath })
      let own = ["name", "token", "connections", "ca_file", "url"].map { "asset_services.-x.\($0)" }
      #expect(keys == Set(own), "\(error)")
    }
  }

  @Test(arguments: [
    ["url: http://127.0.0.1:8080/x", "insecure: true"] + token, ["url: http://a/x", "insecure: true", "insecure_host: a"] + token,
    ["url: https://a", "auth: none"], ["url: https://[::1]:8443/x", "token: credential:assets"],
  ]) func soundOnesAreTaken(lines: [String]) throws {
    let read = try ConfigurationFolder.with(["nassync.yaml": service(lines)]) { try $0.load() }
    #expect(read.assetServices.count == 1)
  }
}
