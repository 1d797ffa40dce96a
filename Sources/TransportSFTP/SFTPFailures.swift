import SyncModel
import Transport

extension SFTPClient {
  /// What a refusal means. `FX_FAILURE` says nothing by itself, so the file system is asked whether it is full.
  /// - Parameters:
  ///   - action: What was asked, in the infinitive: `write`, `make the folder`.
  ///   - path: What it was asked for.
  func explain(_ status: SFTPStatus, _ action: String, _ path: RemotePath) async throws(TransportError) -> TransportError {
    let user = displayText(settings.user)
    switch status.code {
    case SFTPStatus.noSuchFile, SFTPStatus.noSuchPath:
      return .notFound(path)
    case SFTPStatus.permissionDenied:
      return .failure(
        SyncFailure(
          .permission, "the NAS does not let \(user) \(action) \(path)",
          hint: "Give \(user) read and write access to that folder on the NAS."),
        sessionLost: false)
    case SFTPStatus.writeProtected:
      return .failure(
        SyncFailure(
          .permission, "the NAS cannot \(action) \(path): its disk is write-protected",
          hint: "Look at the NAS: a disk with errors is often mounted read-only."), sessionLost: false)
    case SFTPStatus.unsupported:
      return .unsupported("\(action) \(path)")
    case SFTPStatus.alreadyExists:
      return .alreadyExists(path)
    case SFTPStatus.noSpace, SFTPStatus.quotaExceeded:
      return full(action, path)
    case SFTPStatus.noConnection, SFTPStatus.connectionLost:
      return Self.lost(
        .network, "the NAS lost its own connection to \(path)", hint: "Look at the NAS; the transfer continues where it stopped.")
    default:
      if Self.speaksOfSpace(status.message) { return full(action, path) }
      if try await isFull(path) { return full(action, path) }
      let words = status.message.isEmpty ? "" : ": “\(displayText(of: status.message.prefix(300)))”"
      return .failure(
        SyncFailure(
          .protocol, "the NAS could not \(action) \(path)\(words) (SFTP status \(status.code))",
          hint: "The NAS's own log says more; `nassync check` shows what it can do."), sessionLost: false)
    }
  }

  private func full(_ action: String, _ path: RemotePath) -> TransportError {
    .failure(
      SyncFailure(
        .remoteFull, "no space is left on the NAS to \(action) \(path)",
        hint: "Free space there or raise the user's quota; it is tried again."),
      sessionLost: false)
  }

  /// Texts that servers send with a bare failure: ProFTPD and others pass on the system's own words.
  private static func speaksOfSpace(_ message: [UInt8]) -> Bool {
    let text = String(decoding: message.prefix(300), as: UTF8.self).lowercased()
    return text.contains("quota") || text.contains("no space") || text.contains("disk full")
  }

  /// Whether the file system that holds a path has no room for one more piece, or for one more file.
  private func isFull(_ path: RemotePath) async throws(TransportError) -> Bool {
    guard let free = try await fileSystem(at: path.parent ?? path) else { return false }
    return free.availableBytes < UInt64(abilities.writeSize) || free.availableFiles == 0
  }

  /// What `statvfs` says; nil where the server has none or refuses.
  func fileSystem(at path: RemotePath) async throws(TransportError) -> SFTPFileSystem? {
    guard abilities.extensions.contains(.statvfs), case .extended(let body) = try await ask(.statvfs(path.bytes)) else { return nil }
    do { return try SFTPFileSystem(decoding: body) } catch { throw violated("statvfs: \(error)") }
  }
}
