import Configuration
import Testing

/// `type: s3`: what is read, and what is refused.
@Suite struct S3SettingsTests {
  private func profile(_ lines: [String]) -> String {
    (["id: CONFOCAL_01", "local_root: /data/lab", "transport:", "  type: s3"] + lines.map { "  " + $0 } + [""]).joined(separator: "\n")
  }

  private static let key = ["access_key_id: \"lab:sync\"", "secret_access_key: file:secret"]
  private static let place = ["endpoint: https://s3.lab", "bucket: lab-data"]

  @Test func everyKeyIsRead() throws {
    let text = profile(
      Self.key + [
        "endpoint: https://s3.lab:8443/", "bucket: lab-data", "prefix: /confocal/é/", "region: eu-1", "addressing: virtual",
        "session_token: env:TOKEN", "ca_file: ca.pem", "pin: sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "connections: 8",
        "connect_timeout: 5s", "timeout: 2m", "abort_uploads_after: 30d",
      ])
    try ConfigurationFolder.with(["nassync.yaml": ConfigurationFolder.service, "equipment/a.yaml": text]) { folder in
      guard case .s3(let read)? = try folder.load().equipment.first?.transport else {
        Issue.record("no S3")
        return
      }
      let address = try #require(read.address)
      #expect(address.isEncrypted && address.host == "s3.lab" && address.port == 8443)
      #expect(read.bucket == "lab-data" && read.folder == "confocal/é" && read.region == "eu-1" && read.addressing == .virtual)
      // Relative to the file.
      #expect(read.accessKeyID == "lab:sync" && read.secretAccessKey?.description == "file:\(folder.path)/equipment/secret")
      #expect(read.sessionToken?.description == "env:TOKEN" && read.caFile == "\(folder.path)/equipment/ca.pem")
      #expect(read.connections == 8 && read.connectTimeout == 5 && read.progressTimeout == 120 && read.abortUploadsAfter == 30 * 86_400)
    }
  }

  @Test func whatIsLeftOutHasDefaults() throws {
    try ConfigurationFolder.with(["nassync.yaml": ConfigurationFolder.service, "equipment/a.yaml": profile(Self.place + Self.key)]) {
      folder in
      guard case .s3(let read)? = try folder.load().equipment.first?.transport else {
        Issue.record("no S3")
        return
      }
      #expect(read.region == "us-east-1" && read.addressing == nil && read.folder == "" && read.abortUploadsAfter == 7 * 86_400)
    }
  }

  static let faults: [(lines: [String], key: String)] = [
    (["endpoint: https://s3.lab/bucket", "bucket: lab-data"] + key, "transport.endpoint"),
    (["endpoint: s3.lab", "bucket: lab-data"] + key, "transport.endpoint"),
    (["endpoint: https://me:pw@s3.lab", "bucket: lab-data"] + key, "transport.endpoint"),
    (["endpoint: http://s3.lab", "bucket: lab-data"] + key, "transport.endpoint"),
    (["endpoint: http://s3.lab", "bucket: lab-data", "insecure: true"] + key, "transport.insecure_host"),
    (["bucket: lab-data"] + key, "transport.endpoint"), (["endpoint: https://s3.lab"] + key, "transport.bucket"),
    (["endpoint: https://s3.lab", "bucket: \"lab/data\""] + key, "transport.bucket"),
    (["endpoint: https://s3.lab", "bucket: Lab_data", "addressing: virtual"] + key, "transport.addressing"),
    (place + ["addressing: host"] + key, "transport.addressing"), (place + ["prefix: a/../b"] + key, "transport.prefix"),
    (place + ["prefix: a//b"] + key, "transport.prefix"), (place + ["region: \"eu 1\""] + key, "transport.region"),
    (place + ["pin: abc"] + key, "transport.pin"), (place + ["abort_uploads_after: 1m"] + key, "transport.abort_uploads_after"),
    (place + ["user: lab"] + key, "transport.user"),
    (place + ["access_key_id: A", "secret_access_key: hunter2"], "transport.secret_access_key"),
    (place + ["access_key_id: A", "secret_access_key: file:x", "session_token: hunter2"], "transport.session_token"),
    (place + ["access_key_id: A"], "transport.secret_access_key"), (place + ["secret_access_key: file:x"], "transport.access_key_id"),
    (place + ["access_key_id: \"a/b\"", "secret_access_key: file:x"], "transport.access_key_id"),
  ]

  @Test(arguments: faults) func faultsAreNamed(lines: [String], key: String) throws {
    let problems = try ConfigurationFolder.problems(equipment: profile(lines))
    #expect(problems.map { $0.keyPath } == [key], "\(problems)")
    #expect(!"\(problems)".contains("hunter2"))
  }

  static let sound: [[String]] = [
    ["endpoint: http://127.0.0.1:8080", "bucket: lab-data", "insecure: true"],
    ["endpoint: http://s3.lab", "bucket: lab-data", "insecure: true", "insecure_host: s3.lab"],
    ["endpoint: https://[::1]:1", "bucket: Lab_data"],
  ]

  @Test(arguments: sound) func soundOnesAreTaken(lines: [String]) throws {
    let text = profile(lines + Self.key)
    try ConfigurationFolder.with(["nassync.yaml": ConfigurationFolder.service, "equipment/a.yaml": text]) { folder in
      let read = try folder.load()
      #expect(read.equipment.count == 1)
    }
  }
}
