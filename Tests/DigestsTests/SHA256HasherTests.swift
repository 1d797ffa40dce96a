import Digests
import SyncModel
import Testing

/// Known answers of FIPS 180-4 (NIST's example values and its CAVP short-message file).
@Suite struct SHA256HasherTests {
  static let answers: [(message: [UInt8], digest: String)] = [
    ([], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (Array("abc".utf8), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8),
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
    ([0xd3], "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"),
    ([UInt8](repeating: 0x61, count: 1_000_000), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
  ]

  @Test(arguments: answers.indices) func knownAnswer(_ index: Int) {
    let (message, digest) = Self.answers[index]
    #expect(SHA256Hasher.digest(of: message)?.hex == digest)
  }

  @Test func piecesOfAnySizeGiveTheDigestOfTheWhole() {
    let message = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    let whole = SHA256Hasher.digest(of: message)
    for size in [1, 55, 56, 63, 64, 65, 127, 128, 4_096, 9_999] {
      var hasher = SHA256Hasher()
      var rest = message[...]
      while !rest.isEmpty {
        hasher.update(Array(rest.prefix(size)))
        hasher.update([])
        rest = rest.dropFirst(size)
      }
      let digest = hasher.finalize()
      #expect(digest == whole, "pieces of \(size)")
    }
  }

  @Test func onlyTheBytesGivenCount() {
    let buffer = Array("xxabcyy".utf8)
    var hasher = SHA256Hasher()
    buffer.withUnsafeBytes { hasher.update(UnsafeRawBufferPointer(rebasing: $0[2..<5])) }
    let digest = hasher.finalize()
    #expect(digest == SHA256Hasher.digest(of: Array("abc".utf8)))
    #expect(digest != SHA256Hasher.digest(of: Array("abd".utf8)))
  }
}
