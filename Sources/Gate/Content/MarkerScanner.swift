/// Finds what a template leaves behind, in one pass over the bytes.
enum MarkerScanner {
  /// A place in a text.
  struct Match: Hashable {
    let range: Range<Int>
    /// From 1, counted from the start of the text.
    let line: Int
  }

  /// `<` a letter or underscore, more of them or digits, `>`.
  static func placeholders(in bytes: some RandomAccessCollection<UInt8>, limit: Int) -> (matches: [Match], count: Int) {
    collect(bytes, limit: limit) { buffer, index in
      guard buffer[index] == UInt8(ascii: "<") else { return nil }
      var end = index + 1
      while end < buffer.count, isWord(buffer[end]) { end += 1 }
      guard end > index + 1, end < buffer.count, buffer[end] == UInt8(ascii: ">"), !isDigit(buffer[index + 1]) else { return nil }
      return end + 1
    }
  }

  /// `{{`, anything but `}`, `}}`; and `{%`, anything but `%`, `%}`. May span lines.
  static func jinjaMarkers(in bytes: some RandomAccessCollection<UInt8>, limit: Int) -> (matches: [Match], count: Int) {
    // The next closing byte of each kind, kept so that many openings without an end do not cost a search each.
    var nextBrace = 0
    var nextPercent = 0
    return collect(bytes, limit: limit) { buffer, index in
      guard buffer[index] == UInt8(ascii: "{"), index + 1 < buffer.count else { return nil }
      switch buffer[index + 1] {
      case UInt8(ascii: "{"):
        nextBrace = max(nextBrace, index + 2)
        while nextBrace < buffer.count, buffer[nextBrace] != UInt8(ascii: "}") { nextBrace += 1 }
        return nextBrace + 1 < buffer.count && buffer[nextBrace + 1] == UInt8(ascii: "}") ? nextBrace + 2 : nil
      case UInt8(ascii: "%"):
        nextPercent = max(nextPercent, index + 2)
        while nextPercent < buffer.count, buffer[nextPercent] != UInt8(ascii: "%") { nextPercent += 1 }
        return nextPercent + 1 < buffer.count && buffer[nextPercent + 1] == UInt8(ascii: "}") ? nextPercent + 2 : nil
      default: return nil
      }
    }
  }

  /// - Parameter matcher: The end of a match that starts at the index, nil for none.
  private static func collect(
    _ bytes: some RandomAccessCollection<UInt8>, limit: Int, _ matcher: (UnsafeBufferPointer<UInt8>, Int) -> Int?
  ) -> (matches: [Match], count: Int) {
    var matches: [Match] = []
    var count = 0
    func scan(_ buffer: UnsafeBufferPointer<UInt8>) {
      var line = 1
      var index = 0
      while index < buffer.count {
        if let end = matcher(buffer, index) {
          count += 1
          if matches.count < limit { matches.append(Match(range: index..<end, line: line)) }
          while index < end {
            if buffer[index] == 0x0a { line += 1 }
            index += 1
          }
        } else {
          if buffer[index] == 0x0a { line += 1 }
          index += 1
        }
      }
    }
    if bytes.withContiguousStorageIfAvailable(scan) == nil { Array(bytes).withUnsafeBufferPointer(scan) }
    return (matches, count)
  }

  private static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }

  private static func isWord(_ byte: UInt8) -> Bool {
    (lowercased(byte) >= 0x61 && lowercased(byte) <= 0x7a) || byte == 0x5f || isDigit(byte)
  }
}
