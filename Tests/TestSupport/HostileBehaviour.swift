import Foundation
import Glibc

/// One thing that no decent HTTP server does.
public struct HostileBehaviour: Sendable, CustomStringConvertible {
  /// What a driver must make of it.
  public enum Verdict: Sendable {
    /// Every operation fails.
    case failure
    /// Where nothing but a status is asked for, it may pass for an answer; anything that reads something fails.
    case unreadable
    /// It may be taken for an answer.
    case any
  }

  /// In a few words.
  public let name: String
  /// What is to become of it.
  public let verdict: Verdict
  /// Does it, after the head of a request was read.
  public let answer: HostileWebDAV.Answer
  /// The name.
  public var description: String { name }

  init(_ name: String, _ verdict: Verdict = .failure, _ answer: @escaping HostileWebDAV.Answer) {
    self.name = name
    self.verdict = verdict
    self.answer = answer
  }

  /// A fixed answer, after the request's body was read. The connection stays open until the client goes.
  init(_ name: String, _ verdict: Verdict = .failure, keeps: Bool = false, text: String) {
    self.init(name, verdict) { connection, request in
      guard HostileWebDAV.body(of: request, connection) != nil else { return }
      connection.send(text)
      if keeps { connection.hang() }
    }
  }

  /// The body of an answer to a `PROPFIND`.
  private static func listing(
    _ name: String, _ body: @escaping @Sendable (RawHTTPServer.Connection, HostileWebDAV.Request) -> Void
  ) -> HostileBehaviour {
    HostileBehaviour(name, .unreadable) { connection, request in
      guard HostileWebDAV.body(of: request, connection) != nil else { return }
      connection.send("HTTP/1.1 207 Multi-Status\r\nContent-Type: application/xml\r\n\r\n")
      body(connection, request)
    }
  }

  init(_ name: String, xml: String) { self = Self.listing(name) { connection, _ in connection.send(xml) } }

  private static let open = "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">"
  private static func filler(_ count: Int, _ letter: Character = "a") -> String { String(repeating: letter, count: count) }

