import SyncModel

/// An `exclude` pattern of an equipment profile, matched on bytes and with regard to case.
///
/// Without a slash it is matched with the last name of a path at any depth; with one, with the whole path below the run's root.
/// `*` stands for any bytes of one name, `?` for one character, `[a-z]` and `[!a-z]` for one of a set, `\` takes the next byte as it is,
/// and `**` as a whole segment for any number of folders. A trailing `/` restricts the pattern to folders.
package struct ExcludePattern: Sendable {
  private let segments: [[UInt8]]
  private let matchesWholePath: Bool
  private let foldersOnly: Bool

  /// Every text is a pattern.
  package init(_ text: String) {
    var bytes = Array(text.utf8)
    foldersOnly = bytes.count > 1 && bytes.last == UInt8(ascii: "/")
    if foldersOnly { bytes.removeLast() }
    matchesWholePath = bytes.contains(UInt8(ascii: "/"))
    segments = bytes.split(separator: UInt8(ascii: "/")).map(Array.init)
  }

  /// Whether the pattern takes this entry out of the run.
  package func matches(_ path: RelativePath, isFolder: Bool) -> Bool {
    if foldersOnly && !isFolder { return false }
    if !matchesWholePath {
      guard let pattern = segments.first else { return false }
      let start = path.bytes.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0
      return Self.matchName(pattern, path.bytes[start...])
    }
    return matchPath(path.segments)
  }

  /// Two-pointer matching: the last `**` is the only one that need be tried again, so it never takes exponential time.
  private func matchPath(_ names: [ArraySlice<UInt8>]) -> Bool {
    var pattern = 0
    var name = 0
    var retry: (pattern: Int, name: Int)?
    while name < names.count {
      if pattern < segments.count, segments[pattern] == [0x2a, 0x2a] {
        retry = (pattern + 1, name)
        pattern += 1
      } else if pattern < segments.count, Self.matchName(segments[pattern], names[name]) {
        pattern += 1
        name += 1
      } else if let (again, from) = retry {
        retry = (again, from + 1)
        pattern = again
        name = from + 1
      } else {
        return false
      }
    }
    return segments[pattern...].allSatisfy { $0 == [0x2a, 0x2a] }
  }

  private static func matchName(_ pattern: [UInt8], _ slice: ArraySlice<UInt8>) -> Bool {
    var at = 0
    var index = slice.startIndex
    var retry: (pattern: Int, index: Int)?
    while index < slice.endIndex {
      if at < pattern.count, pattern[at] == UInt8(ascii: "*") {
        retry = (at + 1, index)
        at += 1
      } else if at < pattern.count, let (nextPattern, nextIndex) = matchOne(pattern, at, slice, index) {
        at = nextPattern
        index = nextIndex
      } else if let (again, from) = retry {
        retry = (again, from + 1)
        at = again
        index = from + 1
      } else {
        return false
      }
    }
    return pattern[at...].allSatisfy { $0 == UInt8(ascii: "*") }
  }

  /// One element of the pattern against one character; nil where they differ.
  private static func matchOne(_ pattern: [UInt8], _ at: Int, _ slice: ArraySlice<UInt8>, _ index: Int) -> (Int, Int)? {
    switch pattern[at] {
    case UInt8(ascii: "?"):
      var next = index + 1
      // The continuation bytes of one UTF-8 character.
      while slice[index] >= 0xc0, next < slice.endIndex, slice[next] & 0xc0 == 0x80 { next += 1 }
      return (at + 1, next)
    case UInt8(ascii: "["):
      guard let (next, contains) = matchSet(pattern, at, slice[index]) else {
        return slice[index] == pattern[at] ? (at + 1, index + 1) : nil
      }
      return contains ? (next, index + 1) : nil
    case UInt8(ascii: "\\") where at + 1 < pattern.count:
      return pattern[at + 1] == slice[index] ? (at + 2, index + 1) : nil
    default:
      return pattern[at] == slice[index] ? (at + 1, index + 1) : nil
    }
  }

  /// Where the set ends and whether it holds the byte; nil where the bracket is never closed and stands for itself.
  private static func matchSet(_ pattern: [UInt8], _ start: Int, _ byte: UInt8) -> (Int, Bool)? {
    var at = start + 1
    let negated = at < pattern.count && (pattern[at] == UInt8(ascii: "!") || pattern[at] == UInt8(ascii: "^"))
    if negated { at += 1 }
    var found = false
    var isFirst = true
    while at < pattern.count, isFirst || pattern[at] != UInt8(ascii: "]") {
      isFirst = false
      let low = pattern[at]
      if at + 2 < pattern.count, pattern[at + 1] == UInt8(ascii: "-"), pattern[at + 2] != UInt8(ascii: "]") {
        if low <= byte && byte <= pattern[at + 2] { found = true }
        at += 3
      } else {
        if low == byte { found = true }
        at += 1
      }
    }
    return at < pattern.count ? (at + 1, found != negated) : nil
  }
}
