import SyncModel
import Transport

extension SFTPClient {
  /// Names for one question each, made in one folder.
  private struct NameTrials {
    var names: [[UInt8]] = []
    /// What each trait's names are.
    var traits: [(trait: NameTrait, names: [[UInt8]])] = []
    /// Names of these lengths.
    var lengths: [(length: Int, name: [UInt8])] = []

    /// The first and the last name made: where one of them is missing, the others' absence says nothing about names.
    static let first = Array("first".utf8)
    static let last = Array("last".utf8)
    static let caseMade = Array("tOlD-aPaRt".utf8)
    static let caseAsked = Array("ToLd-ApArT".utf8)
    static let composed = Array("folds-\u{e4}".utf8)
    static let decomposed = Array("folds-a\u{308}".utf8)
    /// 255 is what nearly every file system has, 143 what eCryptfs (encrypted Synology shares) leaves of it.
    static let lengthsTried = [255, 240, 224, 200, 176, 160, 150, 143, 140, 128, 112, 96, 80, 64, 48, 32]

    init() {
      names = [Self.first, Self.caseMade, Self.composed]
      for (number, trait) in NameTrait.asked.enumerated() {
        let samples = trait.samples(stem: "n\(number)")
        traits.append((trait, samples))
        names += samples
      }
      add(lengths: Self.lengthsTried)
      names.append(Self.last)
    }

    func longest(in listed: Set<[UInt8]>) -> Int? { lengths.filter { listed.contains($0.name) }.map(\.length).max() }

    mutating func add(lengths tried: [Int]) {
      for length in tried {
        let start = Array("l\(length)-".utf8)
        let name = start + [UInt8](repeating: UInt8(ascii: "x"), count: length - start.count)
        lengths.append((length, name))
        names.append(name)
      }
    }
  }

  /// Finds out what becomes of names, by making empty files in a folder and listing it. All in flight; the caller removes the folder.
  /// - Throws: what refused even a plain name: a full disk, for instance.
  func examineNames(in folder: RemotePath) async throws(TransportError) -> DestinationNames {
    var trials = NameTrials()
    let found: Result<DestinationNames, TransportError>
    do throws(TransportError) { found = .success(try await examine(&trials, in: folder)) } catch { found = .failure(error) }
    // By the names as they were made: a server that shows others may not find those.
    if case .failure(let error) = found, error.sessionLost { throw error }
    _ = try await ask(all: trials.names.map { .remove(folder.bytes + [UInt8(ascii: "/")] + $0) })
    return try found.get()
  }

  private func examine(_ trials: inout NameTrials, in folder: RemotePath) async throws(TransportError) -> DestinationNames {
    var replies = try await make(trials.names, in: folder)
    for plain in [NameTrials.first, NameTrials.last] {
      if case .status(let status)? = replies[plain] { throw try await explain(status, "make files in", folder) }
    }
    let variants = try await ask(
      all: [NameTrials.caseAsked, NameTrials.decomposed].map { .lstat(folder.bytes + [UInt8(ascii: "/")] + $0) })
    var listed = Set(try await list(folder).map(\.name.bytes))
    guard listed.contains(NameTrials.first), listed.contains(NameTrials.last) else {
      return DestinationNames()
    }
    // Between the longest that was held and the next that was not, the limit is looked for once more.
    if let longest = trials.longest(in: listed), longest < 255 {
      let next = NameTrials.lengthsTried.filter { $0 > longest }.min() ?? 256
      let before = trials.names.count
      trials.add(lengths: Array(longest + 1..<next))
      replies.merge(try await make(Array(trials.names[before...]), in: folder)) { $1 }
      listed = Set(try await list(folder).map(\.name.bytes))
    }
    let longest = trials.longest(in: listed)
    var refused = trials.traits.filter { !$0.names.allSatisfy(listed.contains) }.map(\.trait)
    if refused.contains(.nonASCII) { refused.removeAll { [.fourByteCharacter, .composed, .decomposed].contains($0) } }
    return DestinationNames(
      foldsCase: Self.isOne(variants.first), foldsNormalization: refused.contains(.nonASCII) ? nil : Self.isOne(variants.last),
      maxNameBytes: longest, maxPathBytes: try await longestPath(in: folder, segment: min(99, longest ?? 32)), refused: refused,
      holdsSymlinks: try await holdsSymlinks(folder))
  }

