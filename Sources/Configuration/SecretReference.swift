import Glibc

/// Where a password or token is kept. Configuration files hold the reference, never the secret.
public struct SecretReference: Hashable, Sendable, CustomStringConvertible {
  /// The kinds of place.
  public enum Place: Hashable, Sendable {
    /// `file:PATH`: a file that nobody else can read (mode 0600 or 0400).
    case file(String)
    /// `env:NAME`: an environment variable.
    case environment(String)
    /// `credential:NAME`: a file of systemd's `LoadCredential=`, in `$CREDENTIALS_DIRECTORY`.
    case credential(String)
  }

  /// Why no secret was found. The texts name the place, never the secret.
  public enum Failure: Error, Hashable, Sendable, CustomStringConvertible {
    /// The file cannot be read; the reason is the system's.
    case unreadable(path: String, reason: String)
    /// Others may read the file.
    case exposed(path: String, mode: UInt32)
    /// The file or variable is empty, or larger than 64 KiB, or not UTF-8.
    case unusable(String)
    /// The environment variable is not set.
    case unset(String)

    /// One sentence and the next step.
    public var description: String {
      switch self {
      case .unreadable(let path, let reason): "the secret in \(path) cannot be read: \(reason)"
      case .exposed(let path, let mode):
        "the secret in \(path) can be read by others (mode \(String(mode, radix: 8))); run `chmod 600` on it"
      case .unusable(let place): "the secret in \(place) is empty, too large or no text"
      case .unset(let name): "the environment variable \(name) is not set"
      }
    }
  }

  /// Larger files are not secrets.
  static let maximumBytes = 65_536

  /// The kind of place and its name.
  public let place: Place

  /// Nil unless the text is `file:…`, `env:…` or `credential:…` with a name of that kind.
  public init?(_ text: String) {
    if let path = Self.rest(of: text, after: "file:"), !path.utf8.contains(0) {
      place = .file(path)
    } else if let name = Self.rest(of: text, after: "env:"), Self.isVariable(name) {
      place = .environment(name)
    } else if let name = Self.rest(of: text, after: "credential:"), Self.isCredential(name) {
      place = .credential(name)
    } else {
      return nil
    }
  }

  /// The reference as it is written in a file.
  public var description: String {
    switch place {
    case .file(let path): "file:\(path)"
    case .environment(let name): "env:\(name)"
    case .credential(let name): "credential:\(name)"
    }
  }

  /// The secret, without the line end that editors add. Read anew each time, so that a changed one is found; reads a file and so blocks.
  /// - Parameter environment: The process's variables.
  /// - Throws: `Failure`.
  public func resolve(environment: [String: String]) throws(Failure) -> String {
    switch place {
    case .environment(let name):
      guard let value = environment[name] else { throw .unset(name) }
      guard !value.isEmpty else { throw .unusable("the environment variable \(name)") }
      return value
    case .file(let path):
      return try Self.read(path, mustBePrivate: true)
    case .credential(let name):
      guard let folder = environment["CREDENTIALS_DIRECTORY"], folder.hasPrefix("/") else { throw .unset("CREDENTIALS_DIRECTORY") }
      // systemd makes the folder and its files for this service alone; with a user's manager their mode can be 0440.
      return try Self.read("\(folder)/\(name)", mustBePrivate: false)
    }
  }

  private static func read(_ path: String, mustBePrivate: Bool) throws(Failure) -> String {
    let content: (bytes: [UInt8], mode: UInt32)
    do { content = try SmallFile.read(path, limit: maximumBytes) } catch {
      switch error {
      case .tooLarge: throw .unusable(path)
      default: throw .unreadable(path: path, reason: error.reason)
      }
    }
    guard !mustBePrivate || content.mode & 0o077 == 0 else { throw .exposed(path: path, mode: content.mode & 0o7777) }
    var bytes = content.bytes[...]
    if bytes.last == 0x0a { bytes.removeLast() }
    if bytes.last == 0x0d { bytes.removeLast() }
    guard !bytes.isEmpty, !bytes.contains(0), let text = String(validating: bytes, as: UTF8.self) else { throw .unusable(path) }
    return text
  }

  /// Whether a key names a secret, whatever its section.
  static func isSecret(key: String) -> Bool {
    let folded = String(decoding: key.lowercased().utf8.filter { $0 != 0x5f && $0 != 0x2d }, as: UTF8.self)
    return ["password", "passwd", "passphrase", "token", "secret", "apikey", "accesskey", "privatekey"].contains {
      Self.contains($0, in: folded)
    } || folded == "pass"
  }

  private static func contains(_ word: String, in text: String) -> Bool {
    let (word, text) = (Array(word.utf8), Array(text.utf8))
    guard text.count >= word.count else { return false }
    return (0...text.count - word.count).contains { text[$0...].starts(with: word) }
  }

  private static func rest(of text: String, after prefix: String) -> String? {
    guard text.hasPrefix(prefix), text.utf8.count > prefix.utf8.count else { return nil }
    return String(text.dropFirst(prefix.count))
  }

  private static func isVariable(_ name: String) -> Bool {
    name.utf8.allSatisfy { (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f }
  }

  private static func isCredential(_ name: String) -> Bool {
    name != "." && name != ".." && !name.utf8.contains { $0 == 0x2f || $0 < 0x20 || $0 == 0x7f }
  }
}
