import SyncModel
import Transport

extension SFTPClient {
  /// The attributes of what is there, symbolic links not followed; nil for nothing.
  func attributes(at path: RemotePath) async throws(TransportError) -> SFTPAttributes? {
    try await attributes(.lstat(path.bytes), path)
  }

  private func attributes(_ request: SFTPRequest, _ path: RemotePath) async throws(TransportError) -> SFTPAttributes? {
    switch try await ask(request) {
    case .attributes(let attributes): return attributes
    case .status(let status) where status.isMissing: return nil
    case .status(let status): throw try await explain(status, "look at", path)
    default: throw violated("a reply of the wrong type")
    }
  }

  func entry(at path: RemotePath) async throws(TransportError) -> RemoteEntry? {
    guard let attributes = try await attributes(at: path) else { return nil }
    let name: RelativePath
    do {
      name = try RelativePath(bytes: Array(path.relative?.lastSegment ?? RemotePath.nameOfRoot(path.bytes)))
    } catch {
      throw .failure(
        SyncFailure(.misconfigured, "\(path) has no name", hint: "Correct remote_root in the equipment profile."), sessionLost: false)
    }
    return try entry(name, attributes, typeLetter: nil)
  }

  private func entry(_ name: RelativePath, _ attributes: SFTPAttributes, typeLetter: UInt8?) throws(TransportError) -> RemoteEntry {
    let kind: RemoteEntry.Kind
    if let told = attributes.kind {
      kind = told
    } else {
      switch typeLetter {
      case UInt8(ascii: "-"): kind = .file
      case UInt8(ascii: "d"): kind = .folder
      case UInt8(ascii: "l"): kind = .symlink
      default: kind = .other
      }
    }
    guard kind != .file || attributes.size != nil else { throw violated("no size for the file \(name)") }
    return RemoteEntry(name: name, kind: kind, size: attributes.size ?? 0, modified: attributes.modified.map(Int64.init))
  }

  // MARK: Making folders

  func makeFolder(_ path: RemotePath) async throws(TransportError) {
    if knownFolders.contains(path) { return try check() }
    guard let parent = path.parent else { return try await checkRoot(path) }
    try await makeChain(to: path)
    if knownFolders.contains(path) { return }
    var made = try await status(of: .mkdir(path.bytes))
    if made.isMissing {
      try await makeFolder(parent)
      made = try await status(of: .mkdir(path.bytes))
    }
    if !made.isOK { try await acceptFolder(path, made) }
    knownFolders.insert(path)
  }

  /// Makes the folder and what is missing of those above in one go, the upper ones first, and looks at those that are there already. Whatever is not
  /// simply made or there is left to `makeFolder`, one after the other.
  private func makeChain(to path: RemotePath) async throws(TransportError) {
    var chain: [RemotePath] = [path]
    // A root is never made.
    while let folder = chain.last?.parent, folder.parent != nil, !knownFolders.contains(folder) { chain.append(folder) }
    guard chain.count > 1 else { return }
    chain.reverse()
    // A server that answers in another order than it was asked in finds a folder missing above: that is told from the answers.
    let replies = try await ask(all: chain.flatMap { [SFTPRequest.mkdir($0.bytes), .stat($0.bytes)] })
    for (folder, index) in zip(chain, stride(from: 0, to: replies.count - 1, by: 2)) {
      guard case .attributes(let found) = replies[index + 1], found.kind == .folder else { return }
      knownFolders.insert(folder)
    }
  }

  /// A MKDIR was refused: fine where a folder is there, or a link to one that the NAS's owner put there.
  private func acceptFolder(_ path: RemotePath, _ refusal: SFTPStatus) async throws(TransportError) {
    switch try await attributes(.stat(path.bytes), path)?.kind {
    case .folder: return
    case .some: throw .alreadyExists(path)
    case nil:
      // A link that leads nowhere is in the way, too.
      if try await attributes(at: path) != nil { throw .alreadyExists(path) }
      if refusal.isMissing { knownFolders.removeAll() }
      throw try await explain(refusal, "make the folder", path)
    }
  }

