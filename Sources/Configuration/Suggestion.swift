/// What somebody may have meant by a word that is none of the known ones.
enum Suggestion {
  /// The nearest known word, nil when none is near.
  static func nearest(to word: String, in known: [String]) -> String? {
    func folded(_ text: String) -> [UInt8] { text.lowercased().utf8.filter { $0 != 0x5f && $0 != 0x2d && $0 != 0x20 } }
    let wanted = folded(word)
    guard wanted.count <= 64 else { return nil }
    var best: (word: String, distance: Int)?
    for candidate in known {
      let distance = distance(wanted, folded(candidate))
      if distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    guard let best, best.distance <= max(1, min(wanted.count, best.word.utf8.count) / 3) else { return nil }
    return best.word
  }

  /// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
  static func distance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    if left.isEmpty || right.isEmpty { return left.count + right.count }
    var rows = [[Int]](repeating: [Int](repeating: 0, count: right.count + 1), count: left.count + 1)
    for index in 0...left.count { rows[index][0] = index }
    for index in 0...right.count { rows[0][index] = index }
    for row in 1...left.count {
      for column in 1...right.count {
        let cost = left[row - 1] == right[column - 1] ? 0 : 1
        var value = min(rows[row - 1][column] + 1, rows[row][column - 1] + 1, rows[row - 1][column - 1] + cost)
        if row > 1, column > 1, left[row - 1] == right[column - 2], left[row - 2] == right[column - 1] {
          value = min(value, rows[row - 2][column - 2] + 1)
        }
        rows[row][column] = value
      }
    }
    return rows[left.count][right.count]
  }
}
