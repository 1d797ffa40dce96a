import SyncModel
import Testing
import TransportHTTP

/// Listings as servers write them, and as an enemy would.
@Suite struct MultistatusTests {
  private func parse(_ text: String, piece: Int = 7) throws(MultistatusMalformed) -> [MultistatusEntry] {
    try parse(Array(text.utf8), piece: piece)
  }

  private func parse(_ bytes: [UInt8], piece: Int = 7) throws(MultistatusMalformed) -> [MultistatusEntry] {
    let parser = MultistatusParser(entryLimit: 1000, byteLimit: 1 << 20)
    var start = 0
    while start < bytes.count {
      try parser.feed(Array(bytes[start..<min(start + piece, bytes.count)]))
      start += piece
    }
    return try parser.finish()
  }

  private func response(_ href: String, _ properties: String = "<D:resourcetype/><D:getcontentlength>5</D:getcontentlength>") -> String {
    "<D:response><D:href>\(href)</D:href><D:propstat><D:prop>\(properties)</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
  }

  private func document(_ body: String) -> String { "<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">\(body)</D:multistatus>" }

  @Test(arguments: [1, 3, 100_000]) func readsWhatServersWrite(piece: Int) throws {
    let folder = response(
      "/a/", "<D:resourcetype><D:collection/></D:resourcetype><D:getlastmodified>Sun, 06 Nov 1994 08:49:37 GMT</D:getlastmodified>")
    let missing =
      "<D:response><D:href>/a/c</D:href><D:propstat><D:prop><D:quota-available-bytes>9</D:quota-available-bytes></D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat></D:response>"
    let entries = try parse(document(folder + response(" /a/b%20&amp;&#x63; \n") + missing), piece: piece)
    #expect(entries.count == 3)
    #expect(entries[0].isCollection && entries[0].lastModified == 784_111_777)
    #expect(String(decoding: entries[1].href, as: UTF8.self) == "/a/b%20&c" && entries[1].contentLength == 5 && !entries[1].isCollection)
    #expect(entries[2].quotaAvailable == nil && entries[2].propertyStatuses == [404])
  }

  @Test func otherNamespacesAndPlacesDoNotCount() throws {
    let foreign = document(
      "<x:response xmlns:x=\"urn:x\"><D:href>/no</D:href></x:response>"
        + response("/yes", "<x:getcontentlength xmlns:x=\"urn:x\">7</x:getcontentlength><D:owner><D:href>/who</D:href></D:owner>"))
    let entries = try parse(foreign)
    #expect(entries.count == 1 && entries[0].href == Array("/yes".utf8) && entries[0].contentLength == nil)
    #expect(throws: MultistatusMalformed.self) { try parse("<multistatus><response/></multistatus>") }
    #expect(throws: MultistatusMalformed.self) { try parse("<html><body>hello</body></html>") }
  }

  @Test func hostileDocumentsAreRefused() {
    let bomb =
      "<?xml version=\"1.0\"?><!DOCTYPE D [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">]>"
      + "<D:multistatus xmlns:D=\"DAV:\">\(response("/&b;&b;&b;"))</D:multistatus>"
    let outside =
      "<?xml version=\"1.0\"?><!DOCTYPE D [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><D:multistatus xmlns:D=\"DAV:\">\(response("/&a;"))</D:multistatus>"
    let documents = [
      bomb, outside, document(response("/&undefined;")), document(String(repeating: "<D:x>", count: 500)), document("<D:response>"), "",
      "<",
      document(response("/" + String(repeating: "a", count: 200_000))), document(response("/a") + "<D:response><D:href>/b</D:response>"),
      document(String(repeating: response("/a"), count: 1001)), document(response("/a</D:href><D:href>/b")),
    ]
    for text in documents { #expect(throws: MultistatusMalformed.self, "\(text.prefix(80))") { try parse(text, piece: 1000) } }
    // In another encoding, a document type could slip past.
    let wide = Array(bomb.utf16).flatMap { [UInt8($0 & 0xff), UInt8($0 >> 8)] }
    #expect(throws: MultistatusMalformed.self) { try parse([0xff, 0xfe] + wide) }
    #expect(throws: MultistatusMalformed.self) { try parse(document(response("/a")) + "<more/>") }
  }

  @Test func percentEncodingCarriesEveryByte() {
    let all = (0...255).map { UInt8($0) }
    #expect(PercentEncoding.decode(PercentEncoding.segment(all).utf8) == all)
    #expect(PercentEncoding.path(Array("/a b/ü#?%".utf8)) == "/a%20b/%C3%BC%23%3F%25")
    for text in ["%", "%4", "%zz", "a%"] { #expect(PercentEncoding.decode(text.utf8) == nil) }
  }
}
