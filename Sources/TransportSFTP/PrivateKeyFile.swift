import CLibCrypto
import Glibc
import SyncModel
import Transport

/// A private key read from a file, with what can be known of it without a passphrase. The bytes are wiped when it goes.
final class PrivateKeyFile {
  enum Kind: Equatable {
    case ed25519, ecdsa, rsa, dsa
    /// Held by a hardware token, or of a type not known here.
    case other(String)
    /// The format does not say without the passphrase.
    case unknown
  }

  let path: String
  let kind: Kind
  let isEncrypted: Bool
  /// The public half, where the format holds it in the clear (OpenSSH's own does).
  let publicBlob: SSHKeyBlob?
  /// The file with a NUL behind it: libssh2 measures it as a C string although it is told the length.
  private var content: [UInt8]

  /// - Throws: `misconfigured` where the file is missing, open to others or no private key.
  init(path: String) throws(TransportError) {
    self.path = path
    let shown = displayText(path)
    let mode: mode_t
    do throws(SmallFile.Problem) {
      (content, mode) = try SmallFile.read(path, limit: 256 << 10)
    } catch {
      switch error {
      case .missing:
        throw .misconfiguredKey("there is no key file \(shown)", hint: "Check `key_file`, or make one: ssh-keygen -t ed25519 -f \(shown)")
      case .unreadable(let why):
        throw .misconfiguredKey(
          "the key file \(shown) cannot be read: \(why)", hint: "Let the user that runs nassync own it, with mode 0600.")
      case .notAFile: throw .misconfiguredKey("\(shown) is not a file", hint: "Check `key_file` in the equipment profile.")
      case .tooBig: throw .misconfiguredKey("\(shown) is too big for a private key", hint: "Check `key_file` in the equipment profile.")
      }
    }
    guard mode & 0o077 == 0 else {
      OPENSSL_cleanse(&content, content.count)
      let octal = String(mode & 0o777, radix: 8)
      throw .misconfiguredKey(
        "the key file \(shown) can be read or changed by others (mode 0\(octal))", hint: "chmod 600 \(shown) and consider making a new key."
      )
    }
    guard let found = PrivateKeyFile.inspect(content) else {
      let advice = PrivateKeyFile.adviceOnFormat(content, shown)
      OPENSSL_cleanse(&content, content.count)
      throw .misconfiguredKey("\(shown) is no private key that is understood here", hint: advice)
    }
    (kind, isEncrypted, publicBlob) = found
    content.append(0)
  }

  deinit { OPENSSL_cleanse(&content, content.count) }

  /// The file's bytes, with a NUL behind the last, for one call.
  func withBytes<Result>(_ body: (UnsafeBufferPointer<CChar>) -> Result) -> Result {
    content.withUnsafeBytes { body(UnsafeBufferPointer(rebasing: $0.bindMemory(to: CChar.self).dropLast())) }
  }

  static let newKey = "Offer an ed25519 key: ssh-keygen -t ed25519, and add its .pub to authorized_keys on the NAS."

  /// - Parameter useAgent: Whether an agent may hold the key in the clear.
  /// - Throws: `misconfigured` where nobody can log in with it.
  func requireUsable(useAgent: Bool) throws(TransportError) {
    let shown = displayText(path)
    if isEncrypted, !useAgent {
      throw .misconfiguredKey(
        "the key file \(shown) is locked with a passphrase",
        hint: "Add it to an ssh-agent (ssh-add \(shown)) and let nassync use the agent, or use a key without a passphrase.")
    }
    switch kind {
    case .dsa: throw .misconfiguredKey("the key file \(shown) holds a DSA key, which no server accepts any more", hint: Self.newKey)
    case .other(let type):
      throw .misconfiguredKey(
        "the key file \(shown) holds a key of type \(displayText(type)), which is not supported",
        hint: Self.newKey + " Or set `ssh: openssh` in the equipment profile.")
    case .ed25519, .ecdsa, .rsa, .unknown: break
    }
  }

  private static func adviceOnFormat(_ content: [UInt8], _ path: String) -> String {
    if content.starts(with: "PuTTY-User-Key-File".utf8) { return "Convert it: puttygen \(path) -O private-openssh -o id_nas" }
    if content.starts(with: "ssh-".utf8) || content.starts(with: "ecdsa-".utf8) {
      return "That is the public half: `key_file` names the private one, without .pub."
    }
    return "Make one: ssh-keygen -t ed25519"
  }

  private typealias Findings = (kind: Kind, isEncrypted: Bool, publicBlob: SSHKeyBlob?)

  private static func inspect(_ content: [UInt8]) -> Findings? {
    let lines = content.split { $0 == UInt8(ascii: "\n") || $0 == UInt8(ascii: "\r") }
    guard let start = lines.firstIndex(where: { $0.starts(with: "-----BEGIN ".utf8) }) else { return nil }
    let title = String(decoding: lines[start], as: UTF8.self)
    let body = lines[(start + 1)...]
    let legacyEncryption = body.contains { $0.starts(with: "Proc-Type: 4,ENCRYPTED".utf8) }
    switch title {
    case "-----BEGIN OPENSSH PRIVATE KEY-----":
      return inspectOpenSSH(Array(body.prefix { !$0.starts(with: "-----".utf8) }.joined()))
    case "-----BEGIN RSA PRIVATE KEY-----": return (.rsa, legacyEncryption, nil)
    case "-----BEGIN EC PRIVATE KEY-----": return (.ecdsa, legacyEncryption, nil)
    case "-----BEGIN DSA PRIVATE KEY-----": return (.dsa, legacyEncryption, nil)
    case "-----BEGIN PRIVATE KEY-----": return (.unknown, false, nil)
    case "-----BEGIN ENCRYPTED PRIVATE KEY-----": return (.unknown, true, nil)
    default: return nil
    }
  }

  /// OpenSSH's PROTOCOL.key: magic, cipher, kdf, kdf options, number of keys, public key, private part.
  private static func inspectOpenSSH(_ base64: [UInt8]) -> Findings? {
    let magic = Array("openssh-key-v1\0".utf8)
    guard var bytes = decodeBase64(base64[...]), bytes.starts(with: magic) else { return nil }
    defer { OPENSSL_cleanse(&bytes, bytes.count) }
    var reader = SSHWireReader(bytes.dropFirst(magic.count))
    guard let cipher = reader.string(), reader.string() != nil, reader.string() != nil, reader.number() == 1,
      let publicBytes = reader.string(), let blob = SSHKeyBlob(Array(publicBytes))
    else { return nil }
    return (kind(ofType: blob.type), !cipher.elementsEqual("none".utf8), blob)
  }

  private static func kind(ofType type: String) -> Kind {
    switch type {
    case "ssh-ed25519": .ed25519
    case "ssh-rsa": .rsa
    case "ssh-dss": .dsa
    case "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521": .ecdsa
    default: .other(type)
    }
  }
}

extension TransportError {
  fileprivate static func misconfiguredKey(_ message: String, hint: String) -> TransportError {
    .lostConnection(.misconfigured, message, hint: hint)
  }
}
