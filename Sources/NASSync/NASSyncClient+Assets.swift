import Configuration
import Foundation
import SyncModel

/// What a check found of one asset service.
public struct AssetServiceCheck: Hashable, Sendable, Codable {
  /// What the configuration calls it.
  public let service: String
  /// Where it is.
  public let address: String
  /// Whether it answers and takes the token.
  public let ok: Bool
  /// Why not.
  public let error: SyncFailure?
}

/// What became of assets that were to be sent.
public struct AssetReport: Hashable, Sendable, Codable {
  /// Finished: the service has made them ready.
  public var ready: [AssetUpload] = []
  /// Failed in a way that passes, and tried again after the time on record.
  public var waiting: [AssetUpload] = []
  /// Failed in a way that wants a person, or given up.
  public var failed: [AssetUpload] = []
  /// Whether the task was cancelled before all had their turn. What is missing stays on record.
  public var interrupted = false
}

/// Assets over the services of the configuration. Any process may add, look and send, beside a worker too.
extension NASSyncClient {
  /// An uploader of assets over this client's queue file and within its bandwidth. It is of no use once the client is closed.
  /// - Parameter options: Its `uploadMbps` is ignored: the client's limits hold.
  /// - Throws: `SyncFailure` where the queue file or the bandwidth settings cannot be used.
  public func assetUploader(_ options: PresignedUploader.Options = PresignedUploader.Options()) async throws(SyncFailure)
    -> PresignedUploader
  {
    var uploader = PresignedUploader(
      queue: try await queue(), stateDirectory: configuration.stateDirectory, options: options, clock: clock, bandwidth: try bandwidth())
    uploader.ownsQueue = false
    return uploader
  }

  /// Asks each service of the configuration whether it answers and takes the token. Nothing is changed there; stores are not asked, for what
  /// leads to them are the URLs of an asset.
  /// - Parameter name: One service; nil asks all.
  /// - Throws: `SyncFailure` of kind `misconfigured` for a service that is not configured.
  public func checkAssetServices(_ name: String? = nil) async throws(SyncFailure) -> [AssetServiceCheck] {
    let asked: [AssetServiceSettings]
    if let name { asked = [try assetService(named: name)] } else { asked = configuration.assetServices }
    var checks: [AssetServiceCheck] = []
    for settings in asked {
      var failure: SyncFailure?
      do throws(SyncFailure) {
        let service = try HTTPAssetService(HTTPAssetService.Settings(settings))
        do throws(SyncFailure) { try await service.check() } catch { failure = error }
        await service.close()
      } catch { failure = error }
      checks.append(AssetServiceCheck(service: settings.name, address: settings.url, ok: failure == nil, error: failure))
    }
    return checks
  }

  /// Records an asset of files and folders; `sendAssets` sends it. The same call again means the same asset, see `PresignedUploader.upload`.
  /// - Parameters:
  ///   - paths: Files, and folders with all that is in them; see `PresignedUploader.components(of:contentType:)`.
  ///   - service: What the configuration calls it; nil where there is one only.
  ///   - key: Tells apart assets of the same files; usually none.
  ///   - contentType: Media type of all components.
  /// - Throws: `SyncFailure`: `misconfigured` for a service that is not configured, or files that are none.
  public func addAsset(
    _ paths: [String], assetType: String, service: String? = nil, key: String? = nil, contentType: String = "application/octet-stream"
  ) async throws(SyncFailure) -> AssetUpload {
    let settings = try assetService(named: service)
    let uploader = try await assetUploader(assetOptions(settings))
    let name = try HTTPAssetService(HTTPAssetService.Settings(settings)).name
    return try await uploader.add(
      assetType: assetType, components: try await uploader.components(of: paths, contentType: contentType), service: name, key: key)
  }

  /// Assets on record, oldest first.
  /// - Parameter openOnly: Leaves out what is ready or abandoned.
  public func assets(openOnly: Bool = false) async throws(SyncFailure) -> [AssetUpload] {
    guard try await queueIfPresent() != nil else { return [] }
    return try await assetUploader().uploads(openOnly: openOnly)
  }

  /// An asset on record.
  /// - Throws: `SyncFailure` of kind `misconfigured` where there is none of that number.
  public func asset(_ number: Int64) async throws(SyncFailure) -> AssetUpload {
    guard try await queueIfPresent() != nil, let upload = try await assetUploader().upload(number) else {
      throw SyncFailure(.misconfigured, "there is no asset \(number) on record", hint: "`nassync asset list --all` shows those that are.")
    }
    return upload
  }

