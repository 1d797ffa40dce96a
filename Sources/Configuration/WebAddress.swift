import SyncModel

/// An `http` or `https` address of a folder, taken apart.
public struct WebAddress: Hashable, Sendable {
  /// Whether it is `https`.
  public let isEncrypted: Bool
  /// A name or an address, an IPv6 address without its brackets.
  public let host: String
  /// Nil where the scheme's own is meant.
  public let port: UInt16?
  /// Decoded, without a trailing `/`; empty for the server's root.
  public let path: String

  /// Nil for any other text, one with a user, a query or a path that climbs among them.
  public init?(_ text: String) {
    let rest: Substring
    if text.hasPrefix("https://") {
      (isEncrypted, rest) = (true, text.dropFirst(8))
    } else if text.hasPrefix("http://") {
      (isEncrypted, rest) = (false, text.dropFirst(7))
    } else {
      return nil
    }
    guard !rest.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7f || $0 == 0x3f || $0 == 0x23 }) else { return nil }
    let authority = rest.prefix { $0 != "/" }
    let name: Substring
    var number: Substring?
    if authority.hasPrefix("[") {
      guard let end = authority.firstIndex(of: "]") else { return nil }
      name = authority[authority.index(after: authority.startIndex)..<end]
      let after = authority[authority.index(after: end)...]
      guard after.isEmpty || after.hasPrefix(":") else { return nil }
      if !after.isEmpty { number = after.dropFirst() }
    } else {
      let parts = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      name = parts[0]
      if parts.count == 2 { number = parts[1] }
      guard !name.contains(":") else { return nil }
    }
    guard SettingRules.isHost(String(name)) else { return nil }
    host = String(name)
    if let number {
      guard let port = UInt16(number), port > 0 else { return nil }
      self.port = port
    } else {
      port = nil
    }
    guard let path = Self.decodedPath(rest.dropFirst(authority.count)) else { return nil }
    self.path = path
  }

  private static func decodedPath(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      let digits = rest.prefix(2)
      guard digits.count == 2, let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16), value != 0, value != 0x2f else {
        return nil
      }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    guard let path = String(validating: bytes, as: UTF8.self) else { return nil }
    let segments = path.split(separator: "/")
    guard !segments.contains("."), !segments.contains("..") else { return nil }
    return segments.map { "/" + $0 }.joined()
  }

  /// Whether the host is this machine.
  public var isLoopback: Bool {
    host == "localhost" || host == "::1" || (host.hasPrefix("127.") && host.split(separator: ".").count == 4)
  }

  /// Whether both lead to the same place; a port that is the scheme's own may be written or not.
  func isSame(as other: WebAddress) -> Bool {
    let usual: UInt16 = isEncrypted ? 443 : 80
    return isEncrypted == other.isEncrypted && host.utf8.elementsEqual(other.host.utf8) && (port ?? usual) == (other.port ?? usual)
      && path.utf8.elementsEqual(other.path.utf8)
  }
}
