import Foundation
import JobQueue
import SyncModel

/// One component of an asset, as the tracker knows it.
public struct PendingUpload: Hashable, Sendable, Codable {
  /// How far a component is.
  public enum State: String, Hashable, Sendable, Codable {
    case pending
    case uploading
    case completed
    case failed
  }
  /// The asset that it belongs to.
  public let assetID: String
  /// What kind of asset: `checkpoint`, `snapshot`, `visualization` …
  public let assetType: String
  /// Its name within the asset.
  public let component: String
  /// The file.
  public let localPath: String
  /// Bytes, where the producer said.
  public let size: UInt64?
  /// How far it is.
  public let state: State
  /// When it was registered.
  public let createdAt: Date
}

/// Remembers which components of which assets have been uploaded, in the same durable file as the queue.
///
/// Passive storage: it starts no upload and hides nothing. It gives two things: the components of an asset are registered in one
/// transaction, all or none; and what was not finished is known after a crash. Many producers, in one process or several, may use it at
/// once.
///
/// Register all components of an asset in one call: `allComponentsCompleted(asset:)` speaks of the components that are registered, and
/// cannot know of any that are still to come.
public struct UploadTracker: Sendable {
  /// One component to register.
  public struct Component: Hashable, Sendable {
    /// Its name within the asset.
    public var name: String
    /// The file.
    public var localPath: String
    /// Bytes, where they are known.
    public var size: UInt64?
    /// A component to register.
    public init(name: String, localPath: String, size: UInt64? = nil) {
      self.name = name
      self.localPath = localPath
      self.size = size
    }
  }

  private let queue: SyncQueue

  /// Opens the tracker of a state folder, the same that `NASSyncClient` uses.
  /// - Throws: `SyncFailure` where the file cannot be used.
  public init(stateDirectory: String, clock: any SyncClock = SystemClock()) async throws(SyncFailure) {
    queue = try await SyncQueue.open(stateDirectory: stateDirectory, clock: clock)
  }

  /// Registers all components of an asset as pending, in one transaction. A component that is registered already keeps its state, unless
  /// its path or size differs.
  /// - Throws: `SyncFailure` of kind `misconfigured` for an empty list or a name that stands in it twice.
  public func registerComponents(asset: String, assetType: String, components: [Component]) async throws(SyncFailure) {
    guard !asset.isEmpty, !components.isEmpty else {
      throw SyncFailure(
        .misconfigured, "an asset has an id and at least one component", hint: "Register the asset when its files are there.")
    }
    var names: Set<[UInt8]> = []
    for component in components where !names.insert(Array(component.name.utf8)).inserted {
      throw SyncFailure(
        .misconfigured, "component \(displayText(component.name)) is listed twice in asset \(displayText(asset))",
        hint: "Give each component of an asset a name of its own.")
    }
    try await queue.registerComponents(
      asset: asset, type: assetType, components: components.map { (name: $0.name, localPath: $0.localPath, size: $0.size) })
  }

  /// Registers one component as pending.
  public func markPending(
    asset: String, component: String, localPath: String, size: UInt64? = nil, assetType: String = "unknown"
  ) async throws(SyncFailure) {
    try await queue.registerComponents(
      asset: asset, type: assetType == "unknown" ? nil : assetType, components: [(name: component, localPath: localPath, size: size)])
  }

  /// An upload of the component has begun.
  public func markUploading(asset: String, component: String) async throws(SyncFailure) {
    try await queue.setComponent(asset: asset, name: component, state: PendingUpload.State.uploading.rawValue, detail: nil)
  }

  /// The component is uploaded. Saying so twice changes nothing.
  public func markCompleted(asset: String, component: String) async throws(SyncFailure) {
    try await queue.setComponent(asset: asset, name: component, state: PendingUpload.State.completed.rawValue, detail: nil)
  }

  /// The upload of the component failed; it stays incomplete.
  public func markFailed(asset: String, component: String, reason: String) async throws(SyncFailure) {
    try await queue.setComponent(asset: asset, name: component, state: PendingUpload.State.failed.rawValue, detail: reason)
  }

  /// Every component that is not completed, oldest asset first: what a restarted process goes on with.
  public func incomplete() async throws(SyncFailure) -> [PendingUpload] {
    try await queue.incompleteComponents().map(Self.upload)
  }

  /// The components of one asset, by name.
  public func components(asset: String) async throws(SyncFailure) -> [PendingUpload] {
    try await queue.components(ofAsset: asset).map(Self.upload)
  }

  /// Whether the asset has components and all of them are completed. False for an asset that is not registered: nothing is ever complete
  /// vacuously.
  public func allComponentsCompleted(asset: String) async throws(SyncFailure) -> Bool {
    let components = try await queue.components(ofAsset: asset)
    return !components.isEmpty && components.allSatisfy { $0.state == PendingUpload.State.completed.rawValue }
  }

  /// The path of a component of the asset of that type that was registered last; nil where there is none. The asset's folder is its parent.
  public func latestPath(assetType: String) async throws(SyncFailure) -> String? {
    try await queue.latestPath(assetType: assetType)
  }

  /// Whether any asset is registered: a process that finds some has been restarted.
  public func hasRegisteredAssets() async throws(SyncFailure) -> Bool { try await queue.hasAssets() }

  /// Closes the file. Later calls throw.
  public func close() async { await queue.close() }

  private static func upload(_ row: SyncQueue.AssetComponent) -> PendingUpload {
    PendingUpload(
      assetID: row.assetID, assetType: row.assetType, component: row.name, localPath: row.localPath, size: row.size,
      state: PendingUpload.State(rawValue: row.state) ?? .pending, createdAt: Date(timeIntervalSince1970: row.createdAt))
  }
}
