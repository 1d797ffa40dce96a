/// Bytes that do not compress and do not repeat, the same for the same seed: xorshift64 by Marsaglia, eight bytes a step, because tests are built
/// without the optimizer.
public func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
  return [UInt8](unsafeUninitializedCapacity: count + 8) { buffer, initialized in
    let bytes = UnsafeMutableRawBufferPointer(buffer)
    var index = 0
    while index < count {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      bytes.storeBytes(of: state, toByteOffset: index, as: UInt64.self)
      index &+= 8
    }
    initialized = count
  }
}
