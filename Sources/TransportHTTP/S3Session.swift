import CLibCrypto
import Digests
import Executors
import SyncModel
import Synchronization
import Transport

/// A session with one bucket of an S3 store: `TransportSession` over an `HTTPClient`. Dropping the last reference ends its connections and
/// thread.
///
/// Every request carries the SHA-256 of its body and a signature over it. A store has no folders and no rename: a folder is a marker, an
/// empty object whose key ends in `/`, or any key below it; a file is there whole or not at all. What the store acknowledges it holds; it
/// does not say when that is on a disk.
package final class S3Session: TransportSession {
  /// Bytes of the longest key.
  static let longestKey = 1024

  let settings: S3Settings
  let http: HTTPClient
  let findings: S3Findings
  let common: S3Common
  package let capabilities: TransportCapabilities
  let failures: S3Failures
  /// Folders known to be there, so that thousands of files ask once.
  let knownFolders = Mutex<Set<RemotePath>>([])
  let uploads = Mutex<[UInt64: S3Upload]>([:])
  let nextUpload = Atomic<UInt64>(1)
  /// The store knows the older listing only.
  let listsByMarker = Atomic<Bool>(false)
  /// The store takes no list of objects to delete.
  let deletesSingly = Atomic<Bool>(false)

  /// Takes over a client that is open.
  init(settings: S3Settings, http: HTTPClient, server: String, findings: S3Findings, common: S3Common) {
    self.settings = settings
    self.http = http
    self.findings = findings
    self.common = common
    failures = S3Failures(settings)
    capabilities = TransportCapabilities(
      server: server, atomicPublish: false, atomicReplace: true, resumesFiles: true, durableFlush: false, reportsFreeSpace: false,
      symlinks: false, keepsTimes: false, keepsModes: false, preferredWriteSize: 1 << 20, renames: false)
  }

  // MARK: Requests

  /// What a path is called in the bucket.
  /// - Throws: where a store cannot hold the name: nothing is sent then.
  func key(_ path: RemotePath, folder: Bool = false) throws(TransportError) -> [UInt8] {
    var key = Array(path.bytes.drop { $0 == UInt8(ascii: "/") })
    if folder, !key.isEmpty { key.append(UInt8(ascii: "/")) }
    guard String(validating: key, as: UTF8.self) != nil else {
      throw Self.unfit("\(path) is not UTF-8, and an object store holds no other names", hint: "Rename it, or exclude it in the profile.")
    }
    guard key.count <= Self.longestKey else {
      throw Self.unfit(
        "\(path) has \(key.count) bytes in the store, and \(Self.longestKey) are the most",
        hint: "Shorten `prefix` or the names in the run.")
    }
    return key
  }

  private static func unfit(_ message: String, hint: String) -> TransportError {
    .failure(SyncFailure(.misconfigured, message, hint: hint), sessionLost: false)
  }

  /// A request's target. The query is sorted and encoded here, as the signature wants it.
  func target(_ key: [UInt8], _ query: [(name: String, value: [UInt8])] = []) -> String {
    var path = settings.addressing == .path ? "/" + PercentEncoding.segment(settings.bucket.utf8) : ""
    if !key.isEmpty || path.isEmpty { path += "/" + PercentEncoding.path(key) }
    guard !query.isEmpty else { return path }
    let pairs = query.map { (PercentEncoding.segment($0.name.utf8), PercentEncoding.segment($0.value)) }.sorted { $0 < $1 }
    return path + "?" + pairs.map { "\($0.0)=\($0.1)" }.joined(separator: "&")
  }

  /// A request with its body's hash.
  /// - Parameter hash: Nil: computed here.
  func request(
    _ method: String, _ key: [UInt8], query: [(name: String, value: [UInt8])] = [], headers: [(name: String, value: String)] = [],
    body: [UInt8]? = nil, hash: String? = nil, bodyLimit: Int = 256 * 1024, patience: Int = 1
  ) throws(TransportError) -> HTTPRequest {
    var lines = headers
    var digest = hash ?? S3Signer.emptyHash
    if hash == nil, let body { digest = try Self.hash(body) }
    lines.append(("x-amz-content-sha256", digest))
    return HTTPRequest(
      method, target(key, query), headers: lines, body: body.map { .bytes($0) } ?? .none, bodyLimit: bodyLimit, patience: patience)
  }

  func ask(
    _ method: String, _ key: [UInt8], query: [(name: String, value: [UInt8])] = [], headers: [(name: String, value: String)] = [],
    body: [UInt8]? = nil, hash: String? = nil, bodyLimit: Int = 256 * 1024, patience: Int = 1
  ) async throws(TransportError) -> HTTPResponse {
    try await http.perform(
      try request(
        method, key, query: query, headers: headers, body: body, hash: hash, bodyLimit: bodyLimit, patience: patience))
  }

  /// In hexadecimal.
  static func hash(_ bytes: [UInt8]) throws(TransportError) -> String {
    guard let digest = SHA256Hasher.digest(of: bytes) else {
      throw .failure(
        SyncFailure(
          .local, "SHA-256 is not available in this system's libcrypto", hint: "Check the OpenSSL configuration (FIPS policy)."),
        sessionLost: false)
    }
    return digest.hex
  }

  /// MD5, which some requests want beside SHA-256, and of which stores make ETags. Nil where libcrypto is not allowed it.
  static func md5(_ bytes: [UInt8]) -> [UInt8]? {
    var result = [UInt8](repeating: 0, count: 16)
    var length: UInt32 = 0
    guard EVP_Digest(bytes, bytes.count, &result, &length, EVP_md5(), nil) == 1, length == 16 else { return nil }
    return result
  }

  /// The document of an answer of success. Stores that work for long begin with 200 and may end with an error.
  func document(
    _ answer: HTTPResponse, _ root: String, _ action: String, _ subject: String
  ) throws(TransportError) -> S3Document.Element {
    guard answer.isSuccess else { throw failures.failure(answer, action, subject) }
    let element: S3Document.Element
    do throws(S3Document.Malformed) { element = try S3Document.read(answer.body) } catch { throw failures.violated(error.reason) }
    if element.name == "Error" {
      let refusal = S3Failures.refusal(answer, element)
      throw failures.failure(S3Refusal(status: 500, code: refusal.code, region: refusal.region), answer, action, subject)
    }
    guard element.name == root else { throw failures.violated("another document than \(root)") }
    return element
  }

  // MARK: What a store does not have

  package func makeSymlink(at path: RemotePath, target: [UInt8]) async throws(TransportError) {
    throw .unsupported("make the symbolic link \(path): object stores have none")
  }

  package func symlinkTarget(of path: RemotePath) async throws(TransportError) -> [UInt8] {
    throw .unsupported("read the symbolic link \(path): object stores have none")
  }

  package func setModified(_ path: RemotePath, to seconds: Int64) async throws(TransportError) {
    guard try await entry(at: path) != nil else { throw .notFound(path) }
    throw .unsupported("set the time of \(path): what an object store keeps cannot be changed")
  }

  package func freeSpace(at path: RemotePath) async throws(TransportError) -> UInt64? {
    try await http.check()
    return nil
  }

  package func interrupt() {
    http.interrupt()
    settings.buffers.wake(ObjectIdentifier(self))
  }

  package func close() async {
    await http.close()
    settings.buffers.wake(ObjectIdentifier(self))
    let left = uploads.withLock { uploads in
      defer { uploads = [:] }
      return Array(uploads.values)
    }
    for upload in left { await upload.abandon() }
  }
}
