import Executors
import Glibc
import Intake
import SyncModel
import TestSupport
import Testing

@_silgen_name("setfsuid") func setThreadUser(_ id: UInt32) -> Int32

private func scan(_ tree: TemporaryTree, _ patterns: [String] = []) throws -> RunSnapshot {
  try RunScanner.snapshot(of: tree.path, metadataFolder: ".exlab-wizard", excluding: patterns)
}

private func names(_ snapshot: RunSnapshot) -> [String] { snapshot.entries.map { $0.path.description } }

@Suite struct RunScannerTests {
  @Test func listsTheWholeTreeSortedByBytes() throws {
    let tree = try TemporaryTree()
    try tree.write("b.dat", "12345")
    try tree.write("a/x/deep.dat")
    try tree.write("a.dat")
    try tree.makeFolder("empty")
    let snapshot = try scan(tree)
    // '.' sorts before '/'.
    #expect(names(snapshot) == ["a", "a.dat", "a/x", "a/x/deep.dat", "b.dat", "empty"])
    #expect(snapshot.entries.last?.kind == .folder)
    #expect(snapshot.files.map(\.fingerprint.size) == [4, 4, 5])
    #expect(snapshot.record == nil && snapshot.recordUnreadable == nil)
  }

  @Test func recordsLinksAndSpecialFilesWithoutFollowing() throws {
    let tree = try TemporaryTree()
    let outside = try TemporaryTree()
    try outside.write("secret")
    try tree.link("out", to: outside.path)
    try tree.link("dangling", to: "nowhere")
    mkfifo("\(tree.path)/pipe", 0o600)
    let kinds = try scan(tree).entries.map(\.kind)
    #expect(kinds == [.symlink(target: Array("nowhere".utf8)), .symlink(target: Array(outside.path.utf8)), .special("named pipe")])
  }

  @Test func keepsNamesThatAreNotUTF8() throws {
    let tree = try TemporaryTree()
    try tree.write(bytes: [0x66, 0xff, 0x0a, 0xfe])
    #expect(try scan(tree).entries.map(\.path.bytes) == [[0x66, 0xff, 0x0a, 0xfe]])
  }

  @Test func leavesOutBookkeepingOnlyAtTheTop() throws {
    let tree = try TemporaryTree()
    for name in ["creation.json", "checksums.sha256", "receipt.json", "deletion.json", ".nassync-record-1", "readme_fields.json"] {
      try tree.write(".exlab-wizard/\(name)", "{}")
      try tree.write("sub/.exlab-wizard/\(name)", "{}")
    }
    let snapshot = try scan(tree)
    #expect(snapshot.record == Array("{}".utf8))
    #expect(names(snapshot).filter { $0.hasPrefix(".exlab") } == [".exlab-wizard", ".exlab-wizard/readme_fields.json"])
    #expect(names(snapshot).filter { $0.hasPrefix("sub/.exlab-wizard/") }.count == 6)
  }

  @Test func saysWhyARecordCannotBeRead() throws {
    let link = try TemporaryTree()
    try link.write("real.json", "{}")
    try link.makeFolder(".exlab-wizard")
    try link.link(".exlab-wizard/creation.json", to: "../real.json")
    #expect(try scan(link).recordUnreadable?.contains("symbolic link") == true)
    #expect(try scan(link).record == nil)

    let folder = try TemporaryTree()
    try folder.makeFolder(".exlab-wizard/creation.json")
    #expect(try scan(folder).recordUnreadable != nil)

    let metadata = try TemporaryTree()
    try metadata.makeFolder("elsewhere")
    try metadata.link(".exlab-wizard", to: "elsewhere")
    #expect(try scan(metadata).recordUnreadable != nil)

    let pipe = try TemporaryTree()
    try pipe.makeFolder(".exlab-wizard")
    mkfifo("\(pipe.path)/.exlab-wizard/creation.json", 0o600)
    #expect(try scan(pipe).recordUnreadable?.contains("regular file") == true)
  }

  @Test func excludesByPatternAndSaysSo() throws {
    let tree = try TemporaryTree()
    for name in ["a.tmp", "sub/b.tmp", "keep.dat", "cache/1", "cache/2", "raw/cache/3", ".exlab-wizard/creation.json"] {
      try tree.write(name, "{}")
    }
    let snapshot = try scan(tree, ["*.tmp", "/cache/", "creation.json", ".*"])
    #expect(snapshot.excluded.map(\.description) == ["a.tmp", "cache", "sub/b.tmp"])
    #expect(names(snapshot) == [".exlab-wizard", "keep.dat", "raw", "raw/cache", "raw/cache/3", "sub"])
    #expect(snapshot.record != nil)
  }

  @Test func goesDeeperThanPathMax() throws {
    let tree = try TemporaryTree()
    let level = String(repeating: "d", count: 200)
    var descriptors = [open(tree.path, O_RDONLY)]
    defer { for raw in descriptors { close(raw) } }
    for index in 0..<80 {
      let parent = try #require(descriptors.last)
      mkdirat(parent, level, 0o755)
      // A second folder on each level keeps the frames alive, beyond the number of folders held open.
      mkdirat(parent, "e\(index)", 0o755)
      descriptors.append(openat(parent, level, O_RDONLY))
    }
    let snapshot = try scan(tree)
    #expect(snapshot.entries.count == 160)
    #expect(snapshot.entries.map(\.path.bytes.count).max() == 80 * 201 - 1)
    #expect(snapshot.entries.allSatisfy { $0.unreadable == nil })
  }

