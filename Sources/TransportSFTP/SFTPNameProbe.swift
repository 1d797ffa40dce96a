import SyncModel
import Transport

/// Names tried over SFTP: everything in flight at once.
struct SFTPNameProbeFolder: NameProbeFolder {
  let client: SFTPClient
  let folder: RemotePath
  let encodesPaths = false

  private func path(_ name: [UInt8]) -> [UInt8] { folder.bytes + [UInt8(ascii: "/")] + name }

  func makeFiles(_ names: [[UInt8]], plain: Set<[UInt8]>) async throws(TransportError) {
    // Handles are few on some servers.
    let handles = await client.abilities.limits.map(\.openHandles) ?? 0
    let atOnce = handles == 0 ? 32 : Int(min(max(handles / 2, 1), 64))
    var refusal: SFTPStatus?
    var start = 0
    while start < names.count {
      let some = names[start..<min(start + atOnce, names.count)]
      let replies = try await client.ask(all: some.map { .open(path($0), [.write, .create, .exclusive], SFTPAttributes()) })
      for (name, reply) in zip(some, replies) {
        switch reply {
        case .handle(let handle): await client.dismiss(.close(handle))
        case .status(let status) where plain.contains(name): refusal = refusal ?? status
        default: break
        }
      }
      start = some.endIndex
    }
    if let refusal { throw try await client.explain(refusal, "make files in", folder) }
  }

  func answers(to name: [UInt8]) async throws(TransportError) -> Bool? {
    switch try await client.ask(all: [.lstat(path(name))]).first {
    case .attributes: true
    case .status(let status) where status.isMissing: false
    default: nil
    }
  }

  func listing() async throws(TransportError) -> Set<[UInt8]>? { Set(try await client.list(folder).map(\.name.bytes)) }

  func removeFiles(_ names: [[UInt8]]) async throws(TransportError) {
    _ = try await client.ask(all: names.map { .remove(path($0)) })
  }

  let questionsAtOnce = 64

  func makeChain(_ chain: [[UInt8]]) async throws(TransportError) -> Int {
    var made = 0
    while made < chain.count {
      let more = try await makeFolders(Array(chain[made...])).prefix { $0 }.count
      made += more
      // A server that does not keep to the order of requests may have looked at the second before the first was there.
      if more == 0 { break }
    }
    return made
  }

  func makeFolders(_ paths: [[UInt8]]) async throws(TransportError) -> [Bool] {
    try await client.ask(all: paths.map { .mkdir($0) }).map { if case .status(let status) = $0 { status.isOK } else { false } }
  }

  func removeFolders(_ paths: [[UInt8]]) async throws(TransportError) { _ = try await client.ask(all: paths.map { .rmdir($0) }) }

  func takesLink(to name: [UInt8]) async throws(TransportError) -> Bool {
    let link: RemotePath
    do { link = folder.appending(try RelativePath("link")) } catch { return false }
    do throws(TransportError) {
      try await client.makeSymlink(at: link, target: name)
      return true
    } catch {
      if error.sessionLost { throw error }
      return false
    }
  }
}

extension SFTPSession {
  package func examineNames(in root: RemotePath) async throws(TransportError) -> DestinationNames? {
    try await NameProbe.run(below: root, session: self) { SFTPNameProbeFolder(client: client, folder: $0) }
  }
}
