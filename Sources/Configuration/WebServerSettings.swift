import SyncModel

/// What is said of a server behind a web address, whoever logs in there and whatever is kept there.
package protocol WebServerSettings {
  /// The parts of the address; nil where it is none.
  var address: WebAddress? { get }
  /// A PEM file of the authorities that are trusted in place of the system's.
  var caFile: String? { get set }
  /// The server's public key.
  var pin: String? { get set }
  /// Whether plain `http` may be spoken.
  var insecure: Bool { get set }
  /// The host that `insecure` is meant for, where that is not this machine.
  var insecureHost: String? { get set }
  /// At once.
  var connections: Int { get set }
  /// Seconds for connecting, TLS included.
  var connectTimeout: Double { get set }
  /// Seconds without any progress after which a request counts as dead.
  var progressTimeout: Double { get set }
}

extension WebServerSettings {
  /// What is wrong with the address and with what goes along with it, by key: for files and for code alike.
  /// - Parameters:
  ///   - key: What the address is called.
  ///   - message: Where it is none.
  func serverProblems(_ key: String, _ message: String, hint: String) -> [(key: String, message: String, hint: String)] {
    var found: [(key: String, message: String, hint: String)] = []
    if let address { found += plainProblems(of: address, key) } else { found.append((key, message, hint)) }
    if let problem = PublicKeyPin.problem(pin, "pin") { found.append(problem) }
    return found
  }

  /// What is wrong with speaking to an address without encryption.
  private func plainProblems(of address: WebAddress, _ key: String) -> [(key: String, message: String, hint: String)] {
    guard !address.isEncrypted else { return [] }
    var found: [(String, String, String)] = []
    if !insecure {
      found.append((key, "`http` is not encrypted: everybody on the way could read and change runs and log-in", "write https"))
    } else if !address.isLoopback, insecureHost != address.host {
      found.append(
        (
          "insecure_host", "plain `http` to another machine is meant for one named host only",
          "write https, or `insecure_host: \(address.host)` beside `insecure: true` where nobody else can listen"
        ))
    }
    if pin != nil || caFile != nil {
      found.append((pin == nil ? "ca_file" : "pin", "without TLS there is no certificate to check", "write https, or remove the key"))
    }
    return found
  }

  /// Takes from a section all but the address; what it does not have stays as it is.
  mutating func readServer(_ section: inout SettingsSection, _ paths: ConfigurationPaths) {
    caFile = section.path("ca_file", "a file of PEM certificates", paths)
    pin = section.text("pin", "the fingerprint of the server's public key, sha256//…,")
    insecure = section.truth("insecure", default: false)
    insecureHost = section.text("insecure_host", "the host that may be spoken to without encryption")
    connections = section.integer("connections", in: SettingLimits.connections, default: connections)
    connectTimeout = section.duration("connect_timeout", in: SettingLimits.networkTimeout, default: connectTimeout)
    progressTimeout = section.duration("timeout", in: SettingLimits.networkTimeout, default: progressTimeout)
  }
}

/// `sha256//BASE64` of a public key, several joined by `;`, as curl takes them.
enum PublicKeyPin {
  /// What is wrong with one; nil for nothing, or where there is none.
  static func problem(_ text: String?, _ key: String) -> (key: String, message: String, hint: String)? {
    guard let text, !text.split(separator: ";", omittingEmptySubsequences: false).allSatisfy(isOne) else { return nil }
    return (
      key, "this is no pin",
      "write sha256//… as `openssl … | openssl dgst -sha256 -binary | base64` shows it; several joined by `;`"
    )
  }

  /// 32 bytes in Base64.
  private static func isOne(_ text: Substring) -> Bool {
    text.hasPrefix("sha256//") && text.utf8.count == 52 && text.hasSuffix("=")
      && text.dropFirst(8).dropLast().utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2b || $0 == 0x2f
      }
  }
}
