import SyncModel
import Transport

extension SFTPClient {
  /// Removals kept in flight by one call.
  private static let removalsAtOnce = 256
  /// Bytes of a path below which a removal goes no deeper: a server that shows a folder in every folder must not be followed for ever.
  private static let deepestPath = 64 << 10

  func removeFile(_ path: RemotePath) async throws(TransportError) {
    let removed = try await status(of: .remove(path.bytes))
    if removed.isOK || removed.isMissing { return }
    if removed.mayMeanTaken || removed.code == SFTPStatus.permissionDenied, try await attributes(at: path)?.kind == .folder {
      throw .failure(
        SyncFailure(.protocol, "\(path) is a folder, not a file", hint: "Look what stands there on the NAS."), sessionLost: false)
    }
    throw try await explain(removed, "remove", path)
  }

  func removeTree(_ path: RemotePath) async throws(TransportError) {
    forgetFolders(under: path)
    guard let found = try await attributes(at: path) else { return }
    guard found.kind == .folder else { return try await removeFile(path) }
    // Folders in the order in which they were found: each comes after the one that holds it.
    var folders = [path]
    var next = 0
    while next < folders.count {
      let folder = folders[next]
      next += 1
      guard folder.bytes.count <= Self.deepestPath else { throw violated("folders in folders without end below \(path)") }
      let entries: [RemoteEntry]
      do {
        entries = try await list(folder)
      } catch .notFound {
        continue
      }
      var files: [RemotePath] = []
      for entry in entries {
        let child = folder.appending(entry.name)
        if entry.kind == .folder { folders.append(child) } else { files.append(child) }
      }
      try await remove(files, { .remove($0.bytes) })
    }
    // Deepest first; those of one depth do not hold one another.
    let byDepth = Dictionary(grouping: folders) { $0.relative?.segments.count ?? 0 }
    for depth in byDepth.keys.sorted(by: >) { try await remove(byDepth[depth] ?? [], { .rmdir($0.bytes) }) }
  }

  private func remove(_ paths: [RemotePath], _ request: (RemotePath) -> SFTPRequest) async throws(TransportError) {
    var start = 0
    while start < paths.count {
      let some = paths[start..<min(start + Self.removalsAtOnce, paths.count)]
      let replies = try await ask(all: some.map(request))
      for (path, reply) in zip(some, replies) {
        guard case .status(let status) = reply, !status.isOK, !status.isMissing else { continue }
        throw try await explain(status, "remove", path)
      }
      start = some.endIndex
    }
  }
}
