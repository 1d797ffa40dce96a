import CLibCrypto
import SyncModel

/// Incremental SHA-256 by libcrypto, which uses the CPU's SHA instructions. Owns its `EVP_MD_CTX`.
package struct SHA256Hasher: ~Copyable {
  /// Looked up once: looking it up takes as long as hashing a small file. Never changed or freed, so any thread may use it. Nil, which fails
  /// every hasher, where a policy forbids SHA-256.
  fileprivate nonisolated(unsafe) static let algorithm: OpaquePointer? = EVP_MD_fetch(nil, "SHA2-256", nil)

  private let context: OpaquePointer?
  private var failed = false

  package init() {
    let context = EVP_MD_CTX_new()
    self.context = context
    failed = context == nil || EVP_DigestInit_ex(context, Self.algorithm, nil) != 1
  }

  deinit { EVP_MD_CTX_free(context) }

  /// Adds bytes.
  package mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard !failed, let base = bytes.baseAddress, bytes.count > 0 else { return }
    if EVP_DigestUpdate(context, base, bytes.count) != 1 { failed = true }
  }

  /// Adds bytes.
  package mutating func update(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { update($0) }
  }

  /// The digest of all bytes given, after which the hasher is used up. Nil when libcrypto refused (a FIPS policy that forbids SHA-256,
  /// or no memory): nothing can be proven then.
  package consuming func finalize() -> ContentDigest? {
    guard !failed else { return nil }
    var digest = [UInt8](repeating: 0, count: 32)
    var length: UInt32 = 0
    guard EVP_DigestFinal_ex(context, &digest, &length) == 1, length == 32 else { return nil }
    return ContentDigest(bytes: digest)
  }

  /// The digest of a whole buffer.
  package static func digest(of bytes: [UInt8]) -> ContentDigest? {
    var hasher = SHA256Hasher()
    hasher.update(bytes)
    return hasher.finalize()
  }
}

/// SHA-256 of many small buffers, one after the other: what hashing one of 150 bytes takes is mostly the making of a context, which is kept here.
/// Used on one thread at a time.
package final class SmallSHA256 {
  private let context = EVP_MD_CTX_new()

  package init() {}

  deinit { EVP_MD_CTX_free(context) }

  /// The first 8 bytes of a buffer's digest, the first of them the highest. Nil when libcrypto refused, as in `SHA256Hasher.finalize`.
  package func prefix(of bytes: UnsafeRawBufferPointer) -> UInt64? {
    guard let context, EVP_DigestInit_ex(context, SHA256Hasher.algorithm, nil) == 1 else { return nil }
    if let base = bytes.baseAddress, bytes.count > 0, EVP_DigestUpdate(context, base, bytes.count) != 1 { return nil }
    return withUnsafeTemporaryAllocation(byteCount: 32, alignment: 8) { digest in
      var length: UInt32 = 0
      let result = digest.baseAddress?.assumingMemoryBound(to: UInt8.self)
      guard EVP_DigestFinal_ex(context, result, &length) == 1, length == 32 else { return nil }
      return digest.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
  }
}
