import Glibc
import SyncModel
import TestSupport
import Testing

@testable import Intake

private func failure(_ body: () throws(SyncFailure) -> Void) -> SyncFailure.Kind? {
  do {
    try body()
    return nil
  } catch { return error.kind }
}

@Suite struct LocalFileReaderTests {
  @Test func readsInPieces() throws {
    let tree = try TemporaryTree()
    let content = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    try tree.write("a/b.dat", content)
    let reader = try LocalFileReader(in: RunFolder(root: tree.path), path: RelativePath("a/b.dat"))
    #expect(try reader.read(at: 0, upTo: 70_000) + reader.read(at: 70_000, upTo: 70_000) == content)
    #expect(try reader.read(at: 100_000, upTo: 10).isEmpty)
    #expect(try reader.read(at: .max, upTo: 10).isEmpty)
    #expect(try reader.fingerprint().size == 100_000)
  }

  @Test func followsNoLinkAnywhere() throws {
    let tree = try TemporaryTree()
    try tree.write("real/file")
    try tree.link("folder", to: "real")
    try tree.link("file", to: "real/file")
    mkfifo("\(tree.path)/pipe", 0o600)
    let folder = try RunFolder(root: tree.path)
    for name in ["folder/file", "file", "pipe", "real"] {
      let path = try RelativePath(name)
      #expect(failure { () throws(SyncFailure) in _ = try LocalFileReader(in: folder, path: path) } == .localChanged)
    }
    let gone = try RelativePath("real/gone")
    #expect(failure { () throws(SyncFailure) in _ = try LocalFileReader(in: folder, path: gone) } == .localVanished)
    #expect(folder.openBySegments(try RelativePath("folder/file"), O_RDONLY) == nil)
    #expect(folder.openBySegments(try RelativePath("real/file"), O_RDONLY) != nil)
  }

  @Test func noticesEveryKindOfChange() throws {
    let tree = try TemporaryTree()
    let path = try RelativePath("f")
    func check(_ change: () throws -> Void) throws -> SyncFailure.Kind? {
      try tree.write("f", "1234")
      let reader = try LocalFileReader(in: RunFolder(root: tree.path), path: path)
      let before = try reader.fingerprint()
      try reader.requireUnchanged(since: before)
      usleep(10_000)
      try change()
      return failure { () throws(SyncFailure) in try reader.requireUnchanged(since: before) }
    }
    #expect(try check {} == nil)
    #expect(try check { try tree.write("f", "12345") } == .localChanged)
    #expect(try check { try tree.write("f", "4321") } == .localChanged)
    #expect(
      try check {
        try tree.write("g", "1234")
        rename("\(tree.path)/g", "\(tree.path)/f")
      } == .localChanged)
    #expect(try check { unlink("\(tree.path)/f") } != nil)
  }

  /// Several at once: whichever of them is not as it was registered, none of them is handed out.
  @Test func smallFilesAreReadAsTheyWereRegisteredOrNotAtAll() throws {
    let tree = try TemporaryTree()
    let names = ["a", "b/c", "d"]
    let paths = try names.map { try RelativePath($0) }
    func check(_ change: () throws -> Void) throws -> (contents: [[UInt8]], failure: SyncFailure?) {
      for name in names { try tree.write("run/\(name)", "of \(name)") }
      let folder = try RunFolder(root: "\(tree.path)/run")
      let entries = try paths.map { RunEntry(path: $0, kind: .file, fingerprint: try LocalFileReader(in: folder, path: $0).fingerprint()) }
      usleep(10_000)
      try change()
      do { return (try LocalFileReader.readWhole(entries, in: folder), nil) } catch { return ([], error) }
    }
    let untouched = try check {}
    #expect(untouched.failure == nil)
    #expect(untouched.contents == names.map { Array("of \($0)".utf8) })
    let changes: [(() throws -> Void, SyncFailure.Kind)] = [
      ({ try tree.write("run/d", "of d, and more") }, .localChanged),
      ({ try tree.write("run/b/c", "") }, .localChanged),
      ({ try tree.write("run/a", "OF a") }, .localChanged),
      ({ unlink("\(tree.path)/run/d") }, .localVanished),
      (
        {
          // A file of the same size and time under its name.
          try tree.write("run/new", "of d")
          rename("\(tree.path)/run/new", "\(tree.path)/run/d")
        }, .localChanged
      ),
      // The run's folder is still open, and no longer what has its name.
      ({ rename("\(tree.path)/run", "\(tree.path)/elsewhere") }, .localVanished),
    ]
    for (index, (change, kind)) in changes.enumerated() {
      let found = try check(change)
      #expect(found.failure?.kind == kind && found.contents.isEmpty, "\(index): \(String(describing: found.failure))")
    }
  }
}

