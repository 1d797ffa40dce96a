import SyncModel

/// The folder in which a driver lets names be tried: hidden, empty at first, removed by the driver afterwards.
///
/// The methods answer about names; they throw only what makes every answer worthless, such as a session that is lost.
package protocol NameProbeFolder: Sendable {
  /// Where it is.
  var folder: RemotePath { get }

  /// Whether paths travel percent-encoded, so that a server's limit on them is reached earlier by other than plain letters.
  var encodesPaths: Bool { get }

  /// Makes empty files.
  /// - Throws: What refused one of `plain`, which no destination refuses for its name: a full disk, for instance. Other refusals are no error.
  func makeFiles(_ names: [[UInt8]], plain: Set<[UInt8]>) async throws(TransportError)

  /// Whether something answers to a name, whatever it is called there; nil where the server does not say.
  func answers(to name: [UInt8]) async throws(TransportError) -> Bool?

  /// The names as a listing gives them; nil where the listing cannot be understood.
  func listing() async throws(TransportError) -> Set<[UInt8]>?

  /// Removes files by the names they were made with. What is not there is fine.
  func removeFiles(_ names: [[UInt8]]) async throws(TransportError)

  /// Removes all that was made: by the names of the files as they were made, unless the folder goes with whatever is in it.
  func removeAll(_ names: [[UInt8]]) async throws(TransportError)

  /// How many questions reach the destination in one round trip.
  var questionsAtOnce: Int { get }

  /// Makes folders, each in the one before it; whole paths.
  /// - Returns: How many could be made.
  func makeChain(_ chain: [[UInt8]]) async throws(TransportError) -> Int

  /// Makes folders beside each other; whole paths.
  /// - Returns: For each whether it was made.
  func makeFolders(_ paths: [[UInt8]]) async throws(TransportError) -> [Bool]

  /// Removes empty folders in their order; whole paths. What is not there is fine.
  func removeFolders(_ paths: [[UInt8]]) async throws(TransportError)

  /// Whether a symbolic link to a file can be made there.
  func takesLink(to name: [UInt8]) async throws(TransportError) -> Bool
}

extension NameProbeFolder {
  /// By their names.
  package func removeAll(_ names: [[UInt8]]) async throws(TransportError) { try await removeFiles(names) }
}

