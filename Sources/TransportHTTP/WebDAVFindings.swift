import SyncModel
import Transport

/// What only trying shows of a WebDAV server.
struct WebDAVFindings: Hashable, Sendable {
  /// `MOVE` with `Overwrite: F` onto something is refused, and onto nothing it is not: without that, publishing could replace another run. Nil where
  /// it could not be tried.
  var refusesToOverwrite: Bool?
  /// A file keeps the time in `X-OC-Mtime` (Nextcloud, ownCloud, some others).
  var keepsTimes = false
  /// `MKCOL` of what exists is refused.
  var tellsExistingFolders = false

  /// A listing shows names that begin with a dot; nginx's hides them, although they are there.
  var listsDotNames = true

  /// Large files can be sent in chunks: Nextcloud's and ownCloud's way.
  var takesChunks = false

  /// Of a server that could not be tried: nothing is taken for granted.
  static let unknown = WebDAVFindings()

  static func ignoresOverwrite(_ settings: WebDAVSettings) -> TransportError {
    .failure(
      SyncFailure(
        .misconfigured, "\(settings.http.origin) ignores `Overwrite: F`, so that publishing a run could replace another one",
        hint: "Use another WebDAV server, or SFTP: nothing is sent to a server that replaces what it was told to keep."), sessionLost: true)
  }
}

extension WebDAVSession {
  /// A time that no clock shows by itself.
  private static let testTime: Int64 = 1_000_000_000

  /// Tries what must be known, in a hidden folder of the root that is removed again.
  /// - Returns: Nil where nothing can be made in the root.
  func tryOut() async throws(TransportError) -> WebDAVFindings? {
    let root = RemotePath(root: settings.root)
    return try await ProbeName.lend(in: root) { (scratch) throws(TransportError) in
      guard try await makeNew(scratch).isMade else {
        ProbeName.leave(scratch)
        return nil
      }
      let found: Result<WebDAVFindings, TransportError>
      do throws(TransportError) { found = .success(try await tryOut(in: scratch)) } catch { found = .failure(error) }
      if case .failure(let error) = found, error.sessionLost { throw error }
      do throws(TransportError) { try await removeTree(scratch) } catch {
        // What kept it from being tried says more than what followed from it.
        _ = try found.get()
        throw error
      }
      return try found.get()
    }
  }

  private func tryOut(in scratch: RemotePath) async throws(TransportError) -> WebDAVFindings {
    var findings = WebDAVFindings()
    findings.tellsExistingFolders = try await ask("MKCOL", scratch, folder: true).status == 405
    let hidden = try Self.below(scratch, ".hidden")
    try await requireNew(hidden)
    findings.listsDotNames = try await list(scratch).contains { $0.name.bytes == Array(".hidden".utf8) }
    let (first, second) = (try Self.below(scratch, "a"), try Self.below(scratch, "b"))
    let (mine, theirs) = (try Self.below(first, "mine"), try Self.below(second, "theirs"))
    for folder in [first, second] { try await requireNew(folder) }
    for file in [mine, theirs] {
      let put = try await ask("PUT", file, folder: false, headers: [("X-OC-Mtime", String(Self.testTime))], body: .bytes([1]))
      guard put.isSuccess else { throw failures.failure(put, "write", file.description) }
    }
    findings.keepsTimes = try await entry(at: mine)?.modified == Self.testTime
    findings.takesChunks = try await tryChunks(try Self.below(scratch, "chunks"))
    let moved = try await move(first, to: second)
    // Whatever it says: both must still be what they were.
    let mineIsThere = try await entry(at: mine) != nil
    let theirsIsThere = try await entry(at: theirs) != nil
    findings.refusesToOverwrite = !moved.isSuccess && mineIsThere && theirsIsThere
    guard findings.refusesToOverwrite == true else { return findings }
    // A server that is out of sorts, or lets nothing be moved, has not shown that it keeps what is there: nothing may be published then.
    guard [412, 403, 409].contains(moved.status) else { throw failures.failure(moved, "rename", first.description) }
    let third = try Self.below(scratch, "c")
    let allowed = try await move(first, to: third)
    if !allowed.isSuccess {
      // Asked twice, as in `makeNew`, it has been renamed all the same.
      let isRenamed = try await entry(at: third) != nil
      guard isRenamed else { throw failures.failure(allowed, "rename", first.description) }
    }
    return findings
  }

  /// Makes a folder whose name nobody else has. Where the first answer was lost with its connection, the client has asked again, and the folder is in its
  /// own way.
  func makeNew(
    _ folder: RemotePath, headers: [(name: String, value: String)] = []
  ) async throws(TransportError) -> (isMade: Bool, answer: HTTPResponse) {
    let answer = try await ask("MKCOL", folder, folder: true, headers: headers)
    if answer.status == 201 { return (true, answer) }
    guard answer.status == 405 else { return (false, answer) }
    let isFolder = try await entry(at: folder)?.kind == .folder
    return (isFolder, answer)
  }

  private func requireNew(_ folder: RemotePath) async throws(TransportError) {
    let made = try await ask("MKCOL", folder, folder: true)
    if made.status != 201 { try await acceptFolder(folder, made) }
  }

  private func move(_ folder: RemotePath, to other: RemotePath) async throws(TransportError) -> HTTPResponse {
    try await ask(
      "MOVE", folder, folder: true,
      headers: [("Destination", address(of: other, folder: true)), ("Overwrite", "F"), ("Depth", "infinity")])
  }

  /// What a listing would not show cannot be proven to be all that is there: such a name is refused before it is sent.
  func requireListed(_ path: RemotePath) throws(TransportError) {
    guard !findings.listsDotNames, let relative = path.relative else { return }
    for segment in relative.segments where segment.first == UInt8(ascii: ".") {
      if segment.elementsEqual(settings.metadataFolder.bytes) || segment.starts(with: Array(".nassync-".utf8)) { continue }
      throw .failure(
        SyncFailure(
          .misconfigured, "\(path) cannot be proven there: this server hides names that begin with a dot from its listings",
          hint: "Exclude such files in the equipment profile, or use another WebDAV server or SFTP."), sessionLost: false)
    }
  }

  static func below(_ folder: RemotePath, _ name: String) throws(TransportError) -> RemotePath {
    do throws(RelativePath.Invalid) { return folder.appending(try RelativePath(name)) } catch {
      throw .failure(SyncFailure(.protocol, "\(folder) cannot hold \(name)", hint: "Correct url."), sessionLost: false)
    }
  }
}
