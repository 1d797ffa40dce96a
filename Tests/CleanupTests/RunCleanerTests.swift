import CLinux
import Cleanup
import Digests
import Executors
import Glibc
import Intake
import SyncModel
import Synchronization
import TestSupport
import Testing

@testable import Verification

/// Removal on real files, with others at work between its steps.
@Suite struct RunCleanerTests {
  static let job = "0b7c1c8e"

  /// A run as it was verified.
  struct Run {
    let tree: TemporaryTree
    let snapshot: RunSnapshot
    let plan: RemovalPlan
    var root: String { tree.path + "/run" }

    init(
      retain: Bool = true, exclude: [String] = ["*.tmp"], digest: ContentDigest? = InterlockTests.digest,
      _ make: (TemporaryTree) throws -> Void
    ) throws {
      tree = try TemporaryTree()
      try tree.write("run/.exlab-wizard/creation.json", "{}")
      try make(tree)
      snapshot = try RunScanner.snapshot(of: tree.path + "/run", metadataFolder: ".exlab-wizard", excluding: exclude)
      plan = try Self.plan(snapshot, retain: retain, digest: #require(digest))
    }

    static func plan(
      _ snapshot: RunSnapshot, retain: Bool, digest: ContentDigest = InterlockTests.digest, removalBegan: Bool = false
    ) throws -> RemovalPlan {
      let files = snapshot.files.map(\.path)
      let proof = VerifiedReceipt(
        proofs: Dictionary(uniqueKeysWithValues: files.map { ($0, VerifiedReceipt.Proof(digest: digest, evidence: .server)) }))
      return try RemovalPlan(
        root: snapshot.root, metadataFolder: ".exlab-wizard", retainMetadata: retain, jobID: RunCleanerTests.job,
        listed: snapshot.entries.map { ($0, $0.kind == .file ? digest : nil) }, proof: proof, removalBegan: removalBegan)
    }

    func remove(_ hook: @escaping RunCleaner.Hook = { _, _ in }) throws -> RemovalResult { try RunCleaner(plan, hook: hook).remove() }

    func exists(_ name: String) -> Bool {
      var status = stat()
      return lstat(root + "/" + name, &status) == 0
    }

    /// Names below the run, as `find` would show them.
    func left() throws -> [String] {
      let now = try RunScanner.snapshot(of: root, metadataFolder: ".none", excluding: [])
      return now.entries.map(\.path.description)
    }
  }

  static func ordinary(_ tree: TemporaryTree) throws {
    try tree.write("run/a.dat", "measured")
    try tree.write("run/sub/b.dat", "more")
    try tree.write("run/sub/deep/c.dat", "most")
    try tree.link("run/link", to: "a.dat")
    try tree.makeFolder("run/empty")
  }

  static let kept = [".exlab-wizard", ".exlab-wizard/creation.json"]

  @Test func everythingListedGoesAndTheMetadataStays() throws {
    let run = try Run {
      try Self.ordinary($0)
      try $0.write("run/.exlab-wizard/own.txt", "the lab's")
    }
    let result = try run.remove()
    #expect(result.kept.isEmpty && result.removedFiles.count == 3 && result.removedLinks.count == 1 && result.bytes == 16)
    #expect(try run.left() == Self.kept + [".exlab-wizard/own.txt"])
  }

