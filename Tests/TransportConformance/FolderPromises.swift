import Foundation
import Glibc
import SyncModel
import TestSupport
import Testing
import Transport

@Suite struct FolderPromises {
  @Test(arguments: ConformanceSubject.all) func makesFoldersUpToTheRoot(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      try await session.makeFolder(try running.path("a/b/c"))
      try await session.makeFolder(try running.path("a/b/c"))
      #expect(try await running.eyes.kind(of: "a/b/c") == .folder)
      let other = try await running.driver.connect()
      try await other.makeFolder(try running.path("a/b/c"))
      try await other.makeFolder(running.root)
      await other.close()
    }
  }

  @Test(arguments: ConformanceSubject.all) func manyTasksMakeTheSameFolders(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for number in 0..<max(20, 200 / subject.slowness) {
          let path = try running.path("x/y/\(number % 5)/z")
          group.addTask { try await session.makeFolder(path) }
        }
        try await group.waitForAll()
      }
      #expect(try await running.eyes.names(in: "x/y").count == 5)
    }
  }

  @Test(arguments: ConformanceSubject.all) func fileInTheWayOfAFolder(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let path = try running.path("taken")
      try await session.put([1], at: path, modified: nil, mode: nil, durable: false)
      await #expect(throws: TransportError.alreadyExists(path)) { try await session.makeFolder(path) }
      #expect(try await running.eyes.bytes(of: "taken") == [1])
    }
  }

  @Test(arguments: ConformanceSubject.all) func missingRootIsNeverMade(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      if let driver = running.withoutRoot {
        let error = await failure {
          let session = try await driver.connect()
          try await session.makeFolder(try running.path("a/b"))
        }
        #expect(error?.failure.kind == .misconfigured)
        return
      }
      let root = RemotePath(root: String(decoding: running.root.bytes, as: UTF8.self) + "/nowhere")
      for path in [root, root.appending(try RelativePath("a/b"))] {
        let error = await #expect(throws: TransportError.self) { try await session.makeFolder(path) }
        #expect(error?.failure.kind == .misconfigured)
        #expect(error?.failure.hint.contains("remote_root") == true)
        #expect(error?.sessionLost == false)
      }
      #expect(try await running.eyes.exists("nowhere") == false)
    }
  }

  @Test(arguments: ConformanceSubject.all) func entriesSayWhatIsThere(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      #expect(try await session.entry(at: try running.path("none")) == nil)
      try await session.put(noise(1234), at: try running.path("file"), modified: 1_700_000_000, mode: 0o640, durable: false)
      try await session.makeFolder(try running.path("folder"))
      try running.disk?.link("link", to: "/etc")
      let file = try #require(try await session.entry(at: try running.path("file")))
      #expect(file == RemoteEntry(name: try RelativePath("file"), kind: .file, size: 1234, modified: file.modified))
      #expect(keepsItsWord(file, 1_700_000_000, session))
      #expect(try await session.entry(at: try running.path("folder"))?.kind == .folder)
      #expect(try await session.entry(at: running.root)?.kind == .folder)
      var listed = Set(try await session.list(running.root).map { [$0.name.description, $0.kind.rawValue] })
      if session.capabilities.symlinks {
        #expect(try await session.entry(at: try running.path("link"))?.kind == .symlink)
      } else {
        // A protocol without links shows what one leads to, or nothing.
        listed = listed.filter { $0[0] != "link" }.union([["link", "symlink"]])
      }
      #expect(listed == [["file", "file"], ["folder", "folder"], ["link", "symlink"]])
    }
  }

  @Test(arguments: ConformanceSubject.all) func setsTimesOfFilesAndFolders(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      try await session.makeFolder(try running.path("folder"))
      do {
        try await session.setModified(try running.path("folder"), to: 1_600_000_000)
        #expect(try await session.entry(at: try running.path("folder"))?.modified == 1_600_000_000)
      } catch TransportError.unsupported {
        #expect(!session.capabilities.keepsModes, "a driver that keeps permission bits keeps times, too")
      }
      let error = await failure { try await session.setModified(try running.path("gone"), to: 1) }
      if session.capabilities.renames {
        #expect(error == .notFound(try running.path("gone")))
      } else {
        #expect(error?.sessionLost == false)
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func listsThousandsOfEntries(_ subject: ConformanceSubject) async throws {
    let count = 20_000 / subject.slowness
    try await subject.withSession { session, running in
      try await running.eyes.plantMany(count, in: "many")
      let entries = try await session.list(try running.path("many"))
      #expect(Set(entries.map(\.name)).count == count)
      #expect(entries.allSatisfy { $0.kind == .file })
      try await session.removeTree(try running.path("many"))
      #expect(try await running.eyes.exists("many") == false)
    }
  }

  @Test(arguments: ConformanceSubject.all) func listingWhatIsNoFolder(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      await #expect(throws: TransportError.notFound(try running.path("gone"))) { try await session.list(try running.path("gone")) }
      try running.disk?.link("link", to: "/etc")
      for name in session.capabilities.symlinks ? ["link", "file"] : ["file"] {
        if name == "file" { try await session.put([1], at: try running.path(name), modified: nil, mode: nil, durable: false) }
        let error = await #expect(throws: TransportError.self) { try await session.list(try running.path(name)) }
        #expect(error?.sessionLost == false)
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func publishesAFolderOnce(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let (staging, final) = (try running.path("p/.nassync-1"), try running.path("p/Run_1"))
      try await session.makeFolder(staging)
      try await session.put([1], at: staging.appending(try RelativePath("f")), modified: nil, mode: nil, durable: false)
      guard session.capabilities.renames else {
        let error = await failure { try await session.publish(staging, as: final) }
        var isUnsupported = false
        if case .unsupported? = error { isUnsupported = true }
        #expect(isUnsupported, "\(String(describing: error))")
        #expect(try await running.eyes.bytes(of: "p/.nassync-1/f") == [1])
        #expect(try await running.eyes.exists("p/Run_1") == false)
        return
      }
      try await session.publish(staging, as: final)
      #expect(try await running.eyes.bytes(of: "p/Run_1/f") == [1])
      #expect(try await running.eyes.exists("p/.nassync-1") == false)
      try await session.makeFolder(staging)
      try await session.put([2], at: staging.appending(try RelativePath("f")), modified: nil, mode: nil, durable: false)
      await #expect(throws: TransportError.alreadyExists(final)) { try await session.publish(staging, as: final) }
      #expect(try await running.eyes.bytes(of: "p/Run_1/f") == [1])
      #expect(try await running.eyes.bytes(of: "p/.nassync-1/f") == [2])
      await #expect(throws: TransportError.notFound(try running.path("gone"))) {
        try await session.publish(try running.path("gone"), as: try running.path("p/other"))
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func publishesAFileOnceAndReplacesWhenTold(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let (new, final) = (try running.path("new"), try running.path("final"))
      try await session.put([1], at: new, modified: nil, mode: nil, durable: false)
      try await session.publish(new, as: final)
      try await session.put([2], at: new, modified: nil, mode: nil, durable: false)
      await #expect(throws: TransportError.alreadyExists(final)) { try await session.publish(new, as: final) }
      #expect(try await running.eyes.bytes(of: "final") == [1])
      try await session.replace(new, over: final)
      #expect(try await running.eyes.bytes(of: "final") == [2])
      #expect(try await running.eyes.exists("new") == false)
      // A link that leads nowhere takes the name, too, where the protocol shows it.
      guard session.capabilities.symlinks else { return }
      try #require(running.disk).link("dangling", to: "nowhere")
      await #expect(throws: TransportError.alreadyExists(try running.path("dangling"))) {
        try await session.publish(final, as: try running.path("dangling"))
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func removesATreeAndNothingBehindItsLinks(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      try await running.eyes.plant([], at: "outside/precious")
      for folder in ["t/a/b", "t/c"] { try await session.makeFolder(try running.path(folder)) }
      for name in ["t/1", "t/a/2", "t/a/b/3"] {
        try await session.put([1], at: try running.path(name), modified: nil, mode: nil, durable: false)
      }
      guard session.capabilities.symlinks else { return try await removesWithoutLinks(session, running) }
      let disk = try #require(running.disk)
      try disk.link("t/a/escape", to: disk.path("outside"))
      try disk.link("t/c/escape", to: "../outside")
      try disk.link("t/c/dangling", to: "nowhere")
      try await session.removeTree(try running.path("t"))
      #expect(try await running.eyes.exists("t") == false)
      #expect(try await running.eyes.exists("outside/precious"))
      try await session.removeTree(try running.path("t"))
      // A link in place of the folder goes, what it leads to stays.
      try disk.link("t", to: "outside")
      try await session.removeTree(try running.path("t"))
      #expect(try await running.eyes.exists("t") == false)
      #expect(try await running.eyes.exists("outside/precious"))
      // Removed folders are not taken for existing ones.
      try await session.makeFolder(try running.path("t/a/b"))
      #expect(try await running.eyes.exists("t/a/b"))
    }
  }

  /// Where the protocol does not show links, a tree without any goes whole; what a link of somebody else's leads to stays all the same.
  private func removesWithoutLinks(_ session: any TransportSession, _ running: RunningSubject) async throws {
    try await session.removeTree(try running.path("t"))
    #expect(try await running.eyes.exists("t") == false)
    try await session.removeTree(try running.path("t"))
    // Removed folders are not taken for existing ones.
    try await session.makeFolder(try running.path("t/a/b"))
    #expect(try await running.eyes.exists("t/a/b"))
    // In a store nobody can leave one.
    if let disk = running.disk { try disk.link("t/a/escape", to: disk.path("outside")) }
    do { try await session.removeTree(try running.path("t")) } catch let error as TransportError { #expect(!error.sessionLost) }
    #expect(try await running.eyes.exists("outside/precious"))
  }

  @Test(arguments: ConformanceSubject.all) func removesFiles(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      try await session.put([1], at: try running.path("f"), modified: nil, mode: nil, durable: false)
      try await session.removeFile(try running.path("f"))
      try await session.removeFile(try running.path("f"))
      #expect(try await running.eyes.exists("f") == false)
      try await session.makeFolder(try running.path("folder"))
      await #expect(throws: TransportError.self) { try await session.removeFile(try running.path("folder")) }
      #expect(try await running.eyes.exists("folder"))
    }
  }

  @Test(arguments: ConformanceSubject.all) func makesSymbolicLinks(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      guard session.capabilities.symlinks else {
        let error = await #expect(throws: TransportError.self) {
          try await session.makeSymlink(at: try running.path("link"), target: [0x61])
        }
        var isUnsupported = false
        if case .unsupported? = error { isUnsupported = true }
        #expect(isUnsupported, "\(String(describing: error))")
        #expect(try await running.eyes.exists("link") == false)
        return
      }
      let path = try running.path("link")
      let target = Array("../some where/é".utf8) + [0xff]
      try await session.makeSymlink(at: path, target: target)
      try await session.makeSymlink(at: path, target: target)
      #expect(try await session.symlinkTarget(of: path) == target)
      #expect(try await session.entry(at: path)?.kind == .symlink)
      await #expect(throws: TransportError.alreadyExists(path)) { try await session.makeSymlink(at: path, target: [0x61]) }
      try await session.put([1], at: try running.path("file"), modified: nil, mode: nil, durable: false)
      await #expect(throws: TransportError.alreadyExists(try running.path("file"))) {
        try await session.makeSymlink(at: try running.path("file"), target: [0x61])
      }
      await #expect(throws: TransportError.notFound(try running.path("gone"))) {
        try await session.symlinkTarget(of: try running.path("gone"))
      }
    }
  }

  @Test(arguments: ConformanceSubject.all) func saysHowMuchIsFree(_ subject: ConformanceSubject) async throws {
    try await subject.withSession { session, running in
      let free = try await session.freeSpace(at: running.root)
      #expect((free != nil) == session.capabilities.reportsFreeSpace)
      if let free { #expect(free > 1 << 20) }
    }
  }
}
