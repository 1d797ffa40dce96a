import SyncModel
import Transport
import TransportHTTP

/// What a store's answer to a `PUT` means.
enum StoreAnswer: Hashable, Sendable {
  /// It says that it has the object; with the name it gave it.
  case stored(etag: String?)
  /// It does not accept the URL: expired, most likely.
  case refusedURL(code: String?)
  /// Anything else.
  case failed(SyncFailure)

  /// - Parameters:
  ///   - place: Host and path, for messages.
  ///   - component: Its name within the asset.
  init(_ response: HTTPResponse, place: String, component: String) {
    let code = Self.code(in: response.body)
    let subject = displayText(component)
    let words = "HTTP \(response.status)\(code.map { ", \($0)" } ?? "")"
    switch response.status {
    case 200, 201, 204: self = .stored(etag: Self.etag(response))
    case 401, 403: self = .refusedURL(code: code)
    case 400 where code.map { $0.contains("Expired") || $0.contains("Signature") } == true: self = .refusedURL(code: code)
    case 400 where code.map { Self.digestCodes.contains($0) } == true:
      self = .failed(
        SyncFailure(
          .hashMismatch, "what arrived of \(subject) at \(place) is not what was sent (\(words))",
          hint: "It is sent again; look at the network if it repeats."))
    case 300..<400:
      self = .failed(
        SyncFailure(
          .misconfigured, "\(place) sends \(subject) on to another address (\(words)), and no redirection is followed",
          hint: "Have the service sign URLs of the address that takes the data itself."))
    case 409, 412:
      self = .failed(
        SyncFailure(
          .remoteConflict, "\(place) has another object under that name and does not replace it (\(words))",
          hint: "If an earlier attempt put it there, have the service remove it; else look at who else writes to this asset."))
    case 413, 507:
      self = .failed(
        SyncFailure(
          .remoteFull, "\(place) has no room for \(subject) (\(words))", hint: "Raise the store's quota or limit; it is tried again."))
    case 408, 429, 500...599:
      self = .failed(
        SyncFailure(.network, "\(place) could not take \(subject) now (\(words))", hint: "It is tried again; look at the store's log."))
    default:
      self = .failed(
        SyncFailure(.protocol, "\(place) did not take \(subject) (\(words))", hint: "It is tried again; the store's log says more."))
    }
  }

  private static let digestCodes: Set<String> = ["BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch"]

  /// The `Code` of an S3 error, or none. Shown and compared, so nothing but letters and digits is taken; the rest of the body, in which S3
  /// repeats what was signed, is not.
  static func code(in body: [UInt8]) -> String? {
    let opening = Array("<Code>".utf8)
    guard body.count > opening.count, let start = body.firstRange(of: opening)?.upperBound else { return nil }
    let word = body[start...].prefix { $0 != UInt8(ascii: "<") }
    guard (1...60).contains(word.count),
      word.allSatisfy({ (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) })
    else { return nil }
    return String(decoding: word, as: UTF8.self)
  }

  private static func etag(_ response: HTTPResponse) -> String? {
    guard let text = response.header("ETag"), (1...256).contains(text.utf8.count), text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
      return nil
    }
    return text
  }
}

extension TransportError {
  /// The failure in the words of an asset: the HTTP room's hints speak of a NAS and its profile.
  /// - Parameter what: `the store`, `the service`.
  func assetFailure(_ what: String) -> SyncFailure {
    let failure = failure.scrubbed
    let hint =
      switch failure.kind {
      case .network, .timeout: "It is tried again; look whether \(what) is up and the network reaches it."
      case .hostKey: "Nothing was sent. The certificate must be signed by a trusted authority (`caFile`) and name this host."
      case .interrupted: "Call again: it goes on with what is missing."
      default: failure.hint
      }
    return SyncFailure(failure.kind, failure.message, hint: hint, retry: failure.retry)
  }
}
