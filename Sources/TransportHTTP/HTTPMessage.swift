import SyncModel

/// What is asked of the server. The target is sent verbatim: encode it with `PercentEncoding` first.
package struct HTTPRequest: Sendable {
  /// What is sent as the body.
  package enum Body: Sendable {
    case none
    /// The whole body, which may have to be sent twice.
    case bytes([UInt8])
    /// Handed over piece by piece; see `HTTPClient.upload`. Without a length it goes in chunks, which not every server takes.
    case stream(length: UInt64?)
  }

  package var method: String
  /// Path and query, `/a%20b?c=d`.
  package var target: String
  /// Names and values without line ends; credentials do not belong here.
  package var headers: [(name: String, value: String)]
  package var body: Body
  /// Bytes of a response's body that are kept at most; a longer one is a `protocol` failure.
  package var bodyLimit: Int
  /// How many times the progress deadline the server may take to begin its answer: for what it must work on, such as removing a folder.
  package var patience: Int
  /// Statuses whose body `HTTPClient.download` passes on; that of any other is kept, up to `bodyLimit`.
  package var streamed: Set<Int> = [200, 206]

  package init(
    _ method: String, _ target: String, headers: [(name: String, value: String)] = [], body: Body = .none, bodyLimit: Int = 256 * 1024,
    patience: Int = 1
  ) {
    self.method = method
    self.target = target
    self.headers = headers
    self.body = body
    self.bodyLimit = bodyLimit
    self.patience = patience
  }
}

/// What the server answered.
package struct HTTPResponse: Sendable {
  /// 200…599.
  package let status: Int
  /// In the order of the answer. At most 64 KiB in all.
  package let headers: [(name: String, value: String)]
  /// As far as it is kept: nothing of what was streamed.
  package var body: [UInt8] = []

  /// The first value of a header, whatever the case of its name.
  package func header(_ name: String) -> String? {
    let wanted = name.lowercased()
    return headers.first { $0.name.lowercased() == wanted }?.value
  }

  /// Whether the status is of the 200s.
  package var isSuccess: Bool { (200..<300).contains(status) }
}

/// RFC 3986: what is not unreserved becomes `%XX`, so that any byte of a name travels.
package enum PercentEncoding {
  /// A path: every byte but `/` and the unreserved ones is encoded.
  package static func path(_ bytes: some Sequence<UInt8>) -> String { encode(bytes, keeping: UInt8(ascii: "/")) }

  /// One segment of a path, or a part of a query.
  package static func segment(_ bytes: some Sequence<UInt8>) -> String { encode(bytes, keeping: nil) }

  private static func encode(_ bytes: some Sequence<UInt8>, keeping kept: UInt8?) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var text: [UInt8] = []
    for byte in bytes {
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e: text.append(byte)
      case _ where byte == kept: text.append(byte)
      default: text += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// The bytes that a text stands for; nil where a `%` is not followed by two hexadecimal digits.
  package static func decode(_ text: some Sequence<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    var rest = text.makeIterator()
    while let byte = rest.next() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.next().flatMap(digit), let low = rest.next().flatMap(digit) else { return nil }
      bytes.append(high << 4 | low)
    }
    return bytes
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
  }
}