  /// What is done to the way answers are framed.
  public static let framing: [HostileBehaviour] = [
    HostileBehaviour("endless headers") { connection, _ in
      connection.send("HTTP/1.1 200 OK\r\n")
      connection.sendForEver(Array("X-Padding: \(filler(1000))\r\n".utf8))
    },
    HostileBehaviour("an endless header line") { connection, _ in
      connection.send("HTTP/1.1 200 OK\r\nX-Endless: ")
      connection.sendForEver([UInt8](repeating: 0x61, count: 10_000))
    },
    HostileBehaviour("endless 1xx") { connection, _ in connection.sendForEver(Array("HTTP/1.1 102 Processing\r\n\r\n".utf8)) },
    HostileBehaviour("endless trailers") { connection, _ in
      connection.send("HTTP/1.1 207 Multi-Status\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
      connection.sendForEver(Array("X-Trailer: \(filler(1000))\r\n".utf8))
    },
    HostileBehaviour("an endless chunked body") { connection, _ in
      connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
      connection.sendForEver(Array("1000\r\n\(filler(4096))\r\n".utf8))
    },
    HostileBehaviour("an endless body without a length") { connection, _ in
      connection.send("HTTP/1.1 200 OK\r\n\r\n")
      connection.sendForEver([UInt8](repeating: 0x62, count: 65_536))
    },
    HostileBehaviour("an endless error page", .failure) { connection, _ in
      connection.send("HTTP/1.1 500 Oops\r\n\r\n")
      connection.sendForEver([UInt8](repeating: 0x63, count: 65_536))
    },
    HostileBehaviour("endless chunk extensions") { connection, _ in
      connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
      connection.sendForEver([UInt8](repeating: 0x64, count: 65_536))
    },
    HostileBehaviour("a trickle of header bytes") { connection, _ in
      connection.send("HTTP/1.1 200 OK\r\n")
      connection.sendForEver(Array("X".utf8), every: 20_000)
    },
    HostileBehaviour("a trickle of 1xx") { connection, _ in
      connection.sendForEver(Array("HTTP/1.1 102 Processing\r\n\r\n".utf8), every: 100_000)
    },
    HostileBehaviour("a trickle of body bytes", .failure) { connection, _ in
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
      connection.sendForEver([0x64], every: 20_000)
    },
    HostileBehaviour("silence") { connection, _ in connection.hang() },
    HostileBehaviour("silence after 100") { connection, _ in
      connection.send("HTTP/1.1 100 Continue\r\n\r\n")
      connection.hang()
    },
    HostileBehaviour("silence in a header line", keeps: true, text: "HTTP/1.1 200 OK\r\nContent-Le"),
    HostileBehaviour("silence in the body", keeps: true, text: "HTTP/1.1 207 Multi-Status\r\nContent-Length: 1000\r\n\r\n\(open)"),
    HostileBehaviour("the end before the body was read") { _, _ in },
    HostileBehaviour("the end after the body", text: ""),
    HostileBehaviour("the end in the status line", text: "HTTP/1.1 2"),
    HostileBehaviour("the end in the header lines", text: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-"),
    HostileBehaviour("the end in the body", text: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
    HostileBehaviour("the end in a chunk", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort"),
    HostileBehaviour("a length that is too large", keeps: true, text: "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
    HostileBehaviour("a length that is too small", .any, keeps: true, text: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nlonger than that"),
    HostileBehaviour("a negative length", text: "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc"),
    HostileBehaviour("a length beyond 64 bits", text: "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc"),
    HostileBehaviour("two lengths", .any, text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde"),
    HostileBehaviour(
      "a length and chunks", .any, text: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
    ),
    HostileBehaviour("chunks that are none", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nnonsense\r\n0\r\n\r\n"),
    HostileBehaviour("a chunk beyond 64 bits", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx"),
    HostileBehaviour("a negative chunk", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n"),
    HostileBehaviour("gzip that was not asked for") { connection, request in
      guard HostileWebDAV.body(of: request, connection) != nil else { return }
      // The head of a stream that unpacks to gigabytes of zeros.
      connection.send("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
      connection.send([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xed, 0xc1, 1, 1, 0, 0, 0, 0x80, 0x90, 0xfe, 0xaf, 0xee, 8, 10])
      for _ in 0..<200 { connection.send([UInt8](repeating: 0, count: 1024)) }
    },
    HostileBehaviour(
      "a transfer encoding that is unknown", text: "HTTP/1.1 200 OK\r\nTransfer-Encoding: lzma, chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"),
    HostileBehaviour("HTTP/0.9", text: "<html>hello</html>"),
    HostileBehaviour("HTTP/9.9", text: "HTTP/9.9 200 OK\r\n\r\n"),
    HostileBehaviour("HTTP/2 out of the blue", text: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    HostileBehaviour(
      "an upgrade to HTTP/2", keeps: true, text: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"),
    HostileBehaviour("another protocol", text: "SSH-2.0-OpenSSH_9.2\r\n"),
    HostileBehaviour("a TLS alert", keeps: true, text: "\u{15}\u{03}\u{03}\u{00}\u{02}\u{02}\u{28}"),
    HostileBehaviour("status 000", text: "HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("status 999", text: "HTTP/1.1 999 Much\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("a status of letters", text: "HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("NUL in the header lines", .any, text: "HTTP/1.1 200 O\u{0}K\r\nX-\u{0}: \u{0}\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("header lines that are none", .any, text: "HTTP/1.1 200 OK\r\nnothing here\r\n : x\r\nContent-Length: 0\r\n\r\n"),
  ]

  /// What is answered in good form.
  public static let answers: [HostileBehaviour] = [
    HostileBehaviour("success of everything, with nothing in it", .unreadable, text: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("201 to everything", .unreadable, text: "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("204 to everything", .unreadable, text: "HTTP/1.1 204 No Content\r\n\r\n"),
    HostileBehaviour("success before the body was sent", .any) { connection, _ in
      connection.send("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
      connection.hang()
    },
    HostileBehaviour(
      "206 that was not asked for", .any, text: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/3\r\nContent-Length: 3\r\n\r\nabc"
    ),
    HostileBehaviour(
      "another range", .any, text: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 7-9/10\r\nContent-Length: 3\r\n\r\nabc"),
    HostileBehaviour("206 without a range", .any, text: "HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nabc"),
    HostileBehaviour("416", .unreadable, text: "HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("300 to nowhere", text: "HTTP/1.1 300 Choose\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("304", text: "HTTP/1.1 304 Not Modified\r\n\r\n"),
    HostileBehaviour("401 with Basic", text: "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour(
      "401 with Digest",
      text: "HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=\"x\", nonce=\"a\", algorithm=MD5\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("401 with Negotiate", text: "HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("401 with NTLM", text: "HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("401 with nothing", text: "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("407", text: "HTTP/1.1 407 Proxy\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("503 for ever", text: "HTTP/1.1 503 Busy\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour("507", text: "HTTP/1.1 507 Full\r\nContent-Length: 0\r\n\r\n"),
    HostileBehaviour(
      "terminal escapes in every text",
      text: "HTTP/1.1 503 \u{1b}]0;x\u{7}\r\nServer: \u{1b}[2J\r\nRetry-After: \u{1b}[31m\u{202e}\r\nContent-Length: 0\r\n\r\n"),
  ]

  /// Redirections to another server, and to the one that sends them.
  public static func redirections(thief port: UInt16) -> [HostileBehaviour] {
    let place = "http://user:secret@localhost:\(port)/steal"
    var all = [301, 302, 303, 307, 308].map { status in
      HostileBehaviour("\(status) to another server", text: "HTTP/1.1 \(status) Go\r\nLocation: \(place)\r\nContent-Length: 0\r\n\r\n")
    }
    all.append(
      HostileBehaviour("307 to itself", .failure) { connection, request in
        guard HostileWebDAV.body(of: request, connection) != nil else { return }
        connection.send("HTTP/1.1 307 Again\r\nLocation: \(request.target)\r\nContent-Length: 0\r\n\r\n")
      })
    all.append(
      HostileBehaviour("301 to the name with a slash, for ever", .failure) { connection, request in
        guard HostileWebDAV.body(of: request, connection) != nil else { return }
        connection.send("HTTP/1.1 301 Again\r\nLocation: \(request.target)/\r\nContent-Length: 0\r\n\r\n")
      })
    all.append(
      HostileBehaviour("307 to the slash of another server", .failure) { connection, request in
        guard HostileWebDAV.body(of: request, connection) != nil else { return }
        connection.send("HTTP/1.1 307 Go\r\nLocation: http://localhost:\(port)\(request.target)/\r\nContent-Length: 0\r\n\r\n")
      })
    all.append(
      HostileBehaviour("a redirection to a file", text: "HTTP/1.1 302 Go\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"))
    all.append(
      HostileBehaviour(
        "headers that would move the client", .unreadable,
        text: "HTTP/1.1 200 OK\r\nRefresh: 0; url=\(place)\r\nAlt-Svc: h2=\"localhost:\(port)\"\r\nSet-Cookie: a=b\r\n"
          + "Strict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n\r\n"))
    return all
  }

  /// Listings.
  public static let listings: [HostileBehaviour] = [
    HostileBehaviour(
      "a billion laughs",
      xml: "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"ha\">"
        + (1...9).map { "<!ENTITY a\($0) \"\(String(repeating: "&a\($0 == 1 ? "" : "\($0 - 1)");", count: 10))\">" }.joined()
        + "]><D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>&a9;</D:href></D:response></D:multistatus>"),
    HostileBehaviour(
      "an entity from a file",
      xml: "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><D:multistatus xmlns:D=\"DAV:\">"
        + "<D:response><D:href>/dav/lab/&f;</D:href></D:response></D:multistatus>"),
    HostileBehaviour("100,000 levels", xml: open + String(repeating: "<D:a>", count: 100_000)),
    listing("an endless comment") { connection, _ in
      connection.send(open + "<!--")
      connection.sendForEver([UInt8](repeating: 0x65, count: 65_536))
    },
    listing("an endless text") { connection, _ in
      connection.send(open + "<D:response><D:href>/dav/lab/")
      connection.sendForEver([UInt8](repeating: 0x66, count: 65_536))
    },
    listing("an endless element name") { connection, _ in
      connection.send(open + "<D:")
      connection.sendForEver([UInt8](repeating: 0x67, count: 65_536))
    },
    listing("endless attributes") { connection, _ in
      connection.send(open + "<D:response")
      for number in 0... { guard connection.send(" a\(number)=\"b\"") else { break } }
    },
    listing("endless namespaces") { connection, _ in
      connection.send(open)
      for number in 0... { guard connection.send("<D:x xmlns:n\(number)=\"urn:\(number)\"/>") else { break } }
    },
    listing("an endless processing instruction") { connection, _ in
      connection.send(open + "<?x ")
      connection.sendForEver([UInt8](repeating: 0x68, count: 65_536))
    },
    HostileBehaviour("a listing of other places", xml: HostileWebDAV.multistatus([("/etc/passwd", 5)])),
    HostileBehaviour("a listing that climbs", xml: HostileWebDAV.multistatus([("/dav/lab/../../etc", 5), ("/dav/lab/..", 5)])),
    HostileBehaviour(
      "a listing that climbs in hiding", xml: HostileWebDAV.multistatus([("/dav/lab/%2e%2e", 5), ("/dav/lab/a%2fb", 5)])),
    HostileBehaviour("addresses of another host", xml: HostileWebDAV.multistatus([("http://evil.example/x", 5)])),
    HostileBehaviour("addresses of another scheme", xml: HostileWebDAV.multistatus([("file:///etc/passwd", 5)])),
    HostileBehaviour("a NUL in a name", xml: HostileWebDAV.multistatus([("/dav/lab/a%00b", 5)])),
    HostileBehaviour("percent signs that encode nothing", xml: HostileWebDAV.multistatus([("/dav/lab/%zz%", 5)])),
    HostileBehaviour("no address", xml: open + "<D:response><D:propstat/></D:response></D:multistatus>"),
    HostileBehaviour("another root", xml: "<html xmlns=\"http://www.w3.org/1999/xhtml\"><body/></html>"),
    HostileBehaviour("no XML", xml: "{\"not\": \"xml\"}"),
    listing("UTF-16") { connection, _ in connection.send([0xff, 0xfe] + open.utf8.flatMap { [$0, 0] }) },
    HostileBehaviour("half a document", xml: open + "<D:response><D:href>/dav/lab"),
    HostileBehaviour("two documents", xml: HostileWebDAV.multistatus([]) + HostileWebDAV.multistatus([])),
    HostileBehaviour("nothing of what was asked", xml: HostileWebDAV.multistatus([])),
    listing("more entries than there can be") { connection, request in
      connection.send(open)
      connection.send(HostileWebDAV.response(request.target, size: nil))
      for number in 0... {
        guard connection.send((0..<100).map { HostileWebDAV.response("\(request.target)/f\(number)-\($0)", size: 1) }.joined()) else {
          break
        }
      }
    },
    listing("one name twice") { connection, request in
      let child = "\(request.target)/same"
      connection.send(HostileWebDAV.multistatus([(child, 1), (child, 1)]))
    },
    listing("sizes that are none") { connection, request in
      let good = HostileWebDAV.response(request.target, size: 1)
      connection.send(open + good.replacingOccurrences(of: ">1<", with: ">-99999999999999999999<") + "</D:multistatus>")
    },
  ]

  /// Everything that needs no second server.
  public static let all = framing + answers + listings
}
