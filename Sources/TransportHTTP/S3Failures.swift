import SyncModel
import Transport

/// What an S3 store says when it does not do what it was asked.
struct S3Refusal: Sendable {
  let status: Int
  /// S3's word for it, `NoSuchKey`; empty where the answer has none.
  let code: String
  /// Where the store says which region the bucket is in.
  let region: String?

  /// The store hashed what it got and says that it is not what was announced. A status of a server or a proxy that is out of sorts is none, whatever
  /// stands in its document; nor is a signature that does not match, which a store looks at before it has the body.
  var isOfDigest: Bool {
    [400, 403, 422].contains(status) && ["XAmzContentSHA256Mismatch", "BadDigest", "InvalidDigest"].contains(code)
  }

  /// The store itself refused for good: nothing that it may see otherwise in a moment, and nothing that a proxy says in its place.
  var isFinal: Bool {
    if status == 501 || code == "NotImplemented" { return true }
    guard (400..<500).contains(status), ![401, 407, 408, 409, 425, 429].contains(status), !code.isEmpty else { return false }
    return !Self.passing.contains(code)
  }

  /// Codes of a store that is out of sorts, or of a request that is about something else than what it asked.
  static let passing: Set<String> = [
    "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "Throttling", "RequestLimitExceeded",
    "ConditionalRequestConflict", "TooManyRequests", "Busy", "XMinioServerNotInitialized", "RequestTimeTooSkewed", "RequestExpired",
    "ExpiredToken", "TokenRefreshRequired",
  ]
}

extension HTTPResponse {
  /// Whether a store refused a body because its digest is not the announced one: what it keeps was compared then.
  package var refusesDigest: Bool { S3Failures.refusal(self).isOfDigest }
}

/// The one place where an S3 store's refusals become failures with a next step.
///
/// Nothing but the code is shown of an error document: its sentences may repeat what was sent.
struct S3Failures: Sendable {
  let settings: S3Settings
  let http: HTTPFailures

  init(_ settings: S3Settings) {
    self.settings = settings
    http = HTTPFailures(settings.client)
  }

  private static func passing(_ kind: SyncFailure.Kind, _ message: String, hint: String) -> TransportError {
    .failure(SyncFailure(kind, message, hint: hint), sessionLost: false)
  }

  /// What the store sent makes no sense.
  func violated(_ what: String) -> TransportError { http.violated(what) }

  /// The code of an answer that is none of success.
  static func refusal(_ answer: HTTPResponse) -> S3Refusal {
    let root = try? S3Document.read(answer.body)  // a refusal without a document is a refusal by its status
    return refusal(answer, root)
  }

  static func refusal(_ answer: HTTPResponse, _ root: S3Document.Element?) -> S3Refusal {
    let error = root?.name == "Error" ? root : root?.child("Error")
    let region = answer.header("x-amz-bucket-region") ?? error?.text("Region")
    return S3Refusal(
      status: answer.status, code: word(error?.text("Code") ?? ""), region: region.map(word).flatMap { $0.isEmpty ? nil : $0 })
  }