  @Test func recordsWhatMayNotBeRead() async throws {
    let tree = try TemporaryTree()
    try tree.write("closed.dat")
    try tree.write("locked/inside.dat")
    try tree.write("open.dat")
    chmod(tree.path, 0o755)
    chmod("\(tree.path)/closed.dat", 0)
    chmod("\(tree.path)/locked", 0)
    // The superuser may read all; another user, for this thread only, may not.
    let thread = ThreadExecutor(name: "nobody")
    let path = tree.path
    let result = await thread.run { () -> Result<RunSnapshot, SyncFailure> in
      let mine = setThreadUser(65_534)
      defer { _ = setThreadUser(UInt32(bitPattern: mine)) }
      do throws(SyncFailure) {
        return .success(try RunScanner.snapshot(of: path, metadataFolder: ".exlab-wizard", excluding: []))
      } catch { return .failure(error) }
    }
    thread.shutdown()
    let entries = try result.get().entries
    #expect(entries.map { $0.path.description } == ["closed.dat", "locked", "open.dat"])
    #expect(entries.map { $0.unreadable != nil } == [true, true, false])
  }

  @Test func refusesARootThatIsNoFolder() throws {
    let tree = try TemporaryTree()
    try tree.makeFolder("run")
    try tree.write("file")
    try tree.link("link", to: "run")
    func kind(_ name: String) -> SyncFailure.Kind? {
      do {
        _ = try RunScanner.snapshot(of: "\(tree.path)/\(name)", metadataFolder: "m", excluding: [])
        return nil
      } catch { return error.kind }
    }
    #expect(kind("run") == nil)
    #expect(kind("gone") == .localVanished)
    #expect(kind("link") == .misconfigured)
    #expect(kind("link/") == .misconfigured)
    #expect(kind("file") == .misconfigured)
  }

  @Test func survivesATreeThatChangesMeanwhile() async throws {
    let tree = try TemporaryTree()
    for index in 0..<300 { try tree.write("d\(index)/f", "x") }
    let path = tree.path
    let done = ThreadExecutor(name: "churn")
    async let churn: Void = done.run {
      for round in 0..<3 {
        for index in 0..<300 {
          rename("\(path)/d\(index)", "\(path)/r\(round)-\(index)")
          rename("\(path)/r\(round)-\(index)", "\(path)/d\(index)")
        }
      }
    }
    for _ in 0..<5 { _ = try scan(tree) }
    await churn
    done.shutdown()
    #expect(try scan(tree).entries.count == 600)
  }

  @Test func namesTheDifference() throws {
    let tree = try TemporaryTree()
    try tree.write("same")
    try tree.write("changes", "1")
    try tree.write("goes")
    try tree.makeFolder("folder")
    let before = try scan(tree)
    #expect(try scan(tree).difference(from: before).isEmpty)
    try tree.write("changes", "22")
    try tree.write("folder/comes")
    unlink("\(tree.path)/goes")
    let difference = try scan(tree).difference(from: before)
    #expect(difference.added.map(\.description) == ["folder/comes"])
    #expect(difference.removed.map(\.description) == ["goes"])
    #expect(difference.changed.map(\.description) == ["changes"])
    #expect(difference.description == "1 added (folder/comes); 1 removed (goes); 1 changed (changes)")
  }
}

@Suite struct ExcludePatternTests {
  @Test(arguments: [
    ("*.tmp", "a.tmp", true), ("*.tmp", "x/y/a.tmp", true), ("*.tmp", "a.tmp.dat", false), ("Thumbs.db", "x/Thumbs.db", true),
    ("thumbs.db", "Thumbs.db", false), ("a?c", "abc", true), ("a?c", "aéc", true), ("a?c", "ac", false), ("[a-c]x", "bx", true),
    ("[!a-c]x", "bx", false), ("[", "[", true), ("\\*", "*", true), ("\\*", "a", false), ("raw/*.dat", "raw/a.dat", true),
    ("raw/*.dat", "raw/x/a.dat", false), ("raw/**/a.dat", "raw/x/y/a.dat", true), ("raw/**", "raw/x", true), ("**/z", "a/b/z", true),
    ("/top", "top", true), ("/top", "sub/top", false), ("", "x", false), ("a*b*c*d", "aXbXcX", false),
  ])
  func matches(pattern: String, path: String, expected: Bool) throws {
    #expect(ExcludePattern(pattern).matches(try RelativePath(path), isFolder: false) == expected)
  }

  @Test func onlyFoldersForATrailingSlash() throws {
    let path = try RelativePath("cache")
    #expect(ExcludePattern("cache/").matches(path, isFolder: true))
    #expect(!ExcludePattern("cache/").matches(path, isFolder: false))
  }

  @Test(.timeLimit(.minutes(1))) func takesNoExponentialTime() throws {
    let path = try RelativePath(String(repeating: "a", count: 250))
    #expect(!ExcludePattern(String(repeating: "*a", count: 60) + "b").matches(path, isFolder: false))
  }
}
