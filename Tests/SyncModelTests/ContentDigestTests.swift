import Foundation
import SyncModel
import Testing

@Suite struct ContentDigestTests {
  static let hex = "00112233445566778899aabbccddeeffA0b1C2d3E4f5061728394a5b6c7d8e9f"

  @Test func eitherCaseIsReadAndLowerCaseWritten() throws {
    let digest = try #require(ContentDigest(hex: Self.hex))
    #expect(digest.bytes.prefix(4) == [0x00, 0x11, 0x22, 0x33])
    #expect(digest.bytes.last == 0x9f)
    #expect(digest.hex == Self.hex.lowercased())
    #expect(ContentDigest(hex: digest.hex) == digest)
    #expect(ContentDigest(bytes: digest.bytes) == digest)
  }

  @Test(arguments: [
    "", String(hex.dropLast()), hex + "0", hex.replacingOccurrences(of: "A0", with: "g0"), " " + hex.dropLast(), hex.dropLast() + "\n",
    String(repeating: "\u{ff10}", count: 64), String(repeating: "+1", count: 32),
  ])
  func whatIsNot64HexadecimalDigitsIsNoDigest(_ text: String) {
    #expect(ContentDigest(hex: text) == nil)
  }

  @Test(arguments: [0, 31, 33, 64]) func onlyThirtyTwoBytesAreADigest(_ count: Int) {
    #expect(ContentDigest(bytes: [UInt8](repeating: 1, count: count)) == nil)
  }

  @Test func everyByteSurvivesTheText() throws {
    for start in stride(from: 0, to: 256, by: 32) {
      let bytes = (start..<start + 32).map { UInt8($0) }
      let digest = try #require(ContentDigest(bytes: bytes))
      #expect(ContentDigest(hex: digest.hex)?.bytes == bytes)
    }
  }

  @Test func jsonIsTheTextAndWrongTextIsRefused() throws {
    let digest = try #require(ContentDigest(hex: Self.hex))
    let data = try JSONEncoder().encode([digest])
    #expect(String(decoding: data, as: UTF8.self) == "[\"\(digest.hex)\"]")
    #expect(try JSONDecoder().decode([ContentDigest].self, from: data) == [digest])
    #expect(throws: DecodingError.self) { try JSONDecoder().decode([ContentDigest].self, from: Data("[\"abc\"]".utf8)) }
  }
}
