/// Finds what somebody who mistyped a word probably meant.
enum Spelling {
  /// The candidate with the fewest slips from the word, where there are few enough for it to be one; the first of several.
  static func nearest(to word: String, among candidates: [String]) -> String? {
    let typed = Array(word.utf8)
    let tolerance = typed.count <= 4 ? 1 : typed.count <= 8 ? 2 : 3
    var best: (candidate: String, distance: Int)?
    for candidate in candidates {
      let target = Array(candidate.utf8)
      guard abs(target.count - typed.count) <= tolerance || (typed.count >= 3 && target.starts(with: typed)) else { continue }
      // The beginning of a word is no slip: `--eq`, `stat`.
      let distance = typed.count >= 3 && target.starts(with: typed) ? 0 : slips(typed, target)
      if distance <= tolerance, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.candidate
  }

  /// The number of letters left out, added, changed, or swapped with their neighbour (optimal string alignment).
  static func slips(_ left: [UInt8], _ right: [UInt8]) -> Int {
    var twoAbove: [Int] = []
    var above = Array(0...right.count)
    for (row, letter) in left.enumerated() {
      var current = [row + 1]
      for (column, other) in right.enumerated() {
        var cost = min(above[column + 1] + 1, current[column] + 1, above[column] + (letter == other ? 0 : 1))
        if row > 0, column > 0, letter == right[column - 1], left[row - 1] == other { cost = min(cost, twoAbove[column - 1] + 1) }
        current.append(cost)
      }
      twoAbove = above
      above = current
    }
    return above[right.count]
  }
}
