import Configuration
import Testing

/// `type: webdav`: what is read, and what is refused.
@Suite struct WebDAVSettingsTests {
  private func profile(_ lines: [String]) -> String {
    (["id: CONFOCAL_01", "local_root: /data/lab", "transport:", "  type: webdav"] + lines.map { "  " + $0 } + [""]).joined(separator: "\n")
  }

  private static let account = ["user: lab", "password: file:secret"]

  @Test func everyKeyIsRead() throws {
    let text = profile([
      "url: https://nas:8443/d%20v/lab/", "user: lab", "password: \"file:secret\"", "auth: digest", "ca_file: ca.pem",
      "pin: sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "connections: 8", "connect_timeout: 5s", "timeout: 2m",
    ])
    try ConfigurationFolder.with(["nassync.yaml": ConfigurationFolder.service, "equipment/a.yaml": text]) { folder in
      guard case .webdav(let read)? = try folder.load().equipment.first?.transport else {
        Issue.record("no WebDAV")
        return
      }
      let address = try #require(read.address)
      #expect(address.isEncrypted && address.host == "nas" && address.port == 8443 && address.path == "/d v/lab")
      #expect(read.user == "lab" && read.login == .digest && read.token == nil && !read.insecure)
      // Relative to the file.
      #expect(read.password?.description == "file:\(folder.path)/equipment/secret")
      #expect(read.caFile == "\(folder.path)/equipment/ca.pem" && read.pin?.hasPrefix("sha256//") == true)
      #expect(read.connections == 8 && read.connectTimeout == 5 && read.progressTimeout == 120)
    }
  }

  static let faults: [(lines: [String], key: String)] = [
    (["url: ftp://nas/x"] + account, "transport.url"), (["url: https://me:pw@nas/x"] + account, "transport.url"),
    (["url: https://nas/x?y=1"] + account, "transport.url"), (["url: https://nas/a/../b"] + account, "transport.url"),
    (["url: https://nas/a%2fb"] + account, "transport.url"), (["url: https://nas:0/a"] + account, "transport.url"),
    (["url: http://nas/x"] + account, "transport.url"), (["url: http://127.0.0.1/x"] + account, "transport.url"),
    (["url: http://nas/x", "insecure: true"] + account, "transport.insecure_host"),
    (["url: http://nas/x", "insecure: true", "insecure_host: other"] + account, "transport.insecure_host"),
    (["url: https://nas/x", "user: lab", "password: hunter2"], "transport.password"),
    (["url: https://nas/x", "user: lab"], "transport.password"), (["url: https://nas/x", "password: env:P"], "transport.user"),
    (["url: https://nas/x", "auth: bearer"], "transport.token"), (["url: https://nas/x", "auth: none", "token: env:T"], "transport.auth"),
    (["url: https://nas/x", "pin: abc"] + account, "transport.pin"), (["url: https://nas/x", "host: nas"] + account, "transport.host"),
    (account, "transport.url"),
  ]

  @Test(arguments: faults) func faultsAreNamed(lines: [String], key: String) throws {
    let problems = try ConfigurationFolder.problems(equipment: profile(lines))
    let keys = problems.map { $0.keyPath }
    #expect(keys == [key], "\(problems)")
    #expect(!"\(problems)".contains("hunter2"))
  }

  static let sound: [[String]] = [
    ["url: http://127.0.0.1:8080/x", "insecure: true"] + account, ["url: http://nas/x", "insecure: true", "insecure_host: nas"] + account,
    ["url: https://nas/x", "token: credential:nas"], ["url: https://nas", "auth: none"], ["url: https://[::1]:8443/x"] + account,
  ]

  @Test(arguments: sound) func soundOnesAreTaken(lines: [String]) throws {
    try ConfigurationFolder.with(["nassync.yaml": ConfigurationFolder.service, "equipment/a.yaml": profile(lines)]) { folder in
      let read = try folder.load()
      #expect(read.equipment.count == 1)
    }
  }
}
