import SyncModel

/// Rows in aligned columns, for people. Cells are escaped, so a file's name cannot move the cursor or start a new row.
package struct TextTable: Sendable {
  /// On which side of its column a cell stands.
  package enum Alignment: Hashable, Sendable { case left, right }

  /// A column: its heading, its side, and whether it gives way first where the terminal is too narrow.
  package struct Column: Hashable, Sendable {
    package let heading: String
    package let alignment: Alignment
    package let shrinks: Bool

    package init(_ heading: String, _ alignment: Alignment = .left, shrinks: Bool = false) {
      self.heading = heading
      self.alignment = alignment
      self.shrinks = shrinks
    }
  }

  private let columns: [Column]
  private var rows: [[String]] = []

  package init(_ columns: [Column]) { self.columns = columns }

  /// Adds a row. Cells that are missing are empty; cells beyond the columns are not shown.
  package mutating func add(_ cells: [String]) {
    rows.append(
      columns.indices.map { index in
        guard cells.indices.contains(index) else { return "" }
        return isPlain(cells[index]) ? cells[index] : displayText(cells[index])
      })
  }

  package var isEmpty: Bool { rows.isEmpty }

  /// The lines, headings first, without trailing blanks.
  /// - Parameter width: Columns of the terminal; nil where the output is no terminal and nothing is cut.
  package func lines(width: Int? = nil) -> [String] {
    let headings = columns.map(\.heading)
    var widths = columns.indices.map { index in ([headings] + rows).map { displayWidth($0[index]) }.max() ?? 0 }
    if let width {
      let excess = widths.reduce(0, +) + 2 * (columns.count - 1) - width
      if excess > 0 { shrink(&widths, by: excess) }
    }
    return ([headings] + rows).map { row in
      var line = ""
      for index in columns.indices {
        let cell = shortened(row[index], to: widths[index])
        let blanks = String(repeating: " ", count: max(0, widths[index] - displayWidth(cell)))
        line += (index > 0 ? "  " : "") + (columns[index].alignment == .right ? blanks + cell : cell + blanks)
      }
      let trailing = line.utf8.reversed().prefix { $0 == UInt8(ascii: " ") }.count
      return trailing == 0 ? line : String(decoding: line.utf8.dropLast(trailing), as: UTF8.self)
    }
  }

  /// Takes from the widest column that may give way, a column of the terminal at a time, down to a width where something is still readable.
  private func shrink(_ widths: inout [Int], by excess: Int) {
    for _ in 0..<excess {
      let candidates = columns.indices.filter { columns[$0].shrinks && widths[$0] > 12 }
      guard let widest = candidates.max(by: { widths[$0] < widths[$1] }) else { return }
      widths[widest] -= 1
    }
  }
}
