import SyncModel

/// Reads one instrument's file.
struct EquipmentDecoder {
  let report: ConfigurationReport
  let paths: ConfigurationPaths
  /// Where the service keeps the host keys that it trusts, unless the file names another place.
  let knownHosts: String

  private enum Signal: String, CaseIterable { case sentinel, manifest, quiet, manual }

  private enum Driver: String, CaseIterable { case sftp, webdav, s3, vault }

  /// The instrument, and where its id stands. Nil where its transport cannot be used.
  func decode(_ root: YAMLNode) -> (profile: EquipmentProfile?, idMark: YAMLMark) {
    var section = SettingsSection(root, path: "", report: report)
    defer { section.close() }
    let expected = "capital letters, digits and `_`, at most 32, starting with a letter,"
    let id = section.requiredText("id", expected)
    if !id.isEmpty, !EquipmentProfile.isValid(id: id) {
      section.fail("id", "`\(id)` is no equipment id; \(expected) was expected", hint: "write it like CONFOCAL_01")
    }
    let label = section.text("label", "a name for people")
    let root = section.requiredPath("local_root", "the folder that holds the runs", paths)
    let completeness = completeness(&section)
    let exclude = section.texts("exclude", "patterns of file names") ?? []
    let transport = transport(&section)
    let bandwidth = bandwidth(&section)
    guard let transport else { return (nil, section.mark(of: "id")) }
    let profile = EquipmentProfile(
      id: id, label: label, localRoot: root, completeness: completeness, exclude: exclude, transport: transport, bandwidth: bandwidth)
    return (profile, section.mark(of: "id"))
  }

  private func completeness(_ parent: inout SettingsSection) -> EquipmentProfile.Completeness {
    var section = parent.section("completeness")
    defer { section.close() }
    if parent.has("completeness"), !section.has("signal") {
      _ = section.requiredText("signal", "one of " + Signal.allCases.map(\.rawValue).joined(separator: ", "))
      section.ignoreRest()
    }
    switch section.choice("signal", default: Signal.manual) {
    case .manual: return .manual
    case .sentinel:
      let file = section.requiredText("file", "the name of the file that says the run is finished")
      checkInside(file, section)
      return .sentinel(file: file)
    case .manifest:
      let file = section.text("file", "the name of the run's list of files")
      checkInside(file ?? "", section)
      return .manifest(file: file)
    case .quiet:
      guard section.has("after") else {
        _ = section.requiredText("after", "how long nothing changes in a finished run, such as 10m,")
        return .quiet(seconds: 0)
      }
      return .quiet(seconds: section.duration("after", in: SettingLimits.quiet, default: 600))
    }
  }

  private func checkInside(_ file: String, _ section: SettingsSection) {
    guard !file.isEmpty, SettingRules.relative(file) == nil else { return }
    section.fail("file", "`\(file)` is no path inside a run", hint: "write it relative to the run, without a leading `/` and without `..`")
  }

  private func transport(_ parent: inout SettingsSection) -> TransportSettings? {
    guard parent.has("transport") else {
      _ = parent.requiredText("transport", "where the runs go")
      return nil
    }
    var section = parent.section("transport")
    defer { section.close() }
    guard section.has("type") else {
      _ = section.requiredText("type", "sftp, webdav or s3")
      section.ignoreRest()
      return nil
    }
    let driver = section.choice("type", default: Driver.sftp)
    switch driver {
    case .sftp: return .sftp(sftp(&section))
    case .webdav: return .webdav(webdav(&section))
    case .s3: return .s3(s3(&section))
    case .vault:
      section.fail(
        "type", "the transport `\(driver.rawValue)` is not supported by this version", hint: "use `type: sftp`, `webdav` or `s3`")
      section.ignoreRest()
      return nil
    }
  }

  private func sftp(_ section: inout SettingsSection) -> SFTPDestination {
    var destination = SFTPDestination(host: "", user: "", knownHosts: knownHosts, remoteRoot: "")
    destination.host = section.requiredText("host", "the NAS's name or address")
    if !destination.host.isEmpty, !SettingRules.isHost(destination.host) {
      section.fail(
        "host", "this is no host name and no address",
        hint: "write the name alone, such as nas01.lab.example; account and port have keys of their own (`user`, `port`)")
    }
    destination.port = section.integer("port", in: SettingLimits.port, default: destination.port)
    destination.user = section.requiredText("user", "the account on the NAS")
    if !destination.user.isEmpty, !SettingRules.isUser(destination.user) {
      section.fail("user", "this is no account name", hint: "write the name alone, without spaces and without a password")
    }
    destination.keyFile = section.path("key_file", "the file of a private key", paths)
    destination.agent = section.truth("agent", default: false)
    destination.ssh = section.choice("ssh", default: destination.ssh)
    // The system's ssh has keys and known hosts of its own.
    let isBuiltin = destination.ssh == .builtin
    if isBuiltin, !destination.agent, !section.has("key_file") {
      section.fail(
        "key_file", "there is no way to log in; `key_file` or `agent: true` was expected",
        hint: "make a key with `ssh-keygen -t ed25519` and name its file here")
    }
    if let path = section.path("known_hosts", "the file of the host keys that are trusted", paths) {
      destination.knownHosts = path
    } else if !isBuiltin {
      destination.knownHosts = ""
    }
    destination.sshConfig = section.path("ssh_config", "a configuration of the system's ssh program", paths)
    if isBuiltin, section.has("ssh_config") {
      section.fail("ssh_config", "the built-in SSH reads no such file", hint: "set `ssh: openssh` or leave the key out")
    }
    destination.remoteRoot = section.requiredText("remote_root", "the folder on the NAS")
    if let problem = SettingRules.remoteRootProblem(destination.remoteRoot) {
      section.fail("remote_root", problem.message, hint: problem.hint)
    }
    destination.connections = section.integer("connections", in: SettingLimits.connections, default: destination.connections)
    let range = SettingLimits.networkTimeout
    destination.connectTimeout = section.duration("connect_timeout", in: range, default: destination.connectTimeout)
    destination.progressTimeout = section.duration("timeout", in: range, default: destination.progressTimeout)
    destination.keepalive = section.duration("keepalive", in: range, default: destination.keepalive)
    return destination
  }
}