  /// Sends assets, one after the other, each until it is ready or fails. A failure that passes is not waited out: the time of the next attempt is
  /// on record, and a call before it leaves the asset as it is. One that another process sends at the moment is waited for.
  /// - Parameters:
  ///   - numbers: Those to send; empty takes all that are open, also those whose last failure wanted a person.
  ///   - beginning: Told of each when its turn comes.
  ///   - settled: Told of each when it has had its turn.
  /// - Throws: `SyncFailure` where the queue file cannot be used or a number is none. What happened to the assets is in the report.
  public func sendAssets(
    _ numbers: [Int64] = [], beginning: @Sendable (AssetUpload) async -> Void = { _ in },
    settled: @Sendable (AssetUpload) async -> Void = { _ in }
  ) async throws(SyncFailure) -> AssetReport {
    var report = AssetReport()
    var uploads: [AssetUpload] = []
    if numbers.isEmpty {
      uploads = try await assets(openOnly: true)
    } else {
      for number in numbers where !uploads.contains(where: { $0.number == number }) { uploads.append(try await asset(number)) }
    }
    var services: [String: HTTPAssetService] = [:]
    for upload in uploads {
      guard !Task.isCancelled else {
        report.interrupted = true
        break
      }
      await beginning(upload)
      var failure: SyncFailure?
      do throws(SyncFailure) { try await send(upload, &services) } catch { failure = error }
      if failure?.kind == .interrupted, Task.isCancelled {
        report.interrupted = true
        break
      }
      var now = try await asset(upload.number)
      if let failure {
        // Mostly what is on record; not for a service that the configuration does not have any more, which is not the asset's own fault.
        now.lastError = failure
        if failure.retry, now.state == .pending, now.nextAttemptAt != nil { report.waiting.append(now) } else { report.failed.append(now) }
      } else {
        report.ready.append(now)
      }
      await settled(now)
    }
    for service in services.values { await service.close() }
    return report
  }

  /// Gives an unfinished asset up on this side; see `PresignedUploader.abandon(_:)`.
  /// - Throws: `SyncFailure` where it is not open, or somebody works on it now.
  public func abandonAsset(_ number: Int64) async throws(SyncFailure) -> AssetUpload {
    _ = try await asset(number)
    try await assetUploader().abandon(number)
    return try await asset(number)
  }

  private func send(_ upload: AssetUpload, _ services: inout [String: HTTPAssetService]) async throws(SyncFailure) {
    for settings in configuration.assetServices {
      let service: HTTPAssetService
      if let known = services[settings.name] {
        service = known
      } else {
        service = try HTTPAssetService(HTTPAssetService.Settings(settings))
        services[settings.name] = service
      }
      guard service.name.utf8.elementsEqual(upload.service.utf8) else { continue }
      _ = try await assetUploader(assetOptions(settings)).resume(upload.number, service: service)
      return
    }
    throw SyncFailure(
      .misconfigured, "the configuration has no asset service at \(displayText(upload.service))",
      hint: "Add it to asset_services again, or give the asset up: `nassync asset abandon \(upload.number)`.")
  }

  private func assetService(named name: String?) throws(SyncFailure) -> AssetServiceSettings {
    let all = configuration.assetServices
    let known = all.isEmpty ? "It has none: add one to asset_services." : "It has: \(all.map(\.name).joined(separator: ", "))."
    guard let name else {
      guard let only = all.first, all.count == 1 else {
        throw SyncFailure(
          .misconfigured, all.isEmpty ? "the configuration has no asset service" : "the configuration has several asset services",
          hint: all.isEmpty ? "Add one to asset_services in nassync.yaml." : "Say which with --service. \(known)")
      }
      return only
    }
    guard let settings = configuration.assetService(name: name) else {
      throw SyncFailure(.misconfigured, "the configuration has no asset service \(displayText(name))", hint: known)
    }
    return settings
  }

  private func assetOptions(_ settings: AssetServiceSettings) -> PresignedUploader.Options {
    PresignedUploader.Options(
      inFlight: settings.connections, caFile: settings.stores.caFile, pin: settings.stores.pin, insecure: settings.stores.insecure,
      insecureHost: settings.stores.insecureHost, allowedHosts: settings.stores.hosts.map { Set($0.map { $0.lowercased() }) },
      provesStores: settings.stores.prove, retry: configuration.retry, waitsForRetries: false, connectTimeout: settings.connectTimeout,
      progressTimeout: settings.progressTimeout)
  }
}

extension HTTPAssetService.Settings {
  /// As the configuration says.
  public init(_ settings: AssetServiceSettings) {
    self.init(
      url: settings.url, token: settings.login == .bearer ? settings.token : nil, caFile: settings.caFile, pin: settings.pin,
      insecure: settings.insecure, insecureHost: settings.insecureHost, signsDigests: settings.signsDigests,
      connectTimeout: settings.connectTimeout, progressTimeout: settings.progressTimeout)
  }
}
