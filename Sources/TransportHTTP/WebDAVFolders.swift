import SyncModel
import Synchronization
import Transport

extension WebDAVSession {
  // MARK: Making

  package func makeFolder(_ path: RemotePath) async throws(TransportError) {
    if knownFolders.withLock({ $0.contains(path) }) { return try await http.check() }
    guard let parent = path.parent else { return try await checkRoot(path) }
    try requireListed(path)
    let isMine = making.withLock { making in
      if making[path] != nil { return false }
      making[path] = []
      return true
    }
    guard isMine else {
      await withCheckedContinuation { continuation in
        let isOver = making.withLock { making in
          making[path]?.append(continuation)
          return making[path] == nil
        }
        if isOver { continuation.resume() }
      }
      return try await makeFolder(path)
    }
    defer { for waiter in making.withLock({ $0.removeValue(forKey: path) }) ?? [] { waiter.resume() } }
    try await make(path, in: parent)
  }

  private func make(_ path: RemotePath, in parent: RemotePath) async throws(TransportError) {
    // The folder above is there nearly always: one round trip.
    var made = try await ask("MKCOL", path, folder: true)
    if made.status == 409 || made.status == 404 || made.status == 500 {
      if try await entry(at: path) == nil {
        forgetFolders(under: parent)
        try await makeFolder(parent)
        made = try await ask("MKCOL", path, folder: true)
      }
    }
    // 201 for a folder that was there, or even a file: a server that does not tell is asked what there is.
    if made.status != 201 || !findings.tellsExistingFolders { try await acceptFolder(path, made) }
    knownFolders.withLock { _ = $0.insert(path) }
  }

  /// What is there is a folder, whatever the answer to making it was.
  func acceptFolder(_ path: RemotePath, _ answer: HTTPResponse) async throws(TransportError) {
    switch try await entry(at: path)?.kind {
    case .folder: return
    case .some: throw .alreadyExists(path)
    case nil:
      forgetFolders(under: nil)
      throw failures.failure(answer, "make the folder", path.description)
    }
  }

  func checkRoot(_ root: RemotePath) async throws(TransportError) {
    switch try await entry(at: root)?.kind {
    case .folder: knownFolders.withLock { _ = $0.insert(root) }
    case .some: throw Self.rootUnfit("\(root) is not a folder on the NAS")
    case nil: throw Self.rootUnfit("\(root) does not exist on the NAS")
    }
  }

  static func rootUnfit(_ message: String) -> TransportError {
    .failure(
      SyncFailure(
        .misconfigured, message, hint: "Make that folder on the NAS, or correct `url` (the remote_root of WebDAV) in the equipment profile."
      ),
      sessionLost: false)
  }

  func forgetFolders(under path: RemotePath?) {
    knownFolders.withLock { known in
      guard let relative = path?.relative else { return known.removeAll() }
      known = known.filter { known in known.relative.map { !$0.isWithin(relative) } ?? true }
    }
  }

  // MARK: Times

  package func setModified(_ path: RemotePath, to seconds: Int64) async throws(TransportError) {
    guard try await entry(at: path) != nil else { throw .notFound(path) }
    // `getlastmodified` is the server's own by RFC 4918; Nextcloud takes the time by a property of its own when a file is sent, and no
    // server tried takes it for a folder.
    throw .unsupported("set the times of \(path): WebDAV has no way to")
  }

  // MARK: Renaming

  package func publish(_ path: RemotePath, as final: RemotePath) async throws(TransportError) {
    guard findings.refusesToOverwrite != false else { throw WebDAVFindings.ignoresOverwrite(settings) }
    guard let source = try await entry(at: path) else { throw .notFound(path) }
    if try await entry(at: final) != nil { throw .alreadyExists(final) }
    let moved = try await move(path, to: final, folder: source.kind == .folder, overwrite: false)
    switch moved.status {
    case 201, 204: forgetFolders(under: path)
    case 412: throw .alreadyExists(final)
    default: throw try await moveFailure(moved, path, final)
    }
  }

  package func replace(_ path: RemotePath, over final: RemotePath) async throws(TransportError) {
    let moved = try await move(path, to: final, folder: false, overwrite: true)
    guard moved.status == 201 || moved.status == 204 else { throw try await moveFailure(moved, path, final) }
  }

  private func move(_ path: RemotePath, to final: RemotePath, folder: Bool, overwrite: Bool) async throws(TransportError) -> HTTPResponse {
    try await ask(
      "MOVE", path, folder: folder,
      headers: [("Destination", address(of: final, folder: folder)), ("Overwrite", overwrite ? "T" : "F"), ("Depth", "infinity")],
      patience: 10)
  }

