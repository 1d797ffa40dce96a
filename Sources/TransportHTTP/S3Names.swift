import SyncModel
import Transport

extension S3Session {
  private static let asksAtOnce = 8

  /// Finds out what becomes of names, by making empty objects in a folder and listing it.
  package func examineNames(in root: RemotePath) async throws(TransportError) -> DestinationNames? {
    try await checkRoot(root)
    try await ProbeName.removeAbandoned(in: root, session: self)
    return try await ProbeName.lend(in: root) { (scratch) throws(TransportError) in
      let found: Result<DestinationNames, TransportError>
      do throws(TransportError) { found = .success(try await examine(in: scratch)) } catch { found = .failure(error) }
      if case .failure(let error) = found, error.isUnanswered { throw error }
      try await removeTree(scratch)
      return try found.get()
    }
  }

  private func examine(in scratch: RemotePath) async throws(TransportError) -> DestinationNames {
    let plain = Array("plain".utf8)
    try await putWhole([], at: try Self.child(scratch, plain), modified: nil)
    var refused: [NameTrait] = []
    // Names that are no text are refused here already.
    let asked = NameTrait.asked.enumerated().map { (trait: $1, names: $1.samples(stem: "n\($0)")) }
    let safe = asked.filter { $0.trait != .controlCharacter && $0.trait != .notUTF8 }
    try await make(safe.flatMap(\.names), in: scratch)
    let listed = Set(try await list(scratch).map(\.name.bytes))
    guard listed.contains(plain) else { return DestinationNames() }
    for (trait, names) in safe where !names.allSatisfy(listed.contains) { refused.append(trait) }
    // A store that puts such a name into a listing as it is makes the listing unreadable: its own turn, and gone before the next one.
    let control = NameTrait.controlCharacter.samples(stem: "control")
    try await make(control, in: scratch)
    var shown: Set<[UInt8]> = []
    do throws(TransportError) { shown = Set(try await list(scratch).map(\.name.bytes)) } catch { if error.sessionLost { throw error } }
    if !control.allSatisfy(shown.contains) {
      refused.append(.controlCharacter)
      for name in control { try await delete(try key(Self.child(scratch, name)), scratch) }
    }
    refused.append(.notUTF8)
    refused = NameTrait.essential(refused)
    let folds = try await isOne("tOlD-aPaRt", "ToLd-ApArT", in: scratch)
    let joins = refused.contains(.nonASCII) ? nil : try await isOne("folds-\u{e4}", "folds-a\u{308}", in: scratch)
    let longestName = try await longest(upTo: 255, in: scratch) { [UInt8](repeating: UInt8(ascii: "l"), count: $0) }
    return DestinationNames(
      foldsCase: folds, foldsNormalization: joins, maxNameBytes: longestName,
      maxPathBytes: try await longestPath(in: scratch), refused: refused, holdsSymlinks: false)
  }

  static func child(_ folder: RemotePath, _ name: [UInt8]) throws(TransportError) -> RemotePath {
    do throws(RelativePath.Invalid) { return folder.appending(try RelativePath(bytes: name)) } catch {
      throw .failure(SyncFailure(.protocol, "\(folder) cannot hold such a name", hint: "Report this."), sessionLost: false)
    }
  }

  /// Whether the store takes an empty object of that name.
  private func takes(_ name: [UInt8], in folder: RemotePath) async throws(TransportError) -> Bool {
    do throws(TransportError) {
      try await putWhole([], at: try Self.child(folder, name), modified: nil)
      return true
    } catch {
      // What waiting may mend says nothing about names.
      if error.isUnanswered || [.auth, .remoteFull, .interrupted].contains(error.failure.kind) { throw error }
      return false
    }
  }

  private func make(_ names: [[UInt8]], in folder: RemotePath) async throws(TransportError) {
    var start = 0
    while start < names.count {
      let some = names[start..<min(start + Self.asksAtOnce, names.count)]
      start = some.endIndex
      let failed = await withTaskGroup(of: TransportError?.self) { group in
        for name in some {
          group.addTask {
            do throws(TransportError) { _ = try await self.takes(name, in: folder) } catch { return error }
            return nil
          }
        }
        return await group.reduce(into: TransportError?.none) { $0 = $0 ?? $1 }
      }
      if let failed { throw failed }
    }
  }

  /// Whether what was made under one spelling is there under the other; nil where it could not be made.
  private func isOne(_ made: String, _ asked: String, in folder: RemotePath) async throws(TransportError) -> Bool? {
    guard try await takes(Array(made.utf8), in: folder) else { return nil }
    let other = try Self.child(folder, Array(asked.utf8))
    return try await head(try key(other), other) != nil
  }

  /// The largest number for which a name is taken and found; 255 nearly always.
  private func longest(upTo most: Int, in folder: RemotePath, _ name: (Int) -> [UInt8]) async throws(TransportError) -> Int? {
    var (taken, refused) = (0, most + 1)
    var next = most
    while refused - taken > 1 {
      let path = try Self.child(folder, name(next))
      let isTaken = try await takes(name(next), in: folder)
      if isTaken, try await head(try key(path), path) != nil { taken = next } else { refused = next }
      next = (taken + refused) / 2
    }
    return taken > 0 ? taken : nil
  }

  /// Bytes of the longest path below the root: 1,024 are the most for a key, of which the prefix and a folder's `/` take some.
  private func longestPath(in scratch: RemotePath) async throws(TransportError) -> Int? {
    let above = try key(scratch).count + 1
    let most = Self.longestKey - above - 1
    guard most > 0, let relative = scratch.relative else { return nil }
    // Segments that every store takes.
    let found = try await longest(upTo: most, in: scratch) { count in
      (0..<count).map { $0 % 100 == 99 && $0 < count - 1 ? UInt8(ascii: "/") : UInt8(ascii: "p") }
    }
    return found.map { $0 + relative.bytes.count + 1 }
  }
}
