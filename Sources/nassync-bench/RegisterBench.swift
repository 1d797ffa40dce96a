import Foundation
import JobQueue

/// What it takes to put a run with many files into a queue of its own, in one transaction.
enum RegisterBench {
  static func run(files: Int) async throws {
    try await Measure.withFolder { folder in
      let queue = try await SyncQueue.open(stateDirectory: "\(folder)/state", clock: BenchClock())
      let rounds = 7
      let before = Measure.processorSeconds()
      let timings = try await time(queue, files: files, rounds: rounds)
      let used = Measure.processorSeconds() - before
      await queue.close()
      print(Timings.head)
      print(timings.line)
      print(String(format: "processor time %.2f µs a file", used / Double(rounds * files) * 1e6))
      if !timings.holds { throw Measure.Failure("what is aimed at is missed") }
    }
  }

  static func time(_ queue: SyncQueue, files: Int, rounds: Int) async throws -> Timings {
    let entries = try QueueData.entries(files)
    var timings = Timings("register a run of \(files) files", goal: 1000 * max(1, Double(files) / 100_000))
    for number in 0..<rounds {
      let draft = try QueueData.draft("Many_\(number)", instrument: number)
      try await timings.time { _ = try await queue.register(draft, entries: entries) }
    }
    return timings
  }
}