  private func checkRoot(_ root: RemotePath) async throws(TransportError) {
    switch try await attributes(.stat(root.bytes), root)?.kind {
    case .folder: knownFolders.insert(root)
    case .some: throw Self.rootUnfit("remote_root \(root) is not a folder on the NAS")
    case nil: throw Self.rootUnfit("remote_root \(root) does not exist on the NAS")
    }
  }

  private static func rootUnfit(_ message: String) -> TransportError {
    .failure(
      SyncFailure(.misconfigured, message, hint: "Make that folder on the NAS, or correct remote_root in the equipment profile."),
      sessionLost: false)
  }

  func setModified(_ path: RemotePath, to seconds: Int64) async throws(TransportError) {
    let set = try await status(of: .setstat(path.bytes, SFTPAttributes(modified: UInt32(clamping: seconds))))
    guard set.isOK else { throw try await explain(set, "set the times of", path) }
  }

  // MARK: Listing

  /// Bytes of names that one listing may have: a bound on memory.
  private static let listedBytes = 256 << 20
  /// Bytes of one name; file systems have 255, a few somewhat more.
  private static let nameLength = 4096

  func list(_ folder: RemotePath) async throws(TransportError) -> [RemoteEntry] {
    // The root may be a link: whoever set it up said so. Anything below must be a folder itself.
    let replies = try await ask(all: folder.relative == nil ? [.opendir(folder.bytes)] : [.opendir(folder.bytes), .lstat(folder.bytes)])
    let handle: SFTPHandle
    switch replies.first {
    case .handle(let opened): handle = opened
    case .status(let status):
      // OpenSSH says FX_FAILURE of what is no folder.
      if case .attributes(let found)? = replies.dropFirst().first, let kind = found.kind, kind != .folder { throw Self.notAFolder(folder) }
      throw try await explain(status, "list", folder)
    default: throw violated("a reply of the wrong type")
    }
    defer { dismiss(.close(handle)) }
    if case .attributes(let found)? = replies.dropFirst().first, let kind = found.kind, kind != .folder { throw Self.notAFolder(folder) }
    return try await readEntries(handle, folder)
  }

  private static func notAFolder(_ path: RemotePath) -> TransportError {
    .failure(SyncFailure(.protocol, "\(path) is not a folder", hint: "Look what stands there on the NAS."), sessionLost: false)
  }

  private func readEntries(_ handle: SFTPHandle, _ folder: RemotePath) async throws(TransportError) -> [RemoteEntry] {
    var entries: [RemoteEntry] = []
    var bytes = 0
    // OpenSSH gives a hundred names at a time: two hundred and the end come in one go; for a large folder many are kept in flight.
    var atOnce = 4
    while true {
      var ended = false
      for reply in try await ask(all: [SFTPRequest](repeating: .readdir(handle), count: atOnce)) {
        switch reply {
        case .status(let status) where status.code == SFTPStatus.endOfFile: ended = true
        case .status(let status): throw try await explain(status, "list", folder)
        case .names(let names):
          if names.isEmpty { throw violated("a listing of \(folder) without an entry or an end") }
          for name in names {
            if let entry = try entry(of: name, in: folder) { entries.append(entry) }
            bytes += name.name.count
          }
        default: throw violated("a reply of the wrong type")
        }
        guard entries.count <= settings.listingLimit, bytes <= Self.listedBytes else {
          throw .failure(
            SyncFailure(.protocol, "\(folder) has more than \(entries.count) entries", hint: "Look at that folder on the NAS."),
            sessionLost: false)
        }
      }
      if ended { return entries }
      atOnce = 16
    }
  }

