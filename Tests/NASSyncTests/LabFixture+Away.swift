import Foundation
import JobQueue
import NASSync
import TestSupport

extension LabFixture {
  /// Leaves of a run what a clean-up leaves: the metadata folder. The queue says `cleaned`.
  func takeAway(_ run: String, state: String? = nil) async throws {
    let queue = try await SyncQueue.open(stateDirectory: state ?? configuration.stateDirectory, clock: SystemClock())
    guard let job = try await queue.latestJob(ofRun: run) else { throw TemporaryFolder.Failure("\(run) has no job") }
    let eligible = try await queue.transition(job, on: .becameEligible, worker: nil, detail: "for a test")
    try await queue.transition(eligible, on: .removedLocally, worker: nil, detail: "for a test")
    await queue.close()
    for name in try FileManager.default.contentsOfDirectory(atPath: run) where name != ".exlab-wizard" {
      try FileManager.default.removeItem(atPath: run + "/" + name)
    }
    try write(Array("{}".utf8), to: run + "/.exlab-wizard/deletion.json")
  }

  /// Names, kinds, permissions, times and link targets below a folder, the metadata folder's left out; times to the given digits of a second.
  func listing(_ folder: String, digits: Int = 9, modes: Bool = true, linkTimes: Bool = true) async throws -> [String] {
    let format = "%P\\t%y\\t\(modes ? "%m" : "-")\\t%l\\t%T@\\n"
    let found = try await runProcess(
      ["find", folder, "-mindepth", "1", "-name", ".exlab-wizard", "-prune", "-o", "-mindepth", "1", "-printf", format])
    return found.text.split(separator: "\n").map { line in
      var fields = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      let time = fields.removeLast().split(separator: ".")
      if !linkTimes, fields.contains("l") { return fields.joined(separator: "|") }
      return fields.joined(separator: "|") + "|\(time.first ?? "").\((time.last ?? "").prefix(digits))"
    }.sorted()
  }

  /// The manifest in a run's folder, here or on the NAS, as names.
  func manifestNames(_ folder: String) throws -> [String] {
    String(decoding: try bytes(folder + "/.exlab-wizard/checksums.sha256"), as: UTF8.self).split(separator: "\n").map {
      String($0.dropFirst(66))
    }
  }
}