  /// Removing one name of a file moves the change time of its other names: that alone is no reason to keep them for ever.
  @Test func hardLinkedFilesOfOneRunGoTogether() throws {
    let digest = SHA256Hasher.digest(of: Array("measured".utf8))
    let run = try Run(digest: digest) {
      try $0.write("run/a.dat", "measured")
      for name in ["b.dat", "c.dat"] { #expect(link($0.path + "/run/a.dat", $0.path + "/run/" + name) == 0) }
    }
    // As after a crash: the first name went, the rest is the next attempt's.
    let stopped = try? run.remove { (moment, path) throws(SyncFailure) in  // the hook throws
      if moment == .removed, path.description == "a.dat" { throw SyncFailure(.local, "the test pulled the plug", hint: "None.") }
    }
    #expect(stopped == nil && !run.exists("a.dat") && run.exists("b.dat"))
    let now = try RunScanner.snapshot(of: run.root, metadataFolder: ".exlab-wizard", excluding: [])
    let comparison = LocalComparison(listed: run.snapshot.entries, snapshot: now, removalBegan: true)
    #expect(comparison.changed.isEmpty && comparison.intact == 2 && comparison.removedBefore == 1)
    #expect(LocalComparison(listed: run.snapshot.entries, snapshot: now, removalBegan: false).changed.count == 2)
    let result = try run.remove()
    #expect(result.kept.isEmpty && result.removedFiles.count == 2, "\(result.kept)")
    #expect(try run.left() == Self.kept)
  }

  /// Another name of the file was used to write to it, and the time set back: only the content says so, and it is kept.
  @Test func aHardLinkedFileThatWasWrittenToStays() throws {
    let digest = SHA256Hasher.digest(of: Array("measured".utf8))
    let run = try Run(digest: digest) {
      try $0.write("run/a.dat", "measured")
      #expect(link($0.path + "/run/a.dat", $0.path + "/run/b.dat") == 0)
    }
    var before = stat()
    #expect(lstat(run.root + "/b.dat", &before) == 0)
    let (root, times) = (run.root, [before.st_atim, before.st_mtim])
    let result = try run.remove { (moment, path) throws(SyncFailure) in
      guard moment == .before, path.description == "b.dat" else { return }
      let file = open(root + "/b.dat", O_WRONLY)
      pwrite(file, "M", 1, 0)
      futimens(file, times)
      close(file)
    }
    #expect(result.kept.map(\.path.description) == ["b.dat"])
    #expect(run.exists("b.dat"))
  }

  /// What an attempt that failed had set aside and put back has another change time: it must not be kept for that alone for ever, and
  /// goes only with the content that was proven.
  @Test func whatWasPutBackIsReadAgain() throws {
    let digest = SHA256Hasher.digest(of: Array("measured".utf8))
    let run = try Run(digest: digest) {
      for name in ["a.dat", "b.dat"] { try $0.write("run/" + name, "measured") }
    }
    var before = stat()
    #expect(lstat(run.root + "/b.dat", &before) == 0)
    let file = open(run.root + "/b.dat", O_WRONLY)
    pwrite(file, "M", 1, 0)
    futimens(file, [before.st_atim, before.st_mtim])
    close(file)
    #expect(rename(run.root + "/a.dat", run.root + "/aside") == 0 && rename(run.root + "/aside", run.root + "/a.dat") == 0)
    let now = try RunScanner.snapshot(of: run.root, metadataFolder: ".exlab-wizard", excluding: [])
    #expect(LocalComparison(listed: run.snapshot.entries, snapshot: now, removalBegan: true).changed.isEmpty)
    #expect(LocalComparison(listed: run.snapshot.entries, snapshot: now, removalBegan: false).changed.count == 2)
    #expect(try run.remove().removedFiles.isEmpty)
    let plan = try Run.plan(run.snapshot, retain: true, digest: #require(digest), removalBegan: true)
    let result = try RunCleaner(plan).remove()
    #expect(result.removedFiles.map(\.description) == ["a.dat"] && result.kept.map(\.path.description) == ["b.dat"], "\(result.kept)")
    #expect(run.exists("b.dat") && !run.exists("a.dat"))
  }

  @Test func withoutRetentionTheWholeRunGoes() throws {
    let run = try Run(retain: false) {
      try Self.ordinary($0)
      try $0.write("run/.exlab-wizard/own.txt", "the lab's")
    }
    let cleaner = try RunCleaner(run.plan)
    #expect(try cleaner.remove().removedFiles.count == 4)
    #expect(try run.left() == Self.kept)
    #expect(cleaner.removeDocument("creation.json", accepting: { _ in false }) != nil)
    #expect(run.exists(".exlab-wizard/creation.json"))
    #expect(cleaner.removeDocument("creation.json", accepting: { $0 == Array("{}".utf8) }) == nil)
    #expect(cleaner.removeDocument("creation.json", accepting: { _ in true }) == nil)
    #expect(cleaner.removeEmptyFolders() == (true, true))
    #expect(!run.exists(""))
  }

  @Test func withoutAProofForEachFileNothingCanBePlanned() throws {
    let run = try Run(Self.ordinary)
    let listed = run.snapshot.entries.map { (entry: $0, digest: $0.kind == .file ? Optional(InterlockTests.digest) : nil) }
    func plan(_ proofs: [RelativePath: VerifiedReceipt.Proof]) throws {
      _ = try RemovalPlan(
        root: run.root, metadataFolder: ".exlab-wizard", retainMetadata: true, jobID: Self.job, listed: listed,
        proof: VerifiedReceipt(proofs: proofs))
    }
    var proofs: [RelativePath: VerifiedReceipt.Proof] = [:]
    for item in run.plan.items { proofs[item.entry.path] = item.proof }
    try plan(proofs)
    proofs[InterlockTests.parsed("a.dat")] = VerifiedReceipt.Proof(digest: InterlockTests.filled(9), evidence: .server)
    #expect(throws: SyncFailure.self) { try plan(proofs) }
    proofs[InterlockTests.parsed("a.dat")] = nil
    #expect(throws: SyncFailure.self) { try plan(proofs) }
  }

  @Test func excludedAndUnknownFilesStayWithTheirFolders() throws {
    let run = try Run {
      try Self.ordinary($0)
      try $0.write("run/sub/scratch.tmp", "excluded")
    }
    try run.tree.write("run/sub/deep/late.dat", "new")
    let result = try run.remove()
    #expect(result.kept.isEmpty)
    #expect(try run.left() == Self.kept + ["sub", "sub/deep", "sub/deep/late.dat", "sub/scratch.tmp"])
  }

  /// What somebody does at one moment of the removal of `sub/b.dat`, and what must be left of it.
  struct Race: Sendable, CustomStringConvertible {
    let description: String
    var moment = RunCleaner.Moment.examined
    let act: @Sendable (String) -> Void
    let survives: @Sendable (String) -> Bool
  }

  static func put(_ text: String, _ path: String) {
    let raw = clinux_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    _ = Array(text.utf8).withUnsafeBytes { write(raw, $0.baseAddress, $0.count) }
    close(raw)
  }

  static func text(_ path: String) -> String? {
    let raw = clinux_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW, 0)
    guard raw >= 0 else { return nil }
    defer { close(raw) }
    var buffer = [UInt8](repeating: 0, count: 100)
    let count = max(0, read(raw, &buffer, 100))
    return String(decoding: buffer.prefix(count), as: UTF8.self)
  }

  static func isKind(_ path: String, _ kind: mode_t) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0 && status.st_mode & S_IFMT == kind
  }