  private func moveFailure(_ answer: HTTPResponse, _ path: RemotePath, _ final: RemotePath) async throws(TransportError) -> TransportError {
    if [404, 409, 500].contains(answer.status) {
      if try await entry(at: path) == nil {
        // libcurl sends a request again where a kept connection was closed under it: the first one may have done it.
        return try await entry(at: final) == nil ? .notFound(path) : .alreadyExists(final)
      }
      if let parent = final.parent, try await entry(at: parent) == nil { return .notFound(parent) }
    }
    if answer.status == 207 { return incomplete("rename", path) }
    return failures.failure(answer, "rename", path.description)
  }

  private func incomplete(_ action: String, _ path: RemotePath) -> TransportError {
    .failure(
      SyncFailure(
        .permission, "the NAS could not \(action) everything in \(path)", hint: "Look at the owners and permissions of what is left there."),
      sessionLost: false)
  }

  // MARK: Removing

  package func removeFile(_ path: RemotePath) async throws(TransportError) {
    guard let found = try await entry(at: path) else { return }
    // DELETE takes a whole folder without asking.
    guard found.kind != .folder else {
      throw .failure(
        SyncFailure(.protocol, "\(path) is a folder, not a file", hint: "Look what stands there on the NAS."), sessionLost: false)
    }
    try await delete(path, folder: false)
  }

  package func removeTree(_ path: RemotePath) async throws(TransportError) {
    forgetFolders(under: path)
    guard try await entry(at: path) != nil else { return }
    try await removeWhatever(path, RemovalBudget(top: path))
  }

  /// Removals kept in flight by one folder.
  private static let removalsAtOnce = 64

  /// How much one removal may find: a server that shows a folder in every folder must not be followed for ever.
  private final class RemovalBudget: Sendable {
    private static let deepest = 1_000
    private let top: RemotePath
    private let left = Mutex(5_000_000)

    init(top: RemotePath) { self.top = top }

    func allows(_ entries: Int, in folder: RemotePath) -> Bool {
      let depth = (folder.relative?.segments.count ?? 0) - (top.relative?.segments.count ?? 0)
      return depth < Self.deepest
        && left.withLock { left in
          left -= entries
          return left >= 0
        }
    }
  }

  /// nginx follows the links in a folder that it removes, and a listing shows them as what they lead to. Asked without the `/` of a folder it
  /// removes a link itself, and refuses a true folder (409): that one is emptied first, so that nothing is left to be followed. Other servers remove
  /// a folder either way.
  private func removeWhatever(_ path: RemotePath, _ budget: RemovalBudget) async throws(TransportError) {
    var removed = try await ask("DELETE", path, folder: false, headers: [("Depth", "infinity")], patience: 10)
    // Apache has been seen to leave a part of a deep tree, without a reason that lasts.
    if removed.status == 207 { removed = try await ask("DELETE", path, folder: false, headers: [("Depth", "infinity")], patience: 10) }
    guard removed.status == 409 else { return try checkRemoval(removed, path) }
    let entries: [RemoteEntry]
    do throws(TransportError) { entries = try await list(path) } catch {
      if case .notFound = error { return }
      throw error
    }
    guard budget.allows(entries.count, in: path) else { throw failures.violated("folders in folders without end below \(path)") }
    var start = 0
    while start < entries.count {
      let some = entries[start..<min(start + Self.removalsAtOnce, entries.count)]
      start = some.endIndex
      let failed = await withTaskGroup(of: TransportError?.self) { group in
        for entry in some {
          let child = path.appending(entry.name)
          group.addTask {
            do throws(TransportError) { try await self.removeWhatever(child, budget) } catch { return error }
            return nil
          }
        }
        return await group.reduce(into: TransportError?.none) { $0 = $0 ?? $1 }
      }
      if let failed { throw failed }
    }
    try await delete(path, folder: true)
  }

  private func delete(_ path: RemotePath, folder: Bool) async throws(TransportError) {
    // nginx says 400 without the depth.
    let removed = try await ask("DELETE", path, folder: folder, headers: folder ? [("Depth", "infinity")] : [], patience: folder ? 10 : 1)
    try checkRemoval(removed, path)
  }

  private func checkRemoval(_ removed: HTTPResponse, _ path: RemotePath) throws(TransportError) {
    switch removed.status {
    case 200, 204, 404, 410: return
    case 207: throw incomplete("remove", path)
    default: throw failures.failure(removed, "remove", path.description)
    }
  }
}
