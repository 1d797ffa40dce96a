import Configuration
import Foundation
import SyncModel
import Testing

@Suite struct SecretReferenceTests {
  private func resolve(_ text: String, _ environment: [String: String] = [:]) -> Result<String, SecretReference.Failure>? {
    guard let reference = SecretReference(text) else { return nil }
    #expect(reference.description == text)
    do { return .success(try reference.resolve(environment: environment)) } catch { return .failure(error) }
  }

  @Test(arguments: ["hunter2", "", "file:", "env:", "env:A B", "env:A=B", "credential:", "credential:a/b", "credential:..", "vault:x"])
  func whatIsNoReference(_ text: String) { #expect(SecretReference(text) == nil) }

  @Test func aVariable() {
    #expect(resolve("env:NAS_TOKEN", ["NAS_TOKEN": "s3cret"]) == .success("s3cret"))
    #expect(resolve("env:NAS_TOKEN") == .failure(.unset("NAS_TOKEN")))
    #expect(resolve("env:NAS_TOKEN", ["NAS_TOKEN": ""]) == .failure(.unusable("the environment variable NAS_TOKEN")))
  }

  @Test func aFileMustBePrivate() throws {
    try ConfigurationFolder.with(["secret": "s3cret\r\n"]) { folder in
      let path = folder.path + "/secret"
      #expect(chmod(path, 0o644) == 0)
      #expect(resolve("file:" + path) == .failure(.exposed(path: path, mode: 0o644)))
      #expect(SecretReference.Failure.exposed(path: "/x", mode: 0o644).description.contains("chmod 600"))
      for mode: mode_t in [0o600, 0o400] {
        #expect(chmod(path, mode) == 0)
        #expect(resolve("file:" + path) == .success("s3cret"))
      }
    }
  }

  @Test func aFileThatIsNoSecret() throws {
    try ConfigurationFolder.with(["empty": "\n", "large": String(repeating: "x", count: 65_537)]) { folder in
      try folder.write("binary", Data([0xff, 0x00]))
      for name in ["empty", "large", "binary"] {
        let path = folder.path + "/" + name
        #expect(chmod(path, 0o600) == 0)
        #expect(resolve("file:" + path) == .failure(.unusable(path)))
      }
      let path = folder.path + "/missing"
      #expect(resolve("file:" + path) == .failure(.unreadable(path: path, reason: "there is no such file")))
      #expect(resolve("file:" + folder.path) == .failure(.unreadable(path: folder.path, reason: "it is not a regular file")))
    }
  }

  @Test func aCredentialOfSystemd() throws {
    try ConfigurationFolder.with(["nas": "s3cret"]) { folder in
      #expect(resolve("credential:nas", ["CREDENTIALS_DIRECTORY": folder.path]) == .success("s3cret"))
      #expect(resolve("credential:nas") == .failure(.unset("CREDENTIALS_DIRECTORY")))
    }
  }
}

@Suite struct ValidationTests {
  private func problems(_ change: (inout ServiceConfiguration) -> Void) -> [String] {
    let destination = SFTPDestination(host: "nas", user: "lab", keyFile: "/k", knownHosts: "/h", remoteRoot: "/srv")
    var configuration = ServiceConfiguration(
      stateDirectory: "/state",
      equipment: [EquipmentProfile(id: "A", localRoot: "/data", transport: .sftp(destination), bandwidth: .unlimited)])
    change(&configuration)
    do {
      try configuration.validate()
      return []
    } catch { return error.problems.map(\.keyPath) }
  }

  private func destinationProblems(_ change: (inout SFTPDestination) -> Void) -> [String] {
    problems { configuration in
      guard case .sftp(var destination) = configuration.equipment[0].transport else { return }
      change(&destination)
      configuration.equipment[0].transport = .sftp(destination)
    }
  }

  @Test func aConfigurationBuiltInCodeIsCheckedLikeAFile() {
    #expect(problems { _ in } == [])
    #expect(problems { $0.stateDirectory = "state" } == ["state_dir"])
    #expect(problems { $0.metadataFolder = "a/b" } == ["metadata_dir"])
    #expect(problems { $0.workers = 0 } == ["workers"])
    #expect(problems { $0.uploadMbps = 0 } == ["upload_mbps"])
    #expect(problems { $0.uploadMbps = .nan } == ["upload_mbps"])
    #expect(problems { $0.timeZone = "Mars" } == ["time_zone"])
    #expect(problems { $0.retry.backoff = [] } == ["retry.backoff"])
    #expect(problems { $0.retry.backoff = [1, -1] } == ["retry.backoff[1]"])
    #expect(problems { $0.cleanup.minVerifyPasses = 0 } == ["cleanup.min_verify_passes"])
    #expect(problems { $0.gate.validators = [.init(command: [])] } == ["gate.validators[0].command"])
    #expect(problems { $0.equipment.append($0.equipment[0]) } == ["equipment[1].id"])
    #expect(problems { $0.equipment[0].id = "a" } == ["equipment[0].id"])
    #expect(problems { $0.equipment[0].completeness = .sentinel(file: "../x") } == ["equipment[0].completeness.file"])
    #expect(problems { $0.equipment[0].completeness = .quiet(seconds: 0) } == ["equipment[0].completeness.after"])
    #expect(
      problems { $0.equipment[0].bandwidth = BandwidthProfile(uploadMbps: 0) } == ["equipment[0].bandwidth.upload_mbps"])
    #expect(problems { $0.equipment[0].bandwidth = BandwidthProfile(timeZone: "Mars") } == ["equipment[0].bandwidth.time_zone"])
  }

