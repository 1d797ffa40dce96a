import SyncModel
import Transport

/// What lies below a folder on the NAS, links not followed.
package struct RemoteTree: Sendable {
  /// By path relative to the folder, which is each one's name as well: a name of its own takes memory for every file of a run.
  package private(set) var entries: [RelativePath: RemoteEntry] = [:]

  package init(entries: [RelativePath: RemoteEntry] = [:]) { self.entries = entries }

  /// Lists a folder with everything below it, several listings in flight at once.
  /// - Parameters:
  ///   - limit: So many entries are too many.
  ///   - expected: So many are likely, for which room is made in one go.
  /// - Returns: Nil where the folder itself does not exist.
  /// - Throws: `TransportError`; `protocol` where the tree is deeper or larger than any run: a server that makes up folders.
  package static func walk(
    _ folder: RemotePath, session: any TransportSession, limit: Int = 2_000_000, expected: Int = 0
  ) async throws(TransportError) -> RemoteTree? {
    // It is there as a rule: what it is and what is in it is asked at once.
    async let listed = attempted(folder, session: session)
    let top = try await session.entry(at: folder)
    let first = await listed
    guard let top else { return nil }
    guard top.kind == .folder else {
      throw .failure(
        SyncFailure(
          .remoteConflict, "\(folder) on the NAS is a \(top.kind.rawValue), not a folder",
          hint: "Move it away on the NAS, then `nassync retry`."), sessionLost: false)
    }
    var tree = RemoteTree()
    tree.entries.reserveCapacity(expected)
    var level: [RelativePath?] = [nil]
    var depth = 0
    var largest = 0
    // Asked beside each other: it may have been made between the two answers.
    let now: [RemoteEntry]
    if case .failure(.notFound) = first { now = try await session.list(folder) } else { now = try first.get() }
    var ready: [(RelativePath?, [RemoteEntry])]? = [(nil, now)]
    while !level.isEmpty {
      depth += 1
      guard depth <= 1_000 else { throw endless(folder, tree.entries.count, depth) }
      var next: [RelativePath?] = []
      var index = 0
      while index < level.count {
        // Huge folders one after the other: those in flight at once add up before anything can be counted.
        let slice = level[index..<min(index + (largest > largeFolder ? 1 : 32), level.count)]
        index += slice.count
        let found: [(RelativePath?, [RemoteEntry])]
        if let already = ready.take() { found = already } else { found = try await list(Array(slice), below: folder, session: session) }
        for (parent, listed) in found {
          largest = max(largest, listed.count)
          guard tree.entries.count + listed.count <= limit else { throw endless(folder, tree.entries.count + listed.count, depth) }
          for entry in listed {
            let path = parent.map { $0.appending(entry.name) } ?? entry.name
            tree.entries[path] = RemoteEntry(name: path, kind: entry.kind, size: entry.size, modified: entry.modified)
            if entry.kind == .folder { next.append(path) }
          }
        }
      }
      level = next
    }
    return tree
  }

  private static func attempted(_ folder: RemotePath, session: any TransportSession) async -> Result<[RemoteEntry], TransportError> {
    do throws(TransportError) { return .success(try await session.list(folder)) } catch { return .failure(error) }
  }

  private static let largeFolder = 20_000

  private static func endless(_ folder: RemotePath, _ entries: Int, _ depth: Int) -> TransportError {
    .failure(
      SyncFailure(
        .protocol, "\(folder) on the NAS lists without end (\(entries) entries, \(depth) levels)",
        hint: "Look at this folder on the NAS itself; a loop in its file system or a faulty server can do that."), sessionLost: false)
  }

  private static func list(
    _ folders: [RelativePath?], below root: RemotePath, session: any TransportSession
  ) async throws(TransportError) -> [(RelativePath?, [RemoteEntry])] {
    do {
      return try await withThrowingTaskGroup(of: (RelativePath?, [RemoteEntry]).self) { group in
        for folder in folders {
          group.addTask {
            let entries = try await session.list(folder.map { root.appending($0) } ?? root)
            return (folder, entries)
          }
        }
        var all: [(RelativePath?, [RemoteEntry])] = []
        for try await result in group { all.append(result) }
        return all
      }
    } catch { throw TransportError.wrapping(error) }
  }
}

extension TransportError {
  /// Task groups lose the type of what was thrown; this finds it again.
  package static func wrapping(_ error: any Error) -> TransportError {
    switch error {
    case let error as TransportError: error
    case let error as SyncFailure: .failure(error, sessionLost: false)
    case is CancellationError:
      .failure(SyncFailure(.interrupted, "the operation was told to stop", hint: "It goes on at the next start."), sessionLost: false)
    default:
      .failure(
        SyncFailure(.protocol, "unexpected error: \(error)", hint: "Report it with the output of `nassync history`."), sessionLost: false)
    }
  }
}
