/// Bytes of a name as text that is safe in a log, a terminal or a page.
///
/// What is not UTF-8 becomes `\xNN`; control characters, bidirectional controls and other invisible format characters become `\u{N}`.
/// Everything else is shown as it is.
public func displayText(of bytes: some Sequence<UInt8>) -> String {
  var rest = Array(bytes)[...]
  var result = ""
  while let first = rest.first {
    let length = sequenceLength(startingWith: first)
    let candidate = rest.prefix(length)
    if length > 0, candidate.count == length, let text = String(validating: candidate, as: UTF8.self) {
      for scalar in text.unicodeScalars {
        if isUnsafeToShow(scalar) {
          result += "\\u{" + String(scalar.value, radix: 16) + "}"
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
      rest = rest.dropFirst(length)
    } else {
      result += "\\x" + (first < 16 ? "0" : "") + String(first, radix: 16)
      rest = rest.dropFirst()
    }
  }
  return result
}

/// `displayText(of:)` for text.
public func displayText(_ text: String) -> String { displayText(of: text.utf8) }

private func sequenceLength(startingWith byte: UInt8) -> Int {
  switch byte {
  case 0x00...0x7f: 1
  case 0xc2...0xdf: 2
  case 0xe0...0xef: 3
  case 0xf0...0xf4: 4
  default: 0
  }
}

private func isUnsafeToShow(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.properties.generalCategory {
  case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: true
  default: false
  }
}
