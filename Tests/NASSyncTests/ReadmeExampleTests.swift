import Foundation
import NASSync
import TestSupport
import Testing

@Suite struct ReadmeExampleTests {
  /// The example in README.md is the file beside this one, letter by letter, so what is compiled and run here is what a reader copies.
  @Test func theReadmeShowsWhatIsCompiled() throws {
    let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let readme = try String(
      contentsOf: here.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("README.md"), encoding: .utf8)
    let example = try String(contentsOf: here.appendingPathComponent("ReadmeExample.swift"), encoding: .utf8)
    let marked = try #require(readme.range(of: "<!-- example: embedding -->\n```swift\n"))
    let end = try #require(readme.range(of: "```", range: marked.upperBound..<readme.endIndex))
    #expect(readme[marked.upperBound..<end.lowerBound] == example)
  }

  @Test func theExampleSendsARun() async throws {
    try await LabFixture.with { lab in
      let file = try lab.writeConfiguration()
      let run = try lab.makeRun()
      let status = try await send(run, configurationFile: file)
      #expect(status.state == .job(.verified))
    }
  }
}

extension LabFixture {
  /// The fixture's configuration as files, and the path of `nassync.yaml`.
  func writeConfiguration(retry: String = "[1s, 1s]") throws -> String {
    for id in ["CYTOMETER_01", "CONFOCAL_01"] {
      let text = """
        id: \(id)
        local_root: \(lab)
        transport:
          type: sftp
          host: 127.0.0.1
          port: \(server.port)
          user: \(server.user)
          key_file: \(server.keyFile)
          known_hosts: \(server.knownHostsFile)
          remote_root: \(server.remoteRoot)
        """
      try write(Array(text.utf8), to: folder + "/equipment/\(id).yaml")
    }
    try write(Array("state_dir: ./state\nequipment_dir: ./equipment\nretry: { backoff: \(retry) }\n".utf8), to: folder + "/nassync.yaml")
    return folder + "/nassync.yaml"
  }
}