  @Test func aDestinationBuiltInCodeIsCheckedLikeAFile() {
    #expect(destinationProblems({ $0.host = "-x" }) == ["equipment[0].transport.host"])
    #expect(destinationProblems({ $0.port = 65_536 }) == ["equipment[0].transport.port"])
    #expect(destinationProblems({ $0.keyFile = nil }) == ["equipment[0].transport.key_file"])
    #expect(
      destinationProblems({
        $0.keyFile = nil
        $0.agent = true
      }) == [])
    #expect(destinationProblems({ $0.remoteRoot = "~/x" }) == ["equipment[0].transport.remote_root"])
    #expect(destinationProblems({ $0.connections = 17 }) == ["equipment[0].transport.connections"])
    #expect(destinationProblems({ $0.sshConfig = "/etc/nassync/ssh_config" }) == ["equipment[0].transport.ssh_config"])
    #expect(
      destinationProblems({
        $0.ssh = .openssh
        $0.sshConfig = "ssh_config"
      }) == ["equipment[0].transport.ssh_config"])
    #expect(
      destinationProblems({
        $0.ssh = .openssh
        ($0.keyFile, $0.knownHosts, $0.sshConfig) = (nil, "", "/etc/nassync/ssh_config")
      }).isEmpty)
    #expect(destinationProblems({ $0.keepalive = 0 }) == ["equipment[0].transport.keepalive"])
  }
}

@Suite struct BandwidthProfileTests {
  private func window(_ from: Int, _ to: Int, _ rate: Double?, _ days: Set<Weekday> = [.monday]) -> BandwidthWindow {
    BandwidthWindow(days: days, fromMinute: from, toMinute: to, uploadMbps: rate)
  }

  @Test func whatCannotBeKept() {
    #expect(BandwidthProfile.unlimited.problem == nil)
    #expect(BandwidthProfile(uploadMbps: -1).problem == .rate)
    #expect(BandwidthProfile(uploadMbps: .infinity).problem == .rate)
    #expect(BandwidthProfile(uploadMbps: 0.0001).problem == .rate)
    #expect(BandwidthProfile(uploadMbps: 0).problem == .neverSends)
    #expect(BandwidthProfile(windows: [window(0, 1440, 0, Set(Weekday.allCases))]).problem == .neverSends)
    #expect(BandwidthProfile(windows: [window(0, 1439, 0, Set(Weekday.allCases))]).problem == nil)
    #expect(BandwidthProfile(windows: [window(60, 60, 1)]).problem == .emptyWindow(0))
    #expect(BandwidthProfile(windows: [window(-1, 60, 1)]).problem == .emptyWindow(0))
    #expect(BandwidthProfile(windows: [window(0, 1441, 1)]).problem == .emptyWindow(0))
    #expect(BandwidthProfile(windows: [window(0, 60, -1)]).problem == .windowRate(0))
  }

  @Test func windowsThatTouchDoNotOverlap() {
    #expect(BandwidthProfile(windows: [window(0, 60, 1), window(60, 120, 2)]).problem == nil)
    #expect(BandwidthProfile(windows: [window(0, 61, 1), window(60, 120, 2)]).problem == .contradiction(0, 1, day: .monday))
    #expect(BandwidthProfile(windows: [window(0, 61, 1), window(60, 120, 1)]).problem == nil)
    // Sunday's night reaches into Monday, over the end of the week.
    let night = window(1320, 360, 1, [.sunday])
    #expect(BandwidthProfile(windows: [night, window(360, 480, 2)]).problem == nil)
    #expect(BandwidthProfile(windows: [night, window(359, 480, 2)]).problem == .contradiction(0, 1, day: .monday))
    #expect(BandwidthProfile(windows: [window(1320, 0, 1, [.sunday]), window(0, 60, 2)]).problem == nil)
  }
}
