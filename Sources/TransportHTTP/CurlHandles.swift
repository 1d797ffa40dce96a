import CCurl
import SyncModel
import Transport

/// A libcurl easy handle, freed with its owner. Belongs to the client's thread.
final class CurlEasy {
  let raw: UnsafeMutableRawPointer
  /// Where libcurl puts the text of a failure. Its address must not move while the handle lives.
  private let message: UnsafeMutablePointer<CChar>
  private static let messageSize = Int(CURL_ERROR_SIZE)
  /// Connections that its requests had to make.
  private var connects = 0

  init() throws(TransportError) {
    CurlEasy.initialise
    guard let raw = curl_easy_init() else { throw CurlEasy.exhausted }
    self.raw = raw
    message = .allocate(capacity: Self.messageSize)
    message.initialize(repeating: 0, count: Self.messageSize)
    nassync_curl_set_pointer(raw, CURLOPT_ERRORBUFFER, message)
  }

  deinit {
    curl_easy_cleanup(raw)
    message.deallocate()
  }

  /// Once a process, before anything else.
  private static let initialise: Void = { curl_global_init(3) }()

  private static let exhausted = TransportError.failure(
    SyncFailure(.local, "no memory is left for another HTTP request", hint: "Close other programs; it is tried again."), sessionLost: false)

  func set(_ option: CURLoption, _ value: Int) throws(TransportError) { try check(nassync_curl_set_long(raw, option, value), option) }

  func set(_ option: CURLoption, size: Int64) throws(TransportError) {
    try check(nassync_curl_set_size(raw, option, curl_off_t(size)), option)
  }

  func set(_ option: CURLoption, _ text: String?) throws(TransportError) { try check(nassync_curl_set_text(raw, option, text), option) }

  /// An option that this libcurl does not know would leave a promise unkept, such as the limit on protocols: nothing goes on without it.
  func check(_ code: CURLcode, _ option: CURLoption) throws(TransportError) {
    guard code != CURLE_OK else { return }
    throw .failure(
      SyncFailure(
        .local, "libcurl refuses its option \(option.rawValue): \(String(cString: curl_easy_strerror(code)))",
        hint: "NASSync needs libcurl 7.87 or later with OpenSSL; `curl --version` shows the one there is."), sessionLost: false)
  }

  /// The text of the last failure; empty where there is none.
  var failureText: String { String(cString: message) }

  /// Whether another request may use it. libcurl counts the kept connections that turned out to be closed over a handle's whole life, and gives a request
  /// up at the sixth (`Connection died, tried 5 times`), however many were answered in between.
  func mayServeAgain() -> Bool {
    var made = 0
    guard nassync_curl_get_long(raw, CURLINFO_NUM_CONNECTS, &made) == CURLE_OK else { return false }
    connects += made
    return connects < 4
  }

  func clearFailureText() { message.pointee = 0 }
}

/// A libcurl multi handle, freed with its owner.
// Used on the client's thread only; the pump hands it to its own wait there.
final class CurlMulti: @unchecked Sendable {
  let raw: UnsafeMutableRawPointer

  init?() {
    guard let raw = curl_multi_init() else { return nil }
    self.raw = raw
  }

  deinit { curl_multi_cleanup(raw) }
}

/// The header lines of one request, freed with their owner.
final class CurlHeaders {
  private(set) var raw: UnsafeMutablePointer<curl_slist>?

  func append(_ line: String) { raw = curl_slist_append(raw, line) ?? raw }

  deinit { curl_slist_free_all(raw) }
}
