import Foundation
import NASSync
import TestSupport
import Testing

@testable import NASSync

/// A service with its store, a state folder, and some files.
struct AssetFixture: Sendable {
  let server: AssetServer
  let folder: TemporaryFolder

  static func with(_ body: @Sendable (AssetFixture) async throws -> Void) async throws {
    try await TemporaryFolder.with { folder in
      try await AssetServer.with { server in
        try folder.write(server.token + "\n", to: "token", mode: 0o600)
        try await body(AssetFixture(server: server, folder: folder))
      }
    }
  }

  var state: String { folder.path + "/state" }

  /// An option set for loopback, one failure ends a call.
  static func options(backoff: [Double] = [], inFlight: Int = 4) -> PresignedUploader.Options {
    PresignedUploader.Options(inFlight: inFlight, insecure: true, retry: RetrySettings(backoff: backoff))
  }

  func uploader(
    _ options: PresignedUploader.Options = options(), clock: any SyncClock = SystemClock(),
    checkpoint: @escaping AssetUploadRun.Checkpoint = { _ in }
  ) async throws -> PresignedUploader {
    var uploader = try await PresignedUploader(stateDirectory: state, options: options, clock: clock)
    uploader.checkpoint = checkpoint
    return uploader
  }

  func service(signsDigests: Bool = false) throws -> HTTPAssetService {
    try HTTPAssetService(
      .init(url: server.url, token: SecretReference("file:\(folder.path)/token"), insecure: true, signsDigests: signsDigests))
  }

  /// Files of an asset: an empty one, a small one, one of several pieces, one with a name that wants encoding.
  static let contents: [(name: String, content: [UInt8])] = [
    ("empty.bin", []), ("metadata.json", Array("{}".utf8)), ("model.safetensors", (0..<700_001).map { UInt8(truncatingIfNeeded: $0 &* 7) }),
    ("plots/a b+ü?.png", Array("png".utf8)),
  ]

  func components() throws -> [PresignedUploader.Component] {
    var components: [PresignedUploader.Component] = []
    for (name, content) in Self.contents {
      components.append(.init(name: name, localPath: try folder.write(content, to: "out/\(name)")))
    }
    return components
  }

  /// The one asset that the service has is ready, once, and holds exactly the files.
  func expectOneReadyAsset(_ location: SourceLocation = #_sourceLocation) {
    #expect(server.assets.count == 1, sourceLocation: location)
    guard let asset = server.assets.first else { return }
    #expect(asset.state == "ready" && asset.finalized == 1, sourceLocation: location)
    #expect(asset.objects.count == Self.contents.count, sourceLocation: location)
    for (name, content) in Self.contents { #expect(asset.objects[name] == content, "\(name)", sourceLocation: location) }
  }

  /// The bytes of every file of the state folder hold no secret.
  func expectNoSecretOnDisk(_ location: SourceLocation = #_sourceLocation) throws {
    for name in try FileManager.default.contentsOfDirectory(atPath: state) {
      let data = try Data(contentsOf: URL(fileURLWithPath: "\(state)/\(name)"))
      for secret in [server.secret, server.token, "X-Signature"] {
        #expect(data.range(of: Data(secret.utf8)) == nil, "\(name)", sourceLocation: location)
      }
    }
  }

  /// The failure of a body that must fail.
  static func failure(_ location: SourceLocation = #_sourceLocation, _ body: () async throws -> Void) async -> SyncFailure? {
    do { try await body() } catch {
      #expect(error is SyncFailure, "\(error)", sourceLocation: location)
      return error as? SyncFailure
    }
    Issue.record("nothing failed", sourceLocation: location)
    return nil
  }
}
