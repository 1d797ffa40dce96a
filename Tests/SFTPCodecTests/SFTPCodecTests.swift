import Testing
import TransportSFTP

@Suite struct SFTPCodecTests {
  private func decode(_ bytes: [UInt8]) throws -> (id: UInt32, reply: SFTPReply) {
    let result: Result<(id: UInt32, reply: SFTPReply), SFTPMalformed> = bytes.withUnsafeBytes { buffer in
      do throws(SFTPMalformed) { return .success(try SFTPReply.decode(buffer)) } catch { return .failure(error) }
    }
    return try result.get()
  }

  private func encode(_ request: SFTPRequest) -> [UInt8] {
    var packet: [UInt8] = []
    request.append(to: &packet, id: 0x0102_0304)
    return packet
  }

  /// Bytes as the draft and OpenSSH's PROTOCOL file say.
  @Test func requestsOnTheWire() {
    #expect(SFTPRequest.initialPacket == [0, 0, 0, 5, 1, 0, 0, 0, 3])
    let handle = SFTPHandle(bytes: [9])
    #expect(
      encode(.open([0x61], [.write, .create, .exclusive], SFTPAttributes()))
        == [0, 0, 0, 18, 3, 1, 2, 3, 4, 0, 0, 0, 1, 0x61, 0, 0, 0, 0x2a, 0, 0, 0, 0])
    #expect(encode(.close(handle)) == [0, 0, 0, 10, 4, 1, 2, 3, 4, 0, 0, 0, 1, 9])
    #expect(
      encode(.write(handle, offset: 0x1122_3344_5566_7788, length: 5))
        == [0, 0, 0, 27, 6, 1, 2, 3, 4, 0, 0, 0, 1, 9, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 5])
    #expect(
      encode(.fsetstat(handle, SFTPAttributes(permissions: 0o644, modified: 7)))
        == [0, 0, 0, 26, 10, 1, 2, 3, 4, 0, 0, 0, 1, 9, 0, 0, 0, 12, 0, 0, 1, 0xa4, 0, 0, 0, 7, 0, 0, 0, 7])
    #expect(
      encode(.symlink(at: [0x6c], target: [0x74])) == [0, 0, 0, 15, 20, 1, 2, 3, 4, 0, 0, 0, 1, 0x74, 0, 0, 0, 1, 0x6c])
    #expect(
      encode(.posixRename(from: [1], to: [2])) == [0, 0, 0, 43, 200, 1, 2, 3, 4, 0, 0, 0, 24] + Array("posix-rename@openssh.com".utf8)
        + [0, 0, 0, 1, 1, 0, 0, 0, 1, 2])
    #expect(encode(.limits) == [0, 0, 0, 27, 200, 1, 2, 3, 4, 0, 0, 0, 18] + Array("limits@openssh.com".utf8))
  }

  @Test func everyRequestHasItsOwnLength() {
    let handle = SFTPHandle(bytes: [1, 2, 3])
    let (a, b) = ([UInt8]("a/b".utf8), [UInt8]("c".utf8))
    let attributes = SFTPAttributes(size: 5, permissions: 0o600, modified: 1)
    let requests: [SFTPRequest] = [
      .open(a, .read, attributes), .close(handle), .read(handle, offset: 1, length: 2), .lstat(a), .fstat(handle), .setstat(a, attributes),
      .fsetstat(handle, attributes), .opendir(a), .readdir(handle), .remove(a), .mkdir(a), .rmdir(a), .realpath(a), .stat(a),
      .rename(from: a, to: b), .readlink(a), .symlink(at: a, target: b), .posixRename(from: a, to: b), .fsync(handle), .statvfs(a),
      .hardlink(from: a, to: b), .limits,
    ]
    for request in requests {
      let packet = encode(request)
      #expect(packet[..<4].reduce(0) { $0 << 8 | Int($1) } == packet.count - 4)
    }
  }

  @Test func repliesOffTheWire() throws {
    let status = try decode([101, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0, 2, 0x6e, 0x6f, 0, 0, 0, 0])
    #expect(status.id == 7)
    #expect(status.reply == .status(SFTPStatus(code: 4, message: [0x6e, 0x6f])))
    #expect(try decode([101, 0, 0, 0, 7, 0, 0, 0, 0]).reply == .status(SFTPStatus(code: 0)))
    #expect(try decode([102, 0, 0, 0, 1, 0, 0, 0, 1, 9]).reply == .handle(SFTPHandle(bytes: [9])))
    #expect(try decode([103, 0, 0, 0, 1, 0, 0, 0, 2, 5, 6]).reply == .data([5, 6]))
    #expect(
      try decode([105, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x81, 0xa4]).reply
        == .attributes(SFTPAttributes(size: 256, permissions: 0o100644)))
    let names = [104, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x66, 0, 0, 0, 2, 0x64, 0x72, 0, 0, 0, 0] as [UInt8]
    guard case .names(let list) = try decode(names).reply else {
      Issue.record("no names")
      return
    }
    #expect(list.map(\.name) == [[0x66]])
    #expect(list.first?.typeLetter == 0x64)
  }

  @Test func whatIsNoReplyIsRefused() {
    let wrong: [[UInt8]] = [
      [], [101], [101, 0, 0, 0], [3, 0, 0, 0, 1], [255, 0, 0, 0, 1],
      [102, 0, 0, 0, 1, 0, 0, 0, 9, 1],  // a string longer than the packet
      [103, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],  // four gibibytes
      [102, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9],  // a byte too many
      [104, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff],  // names without names
      [105, 0, 0, 0, 1, 0, 0, 0, 0x10],  // a flag that version 3 does not have
      [105, 0, 0, 0, 1, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],  // extensions without extensions
      [102, 0, 0, 0, 1, 0, 0, 1, 1] + [UInt8](repeating: 0, count: 257),  // a handle too long
    ]
    for bytes in wrong { #expect(throws: SFTPMalformed.self) { try decode(bytes) } }
  }

  /// Any bytes give a reply or an error.
  @Test func randomAndMutatedBytesNeverCrash() throws {
    var random = SplitMix(state: 20)
    let seeds: [[UInt8]] = [
      [101, 0, 0, 0, 7, 0, 0, 0, 4, 0, 0, 0, 2, 0x6e, 0x6f, 0, 0, 0, 0], [102, 0, 0, 0, 1, 0, 0, 0, 1, 9],
      [103, 0, 0, 0, 1, 0, 0, 0, 2, 5, 6], [105, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x81, 0xa4],
      [104, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x66, 0, 0, 0, 2, 0x64, 0x72, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
      [2, 0, 0, 0, 3, 0, 0, 0, 1, 0x61, 0, 0, 0, 1, 0x31], [UInt8](repeating: 0, count: 88),
    ]
    var (accepted, refused) = (0, 0)
    for round in 0..<100_000 {
      var bytes: [UInt8]
      if round % 3 == 0 {
        bytes = (0..<Int(random.next() % 40)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        if !bytes.isEmpty, random.next() % 2 == 0 { bytes[0] = [101, 102, 103, 104, 105, 201, 2][Int(random.next() % 7)] }
      } else {
        bytes = seeds[Int(random.next() % UInt64(seeds.count))]
        for _ in 0..<1 + random.next() % 3 {
          switch random.next() % 3 {
          case 0 where !bytes.isEmpty: bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
          case 1 where !bytes.isEmpty: bytes.removeLast()
          default: bytes.append(UInt8(truncatingIfNeeded: random.next()))
          }
        }
      }
      do {
        _ = try decode(bytes)
        accepted += 1
      } catch is SFTPMalformed {
        refused += 1
      }
      _ = try? SFTPLimits(decoding: bytes)  // reason: only a crash would be wrong
      _ = try? SFTPFileSystem(decoding: bytes)  // reason: only a crash would be wrong
      bytes.withUnsafeBytes { _ = try? SFTPVersion(decoding: $0) }  // reason: only a crash would be wrong
    }
    #expect(accepted > 1000 && refused > 1000)
  }

  /// However the stream is cut, the same packets come out.
  @Test func framesFromAnyPieces() throws {
    var random = SplitMix(state: 7)
    var stream: [UInt8] = []
    var sent: [[UInt8]] = []
    for number in 0..<300 {
      let size = number % 50 == 0 ? SFTPFrameBuffer.ordinaryLimit : 1 + Int(random.next() % 3000)
      let packet = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: size)
      sent.append(packet)
      stream += withUnsafeBytes(of: UInt32(size).bigEndian) { Array($0) } + packet
    }
    for pieces in [1 << 30, 4096, 7] {
      var buffer = SFTPFrameBuffer()
      var received: [[UInt8]] = []
      var position = 0
      while position < stream.count {
        let limit = min(1 + Int(random.next() % UInt64(pieces)), stream.count - position)
        buffer.receive { room in
          let count = min(room.count, limit)
          room.copyBytes(from: stream[position..<position + count])
          position += count
          return count
        }
        while let packet = try buffer.next({ (bytes) throws(SFTPMalformed) in Array(bytes) }) { received.append(packet) }
      }
      #expect(received == sent)
      #expect(buffer.count == 0)
    }
  }

  @Test func lengthsAreBounded() {
    for length in [UInt32(0), UInt32(SFTPFrameBuffer.ordinaryLimit) + 1, 1 << 30, .max] {
      var buffer = SFTPFrameBuffer()
      buffer.receive { room in
        room.copyBytes(from: withUnsafeBytes(of: length.bigEndian) { Array($0) })
        return 4
      }
      #expect(throws: SFTPMalformed.self) { try buffer.next { (_) throws(SFTPMalformed) in () } }
    }
    var buffer = SFTPFrameBuffer()
    buffer.raiseLimit(to: .max)
    #expect(buffer.limit == 1 << 20)
    buffer.raiseLimit(to: 0)
    #expect(buffer.limit == 1 << 20)
  }
}

/// A small generator with a seed: a failure happens again.
private struct SplitMix {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}
