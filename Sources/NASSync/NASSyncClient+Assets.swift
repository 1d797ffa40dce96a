import SyncModel

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
}
