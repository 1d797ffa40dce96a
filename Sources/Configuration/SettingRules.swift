import SyncModel

/// What single texts of a configuration must look like, for files and for code alike.
enum SettingRules {
  /// One segment of a path.
  static func isName(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard let path = relative(text) else { return false }
    return path.segments.count == 1 && bytes.count <= 255
  }

  /// A path inside the run, nil where it is none.
  static func relative(_ text: String) -> RelativePath? {
    do { return try RelativePath(text) } catch { return nil }
  }

  /// A dot and letters after it.
  static func isExtension(_ text: String) -> Bool {
    text.utf8.first == 0x2e && text.utf8.count > 1 && !text.utf8.contains { $0 == 0x2f || $0 <= 0x20 || $0 == 0x7f }
  }

  /// A host's name or address. What a program could take for an option or an account is refused.
  static func isHost(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    guard (1...253).contains(bytes.count), bytes.first != 0x2d else { return false }
    let isWord = bytes.allSatisfy {
      (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x2e || $0 == 0x5f
    }
    if isWord { return true }
    // An IPv6 address, with its zone: fe80::1%eth0.
    let colons = bytes.filter { $0 == 0x3a }.count
    return colons >= 2
      && bytes.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x3a || $0 == 0x2e || $0 == 0x25
          || $0 == 0x2d || $0 == 0x5f
      }
  }

  /// An account's name; directories allow `DOMAIN\name` and `name@domain`.
  static func isUser(_ text: String) -> Bool {
    text.utf8.first != 0x2d && (1...256).contains(text.utf8.count) && !text.utf8.contains { $0 <= 0x20 || $0 == 0x7f || $0 == 0x3a }
  }

  /// Why a remote folder cannot be used, nil when it can.
  static func remoteRootProblem(_ text: String) -> (message: String, hint: String)? {
    if text.hasPrefix("~") {
      return ("`~` means nothing to an SFTP server", "write the path as the server shows it, or one relative to the login folder")
    }
    if text.split(separator: "/").contains("..") {
      return ("`\(text)` climbs with `..`", "write the path without `..`")
    }
    return nil
  }
}
