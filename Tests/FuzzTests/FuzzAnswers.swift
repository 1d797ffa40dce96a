import Foundation
import SyncModel
import Transport

@testable import TransportHTTP
@testable import TransportSFTP

// What a server answers.
extension FuzzTarget {
  /// However the bytes are cut, the answer is the same; no digest is believed that does not stand there.
  static func hashAnswer(_ bytes: [UInt8]) {
    let names = [Array("/a".utf8), Array("/b\nc".utf8), Array("/ü".utf8)]
    // An answer that does not begin is the same to all of them.
    let begins = bytes.firstRange(of: RemoteCommand.begin) != nil
    for (number, program) in HashProgram.allCases.enumerated() where begins || bytes.count % HashProgram.allCases.count == number {
      func read(_ step: Int) -> [ContentDigest?]? {
        var answer = HashAnswer(program: program, count: names.count) { names[$0] }
        var rest = bytes[...]
        do {
          while !rest.isEmpty {
            try answer.feed(rest.prefix(step))
            rest = rest.dropFirst(step)
          }
          try answer.finish()
          return answer.digests
        } catch { return nil }
      }
      let whole = read(max(1, bytes.count))
      // One of them is cut, too, and its length says which: all of them would take most of the time.
      if bytes.count % HashProgram.allCases.count == number {
        require(whole == read(5 + bytes.count % 23), "an answer that depends on how it is cut")
      }
      for case (let index, let digest?) in (whole ?? []).enumerated() {
        let record = Array(digest.hex.utf8) + program.separator + names[index] + [program.terminator]
        let isThere = bytes.map { (0x41...0x46).contains($0) ? $0 + 32 : $0 }.firstRange(of: record) != nil
        require(isThere, "a digest that the server did not send")
      }
    }
    if let framed = RemoteShell.unframe(bytes) { require(framed.lines.allSatisfy { !$0.contains(0x0a) }, "a line of two") }
  }

  private static let ownKey = SSHKeyBlob(sshString("ssh-ed25519".utf8) + sshString([UInt8](0..<32)))

  /// Trusted is only what a line says, and never what another line revokes.
  static func knownHosts(_ bytes: [UInt8]) {
    let hosts = KnownHosts(bytes)
    for (host, port) in [("nas", UInt16(22)), ("NAS", 2222)] {
      _ = hosts.keyTypes(host: host, port: port)
      _ = hosts.hasCertificateAuthority(host: host, port: port)
      let names = [KnownHosts.name(of: host, port: port), Array("nas".utf8)]
      for key in Set(hosts.entries.prefix(8).map(\.key)).union(ownKey.map { [$0] } ?? []) {
        let revoked = hosts.entries.contains { entry in
          entry.marker == .revoked && entry.key == key && names.contains { entry.hosts.match($0) }
        }
        switch hosts.verdict(on: key, host: host, port: port) {
        case .trusted(let line):
          require(!revoked, "a revoked key is trusted")
          let entry = hosts.entries.first { $0.line == line }
          require(
            entry?.key == key && entry?.marker == KnownHosts.Entry.Marker.none && names.contains { entry?.hosts.match($0) == true },
            "trusted by no line")
        case .revoked: require(revoked, "revoked by no line")
        case .changed(let line):
          require(!revoked && hosts.entries.contains { $0.line == line && $0.key.type == key.type && $0.key != key }, "changed in no line")
        case .unknown: require(!revoked, "a revoked key is unknown")
        }
      }
    }
    // Lines that say nothing change nothing.
    let more = KnownHosts(Array("# x\n\n".utf8) + bytes)
    require(
      more.entries.map(\.key) == hosts.entries.map(\.key) && more.unreadableLines == hosts.unreadableLines, "a comment that changes lines")
    if let key = SSHKeyBlob(bytes) {
      require(SSHKeyBlob(base64: Array(encodeBase64(bytes).utf8)[...]) == key, "a key that does not read as it was written")
    }
  }

