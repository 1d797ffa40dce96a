import Foundation
import Gate
import Glibc
import Intake
import SyncModel

/// Walking and gating a run of a million files: time, and memory an entry.
enum WalkBench {
  /// Bytes of memory an entry that a walk and the gate may hold at most, in addition to what the process needs anyway.
  static let goal = 400.0

  static func run(files: Int) async throws {
    try await Measure.withFolder { folder in
      let relative = "MICROSCOPE_01/Alpha/Runs/Run_2026-11-20T10-00"
      let root = "\(folder)/\(relative)"
      let texts = try GateBench.makeTree(root, files: files)
      let location = RunLocation(root: root, equipment: "MICROSCOPE_01", relative: try RelativePath(relative))
      print("\(files) files, \(texts) of them text that is looked into, in \(Measure.base)")
      let before = try Measure.memory()
      let clock = ContinuousClock()
      for _ in 0..<3 {
        let began = clock.now
        let snapshot = try RunScanner.snapshot(of: root, metadataFolder: ".exlab-wizard", excluding: ["*.tmp", "Thumbs.db", ".DS_Store"])
        let walked = clock.now
        let held = try Measure.memory() - before
        let verdict = await PreSyncGate().evaluate(
          snapshot: snapshot, location: location, context: GateContext(now: Date().timeIntervalSince1970))
        guard verdict.isOpen, snapshot.entries.count(where: { $0.kind == .file }) == files else {
          throw Measure.Failure("the tree was made so that the gate lets it pass, and it does not")
        }
        print(
          String(
            format: "walk %.2f s, rules %.2f s; resident after the walk %.0f MB (%.0f B an entry), after the rules %.0f MB",
            Measure.seconds(walked - began), Measure.seconds(clock.now - walked), held, held * 1e6 / Double(snapshot.entries.count),
            try Measure.memory() - before))
      }
      let peak = (Measure.peakMemory() - before) * 1e6 / Double(files)
      print(String(format: "peak memory %.0f MB: %.0f B a file, the goal %.0f B", Measure.peakMemory(), peak, goal))
      for (name, program, words) in [
        ("find -printf", "/usr/bin/find", [root, "-printf", "%p %s %T@ %C@ %i\n"]),
        ("rsync -n", "/usr/bin/rsync", ["-an", "--stats", root + "/", "\(folder)/nothing/"]),
      ] {
        guard access(program, X_OK) == 0 else { throw Measure.Failure("\(program) is not installed: scripts/install-dependencies") }
        let runs = try (0..<3).map { _ in try Measure.run(program, words).seconds }
        print(String(format: "%@: %.2f s", name, runs.sorted()[1]))
      }
      if peak > goal { throw Measure.Failure("what is aimed at is missed") }
    }
  }
}
