import Configuration
import Foundation
import SyncModel
import Testing

@Suite struct LoadingTests {
  static let contractService = """
    state_dir: ./state            # queue.db, lock, known_hosts
    equipment_dir: ./equipment
    metadata_dir: .exlab-wizard
    workers: 4                    # jobs in flight
    upload_mbps: 400              # whole service
    retry: { backoff: [30s, 2m, 8m, 30m, 2h] }
    verify: { method: auto, audit_interval: 24h }
    cleanup: { enabled: false, min_verify_passes: 2, min_age_hours: 24, retain_metadata: true }
    gate: { content_scan_max_mib: 5 }

    """
  static let contractEquipment = """
    id: CONFOCAL_01
    label: Confocal microscope 1
    local_root: /data/lab
    completeness: { signal: sentinel, file: acquisition_complete.flag }   # sentinel | manifest | quiet | manual
    exclude: ["*.tmp", Thumbs.db, .DS_Store]   # not sent, listed in the receipt, never deleted
    transport:
      type: sftp                  # sftp | webdav | s3 | vault
      host: nas01.lab.example
      port: 22
      user: labuser
      key_file: ~/.ssh/id_ed25519
      known_hosts: ~/.ssh/known_hosts   # strict; an unknown or changed key is refused
      remote_root: /srv/lab
      connections: 4
      ssh: builtin                # builtin (libssh2) | openssh (the system's ssh program and its configuration)
    bandwidth:
      upload_mbps: 50
      schedule: [ { days: [mon, tue, wed, thu, fri], from: "08:00", to: "18:00", upload_mbps: 20 } ]

    """

