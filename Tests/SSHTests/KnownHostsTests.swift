import TestSupport
import Testing

@testable import TransportSFTP

@Suite struct KnownHostsTests {
  /// Keys made by the real tool, one of each type and a second ed25519 one.
  private struct Keys {
    let ed25519: String
    let other: String
    let ecdsa: String

    init(in folder: TemporaryFolder) async throws {
      var keys: [String] = []
      for (type, name) in [("ed25519", "a"), ("ed25519", "b"), ("ecdsa", "c")] {
        let result = try await runProcess(["ssh-keygen", "-q", "-t", type, "-N", "", "-C", "", "-f", "\(folder.path)/\(name)"])
        try #require(result.status == 0)
        keys.append(
          try String(contentsOfFile: "\(folder.path)/\(name).pub", encoding: .utf8).split(separator: " ").prefix(2).joined(separator: " "))
      }
      (ed25519, other, ecdsa) = (keys[0], keys[1], keys[2])
    }
  }

  private func blob(_ key: String) throws -> SSHKeyBlob {
    try #require(SSHKeyBlob(base64: Array(key.split(separator: " ")[1].utf8)[...]))
  }

  private func verdict(_ lines: [String], _ key: String, host: String = "nas01.lab", port: UInt16 = 22) throws -> KnownHosts.Verdict {
    KnownHosts(Array(lines.joined(separator: "\n").utf8)).verdict(on: try blob(key), host: host, port: port)
  }

  @Test func plainEntries() async throws {
    try await TemporaryFolder.with { folder in
      let keys = try await Keys(in: folder)
      let lines = ["# comment", "", "other.lab,nas01.lab,192.0.2.1 \(keys.ed25519) someone@somewhere\r"]
      #expect(try verdict(lines, keys.ed25519) == .trusted(line: 3))
      #expect(try verdict(lines, keys.ed25519, host: "NAS01.lab") == .trusted(line: 3))
      #expect(try verdict(lines, keys.other) == .changed(line: 3))
      #expect(try verdict(lines, keys.ecdsa) == .unknown(knownTypes: ["ssh-ed25519"]))
      #expect(try verdict(lines, keys.ed25519, host: "nas02.lab") == .unknown(knownTypes: []))
      #expect(KnownHosts(Array(lines.joined(separator: "\n").utf8)).keyTypes(host: "nas01.lab", port: 22) == ["ssh-ed25519"])
    }
  }

  @Test func ports() async throws {
    try await TemporaryFolder.with { folder in
      let keys = try await Keys(in: folder)
      let lines = ["[nas01.lab]:2222 \(keys.ed25519)", "nas01.lab \(keys.other)"]
      #expect(try verdict(lines, keys.ed25519, port: 2222) == .trusted(line: 1))
      #expect(try verdict(lines, keys.other, port: 2222) == .changed(line: 1))
      #expect(try verdict(lines, keys.ed25519) == .changed(line: 2))
      #expect(try verdict(lines, keys.other, port: 2223) == .trusted(line: 2))
      #expect(try verdict(lines, keys.ed25519, port: 2223) == .unknown(knownTypes: []))
    }
  }

  @Test func hashedByTheRealTool() async throws {
    try await TemporaryFolder.with { folder in
      let keys = try await Keys(in: folder)
      let file = try folder.write("nas01.lab \(keys.ed25519)\n[nas01.lab]:2222 \(keys.ecdsa)\n", to: "hosts")
      #expect(try await runProcess(["ssh-keygen", "-q", "-H", "-f", file]).status == 0)
      let content = try String(contentsOfFile: file, encoding: .utf8)
      #expect(content.hasPrefix("|1|"))
      #expect(!content.contains("nas01"))
      let lines = content.split(separator: "\n").map(String.init)
      #expect(try verdict(lines, keys.ed25519) == .trusted(line: 1))
      #expect(try verdict(lines, keys.other) == .changed(line: 1))
      #expect(try verdict(lines, keys.ecdsa, port: 2222) == .trusted(line: 2))
      #expect(try verdict(lines, keys.ed25519, host: "nas02.lab") == .unknown(knownTypes: []))
      #expect(KnownHosts(Array(content.utf8)).keyTypes(host: "nas01.lab", port: 2222) == ["ecdsa-sha2-nistp256"])
    }
  }

  @Test func wildcardsAndNegation() async throws {
    try await TemporaryFolder.with { folder in
      let keys = try await Keys(in: folder)
      let lines = ["*.lab,!nas02.lab,nas?? \(keys.ed25519)"]
      #expect(try verdict(lines, keys.ed25519) == .trusted(line: 1))
      #expect(try verdict(lines, keys.ed25519, host: "nas02.lab") == .unknown(knownTypes: []))
      #expect(try verdict(lines, keys.ed25519, host: "nas17") == .trusted(line: 1))
      #expect(try verdict(lines, keys.ed25519, host: "nas1") == .unknown(knownTypes: []))
      #expect(
        try verdict(["*a*a*a*a*a*a*b \(keys.ed25519)"], keys.ed25519, host: String(repeating: "a", count: 200)) == .unknown(knownTypes: []))
    }
  }

  @Test func revocationWins() async throws {
    try await TemporaryFolder.with { folder in
      let keys = try await Keys(in: folder)
      let lines = ["nas01.lab \(keys.ed25519)", "@revoked * \(keys.ed25519)", "@cert-authority *.lab \(keys.other)"]
      #expect(try verdict(lines, keys.ed25519) == .revoked(line: 2))
      #expect(try verdict(lines, keys.ed25519, port: 2222) == .revoked(line: 2))
      // A certificate authority's own key vouches for no host.
      #expect(try verdict(lines, keys.other) == .changed(line: 1))
      #expect(KnownHosts(Array(lines.joined(separator: "\n").utf8)).hasCertificateAuthority(host: "x.lab", port: 22))
    }
  }

  @Test func garbageIsSkippedAndCounted() async throws {
    try await TemporaryFolder.with { folder in
      let keys = try await Keys(in: folder)
      let base64 = String(keys.ed25519.split(separator: " ")[1])
      let lines = [
        "garbage", "nas01.lab ssh-ed25519", "nas01.lab ssh-ed25519 !!!!", "nas01.lab ssh-rsa \(base64)", "@strange nas01.lab \(keys.other)",
        "|1|bad|hash \(keys.other)", "nas01.lab 1024 35 1234567890", "\u{0}\u{1}", "nas01.lab \(keys.ed25519)",
      ]
      #expect(try verdict(lines, keys.ed25519) == .trusted(line: 9))
      #expect(KnownHosts(Array(lines.joined(separator: "\n").utf8)).unreadableLines == 8)
    }
  }

  @Test func fingerprintIsTheToolsOwn() async throws {
    try await TemporaryFolder.with { folder in
      let keys = try await Keys(in: folder)
      let shown = try await runProcess(["ssh-keygen", "-lf", "\(folder.path)/a.pub"])
      #expect(shown.text.contains(" " + (try blob(keys.ed25519)).fingerprint + " "))
    }
  }

  @Test func base64IsStrict() {
    for length in 0...70 {
      let bytes = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ length) }
      #expect(decodeBase64(Array(encodeBase64(bytes).utf8)[...]) == (length == 0 ? nil : bytes))
    }
    for wrong in ["A", "AA", "AAA", "A===", "AA=A", "====", "AAAA=", "AA A"] { #expect(decodeBase64(Array(wrong.utf8)[...]) == nil) }
  }
}
