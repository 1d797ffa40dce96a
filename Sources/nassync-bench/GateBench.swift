import Foundation
import Gate
import Glibc
import Intake
import SyncModel

/// Files per second that the gate looks through: the scan of a tree and every built-in rule, on data made from a seed.
enum GateBench {
  /// Seconds in which 100,000 files must be through, of the processor's time: the clock on the wall says how busy the machine was, too.
  static let goal = 5.0

  static func run(files: Int) async throws { try await Measure.withFolder { try await run(files: files, in: $0) } }

  private static func run(files: Int, in folder: String) async throws {
    let relative = "MICROSCOPE_01/Alpha/Runs/Run_2026-11-20T10-00"
    let root = "\(folder)/\(relative)"
    let texts = try makeTree(root, files: files)
    let location = RunLocation(root: root, equipment: "MICROSCOPE_01", relative: try RelativePath(relative))
    print("\(files) files, \(texts) of them text that is looked into, in \(Measure.base)")
    print("   scan s    rules s    processor s     files/s   findings")
    var best = Double.infinity
    for _ in 0..<3 {
      let clock = ContinuousClock()
      let busy = Measure.processorSeconds()
      let started = clock.now
      let snapshot = try RunScanner.snapshot(of: root, metadataFolder: ".exlab-wizard", excluding: ["*.tmp", "Thumbs.db", ".DS_Store"])
      let scanned = clock.now
      let context = GateContext(now: Date().timeIntervalSince1970)
      let verdict = await PreSyncGate().evaluate(snapshot: snapshot, location: location, context: context)
      let scan = Measure.seconds(scanned - started)
      let rules = Measure.seconds(clock.now - scanned)
      guard verdict.isOpen, snapshot.files.count == files else {
        throw Measure.Failure(
          "the tree was made so that the gate lets it pass, and it does not: \(verdict.blocking.first?.detail ?? "files are missing")")
      }
      let used = Measure.processorSeconds() - busy
      best = min(best, used)
      print(String(format: "%9.3f %10.3f %14.3f %11.0f %10d", scan, rules, used, Double(files) / (scan + rules), verdict.informing.count))
    }
    let expected = goal * Double(max(files, 100_000)) / 100_000
    print(
      String(format: "the least is %.2f s of processor time, the goal %.1f s; peak memory %.0f MB", best, expected, Measure.peakMemory()))
    if best > expected { throw Measure.Failure("what is aimed at is missed") }
  }

  /// Folders of some hundred files: images with long names, some with letters beyond ASCII; one file in ten is text.
  /// - Returns: How many are text.
  static func makeTree(_ root: String, files: Int) throws -> Int {
    var random = Seeded(state: 20_261_120)
    var texts = 0
    try FileManager.default.createDirectory(atPath: root + "/.exlab-wizard", withIntermediateDirectories: true)
    let record =
      #"{"schema_version":"1.8","created_at":"2026-11-20T10:00:00Z","created_by":"asmith","level":"run","#
      + #""run_kind":"experimental","lims_project":null,"sync_status":"pending","validation_overrides":[]}"#
    try write(Array(record.utf8), root + "/.exlab-wizard/creation.json")
    let endings = [".txt", ".json", ".yaml", ".md", ".ini"]
    var folder = root
    for number in 0..<files {
      if number % 400 == 0 {
        folder = "\(root)/plate_\(number / 4000)/well \(number / 400)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      }
      let label = random.next() % 10 == 0 ? "Größe-µm" : "channel_\(random.next() % 5)"
      if number % 10 == 0 {
        texts += 1
        let ending = endings[Int(random.next() % UInt64(endings.count))]
        try write(text(ending, lines: 10 + Int(random.next() % 100)), "\(folder)/Notes_\(label)_\(number)\(ending)")
      } else {
        try write([UInt8(truncatingIfNeeded: number), 0, 1, 2], "\(folder)/IMG_\(label)_t\(number % 50)_z\(number % 7)_\(number).tif")
      }
    }
    return texts
  }

  private static func text(_ ending: String, lines: Int) -> [UInt8] {
    let line =
      switch ending {
      case ".json": "\"exposure\": {\"value\": 12.5, \"unit\": \"ms\"},\n"
      case ".yaml": "- name: well A1\n  gain: 1.25\n"
      case ".ini": "laser_power = 0.35 ; below <5 mW {as set}\n"
      default: "Temperature 37.0 °C, flow < 2 ml/min, focus kept.\n"
      }
    let body = String(repeating: line, count: lines)
    return Array((ending == ".json" ? "{\(body)\"end\": 1}" : ending == ".md" ? "---\ntitle: notes\n---\n\(body)" : body).utf8)
  }

  private static func write(_ bytes: [UInt8], _ path: String) throws {
    let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard file >= 0 else { throw Measure.Failure("\(path): \(String(cString: strerror(errno)))") }
    defer { close(file) }
    guard Glibc.write(file, bytes, bytes.count) == bytes.count else {
      throw Measure.Failure("\(path): \(String(cString: strerror(errno)))")
    }
  }

  /// SplitMix64 (Steele, Lea, Flood 2014): the same tree each time.
  private struct Seeded {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var value = state
      value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
      value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
      return value ^ (value >> 31)
    }
  }
}
