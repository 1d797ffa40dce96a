import Foundation
import Glibc
import TestSupport
import Testing

/// `restore` as a person uses it: the real program, killed in the middle, against damage, and without a NAS.
@Suite struct RestoreTests {
  @Test func killedInTheMiddleItGoesOn() async throws {
    try await Workstation.with(.sftpOnly) { lab in
      var files = ["raw/stack.bin": noise(96 << 20, seed: 1)]
      for number in 0..<300 { files["tiles/\(number % 7)/t\(number).tif"] = noise(700 + number, seed: UInt64(number)) }
      let total = files.values.reduce(0) { $0 + $1.count }
      let run = try lab.makeRun(files: files)
      #expect(try await lab.nassync("enqueue", run).status == 0)
      #expect(try await lab.nassync("drain").status == 0)

      let copy = lab.folder.path + "/copy"
      let child = try lab.start("restore", run, copy)
      let metadata = copy + "/.exlab-wizard"
      while child.isRunning, try Self.partial(metadata) < 8 << 20 { try await Task.sleep(for: .milliseconds(1)) }
      kill(child.id, SIGKILL)
      let ended = await child.exitStatus()
      let log = try lab.log()
      #expect(ended == 128 + SIGKILL, "it ended before it could be killed: \(log)")
      let partial = try Self.partial(metadata)
      let finished = try await runProcess(["find", copy, "-path", metadata, "-prune", "-o", "-type", "f", "-printf", "%s\n"]).text
      let there = finished.split(separator: "\n").compactMap { Int($0) }
      #expect(there.count == 300 && partial > 0, "\(there.count) files, \(partial) bytes")
      #expect(!FileManager.default.fileExists(atPath: copy + "/raw/stack.bin"))

      let again = try await lab.nassync("--json", "restore", run, copy)
      #expect(again.status == 0, "\(again)")
      #expect(again.json["ok"] == .bool(true))
      #expect(again.json["bytes_downloaded"] == .number(Double(total - there.reduce(0, +) - partial)), "\(again)")
      #expect(again.json["files_kept"] == .number(300))
      let difference = try await runProcess(["diff", "-r", "--exclude=.exlab-wizard", run, copy])
      #expect(difference.status == 0, "\(difference.text)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: metadata).allSatisfy { !$0.hasPrefix(".") })
    }
  }

  /// Bytes of the large file that have arrived.
  private static func partial(_ metadata: String) throws -> Int {
    guard FileManager.default.fileExists(atPath: metadata) else { return 0 }
    let sizes = try FileManager.default.contentsOfDirectory(atPath: metadata).filter { $0.hasPrefix(".nassync-part-") }.map { name in
      var status = stat()
      return stat(metadata + "/" + name, &status) == 0 ? Int(status.st_size) : 0
    }
    return sizes.max() ?? 0
  }

  @Test func exitCodesSayWhatCameOfIt() async throws {
    try await Workstation.with(.shell) { lab in
      let run = try lab.makeRun()
      #expect(try await lab.nassync("enqueue", run).status == 0)
      #expect(try await lab.nassync("drain").status == 0)
      let done = try await lab.nassync("restore", run, "copy")
      #expect(done.status == 0 && done.text.contains("restored and proven"), "\(done)")
      let refused = try await lab.nassync("restore", run, "lab")
      #expect(refused.status == 2 && refused.errorText.contains("not empty"), "\(refused)")
      try lab.folder.write(Array("Measured".utf8), to: "other")
      try FileManager.default.removeItem(atPath: lab.remote(run) + "/data.fcs")
      try FileManager.default.moveItem(atPath: lab.folder.path + "/other", toPath: lab.remote(run) + "/data.fcs")
      let damaged = try await lab.nassync("restore", "CYTOMETER_01:CYTOMETER_01/PROJ-0042/Runs/Run_2026-04-17T14-32", "second")
      #expect(damaged.status == 4 && damaged.text.contains("data.fcs") && damaged.text.contains("NOT WHOLE"), "\(damaged)")
      #expect(!FileManager.default.fileExists(atPath: lab.folder.path + "/second/data.fcs"))
      #expect(FileManager.default.fileExists(atPath: lab.folder.path + "/second/sub/notes.txt"))
      try await lab.server.stop()
      let later = try await lab.nassync("--json", "restore", run, "third")
      #expect(later.status == 75 && later.json["error"]["retry"] == .bool(true), "\(later)")
    }
  }
}
