import Foundation
import SyncModel

extension ServiceConfiguration {
  /// Checks a configuration built in code by the rules that files are read by. One that was loaded passes.
  /// - Throws: `ConfigurationError` with everything that is wrong; the key paths are those of the files.
  public func validate() throws(ConfigurationError) {
    var checks = SettingChecks()
    checks.absolute("state_dir", stateDirectory)
    if let equipmentDirectory { checks.absolute("equipment_dir", equipmentDirectory) }
    checks.that(SettingRules.isName(metadataFolder), "metadata_dir", "this is no name of a folder", "write one name without `/`")
    checks.number("workers", workers, in: SettingLimits.workers)
    let rates = BandwidthProfile.minimumMbps...BandwidthProfile.maximumMbps
    if let uploadMbps { checks.number("upload_mbps", uploadMbps, in: rates) }
    checks.timeZone("time_zone", timeZone)
    checks.that(!retry.backoff.isEmpty, "retry.backoff", "the list is empty", "give at least one time")
    for (index, seconds) in retry.backoff.enumerated() {
      checks.number("retry.backoff[\(index)]", seconds, in: SettingLimits.backoff)
    }
    checks.number("verify.audit_interval", verify.auditInterval, in: SettingLimits.auditInterval)
    if let rate = verify.auditDownloadMbps { checks.number("verify.audit_download_mbps", rate, in: rates) }
    if let time = verify.auditTime { checks.number("verify.audit_time", time, in: SettingLimits.auditTime) }
    checks.number("cleanup.min_verify_passes", cleanup.minVerifyPasses, in: SettingLimits.passes)
    checks.number("cleanup.min_age_hours", cleanup.minAgeHours, in: SettingLimits.ageHours)
    checks.number("gate.content_scan_max_mib", gate.contentScanMaxMiB, in: SettingLimits.scanMiB)
    for (index, text) in gate.contentScanExtensions.enumerated() {
      checks.that(
        SettingRules.isExtension(text) && text == text.lowercased(), "gate.content_scan_extensions[\(index)]",
        "`\(text)` is no file name extension in lower case", "write it with its dot: .txt")
    }
    for (index, validator) in gate.validators.enumerated() {
      checks.that(
        validator.command.first?.isEmpty == false, "gate.validators[\(index)].command", "there is no program", "name the program")
      checks.number("gate.validators[\(index)].timeout", validator.timeout, in: SettingLimits.validatorTimeout)
    }
    for service in assetServices {
      checks.prefix = "asset_services.\(service.name)."
      service.check(&checks)
    }
    checks.prefix = ""
    if let same = AssetServiceSettings.sameAddress(assetServices) {
      checks.that(
        false, "asset_services.\(assetServices[same.index].name).url", "this is the address of `\(same.other)`, too",
        "remove one of the two")
    }
    if Set(assetServices.map(\.name)).count < assetServices.count {
      checks.that(false, "asset_services", "two services have one name", "give each its own")
    }
    var ids: Set<String> = []
    for (index, profile) in equipment.enumerated() {
      checks.prefix = "equipment[\(index)]."
      profile.check(&checks)
      checks.that(ids.insert(profile.id).inserted, "id", "the id \(profile.id) is given twice", "give each instrument its own id")
    }
    if !checks.problems.isEmpty { throw ConfigurationError(checks.problems) }
  }
}

extension EquipmentProfile {
  fileprivate func check(_ checks: inout SettingChecks) {
    checks.that(Self.isValid(id: id), "id", "`\(id)` is no equipment id", "write it like CONFOCAL_01")
    checks.absolute("local_root", localRoot)
    switch completeness {
    case .sentinel(let file), .manifest(.some(let file)):
      checks.that(
        SettingRules.relative(file) != nil, "completeness.file", "`\(file)` is no path inside a run", "write it relative to the run")
    case .quiet(let seconds): checks.number("completeness.after", seconds, in: SettingLimits.quiet)
    case .manifest(nil), .manual: break
    }
    checks.that(!exclude.contains(""), "exclude", "a pattern is empty", "remove it")
    switch transport {
    case .sftp(let destination): destination.check(&checks)
    case .webdav(let destination): destination.check(&checks)
    case .s3(let destination): destination.check(&checks)
    }
    checks.timeZone("bandwidth.time_zone", bandwidth.timeZone)
    if let problem = bandwidth.problem {
      let (key, message, hint) = problem.explained(in: bandwidth)
      checks.that(false, "bandwidth.\(key)", message, hint)
    }
  }
}

