import NASSync

/// Brings two files to an asset service and returns once the asset is ready there. After a crash the same call goes on where it was.
func sendCheckpoint(
  _ folder: String, to service: any AssetService, stateDirectory: String, options: PresignedUploader.Options = .init()
) async throws -> AssetUpload {
  let uploader = try await PresignedUploader(stateDirectory: stateDirectory, options: options)
  do {
    let asset = try await uploader.upload(
      assetType: "checkpoint",
      components: [
        .init(name: "model.safetensors", localPath: folder + "/model.safetensors"),
        .init(name: "metadata.json", localPath: folder + "/metadata.json", contentType: "application/json"),
      ], service: service)
    await uploader.close()
    return asset
  } catch {
    await uploader.close()
    throw error
  }
}

/// A service over HTTP and JSON. One of another kind is three functions of your own: `AssetService`.
func labService() throws -> HTTPAssetService {
  try HTTPAssetService(.init(url: "https://assets.lab.example/api", token: SecretReference("file:/etc/lab/assets-token")))
}
