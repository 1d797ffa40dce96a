import Foundation
import Glibc

/// What the measurements share: a place for their data, timing, and the process's own use of the machine.
enum Measure {
  struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
  }

  /// Where data is made: `$SCRATCH`, else memory where there is such a file system.
  static var base: String {
    if let named = ProcessInfo.processInfo.environment["SCRATCH"], !named.isEmpty { return named }
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : NSTemporaryDirectory()
  }

  /// Runs `body` with a folder of its own, which is removed afterwards.
  static func withFolder(_ body: (String) async throws -> Void) async throws {
    let folder = "\(base)/nassync-bench-\(getpid())"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }  // a leftover is told by its name
    try await body(folder)
  }

  static func seconds(_ duration: Duration) -> Double {
    Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18
  }

  /// Of this process so far, all threads, in the kernel too.
  static func processorSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
  }

  /// Megabytes that were resident at most, so far.
  static func peakMemory() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_maxrss) * 1024 / 1e6
  }

  /// Megabytes that are resident now.
  static func memory() throws -> Double {
    let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
    let words = text.split(separator: " ")
    guard words.count > 1, let pages = Double(words[1]) else { throw Failure("/proc/self/statm has no such field") }
    return pages * Double(sysconf(Int32(_SC_PAGESIZE))) / 1e6
  }

  /// Runs a program and waits for its end; its output goes nowhere but into the answer.
  /// - Parameter accepted: Exit codes that are no failure.
  @discardableResult
  static func run(_ program: String, _ arguments: [String], accepted: Set<Int32> = [0]) throws -> (output: [UInt8], seconds: Double) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: program)
    process.arguments = arguments
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = FileHandle.nullDevice
    process.standardInput = FileHandle.nullDevice
    let clock = ContinuousClock()
    let began = clock.now
    try process.run()
    let output = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    let seconds = seconds(clock.now - began)
    guard accepted.contains(process.terminationStatus) else {
      throw Failure("\(program) \(arguments.joined(separator: " ")) ended with \(process.terminationStatus)")
    }
    return (Array(output), seconds)
  }
}

/// Milliseconds of many calls of one kind.
struct Timings {
  let name: String
  /// What is aimed at, milliseconds, for the median; nil where nothing was said.
  let goal: Double?
  private(set) var samples: [Double] = []

  init(_ name: String, goal: Double? = nil) {
    self.name = name
    self.goal = goal
  }

  /// Times one call.
  @discardableResult
  mutating func time<Result>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Result
  ) async rethrows -> Result {
    let clock = ContinuousClock()
    let began = clock.now
    let result = try await body()
    samples.append(Measure.seconds(clock.now - began) * 1e3)
    return result
  }

  mutating func add(milliseconds: Double) { samples.append(milliseconds) }

  private func quantile(_ part: Double) -> Double {
    let sorted = samples.sorted()
    guard let last = sorted.indices.last else { return .nan }
    return sorted[min(last, Int((Double(last) * part).rounded()))]
  }

  var median: Double { quantile(0.5) }

  /// Whether what is aimed at is reached.
  var holds: Bool { goal.map { median <= $0 } ?? true }

  static let head = String(repeating: " ", count: 58) + "    times   median ms      p99 ms     goal ms"

  var line: String {
    name.padding(toLength: 58, withPad: " ", startingAt: 0)
      + String(format: " %8d %11.3f %11.3f ", samples.count, median, quantile(0.99))
      + (goal.map { String(format: "%11.1f%@", $0, holds ? "" : "  missed") } ?? "          -")
  }
}
