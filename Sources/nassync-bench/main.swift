import Bandwidth
import Foundation

// Measurements on this machine: `nassync-bench bandwidth [SECONDS]`, `gate [FILES]`, `walk [FILES]`, `queue [JOBS]`, `register [FILES]`.
// And a link of a given length and width for `scripts/measure`: `nassync-bench relay TARGET-PORT ROUND-TRIP-MS MBIT/S` prints its port and relays until it is ended.

func bandwidth(seconds: Double) async throws {
  print("limit Mbit/s   streams   achieved Mbit/s    error %")
  var worst = 0.0
  for rate in [1.0, 50, 400] {
    for streams in [1, 4] {
      let result = try await BandwidthBench.run(rateMbps: rate, seconds: seconds, streams: streams)
      worst = max(worst, abs(result.errorPercent))
      print(String(format: "%12.0f %9d %17.3f %+10.2f", rate, streams, result.achievedMbps, result.errorPercent))
    }
  }
  print(String(format: "over %g s each; the largest error is %.2f %%, the goal 2 %%", seconds, worst))
  if worst > 2 { exit(1) }
}

func relay(_ words: [String]) throws -> Never {
  guard words.count == 3, let target = UInt16(words[0]), let trip = Double(words[1]), let rate = Double(words[2]),
    (0...10_000).contains(trip), rate > 0
  else { throw LinkRelay.Failure(description: "usage: nassync-bench relay TARGET-PORT ROUND-TRIP-MS MBIT/S") }
  var relay = try LinkRelay(target: target, roundTrip: trip / 1000, megabits: rate)
  FileHandle.standardOutput.write(Data("\(relay.port)\n".utf8))
  relay.run()
}

let arguments = CommandLine.arguments.dropFirst()
let usual: [String: Double] = ["gate": 100_000, "walk": 1_000_000, "queue": 1_000_000, "register": 100_000]
let amount = arguments.dropFirst().first.map { Double($0) } ?? usual[arguments.first ?? ""] ?? 10
do {
  switch (arguments.first, arguments.count, amount) {
  case ("relay", _, _): try relay(Array(arguments.dropFirst()))
  case ("bandwidth", ...2, let seconds?) where seconds >= 0.1 && seconds <= 3600: try await bandwidth(seconds: seconds)
  case ("gate", ...2, let files?) where files >= 1 && files <= 10_000_000: try await GateBench.run(files: Int(files))
  case ("walk", ...2, let files?) where files >= 1 && files <= 10_000_000: try await WalkBench.run(files: Int(files))
  case ("register", ...2, let files?) where files >= 1 && files <= 10_000_000: try await RegisterBench.run(files: Int(files))
  case ("queue", ...3, let jobs?) where jobs >= 10_000 && jobs <= 10_000_000:
    try await QueueBench.run(jobs: Int(jobs), made: arguments.count == 3 ? arguments.last : nil)
  default:
    let usage = "usage: nassync-bench bandwidth [SECONDS] | gate [FILES] | walk [FILES] | queue [JOBS [FILE]] | register [FILES]\n"
    FileHandle.standardError.write(Data(usage.utf8))
    exit(2)
  }
} catch {
  FileHandle.standardError.write(Data("\(error)\n".utf8))
  exit(1)
}