  /// However the stream is cut, the packets are the same; what is in them keeps to its limits, and attributes read as they are written.
  static func sftp(_ bytes: [UInt8]) {
    bytes.withUnsafeBytes { packet in
      if let reply = try? SFTPReply.decode(packet) { check(reply.reply, packet.count) }  // refused is fine
      _ = try? SFTPVersion(decoding: packet)  // likewise
    }
    _ = (try? SFTPLimits(decoding: bytes), try? SFTPFileSystem(decoding: bytes))  // likewise
    require(packets(bytes, 1 << 16) == packets(bytes, 5), "packets that depend on how the stream is cut")
  }

  /// The ids of the packets, and a last element where the stream was refused.
  private static func packets(_ bytes: [UInt8], _ step: Int) -> [UInt64] {
    var buffer = SFTPFrameBuffer()
    var ids: [UInt64] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      buffer.receive { room in
        let piece = rest.prefix(min(room.count, step))
        room.copyBytes(from: piece)
        rest = rest.dropFirst(piece.count)
        return piece.count
      }
      do throws(SFTPMalformed) {
        while let id = try buffer.next({ (packet) throws(SFTPMalformed) in try SFTPReply.decode(packet).id }) { ids.append(UInt64(id)) }
      } catch { return ids + [.max] }
    }
    return ids
  }

  private static func check(_ reply: SFTPReply, _ length: Int) {
    switch reply {
    case .status(let status): require(status.message.count <= length, "words from nowhere")
    case .handle(let handle): require(handle.bytes.count <= 256, "a handle without end")
    case .data(let data): require(data.count <= length, "data from nowhere")
    case .names(let names):
      require(names.reduce(0) { $0 + $1.name.count + 12 } <= length, "names from nowhere")
      for name in names {
        check(name.attributes)
        if let path = try? RelativePath(bytes: name.name) { requireInside(path) }  // refused is fine
      }
    case .attributes(let attributes): check(attributes)
    case .extended(let body):
      _ = (try? SFTPLimits(decoding: body), try? SFTPFileSystem(decoding: body))  // refused is fine
    }
  }

  private static func check(_ attributes: SFTPAttributes) {
    var written: [UInt8] = []
    attributes.append(to: &written)
    let again = written.withUnsafeBytes { bytes in
      var reader = SFTPReader(bytes)
      return try? SFTPAttributes(from: &reader)  // nil is what the next line finds
    }
    require(again == attributes, "attributes that do not read as they were written")
  }

  /// However the bytes are cut, the entries are the same, and within their limits; no address leads up.
  static func multistatus(_ bytes: [UInt8]) {
    let (entryLimit, byteLimit) = (4, 256)
    func read(_ step: Int) -> [MultistatusEntry]? {
      let parser = MultistatusParser(entryLimit: entryLimit, byteLimit: byteLimit)
      do throws(MultistatusMalformed) {
        var rest = bytes[...]
        while !rest.isEmpty {
          try parser.feed(Array(rest.prefix(step)))
          rest = rest.dropFirst(step)
        }
        return try parser.finish()
      } catch { return nil }
    }
    let entries = read(max(1, bytes.count))
    let piecemeal = read(11)
    // The one exception: a `]]>` in a text, which no document may have, libxml2 looks for only within what it has been given so far.
    let isStray = (entries == nil || piecemeal == nil) && contains(bytes, "]]>")
    require(entries == piecemeal || isStray, "a listing that depends on how it is cut")
    guard let entries else { return }
    require(entries.count <= entryLimit && entries.reduce(0) { $0 + $1.href.count } <= byteLimit, "a listing beyond its limits")
    for entry in entries { requireNoClimbing(entry.href) }
  }

  private static func contains(_ bytes: [UInt8], _ text: String) -> Bool {
    bytes.indices.contains { bytes[$0...].starts(with: text.utf8) }
  }

  private static func requireNoClimbing(_ address: [UInt8]) {
    guard let segments = WebDAVPaths.segments(of: address) else { return }
    require(
      !segments.contains { $0.isEmpty || $0 == [0x2e] || $0 == [0x2e, 0x2e] || $0.contains(0x2f) || $0.contains(0) },
      "an address that climbs")
  }

  private static let client = HTTPSettings(origin: HTTPOrigin(scheme: .https, host: "nas"), user: "u")
  private static let store = S3Failures(
    S3Settings(http: client, bucket: "b") { () throws(SyncFailure) in throw SyncFailure(.auth, "none", hint: "None is needed.") })

  /// Keys are those that were asked for; what is written reads as the same; refusals are told in words that can be shown.
  static func s3(_ bytes: [UInt8]) {
    let answer = HTTPResponse(status: 400, headers: [], body: bytes)
    requireWords(store.failure(answer, "write", "it"))
    if let escaped = S3Document.escaped(bytes) {
      let again = try? S3Document.read(Array("<a>\(escaped)</a>".utf8))  // nil is what the next line finds
      require(again?.bytes == bytes, "a text that does not read as it was written")
    }
    guard let root = try? S3Document.read(bytes) else { return }  // refused is fine
    let prefix = Array("lab".utf8)
    do throws(TransportError) {
      let page = try S3Session.read(root, prefix, RemotePath(root: "/lab"), store)
      require((page.files.map(\.key) + page.folders).allSatisfy { $0.starts(with: prefix) }, "a key of others")
      if case .token(let token)? = page.next { require((1...8192).contains(token.utf8.count), "a token without end") }
    } catch { requireWords(error) }
  }

  /// A failure can be shown on a terminal and says what to do.
  private static func requireWords(_ error: TransportError) {
    let failure = error.failure
    require(!failure.message.isEmpty && !failure.hint.isEmpty, "a failure without words")
    require(
      !(failure.message + failure.hint).unicodeScalars.contains {
        $0.properties.generalCategory == .control || $0.properties.generalCategory == .format
      }, "a failure that a terminal would obey")
  }

  static func http(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    if let seconds = HTTPDate.seconds(of: text) {
      require((-62_167_219_200...253_402_300_800 + 86_400 * 3).contains(seconds), "a date beyond the calendar")
    }
    if let plain = PercentEncoding.decode(bytes) {
      require(PercentEncoding.decode(PercentEncoding.path(plain).utf8) == plain, "an address that does not read as it was written")
      require(PercentEncoding.decode(PercentEncoding.segment(plain).utf8) == plain, "a name that does not read as it was written")
    }
    requireNoClimbing(bytes)
  }

  /// An answer's lines as libcurl hands them over, and what follows them as the body.
  static func httpHead(_ bytes: [UInt8]) {
    let limit = 64
    let exchange = HTTPExchange(id: 1, HTTPRequest("GET", "/", bodyLimit: limit), .bounded, settings: client)
    var rest = bytes[...]
    while !exchange.headersComplete, let end = rest.firstIndex(of: 0x0a) {
      let line = Array(rest[...end])
      rest = rest[(end + 1)...]
      guard line.withUnsafeBytes({ exchange.header($0) }) else { break }
    }
    if exchange.headersComplete {
      for start in stride(from: rest.startIndex, to: rest.endIndex, by: 32) {
        let piece = Array(rest[start...].prefix(32))
        if piece.withUnsafeBytes({ exchange.receive($0) }) == 0 { break }
      }
    }
    let answer = exchange.response
    require(answer.body.count <= limit, "a body beyond its limit")
    require(answer.headers.count <= bytes.count, "header lines from nowhere")
    if !answer.isSuccess {
      requireWords(HTTPFailures(client).failure(answer, "write", "it"))
      requireWords(store.failure(answer, "write", "it"))
    }
    _ = (answer.header("ETag").map(S3Session.unquoted), answer.header("Last-Modified").flatMap(HTTPDate.seconds))
  }
}
