import Foundation
import SyncModel
import Testing

@Suite struct RelativePathTests {
  @Test(arguments: [
    ("", RelativePath.Invalid.emptySegment), ("/", .emptySegment), ("/a", .emptySegment), ("a/", .emptySegment), ("a//b", .emptySegment),
    (".", .traversal), ("..", .traversal), ("a/..", .traversal), ("../a", .traversal), ("a/./b", .traversal), ("a/../../b", .traversal),
    ("a\0b", .nul), ("\0", .nul),
  ])
  func whatCouldClimbOrNamesNothingIsRefused(_ text: String, _ reason: RelativePath.Invalid) {
    #expect(throws: reason) { try RelativePath(text) }
  }

  @Test(arguments: ["a", "...", "..a", "a..", ".hidden", "a/.../b", "-", " ", "\\..", "..\\..", "C:", "~", "a\nb", "%2e%2e"])
  func whatOnlyLooksLikeClimbingIsAName(_ text: String) throws {
    #expect(try RelativePath(text).bytes == Array(text.utf8))
  }

  @Test func bytesThatAreNoTextAreAPathAndNoString() throws {
    let path = try RelativePath(bytes: [0x61, 0x2f, 0xff])
    #expect(path.string == nil)
    #expect(path.description == "a/\\xff")
  }

  @Test func twoNormalisationFormsAreTwoPaths() throws {
    let composed = try RelativePath("caf\u{e9}")
    let decomposed = try RelativePath("cafe\u{301}")
    #expect(composed != decomposed)
    #expect(Set([composed, decomposed]).count == 2)
  }

  @Test func orderIsThatOfTheBytes() throws {
    let paths = try ["b", "a/b", "a", "a!", "a-b", "B", "\u{e9}", "z"].map { (text) throws in try RelativePath(text) }
    #expect(paths.sorted().map(\.description) == ["B", "a", "a!", "a-b", "a/b", "b", "z", "\u{e9}"])
  }

  @Test func segmentsParentsAndChildren() throws {
    let path = try RelativePath("a/b/c")
    #expect(path.segments.map { Array($0) } == [[0x61], [0x62], [0x63]])
    #expect(Array(path.lastSegment) == [0x63])
    #expect(path.parent?.bytes == Array("a/b".utf8))
    #expect(try RelativePath("a").parent == nil)
    #expect(try RelativePath("a").appending(RelativePath("b/c")) == path)
  }

  @Test func aSiblingWithTheSamePrefixIsNotInside() throws {
    let folder = try RelativePath("run/data")
    #expect(try RelativePath("run/data").isWithin(folder))
    #expect(try RelativePath("run/data/x").isWithin(folder))
    #expect(try !RelativePath("run/data2").isWithin(folder))
    #expect(try !RelativePath("run/data2/x").isWithin(folder))
    #expect(try !RelativePath("run").isWithin(folder))
  }

  @Test func jsonHoldsTheTextAndRefusesTraversal() throws {
    let path = try RelativePath("a/\u{e9} b")
    let data = try JSONEncoder().encode([path])
    #expect(try JSONDecoder().decode([RelativePath].self, from: data) == [path])
    for text in ["..", "/etc/passwd", "a/../b", ""] {
      let bad = try JSONEncoder().encode([text])
      #expect(throws: DecodingError.self) { try JSONDecoder().decode([RelativePath].self, from: bad) }
    }
  }
}

@Suite struct RemotePathTests {
  @Test(arguments: [("/srv/lab", "/srv/lab"), ("/srv/lab/", "/srv/lab"), ("/srv/lab///", "/srv/lab"), ("/", "/"), ("lab", "lab")])
  func theRootAsItIsWritten(_ root: String, _ wire: String) {
    let path = RemotePath(root: root)
    #expect(path.description == wire)
    #expect(path.parent == nil)
  }

  @Test func placesBelowTheRoot() throws {
    let run = RemotePath(root: "/srv/lab/", relative: try RelativePath("EQ/Run_1"))
    #expect(run.appending(try RelativePath("a/b")).description == "/srv/lab/EQ/Run_1/a/b")
    #expect(RemotePath(root: "/").appending(try RelativePath("x")).description == "/x")
  }

  @Test func nothingAboveTheRootCanBeNamed() throws {
    var path: RemotePath? = RemotePath(root: "/srv/lab", relative: try RelativePath("a/b"))
    var seen: [String] = []
    while let current = path {
      seen.append(current.description)
      path = current.parent
    }
    #expect(seen == ["/srv/lab/a/b", "/srv/lab/a", "/srv/lab"])
  }

  @Test func bytesThatAreNoTextReachTheWireUnchanged() throws {
    let path = RemotePath(root: "/r", relative: try RelativePath(bytes: [0xff, 0x0a]))
    #expect(path.bytes == [0x2f, 0x72, 0x2f, 0xff, 0x0a])
    #expect(path.description == "/r/\\xff\\u{a}")
  }
}
