import Bandwidth
import Configuration
import Digests
import Foundation
import JobQueue
import SyncModel
import TransportHTTP

/// Brings assets to a service that hands out presigned URLs: registers the asset, sends each component by one `PUT`, and has the service make
/// it `ready` once all are there. Everything that must outlive the process is in the same durable file as the queue.
///
///     let uploader = try await PresignedUploader(stateDirectory: "/var/lib/nassync")
///     let asset = try await uploader.upload(
///       assetType: "checkpoint", components: [.init(name: "model.safetensors", localPath: "out/model.safetensors")], service: service)
///
/// `upload` is safe to repeat: after a crash at any moment the same call goes on where it was, and on an asset that is ready it returns what
/// it returned before. Any number of calls, in one process or several, may be about one asset; one works, the others wait.
///
/// No local file is ever removed, and nothing is called proven but by the store: see `AssetUpload.evidence`. URLs are held in memory only and
/// appear in no error, without their query.
public struct PresignedUploader: Sendable {
  /// One component of an asset.
  public struct Component: Hashable, Sendable {
    /// Its name within the asset: a relative path without `.` and `..`.
    public var name: String
    /// The file: a regular one, not a link.
    public var localPath: String
    /// Media type.
    public var contentType: String

    /// A component.
    public init(name: String, localPath: String, contentType: String = "application/octet-stream") {
      self.name = name
      self.localPath = localPath
      self.contentType = contentType
    }
  }

  /// More components than this are refused.
  public static let maximumComponents = 4_096

  let queue: SyncQueue
  let stateDirectory: String
  let options: Options
  let clock: any SyncClock
  let bandwidth: BandwidthScheduler
  let readers: ReaderThreads
  /// For tests, which end the work between two effects as a crash would.
  var checkpoint: AssetUploadRun.Checkpoint = { _ in }

  /// Opens the queue file of a state folder, the same that `NASSyncClient` and `UploadTracker` use. To share a client's bandwidth, use
  /// `NASSyncClient.assetUploader(_:)`.
  /// - Throws: `SyncFailure` where the file or an option cannot be used.
  public init(stateDirectory: String, options: Options = Options(), clock: any SyncClock = SystemClock()) async throws(SyncFailure) {
    let bandwidth: BandwidthScheduler
    do { bandwidth = try BandwidthScheduler(serviceMbps: options.uploadMbps, clock: clock) } catch {
      throw SyncFailure(.misconfigured, "the upload rate cannot be used: \(error)", hint: "Give Mbit/s above 0, or none.")
    }
    self.init(
      queue: try await SyncQueue.open(stateDirectory: stateDirectory, clock: clock), stateDirectory: stateDirectory, options: options,
      clock: clock, bandwidth: bandwidth)
  }

  init(queue: SyncQueue, stateDirectory: String, options: Options, clock: any SyncClock, bandwidth: BandwidthScheduler) {
    self.queue = queue
    self.stateDirectory = stateDirectory
    self.options = options
    self.clock = clock
    self.bandwidth = bandwidth
    readers = ReaderThreads(count: 2)
  }

  /// Brings an asset to the service and returns once it is `ready` there. Retried failures are waited out as `options.retry` says.
  ///
  /// The same call again means the same asset: the same service, key, type, names and paths. Where the files have changed since, an unfinished
  /// asset fails as `local_changed` and is given up, and the next call sends them as a new one; a finished one stays as it is, and the files go
  /// as a new asset at once.
  /// - Parameters:
  ///   - key: Tells apart assets of the same files; usually none.
  /// - Throws: `SyncFailure`: `misconfigured` for an empty or impossible list, `local_changed` and `local_vanished` for files, `auth`,
  ///   `network` … as the queue does, `interrupted` when the task is cancelled.
  public func upload(
    assetType: String, components: [Component], service: any AssetService, key: String? = nil
  ) async throws(SyncFailure) -> AssetUpload {
    let row = try await record(assetType, components, service: service.name, key: key)
    return try await work(on: row.number, service: service)
  }

  /// Records an asset without sending anything: `resume` sends it, in this process or a later one. The same call again means the same asset, as
  /// with `upload`.
  /// - Parameter service: `AssetService.name` of the service that is to get it.
  /// - Throws: As `upload` for the list and its files.
  public func add(
    assetType: String, components: [Component], service: String, key: String? = nil
  ) async throws(SyncFailure) -> AssetUpload {
    let row = try await record(assetType, components, service: service, key: key)
    guard let upload = try await upload(row.number) else { throw AssetUploadRun.stopped }
    return upload
  }

  private func record(
    _ assetType: String, _ components: [Component], service: String, key: String?
  ) async throws(SyncFailure) -> AssetUploadRow {
    try Self.check(assetType, components)
    let rows = try await readers.next().run { () throws(SyncFailure) in
      var rows: [AssetUploadComponentRow] = []
      for component in components {
        let (path, fingerprint) = try AssetFile.look(at: component.localPath, component: component.name)
        rows.append(
          AssetUploadComponentRow(name: component.name, localPath: path, contentType: component.contentType, fingerprint: fingerprint))
      }
      return rows
    }
    let identity = try Self.identity(service: service, key: key, assetType: assetType, rows)
    return try await queue.assetUpload(
      identity: identity, service: service, type: assetType, newKey: UUID().uuidString.lowercased(), components: rows)
  }