  static let races: [Race] = [
    Race(description: "replaced by a new file") {
      put("new!", $0 + "/x")
      rename($0 + "/x", $0 + "/sub/b.dat")
    } survives: {
      text($0 + "/sub/b.dat") == "new!"
    },
    Race(description: "replaced by a link") {
      unlink($0 + "/sub/b.dat")
      symlink("../../outside", $0 + "/sub/b.dat")
    } survives: {
      isKind($0 + "/sub/b.dat", S_IFLNK)
    },
    Race(description: "replaced by a folder") {
      unlink($0 + "/sub/b.dat")
      mkdir($0 + "/sub/b.dat", 0o755)
      put("inside", $0 + "/sub/b.dat/f")
    } survives: {
      text($0 + "/sub/b.dat/f") == "inside"
    },
    Race(description: "replaced by a pipe") {
      unlink($0 + "/sub/b.dat")
      mkfifo($0 + "/sub/b.dat", 0o644)
    } survives: {
      isKind($0 + "/sub/b.dat", S_IFIFO)
    },
    Race(description: "made anew with the same size and times") { root in
      var status = stat()
      lstat(root + "/sub/b.dat", &status)
      put("MORE", root + "/x")
      utimensat(AT_FDCWD, root + "/x", [status.st_atim, status.st_mtim], 0)
      rename(root + "/x", root + "/sub/b.dat")
    } survives: {
      text($0 + "/sub/b.dat") == "MORE"
    },
    Race(description: "appended before it is looked at", moment: .before) { root in
      let raw = clinux_openat(AT_FDCWD, root + "/sub/b.dat", O_WRONLY | O_APPEND, 0)
      _ = write(raw, "+", 1)
      close(raw)
    } survives: {
      text($0 + "/sub/b.dat") == "more+"
    },
    Race(description: "somebody opens it to write") { root in
      // The lease makes an opener that does not wait fail, and tells of it.
      let raw = clinux_openat(AT_FDCWD, root + "/sub/b.dat", O_WRONLY | O_NONBLOCK, 0)
      if raw >= 0 { close(raw) }
    } survives: {
      text($0 + "/sub/b.dat") == "more"
    },
    Race(description: "a new file takes the name while it is set aside", moment: .setAside) {
      put("newer", $0 + "/sub/b.dat")
    } survives: {
      text($0 + "/sub/b.dat") == "newer"
    },
    Race(description: "the folder is moved away", moment: .setAside) {
      rename($0 + "/sub", $0 + "/elsewhere")
    } survives: {
      text($0 + "/elsewhere/b.dat") == "more"
    },
    Race(description: "the folder becomes a link to another", moment: .before) {
      rename($0 + "/sub", $0 + "/../keep")
      symlink("../keep", $0 + "/sub")
    } survives: {
      text($0 + "/../keep/b.dat") == "more"
    },
    Race(description: "the whole run is moved away") {
      rename($0, $0 + "-moved")
    } survives: {
      text($0 + "-moved/sub/b.dat") == "more"
    },
  ]

