import Configuration
import Foundation
import JobQueue
import SyncModel
import TransportHTTP

/// What is known of an asset and its components, from the queue file.
public struct AssetUpload: Hashable, Sendable, Codable {
  /// What vouches for the bytes at the store, beside that it said success.
  public enum Evidence: String, Hashable, Sendable, Codable {
    /// Nothing. The SHA-256 of what was sent is on record and was told to the service; nobody compared it with what is kept.
    case none
    /// The store compared SHA-256 while it wrote, and showed that it refuses a wrong one.
    case store
  }

  /// One component.
  public struct Component: Hashable, Sendable, Codable {
    /// Its name within the asset.
    public let name: String
    /// The file, absolute.
    public let localPath: String
    /// Bytes.
    public let size: UInt64
    /// How far it is; never `failed`: a failure is the asset's.
    public let state: PendingUpload.State
    /// Of the bytes sent; nil until they were, or were registered.
    public let sha256: ContentDigest?
    /// What the store called the object.
    public let etag: String?
    /// What vouches for it.
    public let evidence: Evidence
  }

  /// For `resume` and `abandon`.
  public let number: Int64
  /// The service's name of the asset; nil until it is registered.
  public let assetID: String?
  /// What kind of asset.
  public let assetType: String
  /// `AssetService.name`.
  public let service: String
  /// As far as this side knows.
  public let state: AssetState
  /// Counted failures since the last progress.
  public let attempts: Int
  /// When the next attempt may be made.
  public let nextAttemptAt: Date?
  /// What stopped the last attempt.
  public internal(set) var lastError: SyncFailure?
  /// When it was recorded.
  public let createdAt: Date
  /// Sorted by the bytes of their names.
  public let components: [Component]

  /// What vouches for the whole asset: the weakest of its components.
  public var evidence: Evidence { !components.isEmpty && components.allSatisfy { $0.evidence == .store } ? .store : .none }

  init(_ row: AssetUploadRow, _ components: [AssetUploadComponentRow]) {
    number = row.number
    assetID = row.assetID
    assetType = row.type
    service = row.service
    state = AssetState(rawValue: row.state.rawValue) ?? .pending
    attempts = row.attempts
    nextAttemptAt = row.nextAttemptAt.map { Date(timeIntervalSince1970: $0) }
    lastError = row.lastError
    createdAt = Date(timeIntervalSince1970: row.createdAt)
    self.components = components.map {
      Component(
        name: $0.name, localPath: $0.localPath, size: $0.fingerprint.size,
        state: PendingUpload.State(rawValue: $0.state.rawValue) ?? .pending,
        sha256: $0.digest, etag: $0.etag, evidence: $0.provenByStore ? .store : .none)
    }
  }
}

extension PresignedUploader {
  /// How stores are reached, and when a failed attempt is made again.
  public struct Options: Hashable, Sendable {
    /// Components on their way at once: 1…16.
    public var inFlight: Int
    /// Mbit/s (10^6 bit/s) for all that this uploader sends; nil is unlimited. A client's uploader takes the client's limits.
    public var uploadMbps: Double?
    /// A PEM file of the authorities that are trusted in place of the system's.
    public var caFile: String?
    /// `sha256//BASE64` of the stores' public key, several joined by `;`: asked for beside a certificate that holds.
    public var pin: String?
    /// Whether URLs may be plain `http`, to this machine and to `insecureHost`.
    public var insecure: Bool
    /// The host that `insecure` is meant for, where that is not this machine.
    public var insecureHost: String?
    /// Hosts, in lower case, that URLs may lead to; nil allows any that a trusted certificate vouches for.
    public var allowedHosts: Set<String>?
    /// Whether stores that the URLs bind to a SHA-256 are tried with a wrong body first: only one that refuses it gives the evidence `store`.
    /// Meant for stores that replace objects: one that keeps every version has a wrong one among them if it fails the test.
    public var provesStores: Bool
    /// When a failed attempt is made again.
    public var retry: RetrySettings
    /// Whether `upload` waits for the next attempt. Else it throws, and the time on record holds for the next call.
    public var waitsForRetries: Bool
    /// Seconds for connecting, TLS included.
    public var connectTimeout: Double
    /// Seconds without any progress after which a request counts as dead.
    public var progressTimeout: Double

    /// The defaults suit a store on the Internet.
    public init(
      inFlight: Int = 4, uploadMbps: Double? = nil, caFile: String? = nil, pin: String? = nil, insecure: Bool = false,
      insecureHost: String? = nil, allowedHosts: Set<String>? = nil, provesStores: Bool = false, retry: RetrySettings = RetrySettings(),
      waitsForRetries: Bool = true, connectTimeout: Double = 15, progressTimeout: Double = 60
    ) {
      self.inFlight = min(16, max(1, inFlight))
      self.uploadMbps = uploadMbps
      self.caFile = caFile
      self.pin = pin
      self.insecure = insecure
      self.insecureHost = insecureHost
      self.allowedHosts = allowedHosts
      self.provesStores = provesStores
      self.retry = retry
      self.waitsForRetries = waitsForRetries
      self.connectTimeout = connectTimeout
      self.progressTimeout = progressTimeout
    }

    var rules: PresignedURL.Rules { PresignedURL.Rules(insecure: insecure, insecureHost: insecureHost, hosts: allowedHosts) }

    /// Nobody logs in at a store: the URL's own query is all there is.
    func httpSettings(_ origin: HTTPOrigin) -> HTTPSettings {
      HTTPSettings(
        origin: origin, caFile: caFile, pin: pin, allowsPlainHTTP: origin.scheme == .http && insecure, connections: inFlight,
        connectTimeout: .seconds(connectTimeout), progressTimeout: .seconds(progressTimeout))
    }
  }
}