/// Finds out what becomes of names, by making empty files and looking at what is listed. The same questions to every kind of destination.
package struct NameProbe {
  /// Names for one question each.
  private struct Trials {
    var names: [[UInt8]] = []
    /// What each trait's names are.
    var traits: [(trait: NameTrait, names: [[UInt8]])] = []
    /// Names of these lengths.
    var lengths: [(length: Int, name: [UInt8])] = []

    /// The first and the last name made: where one of them is missing, the others' absence says nothing about names.
    static let first = Array("first".utf8)
    static let last = Array("last".utf8)
    static let plain: Set<[UInt8]> = [first, last]
    static let caseMade = Array("tOlD-aPaRt".utf8)
    static let caseAsked = Array("ToLd-ApArT".utf8)
    static let composed = Array("folds-\u{e4}".utf8)
    static let decomposed = Array("folds-a\u{308}".utf8)
    /// 255 is what nearly every file system has, 143 what eCryptfs (encrypted Synology shares) leaves of it.
    static let lengthsTried = [255, 240, 224, 200, 176, 160, 150, 143, 140, 128, 112, 96, 80, 64, 48, 32]

    init() {
      for (number, trait) in NameTrait.asked.enumerated() { traits.append((trait, trait.samples(stem: "n\(number)"))) }
      add(lengths: Self.lengthsTried)
    }

    /// What is made before and after the traits.
    var before: [[UInt8]] { [Self.first, Self.caseMade, Self.composed] }
    var after: [[UInt8]] { lengths.map(\.name) + [Self.last] }

    func longest(in listed: Set<[UInt8]>) -> Int? { lengths.filter { listed.contains($0.name) }.map(\.length).max() }

    @discardableResult
    mutating func add(lengths tried: [Int]) -> [[UInt8]] {
      let added = tried.map { length in
        let start = Array("l\(length)-".utf8)
        return (length, start + [UInt8](repeating: UInt8(ascii: "x"), count: length - start.count))
      }
      lengths += added
      return added.map(\.1)
    }
  }

  private let ground: any NameProbeFolder
  private var trials = Trials()
  /// Everything that was made and may be there.
  private var made: [[UInt8]] = []

  private init(_ ground: any NameProbeFolder) { self.ground = ground }

  /// Asks everything, and removes the files; the caller removes the folder.
  /// - Throws: what refused even a plain name: a full disk, for instance.
  package static func run(in ground: any NameProbeFolder) async throws(TransportError) -> DestinationNames {
    var probe = NameProbe(ground)
    let found: Result<DestinationNames, TransportError>
    do throws(TransportError) { found = .success(try await probe.examine()) } catch { found = .failure(error) }
    if case .failure(let error) = found, error.isUnanswered { throw error }
    // By the names as they were made: a server that shows others may not find those.
    try await ground.removeAll(probe.made)
    return try found.get()
  }

  private mutating func make(_ names: [[UInt8]]) async throws(TransportError) {
    made += names
    try await ground.makeFiles(names, plain: Trials.plain)
  }

  private mutating func examine() async throws(TransportError) -> DestinationNames {
    try await make(trials.before + trials.traits.flatMap(\.names) + trials.after)
    var (found, isWhole) = (try await ground.listing(), true)
    if found == nil {
      // One name spoils the listing of all of them: the plain ones first, then trait by trait.
      isWhole = false
      try await ground.removeFiles(made)
      made = []
      try await make(trials.before + trials.after)
      found = try await ground.listing()
    }
    guard var listed = found, listed.isSuperset(of: Trials.plain) else { return DestinationNames() }
    let foldsCase = try await ground.answers(to: Trials.caseAsked)
    let foldsNormalization = try await ground.answers(to: Trials.decomposed)
    // Between the longest that was held and the next that was not, the limit is looked for once more.
    if let longest = trials.longest(in: listed), longest < 255 {
      let next = Trials.lengthsTried.filter { $0 > longest }.min() ?? 256
      try await make(trials.add(lengths: Array(longest + 1..<next)))
      listed = try await ground.listing() ?? listed
    }
    let longest = trials.longest(in: listed)
    var refused: [NameTrait] = []
    for (trait, names) in trials.traits {
      let isHeld = isWhole ? names.allSatisfy(listed.contains) : try await isHeld(names)
      if !isHeld { refused.append(trait) }
    }
    refused = NameTrait.essential(refused)
    return DestinationNames(
      foldsCase: foldsCase, foldsNormalization: refused.contains(.nonASCII) ? nil : foldsNormalization, maxNameBytes: longest,
      maxPathBytes: try await longestPath(segment: min(199, longest ?? 32), plain: refused.contains(.nonASCII)), refused: refused,
      holdsSymlinks: try await ground.takesLink(to: Trials.first))
  }

  /// Whether names are listed, when nothing else could spoil the listing.
  private mutating func isHeld(_ names: [[UInt8]]) async throws(TransportError) -> Bool {
    try await make(names)
    let isListed = try await ground.listing()?.isSuperset(of: names) ?? false
    try await ground.removeFiles(names)
    return isListed
  }

  // MARK: Paths

  /// A name of so many bytes, such that it is long on the way, too.
  private func name(of count: Int, _ letter: UInt8, plain: Bool) -> [UInt8] {
    guard ground.encodesPaths, !plain else { return [UInt8](repeating: letter, count: count) }
    let pairs = [[UInt8]](repeating: Array("ß".utf8), count: (count - 1) / 2).joined()
    return [UInt8](repeating: letter, count: count - pairs.count) + pairs
  }

  /// Numbers between two, evenly; all of them where they are no more than `count`.
  private static func between(_ low: Int, _ high: Int, count: Int) -> [Int] {
    let count = min(max(1, count), high - low - 1)
    return (1...count).map { low + (high - low) * $0 / (count + 1) }
  }

  /// Bytes of the longest path below the root that can be made: a chain of folders, and in the last one folders of many lengths.
  /// - Returns: Nil where `DestinationNames.pathBytesTried` was reached.
  private func longestPath(segment: Int, plain: Bool) async throws(TransportError) -> Int? {
    let folder = ground.folder
    let above = folder.bytes.count - (folder.relative?.bytes.count ?? 0)
    let step = [UInt8(ascii: "/")] + name(of: max(1, segment), UInt8(ascii: "p"), plain: plain)
    var chain: [[UInt8]] = []
    var path = folder.bytes
    while path.count - above < DestinationNames.pathBytesTried {
      path += step
      chain.append(path)
    }
    let made = try await ground.makeChain(chain)
    if made == chain.count {
      try await ground.removeFolders(chain.reversed())
      return nil
    }
    // Of what is longer than one that was refused nothing is made either: a search, since each refusal may cost a server's connection.
    let deepest = made == 0 ? folder.bytes : chain[made - 1]
    var (longest, refused) = (0, step.count)
    while refused - longest > 1 {
      let tried = Self.between(longest, refused, count: ground.questionsAtOnce)
      let paths = tried.map { deepest + [UInt8(ascii: "/")] + name(of: $0, UInt8(ascii: "q"), plain: plain) }
      let replies = try await ground.makeFolders(paths)
      let ofThose = zip(tried, replies).filter(\.1).map(\.0).max() ?? longest
      refused = tried.filter { $0 > ofThose }.min() ?? refused
      longest = ofThose
      try await ground.removeFolders(paths)
    }
    try await ground.removeFolders(chain[..<made].reversed())
    return deepest.count + (longest == 0 ? 0 : longest + 1) - above
  }
}

extension NameProbe {
  /// Probes names in a hidden folder of a root, which is made before and removed afterwards, and removes what killed probes left there.
  /// - Parameter ground: What lends the folder to the probe.
  package static func run(
    below root: RemotePath, session: any TransportSession, _ ground: (RemotePath) -> any NameProbeFolder
  ) async throws(TransportError) -> DestinationNames {
    try await session.makeFolder(root)
    try await ProbeName.removeAbandoned(in: root, session: session)
    return try await ProbeName.lend(in: root) { (scratch) throws(TransportError) in
      try await session.makeFolder(scratch)
      let names: DestinationNames
      do throws(TransportError) { names = try await run(in: ground(scratch)) } catch {
        if !error.isUnanswered { try await session.removeTree(scratch) }
        throw error
      }
      try await session.removeTree(scratch)
      return names
    }
  }
}
