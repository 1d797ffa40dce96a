import CLibCrypto
import Digests
import SyncModel

/// An access key of an object store. Resolved from its references when a session opens; never shown.
package struct S3Credentials: Sendable {
  /// Names the key; no secret.
  package let accessKeyID: String
  package let secretAccessKey: String
  /// Of credentials that hold for some hours.
  package let sessionToken: String?

  package init(accessKeyID: String, secretAccessKey: String, sessionToken: String? = nil) {
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
    self.sessionToken = sessionToken
  }
}

/// AWS Signature Version 4 with one signature a request, as S3 wants it (the path is encoded once). Pure: no clock, no network.
package struct S3Signer: Sendable {
  /// SHA-256 of no bytes.
  package static let emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

  package let credentials: S3Credentials
  package let region: String
  /// As the `Host` header has it.
  package let host: String

  package init(credentials: S3Credentials, region: String, host: String) {
    self.credentials = credentials
    self.region = region
    self.host = host
  }

  /// The lines that a request needs beside its own. Everything in its headers is signed; `x-amz-content-sha256` must be among them.
  /// - Parameters:
  ///   - request: Its target's query must be sorted and encoded already, as it goes over the wire.
  ///   - seconds: Since 1970.
  package func lines(for request: HTTPRequest, at seconds: Int64) -> [(name: String, value: String)] {
    let moment = Self.timestamp(seconds)
    var added = [(name: "x-amz-date", value: moment)]
    if let token = credentials.sessionToken { added.append(("x-amz-security-token", token)) }
    let scope = "\(moment.prefix(8))/\(region)/s3/aws4_request"
    let (canonical, names) = canonicalRequest(request, added)
    let digest = SHA256Hasher.digest(of: Array(canonical.utf8))?.hex ?? ""
    let signature = Self.hex(
      Self.hmac(signingKey(day: moment.prefix(8)), "AWS4-HMAC-SHA256\n\(moment)\n\(scope)\n\(digest)"))
    added.append(
      (
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope),SignedHeaders=\(names),Signature=\(signature)"
      ))
    return added
  }

  private func canonicalRequest(
    _ request: HTTPRequest, _ added: [(name: String, value: String)]
  ) -> (text: String, names: String) {
    let signed = (request.headers + added + [("host", host)]).map { ($0.name.lowercased(), Self.collapsed($0.value)) }.sorted {
      $0.0 < $1.0
    }
    let names = signed.map(\.0).joined(separator: ";")
    let parts = request.target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let hash = signed.first { $0.0 == "x-amz-content-sha256" }?.1 ?? Self.emptyHash
    let lines = [
      request.method, String(parts[0]), parts.count > 1 ? String(parts[1]) : "", signed.map { "\($0.0):\($0.1)\n" }.joined(), names, hash,
    ]
    return (lines.joined(separator: "\n"), names)
  }

  private func signingKey(day: Substring) -> [UInt8] {
    var key = Array("AWS4\(credentials.secretAccessKey)".utf8)
    for word in [String(day), region, "s3", "aws4_request"] { key = Self.hmac(key, word) }
    return key
  }

  /// Spaces at the ends do not count, several are one.
  private static func collapsed(_ value: String) -> String { value.split(separator: " ").joined(separator: " ") }

  private static func hmac(_ key: [UInt8], _ text: String) -> [UInt8] {
    var result = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    let message = Array(text.utf8)
    // Null only where libcrypto is not allowed SHA-256: then the signature is wrong and the store says so.
    _ = HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, &result, &length)
    return result
  }

  private static func hex(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
  }

  /// `20130524T000000Z`.
  static func timestamp(_ seconds: Int64) -> String {
    let day = (seconds - (seconds % 86_400 + 86_400) % 86_400) / 86_400
    let rest = seconds - day * 86_400
    // Civil from days: the year begins in March, so that the leap day is its last.
    let shifted = day + 719_468
    let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
    let dayOfEra = shifted - era * 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shiftedMonth = (5 * dayOfYear + 2) / 153
    let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    func padded(_ number: Int64, _ width: Int) -> String {
      let text = String(number)
      return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }
    let date = padded(year, 4) + padded(month, 2) + padded(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1, 2)
    return "\(date)T\(padded(rest / 3600, 2))\(padded(rest / 60 % 60, 2))\(padded(rest % 60, 2))Z"
  }
}
