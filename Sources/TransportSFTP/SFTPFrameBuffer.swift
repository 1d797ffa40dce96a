import SyncModel

/// Cuts a stream of bytes into packets. Bytes are read straight into its storage and a packet is decoded where it lies; what is left of
/// an incomplete one moves to the front only when the room behind it is used up, so each byte moves a bounded number of times.
package struct SFTPFrameBuffer {
  /// 256 KiB, what every server takes, and room for the header of a packet that carries so much.
  package static let ordinaryLimit = 256 * 1024 + 1024
  /// No packet is longer, whatever the server says.
  package static let utmostLimit = 1024 * 1024

  /// The longest packet taken, without its length prefix.
  package private(set) var limit = ordinaryLimit
  private var storage: [UInt8]
  private var start = 0
  private var end = 0

  package init() { storage = [UInt8](repeating: 0, count: 2 * Self.ordinaryLimit) }

  /// Takes longer packets, within `utmostLimit`.
  package mutating func raiseLimit(to length: UInt64) {
    limit = max(limit, Int(min(length, UInt64(Self.utmostLimit))))
  }

  /// Bytes received and not taken yet.
  package var count: Int { end - start }

  /// Lets `fill` write behind what is there; it returns how many bytes it wrote.
  package mutating func receive<Failure: Error>(
    _ fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
  ) throws(Failure) {
    if start == end {
      start = 0
      end = 0
    }
    let needed = limit + 4
    if storage.count < 2 * needed { storage.append(contentsOf: [UInt8](repeating: 0, count: 2 * needed - storage.count)) }
    if storage.count - end < needed / 2 {
      let (from, length) = (start, end - start)
      storage.withUnsafeMutableBytes { bytes in
        bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[from..<from + length]))
      }
      start = 0
      end = length
    }
    let position = end
    let result: Result<Int, Failure> = storage.withUnsafeMutableBytes { bytes in
      do throws(Failure) {
        return .success(try fill(UnsafeMutableRawBufferPointer(rebasing: bytes[position...])))
      } catch {
        return .failure(error)
      }
    }
    end = position + min(max(try result.get(), 0), storage.count - position)
  }

  /// The next whole packet, without its length prefix, decoded by `read`; nil while none is complete.
  /// - Throws: `SFTPMalformed` where the length is impossible, or `read` says so.
  package mutating func next<Value>(
    _ read: (UnsafeRawBufferPointer) throws(SFTPMalformed) -> Value
  ) throws(SFTPMalformed) -> Value? {
    guard count >= 4 else { return nil }
    let header = storage[start..<start + 4]
    let length = header.reduce(0) { $0 << 8 | Int($1) }
    guard length >= 1, length <= limit else {
      // A login script that prints something is the usual reason; its words help whoever must mend it.
      if header.allSatisfy({ (0x20...0x7e).contains($0) || (0x09...0x0d).contains($0) }) {
        let text = displayText(of: storage[start..<min(end, start + 120)])
        throw SFTPMalformed("the server sent text instead of SFTP: “\(text)”; a login script there must print nothing")
      }
      throw SFTPMalformed("a packet of \(length) bytes; at most \(limit) are taken")
    }
    guard count >= 4 + length else { return nil }
    let body = start + 4
    start = body + length
    let result: Result<Value, SFTPMalformed> = storage.withUnsafeBytes { bytes in
      do throws(SFTPMalformed) {
        return .success(try read(UnsafeRawBufferPointer(rebasing: bytes[body..<body + length])))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
