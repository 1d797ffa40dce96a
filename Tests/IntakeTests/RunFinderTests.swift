import Executors
import Glibc
import Intake
import SyncModel
import TestSupport
import Testing

/// Where runs are looked for.
@Suite struct RunFinderTests {
  private func find(_ tree: TemporaryTree, _ ids: [String] = ["A_01"]) -> RunFinder.Found {
    RunFinder.find(ids.map { EquipmentRoot(id: $0, localRoot: tree.path + "/lab") })
  }

  private func names(_ found: RunFinder.Found, _ tree: TemporaryTree) -> [String] {
    found.candidates.map { String($0.path.dropFirst(tree.path.count + 5)) }.sorted()
  }

  @Test func runsAndTestRunsOfEveryProject() throws {
    let tree = try TemporaryTree()
    for run in [
      "A_01/P1/Runs/Run_1", "A_01/P1/TestRuns/TestRun_1", "A_01/P2/Runs/TestRun_2", "A_01/P2/TestRuns/Run_3", "A_01/P1/Runs/notes",
      "A_01/P1/Other/Run_4", "A_01/Runs/Run_5", "B_02/P1/Runs/Run_6",
    ] { try tree.write("lab/\(run)/data.fcs") }
    try tree.write("lab/A_01/P1/Runs/Run_file")
    let found = find(tree)
    // A prefix in the wrong folder is for the gate to name.
    #expect(names(found, tree) == ["A_01/P1/Runs/Run_1", "A_01/P1/TestRuns/TestRun_1", "A_01/P2/Runs/TestRun_2", "A_01/P2/TestRuns/Run_3"])
    #expect(found.obstacles.isEmpty)
    #expect(names(find(tree, ["A_01", "B_02"]), tree).count == 5)
  }

  @Test func linksAreNotFollowed() throws {
    let tree = try TemporaryTree()
    try tree.write("other/P/Runs/Run_1/data.fcs")
    try tree.write("lab/A_01/P/Runs/Run_0/data.fcs")
    try tree.link("lab/A_01/P/Runs/Run_link", to: tree.path + "/other/P/Runs/Run_1")
    try tree.link("lab/A_01/P/TestRuns", to: tree.path + "/other/P/Runs")
    try tree.link("lab/A_01/Q", to: tree.path + "/other/P")
    try tree.link("lab/B_02", to: tree.path + "/other")
    let found = find(tree, ["A_01", "B_02"])
    #expect(names(found, tree) == ["A_01/P/Runs/Run_0"])
    #expect(found.obstacles.isEmpty)
  }

  @Test func aRootBehindALinkGivesPathsWithoutIt() throws {
    let tree = try TemporaryTree()
    try tree.write("lab/A_01/P/Runs/Run_0/data.fcs")
    try tree.link("alias", to: "lab")
    let found = RunFinder.find([EquipmentRoot(id: "A_01", localRoot: tree.path + "/alias")])
    #expect(names(found, tree) == ["A_01/P/Runs/Run_0"])
  }

  @Test func whatCannotBeSearchedIsNamed() throws {
    let tree = try TemporaryTree()
    try tree.write("lab/A_01/P/Runs/Run_0/data.fcs")
    try tree.write(bytes: Array("lab/A_01/P/Runs/Run_".utf8) + [0xff] + Array("/data.fcs".utf8))
    let found = RunFinder.find([
      EquipmentRoot(id: "A_01", localRoot: tree.path + "/lab"), EquipmentRoot(id: "B_02", localRoot: tree.path + "/unmounted"),
    ])
    #expect(names(found, tree) == ["A_01/P/Runs/Run_0"])
    #expect(found.obstacles.map(\.reason).sorted() == ["No such file or directory", "its name is not UTF-8"])
    #expect(found.obstacles.first { $0.equipment == "B_02" }?.hint.contains("mounted") == true)
    // An instrument that has not made its folder yet is no obstacle.
    #expect(find(tree, ["C_03"]).obstacles.isEmpty)
  }

