import SyncModel
import Testing

@Suite struct DisplayTextTests {
  @Test(arguments: ["plain.txt", "Zürich", "日本語", "🔬", "a b  c", "quote\"'`", "$(id)", "back\\slash", "e\u{301}"])
  func textIsShownAsItIs(_ text: String) {
    #expect(Array(displayText(text).utf8) == Array(text.utf8))
  }

  @Test(arguments: [
    ("a\nb", "a\\u{a}b"), ("a\rb", "a\\u{d}b"), ("\u{1b}[31m", "\\u{1b}[31m"), ("\0", "\\u{0}"), ("\u{7f}", "\\u{7f}"),
    ("\u{9b}", "\\u{9b}"),
    ("\r\n", "\\u{d}\\u{a}"), ("x\u{202e}gpj.exe", "x\\u{202e}gpj.exe"), ("\u{2066}a\u{2069}", "\\u{2066}a\\u{2069}"),
    ("\u{200b}", "\\u{200b}"),
    ("\u{feff}", "\\u{feff}"), ("\u{2028}", "\\u{2028}"), ("\u{e000}", "\\u{e000}"), ("\u{61c}", "\\u{61c}"),
  ])
  func whatWouldSteerATerminalOrHideIsEscaped(_ text: String, _ shown: String) {
    #expect(displayText(text) == shown)
  }

  @Test(
    arguments: [
      ([0xff], "\\xff"), ([0x61, 0x80, 0x62], "a\\x80b"), ([0xc3], "\\xc3"), ([0xc3, 0x28], "\\xc3("), ([0xc0, 0xaf], "\\xc0\\xaf"),
      ([0xed, 0xa0, 0x80], "\\xed\\xa0\\x80"), ([0xf0, 0x9f, 0x94], "\\xf0\\x9f\\x94"), ([0xf5, 0x80, 0x80, 0x80], "\\xf5\\x80\\x80\\x80"),
      ([0xe2, 0x82, 0xac, 0xff], "€\\xff"),
    ] as [([UInt8], String)])
  func bytesThatAreNotUTF8AreShownOneByOne(_ bytes: [UInt8], _ shown: String) {
    #expect(displayText(of: bytes) == shown)
  }

  @Test func noByteOrPairOfBytesReachesTheTerminalAsAControl() {
    for first in UInt8.min...UInt8.max {
      for second in UInt8.min...UInt8.max {
        let shown = displayText(of: [first, second])
        if shown.unicodeScalars.contains(where: { $0.value < 0x20 || (0x7f...0x9f).contains($0.value) }) {
          Issue.record("\(first), \(second)")
        }
      }
    }
  }
}