  /// Goes on with an upload that an earlier process began; `uploads()` lists them. On one that is ready it returns what is on record.
  /// - Throws: As `upload`; `misconfigured` for a number that is none, or another service than the upload's own.
  public func resume(_ number: Int64, service: any AssetService) async throws(SyncFailure) -> AssetUpload {
    guard let row = try await queue.assetUpload(number: number), row.service.utf8.elementsEqual(service.name.utf8) else {
      throw SyncFailure(
        .misconfigured, "there is no upload \(number) to \(displayText(service.name))", hint: "`uploads()` lists what there is.")
    }
    return try await work(on: number, service: service)
  }

  private func work(on number: Int64, service: any AssetService) async throws(SyncFailure) -> AssetUpload {
    let lock = try await AssetUploadLock.take(stateDirectory: stateDirectory, number: number, clock: clock)
    defer { withExtendedLifetime(lock) {} }
    let run = AssetUploadRun(
      queue: queue, service: service, options: options, clock: clock, bandwidth: bandwidth, readers: readers, number: number,
      checkpoint: checkpoint)
    try await run.work()
    guard let upload = try await upload(number) else { throw AssetUploadRun.stopped }
    return upload
  }

  /// Every upload on record, oldest first.
  /// - Parameter openOnly: Leaves out what is ready or abandoned.
  public func uploads(openOnly: Bool = false) async throws(SyncFailure) -> [AssetUpload] {
    var result: [AssetUpload] = []
    for row in try await queue.assetUploads(openOnly: openOnly) {
      result.append(AssetUpload(row, try await queue.assetUploadComponents(of: row.number)))
    }
    return result
  }

  /// What is on record of one upload; nil where there is none of that number.
  public func upload(_ number: Int64) async throws(SyncFailure) -> AssetUpload? {
    guard let row = try await queue.assetUpload(number: number) else { return nil }
    return AssetUpload(row, try await queue.assetUploadComponents(of: number))
  }

  /// Gives an unfinished upload up on this side: the next call with its files makes a new asset. The service is not told, no file is removed.
  /// - Throws: `SyncFailure` where it is not open, or somebody works on it now.
  public func abandon(_ number: Int64) async throws(SyncFailure) {
    guard let lock = try AssetUploadLock.tryTake(stateDirectory: stateDirectory, number: number) else {
      throw SyncFailure(.local, "the upload \(number) is being worked on", hint: "Stop that process first, or let it finish.")
    }
    defer { withExtendedLifetime(lock) {} }
    try await queue.abandonAssetUpload(
      number,
      because: SyncFailure(
        .interrupted, "the upload was given up by its caller", hint: "Call again to send the files as a new asset.", retry: false))
  }

  /// Closes the file, unless it is a client's. Later calls throw.
  public func close() async { if ownsQueue { await queue.close() } }
  var ownsQueue = true

  // MARK: - What is asked for

  static let noComponents = SyncFailure(
    .misconfigured, "an asset has at least one component", hint: "Call when its files are there; nothing is finished vacuously.")

  private static func check(_ assetType: String, _ components: [Component]) throws(SyncFailure) {
    guard !components.isEmpty else { throw noComponents }
    guard (1...256).contains(assetType.utf8.count), displayText(assetType).utf8.elementsEqual(assetType.utf8) else {
      throw SyncFailure(.misconfigured, "the asset's type is no word", hint: "Give one such as `checkpoint`.")
    }
    guard components.count <= maximumComponents else {
      throw SyncFailure(
        .misconfigured, "an asset of \(components.count) components is more than \(maximumComponents)", hint: "Pack small files together.")
    }
    var names: Set<[UInt8]> = []
    for component in components {
      let shown = displayText(of: component.name.utf8.prefix(200))
      do { _ = try RelativePath(component.name) } catch {
        throw SyncFailure(
          .misconfigured, "\(shown) is no name of a component", hint: "Give a relative path without `.`, `..` and doubled `/`.")
      }
      guard component.name.utf8.count <= 1_024, displayText(component.name).utf8.elementsEqual(component.name.utf8) else {
        throw SyncFailure(.misconfigured, "the name \(shown) is too long or has control characters", hint: "Give it another name.")
      }
      guard names.insert(Array(component.name.utf8)).inserted else {
        throw SyncFailure(.misconfigured, "component \(shown) is listed twice", hint: "Give each component a name of its own.")
      }
      guard (1...200).contains(component.contentType.utf8.count), component.contentType.utf8.allSatisfy({ $0 >= 0x20 && $0 < 0x7f }) else {
        throw SyncFailure(.misconfigured, "the media type of \(shown) is none", hint: "Give one such as `application/octet-stream`.")
      }
    }
  }

  /// What makes two calls mean one asset.
  private static func identity(
    service: String, key: String?, assetType: String, _ components: [AssetUploadComponentRow]
  ) throws(SyncFailure) -> ContentDigest {
    var words = [service, key == nil ? "" : "key", key ?? "", assetType]
    for component in components.sorted(by: { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }) {
      words += [component.name, component.localPath, component.contentType]
    }
    // With their lengths, so that no two lists read the same.
    guard let digest = SHA256Hasher.digest(of: words.flatMap { Array("\($0.utf8.count):\($0)".utf8) }) else { throw JobRunner.noSHA256 }
    return digest
  }
}
