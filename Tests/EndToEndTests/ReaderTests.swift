import Foundation
import Synchronization
import TestSupport
import Testing

/// What somebody sees who looks at the NAS all the time, and NAS accounts without a shell.
@Suite(.serialized) struct ReaderTests {
  @Test func aReaderOfTheNASSeesNothingOrTheWholeRun() async throws {
    try await Workstation.with { lab in
      var files: [String: [UInt8]] = [:]
      for number in 0..<500 { files["tiles/\(number % 5)/t\(number).tif"] = noise(500 + number * 7, seed: UInt64(number)) }
      let run = try lab.makeRun(files: files)
      #expect(try await lab.nassync("enqueue", run).status == 0)
      let reader = NASReader(folder: lab.remote(run), sizes: files.mapValues(\.count))
      reader.start()
      let drain = try await lab.nassync("drain")
      let seen = await reader.finish()
      #expect(drain.status == 0, "\(drain)")
      #expect(seen.faults.isEmpty, "\(seen.faults.prefix(5))")
      // The reader did look before and after.
      #expect(seen.absent > 10, "\(seen.absent)")
      #expect(seen.present > 0)
      try await lab.expectVerified(run)
    }
  }

  @Test func anAccountWithoutAShellInAFolderOfItsOwn() async throws {
    try await Workstation.with(.chroot) { lab in
      #expect(try await lab.nassync("check").status == 0)
      var files: [String: [UInt8]] = [:]
      for number in 0..<3_000 { files["tiles/\(number % 30)/t\(number).tif"] = noise(200 + number % 900, seed: UInt64(number)) }
      let run = try lab.makeRun(files: files)
      #expect(try await lab.nassync("enqueue", run).status == 0)
      let drain = try await lab.nassync("drain")
      #expect(drain.status == 0, "\(drain)")
      let status = try await lab.nassync("--json", "status", run).json
      #expect(status["evidence"] == .string("readback"))
      #expect(status["remote_path"] == .string("/lab" + run.dropFirst(lab.lab.count)))
      try await lab.expectVerified(run)
      #expect(try await lab.nassync("verify", run).status == 0)
    }
  }
}

/// Looks at a folder again and again on a thread of its own.
private final class NASReader: Sendable {
  struct Seen: Sendable {
    var absent = 0
    var present = 0
    var faults: [String] = []
    var ended = false
  }

  private let folder: String
  private let sizes: [String: Int]
  private let stopping = Atomic(false)
  private let seen = Mutex(Seen())

  init(folder: String, sizes: [String: Int]) {
    self.folder = folder
    self.sizes = sizes
  }

  func start() {
    Thread.detachNewThread {
      while !self.stopping.load(ordering: .acquiring) {
        self.look()
        usleep(1_000)
      }
      // Once more, now that the run must be there.
      self.look()
      self.seen.withLock { $0.ended = true }
    }
  }

  func finish() async -> Seen {
    stopping.store(true, ordering: .releasing)
    while true {
      let now = seen.withLock { $0 }
      if now.ended { return now }
      await Task.yield()
    }
  }

  private func look() {
    // The folder first: what is seen after it must be whole.
    guard isThere(folder) else { return seen.withLock { $0.absent += 1 } }
    var faults: [String] = []
    if !isThere(folder + "/.exlab-wizard/checksums.sha256") { faults.append("the run is there without its manifest") }
    if !isThere(folder + "/.exlab-wizard/creation.json") { faults.append("the run is there without its record") }
    for (name, size) in sizes {
      var status = stat()
      if lstat(folder + "/" + name, &status) != 0 {
        faults.append("\(name) is missing")
      } else if status.st_size != size {
        faults.append("\(name) has \(status.st_size) of \(size) bytes")
      }
    }
    let found = faults
    seen.withLock {
      $0.present += 1
      $0.faults += found.prefix(5)
    }
  }

  private func isThere(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }
}