  /// Codes and regions are single words; anything else in their place is somebody's text and is not shown.
  private static func word(_ text: String) -> String {
    guard text.utf8.count <= 64 else { return "" }
    let isWord = text.utf8.allSatisfy {
      (0x30...0x39).contains($0) || (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || $0 == 0x2d || $0 == 0x2e || $0 == 0x5f
    }
    return isWord ? text : ""
  }

  /// What a refusal means that the driver has no use for.
  /// - Parameters:
  ///   - action: What was asked, in the infinitive: `write`.
  ///   - subject: What it was asked for.
  func failure(_ answer: HTTPResponse, _ action: String, _ subject: String) -> TransportError {
    failure(Self.refusal(answer), answer, action, subject)
  }

  func failure(_ refusal: S3Refusal, _ answer: HTTPResponse, _ action: String, _ subject: String) -> TransportError {
    let what = "\(action) \(subject)"
    let bucket = displayText(settings.bucket)
    let said = refusal.code.isEmpty ? "HTTP \(refusal.status)" : refusal.code
    switch refusal.code {
    case "SignatureDoesNotMatch":
      return Self.passing(
        .auth, "the store does not accept the signature (\(said))",
        hint: "Look at `secret_access_key`: it must be the one of `access_key_id`. A proxy that rewrites requests spoils signatures, too.")
    case "InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "NotSignedUp", "InvalidSecurity":
      return Self.passing(
        .auth, "the store does not know the access key (\(said))", hint: "Look at `access_key_id`, and at the account in the store.")
    case "ExpiredToken", "InvalidToken", "TokenRefreshRequired":
      return Self.passing(
        .auth, "the session token is not accepted (\(said))", hint: "Get new credentials; `session_token` and both keys belong together.")
    case "RequestTimeTooSkewed", "RequestExpired":
      let theirs = answer.header("Date").map { ", the store's says \(displayText(of: $0.utf8.prefix(40)))" } ?? ""
      return Self.passing(
        .local, "the clock of this workstation is wrong by more than the store allows (\(said))\(theirs)",
        hint: "Set this workstation's clock, best by NTP; it is tried again.")
    case "AccessDenied", "AccountProblem", "AllAccessDisabled", "AccessForbidden":
      return Self.passing(
        .permission, "the store does not let this access key \(what) (\(said))",
        hint: "Allow it to list the bucket \(bucket) and its uploads, and to get, put and delete objects below `prefix`.")
    case "NoSuchBucket", "InvalidBucketName":
      return Self.passing(
        .misconfigured, "there is no bucket \(bucket) (\(said))", hint: "Make it in the store, or correct `bucket` and `endpoint`.")
    case "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "TemporaryRedirect", "Redirect":
      return elsewhere(refusal, said)
    case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "OperationAborted", "Throttling", "RequestLimitExceeded",
      "ConditionalRequestConflict", "TooManyRequests", "Busy", "XMinioServerNotInitialized":
      return Self.passing(.network, "the store is too busy to \(what) (\(said))", hint: "It is tried again later.")
    case "QuotaExceeded", "InsufficientStorage", "StorageFull", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded",
      "InsufficientCapacity":
      return Self.passing(
        .remoteFull, "no space is left in the store to \(what) (\(said))",
        hint: "Free space there or raise the quota; it is tried again.")
    case "EntityTooLarge", "MaxMessageLengthExceeded":
      return Self.passing(
        .remoteFull, "the store takes nothing as large as \(subject) (\(said))",
        hint: "Raise the largest object or request in the store's settings; it is tried again.")
    case "BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest":
      return Self.passing(
        .hashMismatch, "what the store got for \(subject) is not what was sent (\(said))",
        hint: "Nothing was kept; it is sent again. If it repeats, look at the network and at this machine's memory.")
    case "NotImplemented", "MethodNotAllowed": return .unsupported("\(what) (\(said))")
    case "InvalidObjectState":
      return Self.passing(
        .permission, "\(subject) lies in an archive and cannot be read (\(said))", hint: "Restore it in the store; it is tried again.")
    case "":
      if (300..<400).contains(refusal.status) { return elsewhere(refusal, said) }
      if refusal.status == 501 { return .unsupported("\(what) (\(said))") }
      return http.failure(answer, action, subject)
    default:
      if refusal.status == 501 || refusal.status == 405 { return .unsupported("\(what) (\(said))") }
      if refusal.status == 503 || refusal.status == 429 {
        return Self.passing(.network, "the store is too busy to \(what) (\(said))", hint: "It is tried again later.")
      }
      if refusal.status == 507 {
        return Self.passing(.remoteFull, "no space is left in the store to \(what) (\(said))", hint: "Free space there; it is tried again.")
      }
      if (300..<400).contains(refusal.status) { return elsewhere(refusal, said) }
      return Self.passing(
        refusal.status == 401 ? .auth : refusal.status == 403 ? .permission : .protocol, "the store would not \(what) (\(said))",
        hint: "The store's own log says more; `nassync check` shows what it can do.")
    }
  }

  /// Another endpoint or region is right. Nothing is ever sent there by itself: only the operator knows whose it is.
  private func elsewhere(_ refusal: S3Refusal, _ said: String) -> TransportError {
    Self.passing(
      .misconfigured,
      "the bucket \(displayText(settings.bucket)) is not at this endpoint and region \(displayText(settings.region)) (\(said))",
      hint: refusal.region.map { "The store says that its region is \($0): correct `region`, and `endpoint` where it names one." }
        ?? "Correct `endpoint` and `region`; no redirection is followed.")
  }
}