@Suite struct RunLocatorTests {
  private let tree: TemporaryTree
  private let locator: RunLocator

  init() throws {
    tree = try TemporaryTree()
    try tree.makeFolder("lab/CONFOCAL_01/P/Runs/Run_1")
    try tree.makeFolder("lab/FLOW_01/P/Runs/Run_1")
    try tree.makeFolder("lab/FLOW_01/odd-run")
    try tree.makeFolder("other/stuff/run")
    try tree.write("lab/FLOW_01/P/file")
    locator = RunLocator(equipments: [
      EquipmentRoot(id: "CONFOCAL_01", localRoot: "\(tree.path)/lab/"), EquipmentRoot(id: "FLOW_01", localRoot: "\(tree.path)/lab"),
      EquipmentRoot(id: "MISC", localRoot: "\(tree.path)/other"),
    ])
  }

  private func error(_ path: String, equipment: String? = nil) -> RunLocationError? {
    do {
      _ = try locator.locate("\(tree.path)/\(path)", equipment: equipment)
      return nil
    } catch { return error }
  }

  private func caseName(_ error: RunLocationError?) -> String? {
    error.map { String(String(describing: $0).prefix { $0 != "(" }) }
  }

  @Test func theSegmentDecidesBetweenTwoEquipmentsOfOneRoot() throws {
    let confocal = try locator.locate("\(tree.path)/lab/CONFOCAL_01/P/Runs/Run_1/")
    #expect(confocal.equipment == "CONFOCAL_01")
    #expect(confocal.relative.description == "CONFOCAL_01/P/Runs/Run_1")
    #expect(confocal.root == "\(tree.path)/lab/CONFOCAL_01/P/Runs/Run_1")
    #expect(try locator.locate("\(tree.path)/lab/FLOW_01/odd-run").equipment == "FLOW_01")
  }

  @Test func resolvesLinksAboveTheRun() throws {
    try tree.link("shortcut", to: "lab/FLOW_01")
    #expect(try locator.locate("\(tree.path)/shortcut/P/Runs/Run_1").relative.description == "FLOW_01/P/Runs/Run_1")
  }

  @Test func neverGuesses() {
    #expect(caseName(error("other/stuff/run")) == "outsideEveryEquipment")
    #expect(caseName(error("lab")) == "outsideEveryEquipment")
    #expect(caseName(error("lab/FLOW_01")) == "equipmentFolder")
    #expect(caseName(error("lab/FLOW_01/P")) == "folderOfRuns")
    #expect(caseName(error("lab/FLOW_01/P/Runs")) == "folderOfRuns")
    try? tree.makeFolder("lab/FLOW_01/P/Runs/Run_1/sub/deeper")  // the expectation below fails where it could not be made
    #expect(
      error("lab/FLOW_01/P/Runs/Run_1/sub/deeper")
        == .insideRun("\(tree.path)/lab/FLOW_01/P/Runs/Run_1/sub/deeper", run: "\(tree.path)/lab/FLOW_01/P/Runs/Run_1"))
    #expect(caseName(error("lab/FLOW_01/P/Runs/Run_9")) == "noSuchRun")
    #expect(caseName(error("lab/FLOW_01/P/file")) == "notAFolder")
  }

  @Test func takesTheExplicitEquipmentOnlyWhereItFits() throws {
    let location = try locator.locate("\(tree.path)/other/stuff/run", equipment: "MISC")
    #expect(location.relative.description == "stuff/run")
    #expect(caseName(error("other/stuff/run", equipment: "NOPE")) == "unknownEquipment")
    #expect(caseName(error("other/stuff/run", equipment: "FLOW_01")) == "outsideEquipment")
    #expect(caseName(error("lab/FLOW_01/odd-run", equipment: "CONFOCAL_01")) == "contradiction")
  }

  @Test func findsThePlaceOfARunThatIsGone() throws {
    let gone = "\(tree.path)/lab/FLOW_01/P/Runs/Run_9"
    #expect(try locator.locate(gone, mayBeGone: true).relative.description == "FLOW_01/P/Runs/Run_9")
    #expect(throws: RunLocationError.self) { try locator.locate("\(gone)/../../../x", mayBeGone: true) }
  }

  @Test func everyErrorHasANextStep() {
    for name in ["other/stuff/run", "lab/FLOW_01", "lab/FLOW_01/P", "nothing"] {
      let failure = error(name)?.failure
      #expect(failure?.kind == .misconfigured)
      #expect(failure?.hint.isEmpty == false)
    }
  }
}
