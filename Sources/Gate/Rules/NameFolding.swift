import SyncModel

/// A name as a file system that folds names would compare it.
enum NameFolding {
  /// What two paths that collide have in common.
  enum Key: Hashable {
    /// Compared by canonical equivalence, which is what `String` does: NFC and NFD are one.
    case text(String)
    /// Compared byte by byte.
    case exact([UInt8])
  }

  /// A text with the differences of case taken away, one character at a time: what NTFS, SMB and APFS do, without the expansions
  /// (ß stays ß) that only some of them know.
  static func caseFolded(_ text: String) -> String {
    let utf8 = text.utf8
    if utf8.allSatisfy({ $0 < 0x80 }) {
      return utf8.contains { $0 >= 0x41 && $0 <= 0x5a } ? String(decoding: utf8.map(lowercased), as: UTF8.self) : text
    }
    var folded = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      // Upper case first: it brings σ and ς, s and ſ together.
      folded.append(single(single(scalar, \.uppercaseMapping), \.lowercaseMapping))
    }
    return String(folded)
  }

  private static func single(_ scalar: Unicode.Scalar, _ mapping: KeyPath<Unicode.Scalar.Properties, String>) -> Unicode.Scalar {
    let mapped = scalar.properties[keyPath: mapping].unicodeScalars
    guard let first = mapped.first, mapped.count == 1 else { return scalar }
    return first
  }

  /// Goes through all paths that will exist in the run's folder on the NAS, the bookkeeping files too. Those that are not UTF-8 have a finding
  /// of their own.
  private static func forEachPath(of subject: GateSubject, _ body: (RelativePath, String) -> Void) {
    let metadata = subject.snapshot.metadataFolder
    for name in RunSnapshot.bookkeepingNames.sorted() {
      let text = "\(metadata)/\(name)"
      do {
        body(try RelativePath(text), text)
      } catch {
        // A configured metadata folder that is no name has no files that could collide.
        continue
      }
    }
    for entry in subject.snapshot.entries {
      if let text = entry.path.string { body(entry.path, text) }
    }
  }

  /// Of all paths that will exist in the run's folder on the NAS those that may collide, in their order: for each of them there is another one
  /// whose key has the same hash, and of a run of a million files that is in memory, no more.
  /// - Parameter key: What colliding paths have in common; nil for a path that collides with nothing.
  static func candidates(
    in subject: GateSubject, key: (RelativePath, String) -> Key?
  ) -> [(path: RelativePath, text: String)] {
    var hashes: [Int] = []
    hashes.reserveCapacity(subject.snapshot.entries.count + 4)
    forEachPath(of: subject) { path, text in
      if let key = key(path, text) { hashes.append(key.hashValue) }
    }
    hashes.sort()
    let doubled = Set(zip(hashes, hashes.dropFirst()).lazy.filter { $0 == $1 }.map(\.0))
    if doubled.isEmpty { return [] }
    var paths: [(RelativePath, String)] = []
    forEachPath(of: subject) { path, text in
      if let key = key(path, text), doubled.contains(key.hashValue) { paths.append((path, text)) }
    }
    return paths
  }
}
