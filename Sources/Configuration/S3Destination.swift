import SyncModel

/// A bucket of an object store that speaks S3, and the key that opens it.
public struct S3Destination: WebServerSettings, Hashable, Sendable {
  /// Where the bucket's name stands in an address.
  public enum Addressing: String, Hashable, Sendable, CaseIterable {
    /// `https://host/bucket/key`.
    case path
    /// `https://bucket.host/key`.
    case virtual
  }

  /// The store's address without the bucket: `https://s3.lab.example:8443`; no path, no user, no query.
  public var endpoint: String
  /// Exists already.
  public var bucket: String
  /// The folder in the bucket below which everything goes; nil for the whole bucket.
  public var prefix: String?
  /// What signatures are made for; `us-east-1` is what stores without regions take.
  public var region: String
  /// Nil: `virtual` for amazonaws.com, `path` for any other host.
  public var addressing: Addressing?
  /// The key's name; no secret.
  public var accessKeyID: String
  /// Where the key is.
  public var secretAccessKey: SecretReference?
  /// Where the token is that belongs to a key for some hours; nil with a lasting one.
  public var sessionToken: SecretReference?
  /// A PEM file of the authorities that are trusted in place of the system's.
  public var caFile: String?
  /// `sha256//BASE64` of the server's public key, several joined by `;`: asked for beside a certificate that holds.
  public var pin: String?
  /// Whether plain `http` may be spoken.
  public var insecure: Bool
  /// The host that `insecure` is meant for, where that is not this machine.
  public var insecureHost: String?
  /// Connections at once: 1…16.
  public var connections: Int
  /// Seconds for connecting, TLS included.
  public var connectTimeout: Double
  /// Seconds without any progress after which a request counts as dead.
  public var progressTimeout: Double
  /// Seconds after which an upload below the prefix that was begun and not completed is ended, whoever began it.
  public var abortUploadsAfter: Double

  /// A destination built in code. `ServiceConfiguration.validate()` checks it.
  public init(
    endpoint: String, bucket: String, prefix: String? = nil, region: String = "us-east-1", addressing: Addressing? = nil,
    accessKeyID: String, secretAccessKey: SecretReference?, sessionToken: SecretReference? = nil, caFile: String? = nil, pin: String? = nil,
    insecure: Bool = false, insecureHost: String? = nil, connections: Int = 4, connectTimeout: Double = 15, progressTimeout: Double = 60,
    abortUploadsAfter: Double = 7 * 86_400
  ) {
    self.endpoint = endpoint
    self.bucket = bucket
    self.prefix = prefix
    self.region = region
    self.addressing = addressing
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
    self.caFile = caFile
    self.pin = pin
    self.insecure = insecure
    self.insecureHost = insecureHost
    self.connections = connections
    self.connectTimeout = connectTimeout
    self.progressTimeout = progressTimeout
    self.abortUploadsAfter = abortUploadsAfter
  }

  /// The parts of `endpoint`; nil where it is no address of a store.
  public var address: WebAddress? { WebAddress(endpoint).flatMap { $0.path.isEmpty ? $0 : nil } }

  /// `prefix` without `/` at its ends; empty for the whole bucket.
  public var folder: String {
    var text = Substring(prefix ?? "")
    while text.hasPrefix("/") { text = text.dropFirst() }
    while text.hasSuffix("/") { text = text.dropLast() }
    return String(text)
  }
}

extension S3Destination {
  /// Everything that is wrong with the values, by key: for files and for code alike.
  var problems: [(key: String, message: String, hint: String)] {
    var found = serverProblems(
      "endpoint", "this is no address of a store",
      hint: "write it like https://s3.lab.example:8443; the bucket has a key of its own (`bucket`)")
    if !Self.isBucket(bucket) {
      found.append(("bucket", "this is no bucket's name", "3 to 255 letters, digits, `.`, `-` and `_`, beginning with a letter or digit"))
    } else if addressing == .virtual, bucket.utf8.contains(where: { $0 == 0x5f || (0x41...0x5a).contains($0) }) {
      found.append(("addressing", "a host's name cannot hold this bucket's", "write `addressing: path`"))
    }
    if !folder.isEmpty {
      if (try? RelativePath(folder)) == nil {  // whatever is wrong with it, the hint is the same
        found.append(("prefix", "this is no folder below a bucket", "write it like lab/confocal, without `.`, `..` or an empty name"))
      } else if folder.utf8.count > 512 {
        found.append(
          ("prefix", "this prefix leaves no room for the runs' names", "a store's names have 1024 bytes with the prefix; shorten it"))
      }
    }
    if !Self.isWord(region, extra: [0x2d]) || region.utf8.count > 64 {
      found.append(("region", "this is no region", "write it like us-east-1, which most stores of one's own take"))
    }
    if accessKeyID.isEmpty || accessKeyID.utf8.count > 256
      || accessKeyID.utf8.contains(where: { $0 <= 0x20 || $0 >= 0x7f || $0 == 0x2f || $0 == 0x2c })
    {
      found.append(("access_key_id", "this is no key's name", "write the access key id as the store shows it"))
    }
    if secretAccessKey == nil {
      found.append(("secret_access_key", "the secret key is missing", "name its place: `secret_access_key: file:s3-secret`, mode 0600"))
    }
    return found
  }

  private static func isBucket(_ text: String) -> Bool {
    guard (3...255).contains(text.utf8.count), let first = text.utf8.first, first != 0x2d, first != 0x2e, first != 0x5f else {
      return false
    }
    return isWord(text, extra: [0x2d, 0x2e, 0x5f])
  }

  private static func isWord(_ text: String, extra: Set<UInt8>) -> Bool {
    !text.isEmpty
      && text.utf8.allSatisfy {
        (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || extra.contains($0)
      }
  }
}
