import CCurl
import SyncModel
import Transport

/// The one place where libcurl's codes and HTTP's statuses become failures with a next step.
package struct HTTPFailures: Sendable {
  /// For messages.
  let origin: HTTPOrigin
  let user: String?
  let caFile: String?

  package init(_ settings: HTTPSettings) {
    origin = settings.origin
    user = settings.user
    caFile = settings.caFile
  }

  private var place: String { displayText(origin.host.contains(":") ? "[\(origin.host)]:\(origin.port)" : "\(origin.host):\(origin.port)") }

  static func lost(_ kind: SyncFailure.Kind, _ message: String, hint: String) -> TransportError {
    .failure(SyncFailure(kind, message, hint: hint), sessionLost: true)
  }

  private static func passing(_ kind: SyncFailure.Kind, _ message: String, hint: String) -> TransportError {
    .failure(SyncFailure(kind, message, hint: hint), sessionLost: false)
  }

  /// What the server sent makes no sense.
  package func violated(_ what: String) -> TransportError {
    Self.passing(.protocol, "\(place) sent \(what)", hint: "Try again; if it repeats, look at the server's log and update it.")
  }

  /// A request on which nothing moves.
  func stalled(seconds: Double) -> TransportError {
    Self.lost(
      .timeout, "\(place) has not moved a byte for \(seconds) s",
      hint: "Look whether the NAS is overloaded or the network is cut; the files in flight are sent again.")
  }

  // MARK: libcurl

  /// What a transfer that libcurl gave up means.
  /// - Parameter text: libcurl's own words; it writes no credentials there.
  func failure(_ code: CURLcode, _ text: String) -> TransportError {
    let words = text.isEmpty ? String(cString: curl_easy_strerror(code)) : displayText(of: text.utf8.prefix(300))
    switch code {
    case CURLE_COULDNT_RESOLVE_HOST:
      return Self.passing(
        .network, "the name \(displayText(origin.host)) is not known: \(words)",
        hint: "Look at `url` or `endpoint` in the equipment profile, and at DNS."
      )
    case CURLE_COULDNT_CONNECT:
      return Self.passing(
        .network, "\(place) takes no connection: \(words)", hint: "Look whether the NAS is up and its web server runs on that port.")
    case CURLE_OPERATION_TIMEDOUT:
      return Self.passing(
        .timeout, "\(place) did not take a connection in time: \(words)", hint: "Look whether the NAS is up and the network reaches it.")
    case CURLE_PEER_FAILED_VERIFICATION:
      let whom = caFile.map { "the authorities in \(displayText($0))" } ?? "this system's authorities"
      return Self.passing(
        .hostKey, "the certificate of \(place) is not trusted: \(words)",
        hint:
          "Nothing was sent. It must be signed by \(whom) and name this host: give the NAS's own authority as `ca_file`, or correct `url`.")
    case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
      return Self.passing(
        .hostKey, "\(place) shows another public key than the one in `pin`",
        hint: "Nothing was sent. Find out on the NAS itself whether its key was changed on purpose; then correct `pin`.")
    case CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM, CURLE_SSL_ISSUER_ERROR:
      return Self.passing(
        .misconfigured, "the authorities for \(place) cannot be read: \(words)", hint: "`ca_file` must be a file of PEM certificates.")
    case CURLE_SSL_CONNECT_ERROR:
      let broken = ["SSL_ERROR_SYSCALL", "reset by peer", "SSL_ERROR_ZERO_RETURN"].contains { text.contains($0) }
      return Self.passing(
        broken ? .network : .misconfigured, "no TLS connection with \(place): \(words)",
        hint: "The port must speak HTTPS with TLS 1.2 or later; look at `url` and at the server's settings.")
    case CURLE_OUT_OF_MEMORY:
      return Self.passing(.local, "no memory is left for HTTP", hint: "Close other programs; it is tried again.")
    case CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_GOT_NOTHING, CURLE_PARTIAL_FILE, CURLE_SEND_FAIL_REWIND, CURLE_HTTP2,
      CURLE_UPLOAD_FAILED,
      CURLE_AGAIN:
      return Self.passing(
        .network, "the connection with \(place) broke: \(words)",
        hint: "The file is sent again; look at the NAS and the network if it repeats.")
    default:
      return Self.passing(
        .protocol, "\(place) does not keep to HTTP: \(words) (libcurl \(code.rawValue))",
        hint: "Look whether `url` names a WebDAV or S3 server, and at its log.")
    }
  }

  // MARK: Statuses

  /// What a status means that the driver has no use for.
  /// - Parameters:
  ///   - action: What was asked, in the infinitive: `write`, `make the folder`.
  ///   - subject: What it was asked for.
  package func failure(_ response: HTTPResponse, _ action: String, _ subject: String) -> TransportError {
    let name = user.map(displayText) ?? "anybody without an account"
    let status = response.status
    switch status {
    case 401:
      return Self.passing(
        .auth, "\(place) does not accept the credentials of \(name)",
        hint: "Look at `user`, `password` or `token` and `auth` in the equipment profile, and at the account on the NAS.")
    case 407:
      return Self.passing(.auth, "a proxy before \(place) wants a log-in of its own", hint: "Reach the NAS without a proxy.")
    case 403:
      return Self.passing(
        .permission, "the NAS does not let \(name) \(action) \(subject)",
        hint: "Give \(name) read and write access to that folder on the NAS.")
    case 413, 507:
      return Self.passing(
        .remoteFull, status == 507 ? "no space is left on the NAS to \(action) \(subject)" : "the NAS takes no file as large as \(subject)",
        hint: status == 507
          ? "Free space there or raise the user's quota; it is tried again."
          : "Raise the largest request body in the web server's settings (nginx: client_max_body_size 0); it is tried again.")
    case 423:
      return Self.passing(
        .permission, "another WebDAV client has locked \(subject)", hint: "Close the program that has it open; it is tried again.")
    case 429, 503:
      let after = response.header("Retry-After").map { "; it asks to wait \(displayText(of: $0.utf8.prefix(40))) (s, or until then)" } ?? ""
      return Self.passing(
        .network, "\(place) is too busy to \(action) \(subject) (HTTP \(status))\(after)", hint: "It is tried again later.")
    case 300..<400:
      let target = response.header("Location").map(Self.host(of:)) ?? "nowhere"
      return Self.passing(
        .misconfigured, "\(place) sends \(subject) on to \(target) (HTTP \(status)), and no redirection is followed",
        hint: "Where that is right, write the address it names as `url`; credentials go to the configured host only.")
    case 500..<600:
      return Self.passing(
        status == 502 || status == 504 ? .network : .protocol, "the NAS could not \(action) \(subject) (HTTP \(status))",
        hint: "The server's own log says more; it is tried again.")
    case 405, 501:
      return .unsupported("\(action) \(subject) (HTTP \(status))")
    default:
      return Self.passing(
        .protocol, "the NAS would not \(action) \(subject) (HTTP \(status))",
        hint: "The server's own log says more; `nassync check` shows what it can do.")
    }
  }

  /// Scheme and host of a redirection, nothing else of it: the rest may hold what is nobody's business.
  static func host(of location: String) -> String {
    guard let start = location.firstRange(of: "//") else { return "another path of its own" }
    let scheme = location[..<start.lowerBound]
    let authority = location[start.upperBound...].prefix { !"/?#".contains($0) }
    let host = authority.split(separator: "@", omittingEmptySubsequences: false).last ?? ""
    return displayText(of: "\(scheme)//\(host)".utf8.prefix(260))
  }
}
