import CLibCrypto

/// A known-hosts file, read as sshd(8) describes it under SSH_KNOWN_HOSTS FILE FORMAT.
///
/// libssh2's own reader stops at the first line it does not understand and ignores `@revoked` and wildcards; this one skips such lines
/// and counts them.
struct KnownHosts: Sendable {
  /// One line that names a key.
  struct Entry: Sendable {
    enum Marker: Sendable { case none, revoked, certificateAuthority }
    let marker: Marker
    let hosts: HostPatterns
    let key: SSHKeyBlob
    /// Counted from 1.
    let line: Int
  }

  /// What the file says about one key of one host.
  enum Verdict: Equatable {
    /// The line that vouches for it.
    case trusted(line: Int)
    case revoked(line: Int)
    /// The line holds another key of the same type.
    case changed(line: Int)
    /// No key of this type; the other types that are known for the host.
    case unknown(knownTypes: [String])
  }

  private(set) var entries: [Entry] = []
  /// Lines that are neither empty, a comment nor an entry.
  private(set) var unreadableLines = 0

  init(_ content: [UInt8]) {
    for (index, line) in content.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      var fields = line.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") || $0 == UInt8(ascii: "\r") }[...]
      guard let first = fields.first, first.first != UInt8(ascii: "#") else { continue }
      var marker = Entry.Marker.none
      if first.first == UInt8(ascii: "@") {
        if first.elementsEqual("@revoked".utf8) {
          marker = .revoked
        } else if first.elementsEqual("@cert-authority".utf8) {
          marker = .certificateAuthority
        } else {
          unreadableLines += 1
          continue
        }
        fields = fields.dropFirst()
      }
      guard fields.count >= 3, let hosts = HostPatterns(fields[fields.startIndex]),
        let key = SSHKeyBlob(base64: fields[fields.startIndex + 2]),
        fields[fields.startIndex + 1].elementsEqual(key.type.utf8)
      else {
        unreadableLines += 1
        continue
      }
      entries.append(Entry(marker: marker, hosts: hosts, key: key, line: index + 1))
    }
  }

  /// What the file says about a key. Keys of certificate authorities vouch for nothing here: certificates are not supported.
  func verdict(on key: SSHKeyBlob, host: String, port: UInt16) -> Verdict {
    let bare = host.asciiLowercased
    let name = KnownHosts.name(of: host, port: port)
    let exact = entries.filter { $0.hosts.match(name) }
    // As OpenSSH does: an entry without a port vouches for a server on another port where nothing is known of that port. It only ever
    // vouches: that another server on the same machine has another key is no alarm. Revocation counts for both names.
    let loose = name == bare ? [] : entries.filter { $0.hosts.match(bare) }
    if let entry = (exact + loose).first(where: { $0.marker == .revoked && $0.key == key }) { return .revoked(line: entry.line) }
    let known = exact.filter { $0.marker == .none }
    if let entry = known.first(where: { $0.key == key }) { return .trusted(line: entry.line) }
    if let entry = known.first(where: { $0.key.type == key.type }) { return .changed(line: entry.line) }
    if known.isEmpty, let entry = loose.first(where: { $0.marker == .none && $0.key == key }) { return .trusted(line: entry.line) }
    return .unknown(knownTypes: Set(known.map(\.key.type)).sorted())
  }

  /// The types of key stored for a host, so that the server is asked for one of those first.
  func keyTypes(host: String, port: UInt16) -> Set<String> {
    let name = KnownHosts.name(of: host, port: port)
    let types = entries.filter { $0.marker == .none && $0.hosts.match(name) }.map(\.key.type)
    if !types.isEmpty { return Set(types) }
    let bare = host.asciiLowercased
    return Set(entries.filter { $0.marker == .none && $0.hosts.match(bare) }.map(\.key.type))
  }

  /// Whether a certificate authority is named for the host: then the refusal says that certificates are not supported.
  func hasCertificateAuthority(host: String, port: UInt16) -> Bool {
    let name = KnownHosts.name(of: host, port: port)
    return entries.contains { $0.marker == .certificateAuthority && $0.hosts.match(name) }
  }

  /// The host as the file names it: `[host]:port` unless the port is 22.
  static func name(of host: String, port: UInt16) -> [UInt8] {
    let bare = host.asciiLowercased
    return port == 22 ? bare : Array("[".utf8) + bare + Array("]:\(port)".utf8)
  }
}

/// The first field of an entry: which hosts it speaks of.
struct HostPatterns: Sendable {
  private enum Form: Sendable {
    case patterns([(negated: Bool, pattern: [UInt8])])
    /// `|1|salt|HMAC-SHA1(salt, name)`
    case hashed(salt: [UInt8], digest: [UInt8])
  }
  private let form: Form

  /// Nil where the field is neither a hashed name nor a list of patterns.
  init?(_ field: ArraySlice<UInt8>) {
    if field.first == UInt8(ascii: "|") {
      let parts = field.split(separator: UInt8(ascii: "|"), omittingEmptySubsequences: false)
      guard parts.count == 4, parts[0].isEmpty, parts[1].elementsEqual([UInt8(ascii: "1")]), let salt = decodeBase64(parts[2]),
        let digest = decodeBase64(parts[3]), salt.count == 20, digest.count == 20
      else { return nil }
      form = .hashed(salt: salt, digest: digest)
      return
    }
    var patterns: [(negated: Bool, pattern: [UInt8])] = []
    for part in field.split(separator: UInt8(ascii: ",")) {
      let negated = part.first == UInt8(ascii: "!")
      let pattern = negated ? part.dropFirst() : part
      guard !pattern.isEmpty else { return nil }
      patterns.append((negated, pattern.map(asciiLowercase)))
    }
    guard !patterns.isEmpty else { return nil }
    form = .patterns(patterns)
  }

  /// Whether the field speaks of a host, given in lower case. A negated pattern that matches decides.
  func match(_ name: [UInt8]) -> Bool {
    switch form {
    case .hashed(let salt, let digest):
      var result = [UInt8](repeating: 0, count: 20)
      var size: UInt32 = 0
      guard HMAC(EVP_sha1(), salt, Int32(salt.count), name, name.count, &result, &size) != nil, size == 20 else { return false }
      return result == digest
    case .patterns(let patterns):
      var found = false
      for (negated, pattern) in patterns where HostPatterns.wildcard(pattern[...], name[...]) {
        if negated { return false }
        found = true
      }
      return found
    }
  }

  /// `*` stands for any characters, `?` for one. Goes back to the last `*` only, so the time is bounded by the product of the lengths.
  private static func wildcard(_ pattern: ArraySlice<UInt8>, _ name: ArraySlice<UInt8>) -> Bool {
    var pattern = pattern
    var name = name
    var retry: (pattern: ArraySlice<UInt8>, name: ArraySlice<UInt8>)?
    while let character = name.first {
      if pattern.first == UInt8(ascii: "*") {
        pattern = pattern.dropFirst()
        retry = (pattern, name.dropFirst())
      } else if let wanted = pattern.first, wanted == character || wanted == UInt8(ascii: "?") {
        pattern = pattern.dropFirst()
        name = name.dropFirst()
      } else if let again = retry {
        pattern = again.pattern
        name = again.name
        retry = (again.pattern, again.name.dropFirst())
      } else {
        return false
      }
    }
    return pattern.allSatisfy { $0 == UInt8(ascii: "*") }
  }
}

private func asciiLowercase(_ byte: UInt8) -> UInt8 { (0x41...0x5a).contains(byte) ? byte + 32 : byte }

extension String {
  fileprivate var asciiLowercased: [UInt8] { utf8.map(asciiLowercase) }
}
