import SyncModel
import Transport

/// Names tried over WebDAV: a `PUT` of nothing for each, and one listing of them all.
struct WebDAVNameProbeFolder: NameProbeFolder {
  let session: WebDAVSession
  let folder: RemotePath
  let encodesPaths = true

  private func target(_ path: [UInt8], folder: Bool) -> String {
    PercentEncoding.path(path.first == UInt8(ascii: "/") ? path : [UInt8(ascii: "/")] + path) + (folder ? "/" : "")
  }

  private func target(_ name: [UInt8]) -> String { target(folder.bytes + [UInt8(ascii: "/")] + name, folder: false) }

  /// Statuses of many requests, in their order. Some servers end the connection where they refuse a name: a request that comes to nothing twice has the
  /// status 0, as long as the server answers a plain question afterwards.
  /// - Throws: Where it does not. What is asked of a server that is gone is no answer about names, and takes as long as a deadline each.
  private func statuses(_ requests: [HTTPRequest]) async throws(TransportError) -> [Int] {
    var statuses = [Int](repeating: 0, count: requests.count)
    var next = 0
    while next < requests.count {
      var unanswered: [Int] = []
      var lost: TransportError?
      await withTaskGroup(of: Reply.self) { group in
        // As many as there are connections: what would wait for one must not be sent any more once the server is gone.
        for _ in 0..<questionsAtOnce { addNext(&group) }
        while let reply = await group.next() {
          switch reply.answer {
          case .status(let status): statuses[reply.number] = status
          case .silence: unanswered.append(reply.number)
          case .lost(let error): lost = error
          }
          if unanswered.isEmpty, lost == nil { addNext(&group) }
        }
      }
      if let lost { throw lost }
      if !unanswered.isEmpty { try await requireAnswer() }
      // A server that was restarted just then has lost whatever was on its way.
      for number in unanswered {
        switch await answer(to: requests[number]) {
        case .status(let status): statuses[number] = status
        case .silence: try await requireAnswer()
        case .lost(let error): throw error
        }
      }
    }
    return statuses

    func addNext(_ group: inout TaskGroup<Reply>) {
      guard next < requests.count else { return }
      let (number, request) = (next, requests[next])
      next += 1
      group.addTask { Reply(number: number, answer: await answer(to: request)) }
    }
  }

  /// What became of the request of that number.
  private struct Reply: Sendable {
    let number: Int
    let answer: Answer
  }

  private enum Answer: Sendable {
    case status(Int)
    /// The server said nothing, be it that somebody who stands before it did.
    case silence
    /// The session is lost.
    case lost(TransportError)
  }

  private func answer(to request: HTTPRequest) async -> Answer {
    do throws(TransportError) {
      let status = try await session.http.perform(request).status
      return (502...504).contains(status) ? .silence : .status(status)
    } catch { return error.sessionLost ? .lost(error) : .silence }
  }

  /// - Throws: Where a question that no server minds has no answer either: whatever else would be asked would have none.
  private func requireAnswer() async throws(TransportError) { _ = try await session.entry(at: folder) }

  func makeFiles(_ names: [[UInt8]], plain: Set<[UInt8]>) async throws(TransportError) {
    let needed = names.filter(plain.contains)
    for name in needed {
      let answer = try await session.http.perform(HTTPRequest("PUT", target(name), body: .bytes([])))
      guard answer.isSuccess else { throw session.failures.failure(answer, "make files in", folder.description) }
    }
    _ = try await statuses(names.filter { !plain.contains($0) }.map { HTTPRequest("PUT", target($0), body: .bytes([])) })
  }

  func answers(to name: [UInt8]) async throws(TransportError) -> Bool? {
    switch try await statuses([HTTPRequest("PROPFIND", target(name), headers: [("Depth", "0")])]).first {
    case 207?: true
    case 404?, 410?: false
    default: nil
    }
  }

  func listing() async throws(TransportError) -> Set<[UInt8]>? {
    do throws(TransportError) { return Set(try await session.list(folder).map(\.name.bytes)) } catch {
      if !error.sessionLost, error.failure.kind == .protocol { return nil }
      throw error
    }
  }

  func removeFiles(_ names: [[UInt8]]) async throws(TransportError) {
    _ = try await statuses(names.map { HTTPRequest("DELETE", target($0)) })
  }

  /// Most servers remove the folder with all that is in it. Not asked with its `/`, for then one of them would follow links; see
  /// `WebDAVSession.removeTree`.
  func removeAll(_ names: [[UInt8]]) async throws(TransportError) {
    let whole = HTTPRequest("DELETE", target(folder.bytes, folder: false), headers: [("Depth", "infinity")], patience: 10)
    let status = try await statuses([whole]).first ?? 0
    // Some say 404 of a folder's name without its `/`.
    if !(200...206).contains(status) { try await removeFiles(names) }
  }

  var questionsAtOnce: Int { session.settings.http.connections }

  /// A `MKCOL` with the header that a renaming has, too: the address must fit into both.
  private func making(_ path: [UInt8]) -> HTTPRequest {
    let target = target(path, folder: true)
    return HTTPRequest("MKCOL", target, headers: [("Destination", session.settings.http.origin.text + target)])
  }

  func makeChain(_ chain: [[UInt8]]) async throws(TransportError) -> Int {
    for (number, path) in chain.enumerated() {
      guard try await makeFolders([path]) == [true] else { return number }
    }
    return chain.count
  }

  func makeFolders(_ paths: [[UInt8]]) async throws(TransportError) -> [Bool] {
    let made = try await statuses(paths.map(making))
    // Nobody else makes these: what is in the way was made by a request whose answer was lost, and which was sent again.
    let doubtful = made.indices.filter { made[$0] == 405 }
    let there = try await statuses(doubtful.map { HTTPRequest("PROPFIND", target(paths[$0], folder: true), headers: [("Depth", "0")]) })
    var isMade = made.map { $0 == 201 }
    for (index, status) in zip(doubtful, there) where status == 207 { isMade[index] = true }
    return isMade
  }

  func removeFolders(_ paths: [[UInt8]]) async throws(TransportError) {
    // A folder goes with all that is in it.
    let all = Set(paths)
    let outermost = paths.filter { path in !all.contains(Array(path[..<(path.lastIndex(of: UInt8(ascii: "/")) ?? 0)])) }
    _ = try await statuses(
      outermost.map { HTTPRequest("DELETE", target($0, folder: true), headers: [("Depth", "infinity")], patience: 10) })
  }

  func takesLink(to name: [UInt8]) async throws(TransportError) -> Bool { false }
}

extension WebDAVSession {
  package func examineNames(in root: RemotePath) async throws(TransportError) -> DestinationNames? {
    var names = try await NameProbe.run(below: root, session: self) { WebDAVNameProbeFolder(session: self, folder: $0) }
    // WebDAV has none, whatever else could be found out.
    names.holdsSymlinks = false
    if !findings.listsDotNames {
      if !names.refused.contains(.leadingDot) { names.refused = NameTrait.essential(names.refused + [.leadingDot]) }
      names.excepted = settings.metadataFolder.string.map { [$0] }
    }
    return names
  }
}
