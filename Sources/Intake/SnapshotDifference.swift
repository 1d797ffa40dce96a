import SyncModel

/// What differs between two snapshots of one run, for messages and for a new generation.
package struct SnapshotDifference: Hashable, Sendable, CustomStringConvertible {
  /// Sorted by path bytes, as the others.
  package let added: [RelativePath]
  package let removed: [RelativePath]
  /// Another kind, size, modification time, change time or inode; of folders only the kind counts, because their times move with
  /// every file in them.
  package let changed: [RelativePath]

  package var isEmpty: Bool { added.isEmpty && removed.isEmpty && changed.isEmpty }

  /// One line: counts, and the first few names.
  package var description: String {
    if isEmpty { return "no difference" }
    return [("added", added), ("removed", removed), ("changed", changed)]
      .filter { !$0.1.isEmpty }
      .map { name, paths in
        let shown = paths.prefix(3).map(\.description).joined(separator: ", ")
        return "\(paths.count) \(name) (\(shown)\(paths.count > 3 ? ", …" : ""))"
      }
      .joined(separator: "; ")
  }
}

extension RunSnapshot {
  /// What came, went and changed since an earlier snapshot.
  package func difference(from earlier: RunSnapshot) -> SnapshotDifference {
    var added: [RelativePath] = []
    var removed: [RelativePath] = []
    var changed: [RelativePath] = []
    var old = earlier.entries[...]
    // Both are sorted by path bytes.
    for entry in entries {
      while let first = old.first, first.path < entry.path {
        removed.append(first.path)
        old = old.dropFirst()
      }
      if let first = old.first, first.path == entry.path {
        if first.differs(from: entry) { changed.append(entry.path) }
        old = old.dropFirst()
      } else {
        added.append(entry.path)
      }
    }
    removed += old.map(\.path)
    return SnapshotDifference(added: added, removed: removed, changed: changed)
  }
}

extension RunEntry {
  fileprivate func differs(from other: RunEntry) -> Bool {
    if kind != other.kind { return true }
    return kind != .folder && fingerprint.contentDifference(from: other.fingerprint) != nil
  }
}
