import Testing
import TransportHTTP

@Suite struct DateTests {
  @Test func datesAreReadAsServersWriteThem() {
    #expect(HTTPDate.seconds(of: "Thu, 01 Jan 1970 00:00:00 GMT") == 0)
    #expect(HTTPDate.seconds(of: "Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777)
    #expect(HTTPDate.seconds(of: "Sun, 09 Sep 2001 01:46:40 GMT") == 1_000_000_000)
    #expect(HTTPDate.seconds(of: "Thu, 29 Feb 2024 12:00:00 GMT") == 1_709_208_000)
    #expect(HTTPDate.seconds(of: "Wed, 31 Dec 1969 23:59:59 GMT") == -1)
    for text in ["", "yesterday", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
      #expect(HTTPDate.seconds(of: text) == nil)
    }
  }
}