extension SFTPDestination {
  fileprivate func check(_ checks: inout SettingChecks) {
    checks.that(SettingRules.isHost(host), "transport.host", "this is no host name and no address", "write the name alone")
    checks.number("transport.port", port, in: SettingLimits.port)
    checks.that(SettingRules.isUser(user), "transport.user", "this is no account name", "write the name alone")
    checks.that(
      agent || keyFile != nil || ssh == .openssh, "transport.key_file", "there is no way to log in",
      "give the file of a private key or `agent: true`")
    if let keyFile { checks.absolute("transport.key_file", keyFile) }
    if ssh == .builtin || !knownHosts.isEmpty { checks.absolute("transport.known_hosts", knownHosts) }
    if let sshConfig {
      checks.absolute("transport.ssh_config", sshConfig)
      checks.that(ssh == .openssh, "transport.ssh_config", "the built-in SSH reads no such file", "use the system's ssh program")
    }
    checks.that(!remoteRoot.isEmpty && !remoteRoot.utf8.contains(0), "transport.remote_root", "this is no path", "name the folder")
    if let problem = SettingRules.remoteRootProblem(remoteRoot) {
      checks.that(false, "transport.remote_root", problem.message, problem.hint)
    }
    checks.number("transport.connections", connections, in: SettingLimits.connections)
    checks.number("transport.connect_timeout", connectTimeout, in: SettingLimits.networkTimeout)
    checks.number("transport.timeout", progressTimeout, in: SettingLimits.networkTimeout)
    checks.number("transport.keepalive", keepalive, in: SettingLimits.networkTimeout)
  }
}

extension WebDAVDestination {
  fileprivate func check(_ checks: inout SettingChecks) {
    for problem in problems { checks.that(false, "transport.\(problem.key)", problem.message, problem.hint) }
    checks.server(self, "transport.")
  }
}

extension S3Destination {
  fileprivate func check(_ checks: inout SettingChecks) {
    for problem in problems { checks.that(false, "transport.\(problem.key)", problem.message, problem.hint) }
    checks.server(self, "transport.")
    checks.number("transport.abort_uploads_after", abortUploadsAfter, in: SettingLimits.uploadAge)
  }
}

extension AssetServiceSettings {
  fileprivate func check(_ checks: inout SettingChecks) {
    checks.that(Self.isName(name), "name", Self.noName, Self.nameHint)
    for problem in problems { checks.that(false, problem.key, problem.message, problem.hint) }
    if let caFile = stores.caFile { checks.absolute("stores.ca_file", caFile) }
    checks.server(self, "")
  }
}

/// Collects what is wrong with values that no file holds.
private struct SettingChecks {
  var problems: [ConfigurationError.Problem] = []
  var prefix = ""

  /// The values of a server that are no problem of their own.
  /// - Parameter place: Before each key.
  mutating func server(_ settings: some WebServerSettings, _ place: String) {
    if let caFile = settings.caFile { absolute("\(place)ca_file", caFile) }
    number("\(place)connections", settings.connections, in: SettingLimits.connections)
    number("\(place)connect_timeout", settings.connectTimeout, in: SettingLimits.networkTimeout)
    number("\(place)timeout", settings.progressTimeout, in: SettingLimits.networkTimeout)
  }

  mutating func that(_ holds: Bool, _ key: String, _ message: String, _ hint: String) {
    if !holds { problems.append(ConfigurationError.Problem(keyPath: prefix + key, message: message, hint: hint)) }
  }

  mutating func number<Number: Comparable>(_ key: String, _ value: Number, in range: ClosedRange<Number>) {
    that(
      range.contains(value), key, "\(value) is out of range; a number from \(range.lowerBound) to \(range.upperBound) was expected",
      "choose a number in that range")
  }

  mutating func absolute(_ key: String, _ path: String) {
    that(path.hasPrefix("/") && !path.utf8.contains(0), key, "`\(path)` is no absolute path", "start it with `/`")
  }

  mutating func timeZone(_ key: String, _ name: String?) {
    guard let name else { return }
    that(TimeZone(identifier: name) != nil, key, "`\(name)` is no time zone", "write an IANA name, such as Europe/Vienna")
  }
}
