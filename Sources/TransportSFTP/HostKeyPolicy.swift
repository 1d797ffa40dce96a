import SyncModel
import Transport

/// Which host keys are accepted: those in the known-hosts file, and no others. Nothing is ever added to it.
struct HostKeyPolicy: Sendable {
  private let hosts: KnownHosts
  private let file: String
  private let host: String
  private let port: UInt16

  /// - Throws: `host_key` where the file cannot be read.
  init(settings: SFTPSettings) throws(TransportError) {
    file = settings.knownHostsFile
    host = settings.host
    port = settings.port
    do throws(SmallFile.Problem) {
      hosts = KnownHosts(try SmallFile.read(file, limit: 16 << 20).bytes)
    } catch {
      let shown = displayText(settings.knownHostsFile)
      let reason =
        switch error {
        case .missing: "there is no known-hosts file \(shown)"
        case .unreadable(let why): "the known-hosts file \(shown) cannot be read: \(why)"
        case .notAFile: "the known-hosts file \(shown) is not a file"
        case .tooBig: "the known-hosts file \(shown) is larger than 16 MiB"
        }
      throw .lostConnection(
        .hostKey, "\(reason), so no server can be trusted",
        hint: HostKeyPolicy.wayToAdd(type: "ed25519", host: settings.host, port: settings.port, file: settings.knownHostsFile))
    }
  }

  /// Which algorithms to ask the server for, the types that are stored for this host first.
  /// - Parameter supported: What the SSH library can do.
  func algorithms(supported: [String]) -> [String] {
    let known = hosts.keyTypes(host: host, port: port)
    let ranked = HostKeyPolicy.ranking.filter(supported.contains)
    let wanted = ranked.filter { known.contains(HostKeyPolicy.keyType(ofAlgorithm: $0)) }
    return wanted + ranked.filter { !wanted.contains($0) }
  }

  /// Passes a key that the file vouches for.
  /// - Throws: `host_key`, saying what was seen and what to do.
  func check(_ key: SSHKeyBlob) throws(TransportError) {
    let name = displayText(String(decoding: KnownHosts.name(of: host, port: port), as: UTF8.self))
    let shownFile = displayText(file)
    let seen = "\(HostKeyPolicy.shortName(ofType: key.type)) key \(key.fingerprint)"
    let way = HostKeyPolicy.wayToAdd(type: HostKeyPolicy.shortName(ofType: key.type), host: host, port: port, file: file)
    switch hosts.verdict(on: key, host: host, port: port) {
    case .trusted: return
    case .revoked(let line):
      throw .lostConnection(
        .hostKey, "\(name) shows the \(seen), which line \(line) of \(shownFile) revokes",
        hint: "Somebody declared this key stolen or void: do not connect; ask who runs the NAS.")
    case .changed(let line):
      throw .lostConnection(
        .hostKey, "\(name) shows the \(seen), but line \(line) of \(shownFile) holds another: the key has changed",
        hint:
          "Either the NAS was set up anew or somebody stands between. Ask who runs it; if the new key is right, remove line \(line). Then: \(way)"
      )
    case .unknown(let types):
      var message = "\(name) is not in \(shownFile); it shows the \(seen)"
      if !types.isEmpty {
        let names = types.map(HostKeyPolicy.shortName(ofType:)).joined(separator: ", ")
        message = "\(name) shows the \(seen), while \(shownFile) knows only its \(names) key"
      }
      if hosts.hasCertificateAuthority(host: host, port: port) {
        message += "; the @cert-authority there is of no use, as host certificates are not supported"
      }
      if hosts.unreadableLines > 0 { message += "; \(hosts.unreadableLines) lines of the file are not understood" }
      throw .lostConnection(.hostKey, message, hint: way)
    }
  }

  private static let ranking = [
    "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256",
    // Signed with SHA-1: only for old servers that have nothing else. The signature is made at that moment, so that what is broken
    // about SHA-1, collisions prepared at leisure, does not help an attacker.
    "ssh-rsa",
  ]

  private static func keyType(ofAlgorithm name: String) -> String { name.hasPrefix("rsa-sha2-") ? "ssh-rsa" : name }

  /// The name that `ssh-keyscan -t` takes.
  static func shortName(ofType type: String) -> String {
    switch type {
    case "ssh-ed25519": "ed25519"
    case "ssh-rsa": "rsa"
    case let type where type.hasPrefix("ecdsa-"): "ecdsa"
    default: displayText(type)
    }
  }

  /// The command that adds a host's key, and what to compare before.
  static func wayToAdd(type: String, host: String, port: UInt16, file: String) -> String {
    let option = port == 22 ? "" : "-p \(port) "
    return "Compare the fingerprint with the one that the NAS itself shows (there: ssh-keygen -lf /etc/ssh/ssh_host_\(type)_key.pub); "
      + "if they are equal: ssh-keyscan -t \(type) \(option)\(shellWord(host)) >> \(shellWord(file))"
  }
}