  @Test(arguments: races) func whatSomebodyDoesMeanwhileSurvives(_ race: Race) throws {
    let run = try Run(Self.ordinary)
    let root = run.root
    let result = try run.remove { (moment, path) throws(SyncFailure) in
      if moment == race.moment, path.description == "sub/b.dat" { race.act(root) }
    }
    #expect(race.survives(root), "\(result)")
    if race.description.contains("takes the name") {
      // The verified file was unlinked where it lay; the new one has nothing to do with it.
      #expect(result.kept.isEmpty)
    } else {
      #expect(result.kept.contains { $0.path.description == "sub/b.dat" && !$0.reason.isEmpty }, "\(result)")
    }
    #expect(!result.removedFiles.contains { $0.description == "sub/b.dat" } || race.description.contains("takes the name"))
  }

  @Test func whatIsOpenForWritingStays() throws {
    let run = try Run(Self.ordinary)
    let raw = clinux_openat(AT_FDCWD, run.root + "/sub/b.dat", O_WRONLY, 0)
    defer { close(raw) }
    #expect(try WriterProbe.beingWritten(run.snapshot.files.map(\.path), in: RunFolder(root: run.root)).map(\.description) == ["sub/b.dat"])
    let result = try run.remove()
    #expect(result.kept.map(\.path.description) == ["sub/b.dat"])
    #expect(Self.text(run.root + "/sub/b.dat") == "more" && !run.exists("a.dat"))
  }

  @Test func aLinkIsRemovedAndNotFollowedAndOneThatPointsElsewhereStays() throws {
    let run = try Run {
      try $0.write("outside", "safe")
      try $0.link("run/one", to: "../outside")
      try $0.link("run/two", to: "../outside")
      try $0.write("run/a.dat", "x")
    }
    unlink(run.root + "/two")
    symlink("../outsidE", run.root + "/two")
    let result = try run.remove()
    #expect(result.kept.map(\.path.description) == ["two"] && run.exists("two") && !run.exists("one"))
    #expect(try run.tree.read("outside") == Array("safe".utf8))
  }

  @Test func oneNameOfAHardLinkGoesAndTheOtherStays() throws {
    let run = try Run { tree in
      try tree.write("run/a.dat", "x")
      guard link(tree.path + "/run/a.dat", tree.path + "/outside") == 0 else { throw TemporaryFolder.Failure("link") }
    }
    #expect(try run.remove().removedFiles.count == 1)
    #expect(try run.tree.read("outside") == Array("x".utf8))
  }

  /// The tests run as the superuser, whom only the immutable attribute stops.
  @Test func whatMayNotBeRemovedStaysAndIsNamed() async throws {
    let run = try Run(Self.ordinary)
    #expect(try await runProcess(["chattr", "+i", run.root + "/sub/deep"]).status == 0)
    let result = try run.remove()
    #expect(try await runProcess(["chattr", "-i", run.root + "/sub/deep"]).status == 0)
    #expect(result.kept.map(\.path.description) == ["sub/deep/c.dat"])
    #expect(Self.text(run.root + "/sub/deep/c.dat") == "most" && !run.exists("sub/b.dat"))
    // Tried again, it goes: nothing about it has changed.
    #expect(try run.remove().removedFiles.map(\.description) == ["sub/deep/c.dat"])
    #expect(try run.left() == Self.kept)
  }