  private func holdsSymlinks(_ folder: RemotePath) async throws(TransportError) -> Bool {
    let link: RemotePath
    do { link = folder.appending(try RelativePath("link")) } catch { return false }
    do throws(TransportError) {
      try await makeSymlink(at: link, target: NameTrials.first)
      return true
    } catch {
      if error.sessionLost { throw error }
      return false
    }
  }

  /// Whether what was made under one spelling is there under the other.
  private static func isOne(_ reply: SFTPReply?) -> Bool? {
    switch reply {
    case .attributes: true
    case .status(let status) where status.isMissing: false
    default: nil
    }
  }

  /// Makes empty files.
  /// - Returns: The reply to each name's OPEN.
  private func make(_ names: [[UInt8]], in folder: RemotePath) async throws(TransportError) -> [[UInt8]: SFTPReply] {
    // Handles are few on some servers.
    let handles = abilities.limits.map(\.openHandles) ?? 0
    let atOnce = handles == 0 ? 32 : Int(min(max(handles / 2, 1), 64))
    var result: [[UInt8]: SFTPReply] = [:]
    var start = 0
    while start < names.count {
      let some = names[start..<min(start + atOnce, names.count)]
      let replies = try await ask(
        all: some.map { .open(folder.bytes + [UInt8(ascii: "/")] + $0, [.write, .create, .exclusive], SFTPAttributes()) })
      for (name, reply) in zip(some, replies) {
        if case .handle(let handle) = reply { dismiss(.close(handle)) }
        result[name] = reply
      }
      start = some.endIndex
    }
    return result
  }

  // MARK: Paths

  /// Bytes of the longest path below the root that can be made: a chain of folders, and in the last one folders of every length.
  /// - Returns: Nil where `DestinationNames.pathBytesTried` was reached.
  private func longestPath(in folder: RemotePath, segment: Int) async throws(TransportError) -> Int? {
    let above = folder.bytes.count - (folder.relative?.bytes.count ?? 0)
    let step = [UInt8(ascii: "/")] + [UInt8](repeating: UInt8(ascii: "p"), count: max(1, segment))
    var chain: [[UInt8]] = []
    var path = folder.bytes
    while path.count - above < DestinationNames.pathBytesTried {
      path += step
      chain.append(path)
    }
    let made = try await makeChain(chain)
    if made == chain.count {
      try await removeChain(chain[...])
      return nil
    }
    let deepest = made == 0 ? folder.bytes : chain[made - 1]
    let last = (1..<step.count).map { deepest + [UInt8(ascii: "/")] + [UInt8](repeating: UInt8(ascii: "q"), count: $0) }
    let replies = try await ask(all: last.map { .mkdir($0) })
    let longest = zip(last, replies).filter { Self.isDone($1) }.map(\.0.count).max() ?? deepest.count
    _ = try await ask(all: last.map { .rmdir($0) })
    try await removeChain(chain[..<made])
    return longest - above
  }

  /// - Returns: How many of the folders, each in the one before it, could be made.
  private func makeChain(_ chain: [[UInt8]]) async throws(TransportError) -> Int {
    var made = 0
    while made < chain.count {
      let replies = try await ask(all: chain[made...].map { .mkdir($0) })
      let more = replies.prefix(while: Self.isDone).count
      made += more
      // A server that does not keep to the order of requests may have looked at the second before the first was there.
      if more == 0 { break }
    }
    return made
  }

  private func removeChain(_ chain: ArraySlice<[UInt8]>) async throws(TransportError) {
    _ = try await ask(all: chain.reversed().map { .rmdir($0) })
  }

  private static func isDone(_ reply: SFTPReply) -> Bool {
    if case .status(let status) = reply { status.isOK } else { false }
  }
}

extension SFTPSession {
  package func examineNames(in root: RemotePath) async throws(TransportError) -> DestinationNames? {
    let scratch = root.appending(try ProbeName.make())
    try await makeFolder(root)
    try await ProbeName.removeAbandoned(in: root, session: self)
    try await makeFolder(scratch)
    let names: DestinationNames
    do { names = try await client.examineNames(in: scratch) } catch {
      if !error.sessionLost { try await removeTree(scratch) }
      throw error
    }
    try await removeTree(scratch)
    return names
  }
}
