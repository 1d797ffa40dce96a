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

extension RunSnapshot {
  /// Whether there is something that none of the known entries is: a new name, or another kind, size, modification time or link target.
  ///
  /// Weaker than `difference(from:)`: what is gone cannot be sent, and a change time or inode alone moves with permissions, owners and a
  /// restored backup, which is no reason to read thousands of old runs again.
  package func hasNews(beside known: [RunEntry]) -> Bool {
    var old: [RelativePath: RunEntry] = [:]
    for entry in known { old[entry.path] = entry }
    let metadata = Array(metadataFolder.utf8)
    return entries.contains { entry in
      // Where the run had none, this program made it.
      if entry.kind == .folder, entry.path.bytes == metadata { return false }
      guard let before = old[entry.path], before.kind == entry.kind else { return true }
      guard entry.kind == .file else { return false }
      return before.fingerprint.size != entry.fingerprint.size || before.fingerprint.modified != entry.fingerprint.modified
    }
  }
}
