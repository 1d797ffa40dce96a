import Foundation
import SyncModel

/// The limits of numbers in configuration files.
enum SettingLimits {
  static let workers = 1...64
  static let connections = 1...16
  static let port = 1...65_535
  static let backoff = 0.1...2_592_000.0
  static let auditInterval = 1.0...31_622_400.0
  static let auditTime = 0.1...86_400.0
  static let passes = 1...100
  static let ageHours = 0.0...87_600.0
  static let scanMiB = 1...1024
  static let validatorTimeout = 0.1...86_400.0
  static let quiet = 1.0...2_592_000.0
  static let networkTimeout = 0.1...3600.0
  static let uploadAge = 3600.0...31_622_400.0
}

/// Reads `nassync.yaml`.
struct ServiceDecoder {
  let report: ConfigurationReport
  let paths: ConfigurationPaths

  /// The configuration without its instruments.
  func decode(_ root: YAMLNode, file: String) -> ServiceConfiguration {
    var section = SettingsSection(root, path: "", report: report)
    var configuration = ServiceConfiguration(stateDirectory: "", equipment: [], sourceFile: file)
    configuration.stateDirectory = section.path("state_dir", "a folder", paths) ?? paths.resolve("state") ?? ""
    configuration.equipmentDirectory = section.path("equipment_dir", "a folder", paths) ?? paths.resolve("equipment")
    configuration.metadataFolder = metadataFolder(&section)
    configuration.workers = section.integer("workers", in: SettingLimits.workers, default: configuration.workers)
    configuration.uploadMbps = section.rate("upload_mbps", zero: nil)
    configuration.timeZone = Self.timeZone(&section)
    configuration.retry = retry(&section)
    configuration.verify = verify(&section)
    configuration.cleanup = cleanup(&section)
    configuration.gate = gate(&section)
    configuration.assetServices = assetServices(&section)
    section.close()
    return configuration
  }

  private func metadataFolder(_ section: inout SettingsSection) -> String {
    let key = "metadata_dir"
    guard let name = section.text(key, "the name of a folder") else { return ServiceConfiguration.defaultMetadataFolder }
    if !SettingRules.isName(name) {
      section.fail(key, "`\(name)` is no name of a folder at the top of a run", hint: "write one name without `/`, such as .exlab-wizard")
    }
    return name
  }

  /// A time zone's name, looked up.
  static func timeZone(_ section: inout SettingsSection) -> String? {
    let key = "time_zone"
    guard let name = section.text(key, "the name of a time zone, such as Europe/Vienna,") else { return nil }
    if TimeZone(identifier: name) == nil {
      let near = Suggestion.nearest(to: name, in: TimeZone.knownTimeZoneIdentifiers)
      section.fail(
        key, "`\(name)` is no time zone",
        hint: near.map { "did you mean `\($0)`?" } ?? "write an IANA name, such as Europe/Vienna, or leave it out for this machine's own")
    }
    return name
  }

  private func retry(_ parent: inout SettingsSection) -> RetrySettings {
    var section = parent.section("retry")
    defer { section.close() }
    var settings = RetrySettings()
    let before = report.problems.count
    if let backoff = section.durations("backoff", in: SettingLimits.backoff) {
      if backoff.isEmpty, report.problems.count == before {
        section.fail("backoff", "there is no time in the list", hint: "write at least one time: [30s]")
      }
      settings.backoff = backoff
    }
    return settings
  }

  private func verify(_ parent: inout SettingsSection) -> VerifySettings {
    var section = parent.section("verify")
    defer { section.close() }
    let fallback = VerifySettings()
    return VerifySettings(
      method: section.choice("method", default: fallback.method),
      auditInterval: section.duration("audit_interval", in: SettingLimits.auditInterval, default: fallback.auditInterval),
      auditDownloadMbps: section.rate("audit_download_mbps", zero: nil),
      auditTime: section.has("audit_time") ? section.duration("audit_time", in: SettingLimits.auditTime, default: 3600) : nil)
  }

  private func cleanup(_ parent: inout SettingsSection) -> CleanupSettings {
    var section = parent.section("cleanup")
    defer { section.close() }
    let fallback = CleanupSettings()
    return CleanupSettings(
      enabled: section.truth("enabled", default: fallback.enabled),
      minVerifyPasses: section.integer("min_verify_passes", in: SettingLimits.passes, default: fallback.minVerifyPasses),
      minAgeHours: section.decimal("min_age_hours", in: SettingLimits.ageHours, default: fallback.minAgeHours),
      retainMetadata: section.truth("retain_metadata", default: fallback.retainMetadata))
  }

  private func gate(_ parent: inout SettingsSection) -> GateSettings {
    var section = parent.section("gate")
    defer { section.close() }
    var settings = GateSettings()
    let key = "content_scan_extensions"
    if let extensions = section.texts(key, "file name extensions") {
      for text in extensions where !SettingRules.isExtension(text) {
        section.fail(key, "`\(text)` is no file name extension", hint: "write it with its dot: .txt")
      }
      settings.contentScanExtensions = extensions.map { $0.lowercased() }
    }
    settings.contentScanMaxMiB = section.integer("content_scan_max_mib", in: SettingLimits.scanMiB, default: settings.contentScanMaxMiB)
    settings.validators = section.sections("validators", limit: 16).map { validator($0) }
    return settings
  }

  private func validator(_ section: SettingsSection) -> GateSettings.Validator {
    var section = section
    defer { section.close() }
    var command: [String] = []
    let before = report.problems.count
    if section.has("command") {
      command = section.texts("command", "the program and its arguments") ?? []
      // A bare name is looked up in PATH; a path is one, seen from the file like all others.
      if let program = command.first, program.contains("/") || program.hasPrefix("~") {
        if let path = paths.resolve(program) {
          command[0] = path
        } else {
          section.fail("command", "`\(program)` cannot be read as a path", hint: "write the whole path")
        }
      } else if command.isEmpty, report.problems.count == before {
        section.fail("command", "there is no program in the list", hint: "write the program and its arguments: [check-run, --strict]")
      }
    } else {
      _ = section.requiredText("command", "a list of the program and its arguments")
    }
    let timeout = section.duration("timeout", in: SettingLimits.validatorTimeout, default: 60)
    return GateSettings.Validator(command: command, timeout: timeout)
  }
}