  @Test func theContractsExampleLoads() throws {
    try ConfigurationFolder.with([
      "nassync.yaml": Self.contractService, "equipment/CONFOCAL_01.yaml": Self.contractEquipment,
    ]) { folder in
      let configuration = try folder.load()
      #expect(
        configuration
          == ServiceConfiguration(
            stateDirectory: folder.path + "/state",
            equipment: [
              EquipmentProfile(
                id: "CONFOCAL_01", label: "Confocal microscope 1", localRoot: "/data/lab",
                completeness: .sentinel(file: "acquisition_complete.flag"), exclude: ["*.tmp", "Thumbs.db", ".DS_Store"],
                transport: .sftp(
                  SFTPDestination(
                    host: "nas01.lab.example", user: "labuser", keyFile: "/home/lab/.ssh/id_ed25519",
                    knownHosts: "/home/lab/.ssh/known_hosts", remoteRoot: "/srv/lab")),
                bandwidth: BandwidthProfile(
                  uploadMbps: 50,
                  windows: [
                    BandwidthWindow(
                      days: [.monday, .tuesday, .wednesday, .thursday, .friday], fromMinute: 480, toMinute: 1080, uploadMbps: 20)
                  ]))
            ],
            equipmentDirectory: folder.path + "/equipment", uploadMbps: 400, sourceFile: folder.path + "/nassync.yaml"))
      #expect(configuration.equipment(id: "CONFOCAL_01")?.label == "Confocal microscope 1")
      #expect(configuration.equipment(id: "CONFOCAL_02") == nil)
    }
  }

  /// The system's ssh brings its own keys and known hosts, unless the file names some.
  @Test func theSystemsSSHNeedsLess() throws {
    func destination(_ more: String) throws -> SFTPDestination? {
      let transport = "transport: {type: sftp, host: nas, user: lab, remote_root: /srv/lab, ssh: openssh\(more)}"
      return try ConfigurationFolder.with([
        "nassync.yaml": ConfigurationFolder.service, "equipment/A.yaml": "id: A\nlocal_root: /data\n\(transport)\n",
      ]) { folder in
        guard case .sftp(let destination) = try folder.load().equipment[0].transport else { return nil }
        return destination
      }
    }
    let plain = try #require(try destination(""))
    #expect(plain == SFTPDestination(host: "nas", user: "lab", knownHosts: "", remoteRoot: "/srv/lab", ssh: .openssh))
    let full = try #require(try destination(", known_hosts: /k, key_file: ~/id, ssh_config: ~/.ssh/lab"))
    #expect((full.knownHosts, full.keyFile, full.sshConfig) == ("/k", "/home/lab/id", "/home/lab/.ssh/lab"))
  }

  @Test func everySettingIsRead() throws {
    let service = """
      state_dir: /var/lib/nassync/
      equipment_dir: ../here/./equipment
      metadata_dir: .meta
      workers: 64
      time_zone: Europe/Vienna
      retry: { backoff: [500ms, 1.5m, 1d] }
      verify: { method: readback, audit_interval: 7d, audit_download_mbps: 50, audit_time: 4h }
      cleanup: { enabled: true, min_verify_passes: 3, min_age_hours: 0.5, retain_metadata: false }
      gate:
        content_scan_extensions: [.TXT, .xml]
        content_scan_max_mib: 1
        validators:
          - command: [./check-run, --strict]
          - { command: [python3, ~/x], timeout: 5s }

      """
    let equipment = """
      id: A
      local_root: runs
      completeness: { signal: quiet, after: 10m }
      transport: { type: sftp, host: "fe80::1%eth0", user: 'LAB\\u', agent: true, remote_root: incoming/, port: 2222, connections: 16,
        connect_timeout: 1s, timeout: 2m, keepalive: 5s }
      bandwidth:
        upload_mbps: 0
        time_zone: UTC
        schedule:
          - { from: 22:00, to: 06:00, upload_mbps: unlimited }
          - { days: [mon], from: "00:30", to: "05:00", upload_mbps: unlimited }
          - { days: [sat], from: "6:30", to: "22:00", upload_mbps: 1.5 }

      """
    try ConfigurationFolder.with([
      "here/nassync.yaml": service, "here/equipment/x.YML": equipment, "here/equipment/.#x.yaml": "[", "here/equipment/notes.txt": "[",
    ]) { folder in
      let configuration = try folder.load("here/nassync.yaml")
      #expect(configuration.stateDirectory == "/var/lib/nassync")
      #expect(configuration.equipmentDirectory == folder.path + "/here/../here/equipment")
      #expect(configuration.metadataFolder == ".meta")
      #expect(configuration.workers == 64)
      #expect(configuration.uploadMbps == nil)
      #expect(configuration.timeZone == "Europe/Vienna")
      #expect(configuration.retry.backoff == [0.5, 90, 86_400])
      #expect(configuration.verify == VerifySettings(method: .readback, auditInterval: 604_800, auditDownloadMbps: 50, auditTime: 14_400))
      #expect(configuration.verify.auditWindow == 86_400)
      #expect(
        configuration.cleanup == CleanupSettings(enabled: true, minVerifyPasses: 3, minAgeHours: 0.5, retainMetadata: false))
      #expect(configuration.gate.contentScanExtensions == [".txt", ".xml"])
      #expect(configuration.gate.contentScanMaxMiB == 1)
      #expect(
        configuration.gate.validators == [
          GateSettings.Validator(command: [folder.path + "/here/check-run", "--strict"], timeout: 60),
          GateSettings.Validator(command: ["python3", "~/x"], timeout: 5),
        ])
      let profile = try #require(configuration.equipment.first)
      #expect(profile.label == "A")
      #expect(profile.localRoot == folder.path + "/here/equipment/runs" || profile.localRoot.hasSuffix("/equipment/runs"))
      #expect(profile.completeness == .quiet(seconds: 600))
      #expect(
        profile.transport
          == .sftp(
            SFTPDestination(
              host: "fe80::1%eth0", port: 2222, user: "LAB\\u", agent: true, knownHosts: "/var/lib/nassync/known_hosts",
              remoteRoot: "incoming/", connections: 16, connectTimeout: 1, progressTimeout: 120, keepalive: 5)))
      #expect(
        profile.bandwidth
          == BandwidthProfile(
            uploadMbps: 0,
            windows: [
              BandwidthWindow(days: Set(Weekday.allCases), fromMinute: 1320, toMinute: 360, uploadMbps: nil),
              BandwidthWindow(days: [.monday], fromMinute: 30, toMinute: 300, uploadMbps: nil),
              BandwidthWindow(days: [.saturday], fromMinute: 390, toMinute: 1320, uploadMbps: 1.5),
            ], timeZone: "UTC"))
      #expect(configuration.bandwidthProfiles["A"]?.timeZone == "UTC")
    }
  }

  @Test func anEmptyMappingGivesTheDefaults() throws {
    try ConfigurationFolder.with(["nassync.yaml": "{}\n"]) { folder in
      let configuration = try folder.load()
      #expect(
        configuration
          == ServiceConfiguration(
            stateDirectory: folder.path + "/state", equipment: [], equipmentDirectory: folder.path + "/equipment",
            sourceFile: folder.path + "/nassync.yaml"))
    }
  }

  @Test func timetablesTakeTheServicesTimeZone() throws {
    let files = ["nassync.yaml": "time_zone: Asia/Tokyo\n", "equipment/A.yaml": ConfigurationFolder.equipment]
    try ConfigurationFolder.with(files) { folder in
      let profiles = try folder.load().bandwidthProfiles
      #expect(profiles["CONFOCAL_01"]?.timeZone == "Asia/Tokyo")
    }
  }

  @Test func instrumentsAreSortedById() throws {
    let other = ConfigurationFolder.equipment.replacingOccurrences(of: "CONFOCAL_01", with: "ATLAS_9")
    try ConfigurationFolder.with([
      "nassync.yaml": ConfigurationFolder.service, "equipment/a.yaml": ConfigurationFolder.equipment, "equipment/b.yml": other,
    ]) { folder in
      let configuration = try folder.load()
      #expect(configuration.equipment.map(\.id) == ["ATLAS_9", "CONFOCAL_01"])
    }
  }

  @Test func theStarterFilesLoad() throws {
    let files = Dictionary(uniqueKeysWithValues: StarterConfiguration.files.map { ($0.path, $0.text) })
    #expect(Set(files.keys) == ["nassync.yaml", "equipment/EXAMPLE_01.yaml"])
    try ConfigurationFolder.with(files) { folder in
      let configuration = try folder.load()
      #expect(configuration.equipment.map(\.id) == ["EXAMPLE_01"])
      #expect(configuration.workers == 4)
      #expect(configuration.cleanup.enabled == false)
      #expect(configuration.equipment.first?.bandwidth.windows.count == 1)
    }
  }

  @Test func theStarterFilesLoadWithEveryCommentedSettingSwitchedOn() throws {
    var files: [String: String] = [:]
    for file in StarterConfiguration.files {
      files[file.path] = file.text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
        // A commented setting is `# key: …` or `# - key: …`; sentences start with a capital letter.
        guard let hash = line.firstIndex(of: "#"), line[..<hash].allSatisfy({ $0 == " " }) else { return String(line) }
        let rest = line[line.index(after: hash)...].drop { $0 == " " }
        guard rest.contains(":"), rest.first?.isLowercase == true || rest.first == "-", rest.first != "`",
          rest.prefix(while: { $0 != ":" }).allSatisfy({ $0.isLowercase || $0 == "_" || $0 == "-" || $0 == " " }),
          rest.prefix(while: { $0 != ":" }).drop(while: { $0 == "-" || $0 == " " }).contains(" ") == false
        else { return String(line) }
        return String(line[..<hash]) + String(line[line.index(after: hash)...].dropFirst())
      }.joined(separator: "\n")
    }
    try ConfigurationFolder.with(files) { folder in
      let configuration = try folder.load()
      #expect(configuration.uploadMbps == 400)
      #expect(configuration.timeZone == "Europe/Vienna")
      #expect(configuration.gate == GateSettings(validators: [.init(command: [folder.path + "/check-run", "--strict"])]))
    }
  }

  @Test func theExampleProfilesOfTheRepositoryLoad() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let folder = root.appendingPathComponent("equipment").path
    try ConfigurationFolder.with(["nassync.yaml": "equipment_dir: \(folder)\n"]) {
      let configuration = try $0.load()
      #expect(configuration.equipment.map(\.id) == ["CONFOCAL_01", "CYTOMETER_01"])
    }
  }

  // MARK: Where the file is looked for

  @Test func theFileNamedWinsThenTheVariableThenTheFolderThenTheHome() throws {
    func text(_ workers: Int) -> String { "workers: \(workers)\nequipment_dir: \"/tmp\"\n" }
    try ConfigurationFolder.with([
      "named.yaml": text(11), "variable.yaml": text(12), "nassync.yaml": text(13), "xdg/nassync/nassync.yaml": text(14),
      "home/.config/nassync/nassync.yaml": text(15),
    ]) { folder in
      func workers(_ named: String?, _ environment: [String: String]) throws -> Int {
        for place in ["named.yaml", "variable.yaml", "nassync.yaml", "xdg/nassync/nassync.yaml", "home/.config/nassync/nassync.yaml"]
        where FileManager.default.fileExists(atPath: folder.path + "/" + place) {
          let text = try String(contentsOfFile: folder.path + "/" + place, encoding: .utf8)
          try folder.write(place, text.replacingOccurrences(of: "\"/tmp\"", with: folder.path + "/equipment"))
        }
        return try folder.load(named, environment: environment).workers
      }
      let all = ["NASSYNC_CONFIG": "variable.yaml", "XDG_CONFIG_HOME": folder.path + "/xdg", "HOME": folder.path + "/home"]
      #expect(try workers("named.yaml", all) == 11)
      #expect(try workers(nil, all) == 12)
      var rest = all
      rest["NASSYNC_CONFIG"] = ""
      #expect(try workers(nil, rest) == 13)
      try FileManager.default.removeItem(atPath: folder.path + "/nassync.yaml")
      #expect(try workers(nil, rest) == 14)
      rest["XDG_CONFIG_HOME"] = "relative"
      #expect(try workers(nil, rest) == 15)
    }
  }

  @Test func theLastPlaceIsTheSystems() {
    #expect(
      ServiceConfiguration.searchPaths(environment: ["HOME": "/h", "XDG_CONFIG_HOME": "/x/"], currentDirectory: "/w") == [
        "/w/nassync.yaml", "/x/nassync/nassync.yaml", "/etc/nassync/nassync.yaml",
      ])
    #expect(
      ServiceConfiguration.searchPaths(environment: [:], currentDirectory: "/w") == ["/w/nassync.yaml", "/etc/nassync/nassync.yaml"])
  }

  @Test func aNamedFileThatIsMissingIsNotReplacedByAnother() throws {
    try ConfigurationFolder.with(["nassync.yaml": "{}\n"]) { folder in
      let named = folder.problems("other.yaml")
      #expect(named.count == 1)
      #expect(named.first?.file == folder.path + "/other.yaml")
      #expect(named.first?.message.contains("no such file") == true)
      #expect(folder.problems(nil, environment: ["NASSYNC_CONFIG": "/nowhere.yaml"]).first?.file == "/nowhere.yaml")
    }
  }

  @Test func withoutAnyFileThePlacesAreNamed() throws {
    try ConfigurationFolder.with { folder in
      let problem = try #require(folder.problems(nil, environment: ["HOME": "/nowhere"]).first)
      #expect(problem.file == nil)
      #expect(problem.message.contains(folder.path + "/nassync.yaml"))
      #expect(problem.message.contains("/nowhere/.config/nassync/nassync.yaml"))
      #expect(problem.hint.contains("nassync init"))
    }
  }
}
