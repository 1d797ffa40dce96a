import Bandwidth
import Foundation

// Measurements on this machine: `nassync-bench bandwidth [SECONDS]`.

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

let arguments = CommandLine.arguments.dropFirst()
let seconds = arguments.dropFirst().first.map { Double($0) } ?? 10
guard arguments.first == "bandwidth", arguments.count <= 2, let seconds, seconds >= 0.1, seconds <= 3600 else {
  FileHandle.standardError.write(Data("usage: nassync-bench bandwidth [SECONDS]\n".utf8))
  exit(2)
}
try await bandwidth(seconds: seconds)