  @Test(arguments: [RunCleaner.Moment.before, .examined, .setAside, .removed, .beforeFolder]) func aCrashIsGoneOnFrom(
    _ crash: RunCleaner.Moment
  ) throws {
    let run = try Run(Self.ordinary)
    for victim in ["a.dat", "link", "sub/b.dat", "sub"] {
      _ = try? run.remove { (moment, path) throws(SyncFailure) in  // the crash is the point
        if moment == crash, path.description == victim { throw SyncFailure(.local, "the test pulled the plug", hint: "None.") }
      }
      // Nothing that a crash leaves behind is taken for a component of the run.
      let now = try RunScanner.snapshot(of: run.root, metadataFolder: ".exlab-wizard", excluding: ["*.tmp"])
      #expect(Set(now.entries.map(\.path)).isSubset(of: Set(run.snapshot.entries.map(\.path))))
    }
    let result = try run.remove()
    #expect(result.kept.isEmpty)
    #expect(try run.left() == Self.kept)
  }

  /// What was set aside when the process died and is not the verified file any more gets its name back.
  @Test func whatWasSetAsideAndChangedComesBack() throws {
    let run = try Run(Self.ordinary)
    let root = run.root
    _ = try? run.remove { (moment, path) throws(SyncFailure) in  // the crash is the point
      guard moment == .setAside, path.description == "sub/b.dat" else { return }
      throw SyncFailure(.local, "the test pulled the plug", hint: "None.")
    }
    let aside = try run.left().filter { $0.contains(".nassync-removing-") }
    #expect(aside.count == 1)
    Self.put("changed", root + "/" + (aside.first ?? "none"))
    let result = try run.remove()
    #expect(result.kept.map(\.path.description).contains("sub/b.dat"))
    #expect(Self.text(root + "/sub/b.dat") == "changed")
    #expect(try run.left().filter { $0.contains(".nassync-removing-") }.isEmpty)
  }

  @Test func itStopsBetweenTwoNames() throws {
    let run = try Run(Self.ordinary)
    let asked = Mutex(0)
    let result = try RunCleaner(run.plan).remove(shouldStop: {
      asked.withLock {
        $0 += 1; return $0 > 2
      }
    })
    #expect(result.stopped && result.removedFiles.count + result.removedLinks.count == 2)
    #expect(run.exists("sub/b.dat"))
  }

  /// A writer adds files as fast as it can while the run is removed, many times over: none of them is ever lost.
  @Test func filesAddedAMomentBeforeSurvive() async throws {
    var added = 0
    let thread = ThreadExecutor(name: "writer")
    defer { thread.shutdown() }
    for trial in 0..<200 {
      let run = try Run(Self.ordinary)
      let root = run.root
      let writer = RacingWriter()
      async let writing: Void = thread.run { writer.write(into: root) }
      while writer.names.isEmpty { await Task.yield() }
      let result = try run.remove()
      writer.stop()
      await writing
      for name in writer.names { #expect(Self.text(root + "/" + name) == name, "trial \(trial): \(name) \(result)") }
      added += writer.names.count
    }
    #expect(added > 1_000)
  }
}

/// Adds files to a run, also under the names that are being removed.
private final class RacingWriter: Sendable {
  private let added = Mutex<[String]>([])
  private let stopped = Atomic(false)

  var names: [String] { added.withLock { $0 } }

  func stop() { stopped.store(true, ordering: .releasing) }

  func write(into root: String) {
    var number = 0
    while !stopped.load(ordering: .acquiring), number < 2_000 {
      number += 1
      for name in ["new-\(number)", "sub/new-\(number)", "sub/deep/new-\(number)", "a.dat", "sub/b.dat"] {
        let raw = clinux_openat(AT_FDCWD, root + "/" + name, O_WRONLY | O_CREAT | O_EXCL, 0o644)
        guard raw >= 0 else { continue }
        _ = Array(name.utf8).withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) }
        close(raw)
        added.withLock { $0.append(name) }
      }
    }
  }
}
