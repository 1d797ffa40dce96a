import Glibc
import Intake
import SyncModel
import TestSupport
import Testing

/// When a run counts as finished, and when not.
@Suite struct CompletenessTests {
  private static let second: UInt64 = 1_000_000_000
  private static let digestOfABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

  private func look(_ tree: TemporaryTree, _ signal: CompletenessSignal) throws -> RunLook {
    try signal.look(at: tree.path + "/run", metadataFolder: ".exlab-wizard")
  }

  private func path(_ text: String) throws -> RelativePath { try RelativePath(text) }

  private var wall: Double {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  private func ready(
    _ signal: CompletenessSignal, _ look: RunLook, _ stillness: Stillness = Stillness(), wasSent: Bool = false, proof: ListProof? = nil,
    at monotonic: UInt64 = 0, wall: Double = 0
  ) -> Readiness {
    signal.readiness(look, stillness: stillness, wasSent: wasSent, proof: proof, monotonic: monotonic, wall: wall)
  }

  private func isUnfinished(_ readiness: Readiness, _ words: String) -> Bool {
    if case .unfinished(let reason) = readiness { reason.contains(words) } else { false }
  }

  // MARK: Sentinel

  @Test func aSentinelIsARegularFile() throws {
    let tree = try TemporaryTree()
    try tree.write("run/data.fcs")
    let signal = CompletenessSignal.sentinel(try path("state/done.flag"))
    #expect(isUnfinished(ready(signal, try look(tree, signal)), "state/done.flag is not there"))
    try tree.makeFolder("run/state/done.flag")
    #expect(try !signal.isGiven(at: tree.path + "/run"))
    #expect(rmdir(tree.path + "/run/state/done.flag") == 0)
    try tree.write("elsewhere")
    try tree.link("run/state/done.flag", to: tree.path + "/elsewhere")
    #expect(try !signal.isGiven(at: tree.path + "/run"))
    #expect(isUnfinished(ready(signal, try look(tree, signal)), "is not there"))
    #expect(unlink(tree.path + "/run/state/done.flag") == 0)
    try tree.write("run/state/done.flag", "")
    #expect(try signal.isGiven(at: tree.path + "/run"))
    #expect(ready(signal, try look(tree, signal)) == .finished)
  }

  @Test func aLinkedFolderOnTheWayToTheSentinelIsNotFollowed() throws {
    let tree = try TemporaryTree()
    try tree.write("run/data.fcs")
    try tree.write("elsewhere/done.flag")
    try tree.link("run/state", to: tree.path + "/elsewhere")
    #expect(try !CompletenessSignal.sentinel(try path("state/done.flag")).isGiven(at: tree.path + "/run"))
  }

  @Test func newsOfASentRunWantANewSentinelOrALongRest() throws {
    let tree = try TemporaryTree()
    try tree.write("run/done.flag")
    // Change times of most file systems move in steps of some milliseconds.
    usleep(20_000)
    try tree.write("run/second.fcs")
    let signal = CompletenessSignal.sentinel(try path("done.flag"))
    let first = try look(tree, signal)
    var stillness = Stillness()
    stillness.saw(first.pulse, ended: Self.second)
    #expect(ready(signal, first, stillness, wasSent: false, at: Self.second) == .finished)
    #expect(isUnfinished(ready(signal, first, stillness, wasSent: true, at: 600 * Self.second, wall: wall + 7200), "older"))
    #expect(ready(signal, first, stillness, wasSent: true, at: 601 * Self.second, wall: wall + 7200) == .finished)
    usleep(20_000)
    try tree.write("run/done.flag", "again")
    #expect(ready(signal, try look(tree, signal), Stillness(), wasSent: true) == .finished)
  }

  // MARK: Quiet

  @Test func quietIsWhatWasSeenUnchangedForSoLong() throws {
    let tree = try TemporaryTree()
    try tree.write("run/data.fcs")
    let signal = CompletenessSignal.quiet(seconds: 60)
    var stillness = Stillness()
    func at(_ seconds: UInt64, wall: Double) throws -> Readiness {
      let look = try look(tree, signal)
      stillness.saw(look.pulse, ended: seconds * Self.second + 5)
      return ready(signal, look, stillness, at: seconds * Self.second, wall: wall)
    }
    // A clock that is an hour ahead makes every file look old: only looks count.
    let ahead = wall + 3600
    #expect(isUnfinished(try at(10, wall: ahead), "60 seconds"))
    #expect(isUnfinished(try at(70, wall: ahead), "60 seconds"))
    #expect(try at(71, wall: ahead) == .finished)
    usleep(20_000)
    try tree.write("run/data.fcs", "DATA")
    #expect(isUnfinished(try at(72, wall: ahead), "60 seconds"))
    #expect(isUnfinished(try at(131, wall: ahead), "60 seconds"))
    #expect(try at(133, wall: ahead) == .finished)
    // A clock that is an hour behind sees files of the future, and does not stop the run for ever.
    #expect(try at(134, wall: wall - 3600) == .finished)
    // One that agrees with the file system knows better than a look how old the newest file is.
    #expect(isUnfinished(try at(135, wall: wall), "60 seconds"))
  }

  @Test func everythingInTheTreeCountsButOurOwnBookkeeping() throws {
    let tree = try TemporaryTree()
    try tree.write("run/data.fcs")
    try tree.write("run/.exlab-wizard/creation.json", "{}")
    let signal = CompletenessSignal.quiet(seconds: 1)
    let before = try look(tree, signal).pulse
    try tree.write("run/.exlab-wizard/creation.json", #"{"sync_status":"pending"}"#)
    try tree.write("run/.exlab-wizard/receipt.json", "{}")
    #expect(try look(tree, signal).pulse == before)
    try tree.write("run/acquisition.tmp")
    let grown = try look(tree, signal).pulse
    #expect(grown != before)
    #expect(chmod(tree.path + "/run/acquisition.tmp", 0o600) == 0)
    #expect(try look(tree, signal).pulse != grown)
  }

  @Test func aFolderThatWasJustMadeIsNoRun() throws {
    let tree = try TemporaryTree()
    try tree.write("run/.exlab-wizard/creation.json", "{}")
    try tree.write("run/.exlab-wizard/template.yaml", "a: 1")
    try tree.makeFolder("run/images")
    let signal = CompletenessSignal.quiet(seconds: 1)
    let found = try look(tree, signal)
    var stillness = Stillness()
    stillness.saw(found.pulse, ended: 0)
    #expect(isUnfinished(ready(signal, found, stillness, at: 99 * Self.second, wall: wall + 7200), "holds no file"))
  }

  // MARK: Manifest

  @Test func aListIsProvenOnceAndAnewWhenAnythingOfItChanged() throws {
    let tree = try TemporaryTree()
    let signal = CompletenessSignal.manifest(try path("lists/files.sha256"))
    try tree.write("run/a.fcs", "abc")
    #expect(isUnfinished(ready(signal, try look(tree, signal)), "is not there"))
    try tree.write("run/lists/files.sha256", "\(Self.digestOfABC)  a.fcs\n\(Self.digestOfABC)  sub/b.fcs")
    #expect(isUnfinished(ready(signal, try look(tree, signal)), "the file is cut"))
    // Lines as a program on Windows writes them.
    try tree.write("run/lists/files.sha256", "\(Self.digestOfABC) *a.fcs\r\n\(Self.digestOfABC) *sub/b.fcs\r\n")
    #expect(isUnfinished(ready(signal, try look(tree, signal)), "1 files that are not there, first sub/b.fcs"))
    try tree.write("run/sub/b.fcs", "abc")
    let found = try look(tree, signal)
    guard case .provable(let list) = ready(signal, found) else {
      Issue.record("nothing to prove")
      return
    }
    #expect(list.items.map(\.entry.path) == [try path("a.fcs"), try path("sub/b.fcs")])
    #expect(list.items.allSatisfy { $0.digest.hex == Self.digestOfABC })
    let good = ListProof(fingerprint: list.fingerprint, problem: nil)
    #expect(ready(signal, found, proof: good) == .finished)
    #expect(ready(signal, found, proof: ListProof(fingerprint: list.fingerprint, problem: "bad")) == .unfinished("bad"))
    // What is not listed grows, and nothing is hashed again for it.
    try tree.write("run/unlisted.log")
    #expect(ready(signal, try look(tree, signal), proof: good) == .finished)
    usleep(20_000)
    try tree.write("run/sub/b.fcs", "abd")
    guard case .provable = ready(signal, try look(tree, signal), proof: good) else {
      Issue.record("a changed file must be hashed anew")
      return
    }
  }

  @Test func anEmptyListProvesNothing() throws {
    let tree = try TemporaryTree()
    try tree.write("run/checksums.sha256", "")
    try tree.write("run/a.fcs", "abc")
    let signal = CompletenessSignal.manifest(try path(CompletenessSignal.defaultList))
    #expect(isUnfinished(ready(signal, try look(tree, signal)), "is no list of files"))
  }

  // MARK: News of a run that was sent

  @Test func newsAreWhatCouldBeSent() throws {
    let tree = try TemporaryTree()
    try tree.write("run/a.fcs", "abc")
    try tree.write("run/b.fcs", "abc")
    try tree.link("run/link", to: "a.fcs")
    func snapshot() throws -> RunSnapshot {
      try RunScanner.snapshot(of: tree.path + "/run", metadataFolder: ".exlab-wizard", excluding: ["*.tmp"])
    }
    let sent = try snapshot().entries
    #expect(try !snapshot().hasNews(beside: sent))
    // Owners, permissions and a file that is gone are no news; nor is the folder that this program made, and what is not sent anyway.
    #expect(chmod(tree.path + "/run/a.fcs", 0o600) == 0 && unlink(tree.path + "/run/b.fcs") == 0)
    try tree.write("run/.exlab-wizard/receipt.json", "{}")
    try tree.write("run/x.tmp")
    #expect(try !snapshot().hasNews(beside: sent))
    for (name, content) in [("a.fcs", "abcd"), ("new.fcs", "")] {
      let before = try snapshot().entries
      try tree.write("run/\(name)", content)
      #expect(try snapshot().hasNews(beside: before), "\(name)")
    }
    let before = try snapshot().entries
    #expect(unlink(tree.path + "/run/link") == 0)
    try tree.link("run/link", to: "b.fcs")
    #expect(try snapshot().hasNews(beside: before))
  }
}