  @Test func aFolderWithoutPermissionIsAnObstacle() async throws {
    let tree = try TemporaryTree()
    try tree.write("lab/A_01/P/Runs/Run_0/data.fcs")
    chmod(tree.path, 0o755)
    #expect(chmod(tree.path + "/lab/A_01/P/Runs", 0) == 0)
    defer { chmod(tree.path + "/lab/A_01/P/Runs", 0o755) }
    let roots = [EquipmentRoot(id: "A_01", localRoot: tree.path + "/lab")]
    // The superuser may read all; another user, for this thread only, may not.
    let thread = ThreadExecutor(name: "nobody")
    let found = await thread.run { () -> [String] in
      let mine = setThreadUser(65_534)
      defer { _ = setThreadUser(UInt32(bitPattern: mine)) }
      return RunFinder.find(roots).obstacles.map(\.reason)
    }
    thread.shutdown()
    #expect(found == ["Permission denied"])
  }
}

/// When a run is looked at again.
@Suite struct RunObservationTests {
  private let tree: TemporaryTree
  private let pulse: TreePulse

  init() throws {
    tree = try TemporaryTree()
    try tree.write("run/data.fcs")
    pulse = TreePulse(try RunScanner.snapshot(of: tree.path + "/run", metadataFolder: ".m", excluding: []))
  }

  private static let second: UInt64 = 1_000_000_000

  @Test func looksGetRarerUntilSomethingChanges() throws {
    var run = RunObservation()
    let stamp = RunFinder.Stamp(of: tree.path + "/run")
    run.meet(.sent(job: 1), stamps: [stamp])
    var waits: [UInt64] = []
    var now: UInt64 = 1
    for _ in 0..<8 {
      run.looked(at: now, cost: 1_000, pace: .sent)
      waits.append(((run.dueAt ?? 0) - now) / Self.second)
      now = run.dueAt ?? 0
      run.meet(.sent(job: 1), stamps: [stamp])
    }
    #expect(waits == [30, 60, 120, 240, 480, 900, 900, 900])
    run.meet(.sent(job: 2), stamps: [stamp])
    #expect(run.dueAt == 0)
    run.looked(at: now, cost: 1_000, pace: .sent)
    run.meet(.sent(job: 2), stamps: [RunFinder.Stamp(of: tree.path)])
    #expect(run.dueAt == 0)
  }

  @Test func aLargeTreeIsLookedAtForAHundredthOfTheTimeAtMost() {
    var run = RunObservation()
    run.meet(.unsent, stamps: [])
    run.looked(at: 0, cost: 3 * Self.second, pace: .quiet(10))
    #expect(run.dueAt == 300 * Self.second)
  }

  @Test func aSlowLookPutsTheNextOneOffForThePacesLongestPauseAtMost() {
    let bounds: [(RunObservation.Pace, UInt64)] = [
      (.quiet(10), 300), (.quiet(3600), 300), (.awaited, 30), (.renewed, 60), (.refused, 300), (.sent, 900),
    ]
    for (pace, seconds) in bounds {
      for cost in [60 * Self.second, .max] {
        var run = RunObservation()
        run.meet(.unsent, stamps: [])
        run.looked(at: 0, cost: cost, pace: pace)
        #expect(run.dueAt == seconds * Self.second)
      }
    }
  }

  @Test func aQuietRunIsLookedAtSteadily() {
    var run = RunObservation()
    run.meet(.unsent, stamps: [])
    for _ in 0..<4 {
      run.looked(at: 0, cost: 1_000, pace: .quiet(10))
      #expect(run.dueAt == 2 * Self.second)
    }
  }

  @Test func aRunOnItsWayIsNotLookedAt() {
    var run = RunObservation()
    run.meet(.resting, stamps: [])
    #expect(run.dueAt == nil)
    run.meet(.sent(job: 1), stamps: [])
    #expect(run.dueAt == 0)
  }

  @Test func whatTheGateRefusedIsRefusedAsItWas() {
    var run = RunObservation()
    run.wasRefused(RunObservation.Mark(pulse: pulse, record: 1))
    #expect(run.isRefused(RunObservation.Mark(pulse: pulse, record: 1)))
    // An override in the record.
    #expect(!run.isRefused(RunObservation.Mark(pulse: pulse, record: 2)))
    run.reconsider()
    #expect(!run.isRefused)
  }
}
