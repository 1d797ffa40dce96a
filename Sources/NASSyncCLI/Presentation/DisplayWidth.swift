/// How many columns of a terminal a text takes: two for East Asian wide characters and emoji, none for marks that combine.
///
/// The ranges are the wide blocks of Unicode Standard Annex #11, coarse on purpose: a table that is off by a column is a blemish only.
func displayWidth(_ text: String) -> Int { isPlain(text) ? text.utf8.count : text.reduce(0) { $0 + displayWidth($1) } }

/// Whether a text is printable ASCII, as most names are: it is shown as it is, a column a byte.
func isPlain(_ text: String) -> Bool { text.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f } }

private func displayWidth(_ character: Character) -> Int {
  guard let first = character.unicodeScalars.first else { return 0 }
  switch first.properties.generalCategory {
  case .nonspacingMark, .enclosingMark, .format, .control: return 0
  default: break
  }
  if first.properties.isEmojiPresentation { return 2 }
  switch first.value {
  case 0x1100...0x115f, 0x2e80...0x303e, 0x3041...0x33ff, 0x3400...0x4dbf, 0x4e00...0x9fff, 0xa000...0xa4cf, 0xac00...0xd7a3,
    0xf900...0xfaff,
    0xfe30...0xfe4f, 0xff00...0xff60, 0xffe0...0xffe6, 0x1f300...0x1faff, 0x20000...0x3fffd:
    return 2
  default: return 1
  }
}

/// The text in at most `width` columns, its middle replaced by `…` where it is longer: of a path, both ends tell most.
func shortened(_ text: String, to width: Int) -> String {
  guard displayWidth(text) > width else { return text }
  guard width > 1 else { return width == 1 ? "…" : "" }
  let room = width - 1
  var front: [Character] = []
  var back: [Character] = []
  var used = 0
  var rest = Array(text)[...]
  // From both ends in turn, the end first: that is where the file's name is.
  while true {
    if let last = rest.last, used + displayWidth(last) <= room, back.count <= front.count * 2 {
      back.append(last)
      used += displayWidth(last)
      rest = rest.dropLast()
    } else if let first = rest.first, used + displayWidth(first) <= room {
      front.append(first)
      used += displayWidth(first)
      rest = rest.dropFirst()
    } else {
      return String(front) + "…" + String(back.reversed())
    }
  }
}
