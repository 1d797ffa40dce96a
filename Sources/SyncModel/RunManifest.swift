/// The list of a run's files and their digests, in the text format of GNU `sha256sum`.
///
/// Format: one line a file, `<64 hex digits>  <name>\n`, sorted by the bytes of the path. Where the name has a newline, a carriage
/// return or a backslash, the line starts with `\` and the name's are written `\n`, `\r` and `\\` (GNU coreutils, `md5sum` invocation).
/// A file named `-` is written `./-`, because `sha256sum -c` takes a bare `-` for its standard input.
public struct RunManifest: Hashable, Sendable {
  /// One file.
  public struct Entry: Hashable, Sendable {
    /// Where.
    public let path: RelativePath
    /// Of the whole file.
    public let digest: ContentDigest
    /// Takes the values as they are.
    public init(path: RelativePath, digest: ContentDigest) {
      self.path = path
      self.digest = digest
    }
  }

  /// Sorted by path bytes, no path twice.
  public let entries: [Entry]

  /// Why a text is no manifest.
  public struct Malformed: Error, Hashable, Sendable, CustomStringConvertible {
    /// The first line that is wrong, from 1.
    public let line: Int
    /// What is wrong there.
    public let reason: String
    /// Safe to show.
    public var description: String { "line \(line): \(reason)" }
  }

  /// Sorts the entries; of a path given twice the last one counts.
  public init(_ entries: some Sequence<Entry>) {
    let given = Array(entries)
    // What comes from the queue is in order already, and there may be a million of them.
    if zip(given, given.dropFirst()).allSatisfy({ $0.path < $1.path }) {
      self.entries = given
      return
    }
    var unique: [RelativePath: ContentDigest] = [:]
    for entry in given { unique[entry.path] = entry.digest }
    self.entries = unique.map { Entry(path: $0.key, digest: $0.value) }.sorted { $0.path < $1.path }
  }

  /// The text, as bytes: names need not be UTF-8.
  public var encoded: [UInt8] {
    var text: [UInt8] = []
    for entry in entries {
      let escapes = entry.path.bytes.contains { $0 == 0x0a || $0 == 0x0d || $0 == 0x5c }
      if escapes { text.append(0x5c) }
      text += Array(entry.digest.hex.utf8)
      text += [0x20, 0x20]
      if escapes {
        for byte in entry.path.bytes {
          switch byte {
          case 0x0a: text += [0x5c, 0x6e]
          case 0x0d: text += [0x5c, 0x72]
          case 0x5c: text += [0x5c, 0x5c]
          default: text.append(byte)
          }
        }
      } else {
        if entry.path.bytes == [0x2d] { text += [0x2e, 0x2f] }
        text += entry.path.bytes
      }
      text.append(0x0a)
    }
    return text
  }

  /// Reads a manifest strictly: what is not exactly of the format, or names a path outside the run, or a path twice, is refused.
  /// - Throws: `Malformed` with the line.
  public init(parsing text: [UInt8]) throws(Malformed) {
    var entries: [Entry] = []
    var seen: Set<RelativePath> = []
    var number = 0
    var lines = text.split(separator: 0x0a, omittingEmptySubsequences: false)
    guard let tail = lines.popLast(), tail.isEmpty else {
      throw Malformed(line: lines.count + 1, reason: "the last line has no end; the file is cut")
    }
    for line in lines {
      number += 1
      var rest = line
      let escaped = rest.first == 0x5c
      if escaped { rest = rest.dropFirst() }
      guard rest.count > 66, let digest = ContentDigest(hex: rest.prefix(64)) else {
        throw Malformed(line: number, reason: "it does not start with 64 hexadecimal digits and a name")
      }
      let separator = Array(rest.dropFirst(64).prefix(2))
      guard separator == [0x20, 0x20] || separator == [0x20, 0x2a] else {
        throw Malformed(line: number, reason: "two spaces, or a space and an asterisk, stand between digest and name")
      }
      var name = Array(rest.dropFirst(66))
      if escaped {
        guard let plain = Self.unescape(name) else { throw Malformed(line: number, reason: "an escape other than \\\\, \\n and \\r") }
        name = plain
      }
      if name.starts(with: [0x2e, 0x2f]) { name.removeFirst(2) }
      let path: RelativePath
      do { path = try RelativePath(bytes: name) } catch {
        throw Malformed(line: number, reason: "the name is not inside the run")
      }
      guard seen.insert(path).inserted else { throw Malformed(line: number, reason: "\(path) is listed twice") }
      entries.append(Entry(path: path, digest: digest))
    }
    self.entries = entries.sorted { $0.path < $1.path }
  }

  private static func unescape(_ name: [UInt8]) -> [UInt8]? {
    var plain: [UInt8] = []
    var index = 0
    while index < name.count {
      if name[index] == 0x5c {
        guard index + 1 < name.count else { return nil }
        switch name[index + 1] {
        case 0x6e: plain.append(0x0a)
        case 0x72: plain.append(0x0d)
        case 0x5c: plain.append(0x5c)
        default: return nil
        }
        index += 2
      } else {
        plain.append(name[index])
        index += 1
      }
    }
    return plain
  }
}
