import Foundation
import SyncModel

/// A service that keeps assets: it registers one with its components, gives a presigned URL for each, and makes the asset `ready` once all
/// components are there. `HTTPAssetService` speaks to one over HTTP and JSON; a program with a service of another kind writes its own.
///
/// What `PresignedUploader` expects, so that a crash at any moment is harmless:
/// - `register` with the same idempotency key gives the same asset, with URLs that work.
/// - `finalize` may be called again on an asset that is ready, and answers with what is there.
/// - No call has an effect on any other asset.
///
/// Calls may come at the same time, and throw at once when their task is cancelled.
public protocol AssetService: Sendable {
  /// What tells this service from others, in the queue file and to people: its address, say. Without secrets, and the same after a restart.
  var name: String { get }
  /// Whether the service wants each component's SHA-256 with the registration, so that the URLs' signatures can cover it. The files are read
  /// twice then.
  var signsDigests: Bool { get }
  /// Registers an asset, or finds the one that the same idempotency key registered.
  /// - Returns: The asset's id and a place for every component.
  /// - Throws: `SyncFailure`; one that says `retry` is tried again.
  func register(_ registration: AssetRegistration) async throws(SyncFailure) -> AssetGrant
  /// Gives new URLs: the old ones have expired, or were lost with the process that had them.
  /// - Returns: A place for each component named.
  func renew(asset: String, components: [String]) async throws(SyncFailure) -> AssetGrant
  /// Makes the asset `ready`; called only once all components have been sent.
  /// - Returns: What the service has of the asset now. On one that is ready already: what is there, not an error.
  func finalize(asset: String, components: [SentComponent]) async throws(SyncFailure) -> AssetRecord
}

extension AssetService {
  /// Most services do not.
  public var signsDigests: Bool { false }
}

/// What becomes of an asset at its service.
public enum AssetState: String, Hashable, Sendable, Codable {
  /// Registered; nobody sees it yet.
  case pending
  /// Finalized, and immutable since.
  case ready
  /// Given up; its storage may be reclaimed.
  case abandoned
}

/// What a service is told when an asset is registered.
public struct AssetRegistration: Hashable, Sendable {
  /// One component to come.
  public struct Component: Hashable, Sendable {
    /// Its name within the asset.
    public let name: String
    /// Bytes.
    public let size: UInt64
    /// Media type.
    public let contentType: String
    /// Where the service signs digests.
    public let sha256: ContentDigest?
  }

  /// Asking again with the same key must not register again.
  public let idempotencyKey: String
  /// `checkpoint`, `report`, …
  public let assetType: String
  /// At least one, sorted by the bytes of their names.
  public let components: [Component]
}

/// Where a component goes. The URL is a secret for as long as it is valid: no description shows more than its host and path.
public struct UploadTarget: Sendable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// Of one `PUT`.
  public let url: String
  /// Headers that the URL's signature covers, to be sent as they are.
  public let headers: [(name: String, value: String)]
  /// When the URL stops working, where that is known.
  public let expiresAt: Date?

  /// A place for one component.
  public init(url: String, headers: [(name: String, value: String)] = [], expiresAt: Date? = nil) {
    self.url = url
    self.headers = headers
    self.expiresAt = expiresAt
  }

  /// Host and path alone.
  public var description: String { PresignedURL.shown(url) }
  /// The same.
  public var debugDescription: String { description }
  /// The same: `dump` shows no secret either.
  public var customMirror: Mirror { Mirror(self, children: ["url": description], displayStyle: .struct) }
}

/// What a service gives for an asset.
public struct AssetGrant: Sendable {
  /// The service's name of the asset.
  public let asset: String
  /// How far the service is with it.
  public let state: AssetState
  /// A place for each component, by the component's name. A list: two names may look alike and differ in their bytes.
  public let uploads: [(component: String, target: UploadTarget)]

  /// What a service gives.
  public init(asset: String, state: AssetState = .pending, uploads: [(component: String, target: UploadTarget)]) {
    self.asset = asset
    self.state = state
    self.uploads = uploads
  }
}

/// A component that has been sent.
public struct SentComponent: Hashable, Sendable {
  /// Its name within the asset.
  public let name: String
  /// Bytes sent.
  public let size: UInt64
  /// Of the bytes sent, computed while they were read.
  public let sha256: ContentDigest
  /// What the store called the object it made, where it said so.
  public let etag: String?
}

/// What a service says that it has of an asset.
public struct AssetRecord: Hashable, Sendable {
  /// One component, as far as the service knows it.
  public struct Component: Hashable, Sendable {
    /// Its name within the asset.
    public let name: String
    /// Bytes.
    public let size: UInt64?
    /// Of its bytes.
    public let sha256: ContentDigest?

    /// What a service knows of a component.
    public init(name: String, size: UInt64? = nil, sha256: ContentDigest? = nil) {
      self.name = name
      self.size = size
      self.sha256 = sha256
    }
  }

  /// The service's name of the asset.
  public let asset: String
  /// How far it is.
  public let state: AssetState
  /// All of its components; nil where the service does not list them.
  public let components: [Component]?

  /// What a service says of an asset.
  public init(asset: String, state: AssetState, components: [Component]? = nil) {
    self.asset = asset
    self.state = state
    self.components = components
  }
}
