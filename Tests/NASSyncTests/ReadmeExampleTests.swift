import Foundation
import NASSync
import TestSupport
import Testing

@Suite struct ReadmeExampleTests {
  /// An example in README.md is a file beside this one, letter by letter, so what is compiled and run here is what a reader copies.
  @Test(arguments: [("embedding", "ReadmeExample.swift"), ("assets", "ReadmeAssetExample.swift")])
  func theReadmeShowsWhatIsCompiled(_ name: String, _ file: String) throws {
    let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let readme = try String(
      contentsOf: here.deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("README.md"), encoding: .utf8)
    let example = try String(contentsOf: here.appendingPathComponent(file), encoding: .utf8)
    let marked = try #require(readme.range(of: "<!-- example: \(name) -->\n```swift\n"))
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

extension ReadmeExampleTests {
  @Test func theExampleSendsAnAsset() async throws {
    #expect(try labService().name == "https://assets.lab.example/api")
    try await AssetFixture.with { lab in
      try lab.folder.write("weights", to: "out/model.safetensors")
      try lab.folder.write("{}", to: "out/metadata.json")
      for _ in 0..<2 {
        let asset = try await sendCheckpoint(
          lab.folder.path + "/out", to: try lab.service(), stateDirectory: lab.state, options: AssetFixture.options())
        #expect(asset.state == .ready && asset.evidence == .none && asset.components.count == 2)
      }
      #expect(lab.server.assets.map { $0.finalizations } == [1])
      #expect(lab.server.assets.first?.objects["model.safetensors"] == Array("weights".utf8))
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
