import CLibCrypto

/// A public key as SSH sends it: length-prefixed strings, the first of which is the type (RFC 4253, section 6.6).
struct SSHKeyBlob: Hashable, Sendable {
  let bytes: [UInt8]
  /// As `ssh-ed25519`.
  let type: String

  /// Nil unless the bytes begin with a type of printable characters.
  init?(_ bytes: [UInt8]) {
    var reader = SSHWireReader(bytes)
    guard let name = reader.string(), !name.isEmpty, name.count <= 64, name.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
    self.bytes = bytes
    type = String(decoding: name, as: UTF8.self)
  }

  /// Nil unless the text is the base64 of a key.
  init?(base64: ArraySlice<UInt8>) {
    guard let bytes = decodeBase64(base64) else { return nil }
    self.init(bytes)
  }

  /// `SHA256:…` as OpenSSH writes it.
  var fingerprint: String {
    var digest = [UInt8](repeating: 0, count: 32)
    var size: UInt32 = 0
    guard EVP_Digest(bytes, bytes.count, &digest, &size, EVP_sha256(), nil) == 1, size == 32 else { return "SHA256:?" }
    return "SHA256:" + encodeBase64(digest).prefix { $0 != "=" }
  }
}

/// Reads the big-endian, length-prefixed fields of SSH's messages and key files; every length is checked.
struct SSHWireReader {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }
  init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

  mutating func byte() -> UInt8? { rest.popFirst() }

  mutating func number() -> UInt32? {
    guard rest.count >= 4 else { return nil }
    defer { rest = rest.dropFirst(4) }
    return rest.prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
  }

  mutating func string() -> ArraySlice<UInt8>? {
    guard let length = number(), UInt64(length) <= UInt64(rest.count) else { return nil }
    defer { rest = rest.dropFirst(Int(length)) }
    return rest.prefix(Int(length))
  }
}

/// The bytes of an SSH string field.
func sshString(_ bytes: some Collection<UInt8>) -> [UInt8] { bigEndian(UInt32(truncatingIfNeeded: bytes.count)) + bytes }

/// Four bytes, the highest first.
func bigEndian(_ number: UInt32) -> [UInt8] {
  [
    UInt8(truncatingIfNeeded: number >> 24), UInt8(truncatingIfNeeded: number >> 16), UInt8(truncatingIfNeeded: number >> 8),
    UInt8(truncatingIfNeeded: number),
  ]
}

/// Strict base64: whole groups of four, padding at the end only. Nil for anything else, and for nothing.
func decodeBase64(_ text: ArraySlice<UInt8>) -> [UInt8]? {
  guard !text.isEmpty, text.count.isMultiple(of: 4), text.count <= 1 << 20 else { return nil }
  var result: [UInt8] = []
  result.reserveCapacity(text.count / 4 * 3)
  let padding = text.reversed().prefix { $0 == UInt8(ascii: "=") }.count
  guard padding <= 2 else { return nil }
  var group: UInt32 = 0
  var filled = 0
  for character in text.dropLast(padding) {
    guard let value = base64Value(character) else { return nil }
    group = group << 6 | value
    filled += 1
    if filled == 4 {
      result += bigEndian(group).dropFirst()
      group = 0
      filled = 0
    }
  }
  if padding > 0 {
    guard filled == 4 - padding else { return nil }
    group <<= UInt32(6 * padding)
    result += bigEndian(group)[1..<(4 - padding)]
  }
  return result
}

/// Base64 with padding.
func encodeBase64(_ bytes: [UInt8]) -> String {
  let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
  var text: [UInt8] = []
  var index = 0
  while index < bytes.count {
    let chunk = bytes[index..<min(index + 3, bytes.count)]
    let group = chunk.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - chunk.count))
    for position in 0..<4 {
      text.append(position <= chunk.count ? digits[Int(group >> UInt32(18 - 6 * position) & 63)] : UInt8(ascii: "="))
    }
    index += 3
  }
  return String(decoding: text, as: UTF8.self)
}

private func base64Value(_ character: UInt8) -> UInt32? {
  switch character {
  case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
  case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
  case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
  case UInt8(ascii: "+"): 62
  case UInt8(ascii: "/"): 63
  default: nil
  }
}
