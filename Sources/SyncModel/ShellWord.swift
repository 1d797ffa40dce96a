/// A word as it can be typed into bash, zsh or fish, and safe to show: whatever the shell or the terminal would take for something else is
/// quoted; control characters are spelled `$'\x1b'`, which bash and zsh read.
package func shellWord(_ word: String) -> String {
  let plain = word.utf8.allSatisfy { byte in
    switch byte {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
    default: Array("/._-+:,@".utf8).contains(byte)
    }
  }
  if plain, !word.isEmpty { return word }
  if displayText(word) == word {
    return "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: #"'\''"#) + "'"
  }
  var text = "$'"
  for scalar in word.unicodeScalars {
    let shown = String(scalar)
    if scalar == "'" || scalar == "\\" {
      text += "\\" + shown
    } else if displayText(shown) == shown {
      text += shown
    } else {
      for byte in shown.utf8 { text += #"\x"# + (byte < 16 ? "0" : "") + String(byte, radix: 16) }
    }
  }
  return text + "'"
}