  private func entry(of name: SFTPName, in folder: RemotePath) throws(TransportError) -> RemoteEntry? {
    if name.name == [0x2e] || name.name == [0x2e, 0x2e] { return nil }
    guard name.name.count <= Self.nameLength else { throw violated("a name of \(name.name.count) bytes in \(folder)") }
    let checked: RelativePath
    do { checked = try RelativePath(bytes: name.name) } catch {
      throw violated("the name “\(displayText(of: name.name.prefix(80)))” in \(folder)")
    }
    guard !name.name.contains(UInt8(ascii: "/")) else { throw violated("the name “\(displayText(of: name.name.prefix(80)))” in \(folder)") }
    return try entry(checked, name.attributes, typeLetter: name.typeLetter)
  }

  // MARK: Symbolic links

  func makeSymlink(at path: RemotePath, target: [UInt8]) async throws(TransportError) {
    guard !target.isEmpty, !target.contains(0) else {
      throw .failure(
        SyncFailure(.protocol, "\(path) would be a link to nothing", hint: "Remove that link from the run."), sessionLost: false)
    }
    let made = try await status(of: .symlink(at: path.bytes, target: target))
    if made.code == SFTPStatus.unsupported { throw .unsupported("make the symbolic link \(path)") }
    // Read back even after success: a server that keeps to the draft's order of arguments would have made another link.
    switch try await ask(.readlink(path.bytes)) {
    case .names(let names) where names.first?.name == target: return
    case .names: throw made.isOK ? .unsupported("make symbolic links as asked") : .alreadyExists(path)
    case .status where made.isOK: throw .unsupported("make symbolic links as asked")
    case .status:
      if made.mayMeanTaken, try await attributes(at: path) != nil { throw .alreadyExists(path) }
      throw try await explain(made, "make the symbolic link", path)
    default: throw violated("a reply of the wrong type")
    }
  }

  func symlinkTarget(of path: RemotePath) async throws(TransportError) -> [UInt8] {
    switch try await ask(.readlink(path.bytes)) {
    case .names(let names):
      guard let target = names.first?.name, names.count == 1 else { throw violated("a link with \(names.count) targets") }
      return target
    case .status(let status): throw try await explain(status, "read the symbolic link", path)
    default: throw violated("a reply of the wrong type")
    }
  }

  // MARK: Renaming

  func publish(_ path: RemotePath, as final: RemotePath) async throws(TransportError) {
    // Version 3 says that RENAME replaces nothing; not every server does.
    if try await attributes(at: final) != nil { throw .alreadyExists(final) }
    let renamed = try await status(of: .rename(from: path.bytes, to: final.bytes))
    if renamed.isOK {
      forgetFolders(under: path)
      return
    }
    if renamed.mayMeanTaken, try await attributes(at: final) != nil { throw .alreadyExists(final) }
    if renamed.isMissing, try await attributes(at: path) != nil { throw .notFound(final.parent ?? final) }
    throw try await explain(renamed, "rename", path)
  }

  func replace(_ path: RemotePath, over final: RemotePath) async throws(TransportError) {
    if abilities.extensions.contains(.posixRename) {
      let renamed = try await status(of: .posixRename(from: path.bytes, to: final.bytes))
      guard renamed.isOK else { throw try await explain(renamed, "rename", path) }
      return
    }
    guard try await attributes(at: path) != nil else { throw .notFound(path) }
    try await removeFile(final)
    let renamed = try await status(of: .rename(from: path.bytes, to: final.bytes))
    guard renamed.isOK else { throw try await explain(renamed, "rename", path) }
  }

  func forgetFolders(under path: RemotePath) {
    guard let relative = path.relative else { return knownFolders.removeAll() }
    knownFolders = knownFolders.filter { known in known.relative.map { !$0.isWithin(relative) } ?? true }
  }
}

extension RemotePath {
  /// A name to show for the root itself.
  fileprivate static func nameOfRoot(_ bytes: [UInt8]) -> ArraySlice<UInt8> {
    let last = bytes.split(separator: UInt8(ascii: "/")).last ?? []
    return last.isEmpty || last.elementsEqual([0x2e]) || last.elementsEqual([0x2e, 0x2e]) ? Array("root".utf8)[...] : last
  }
}
