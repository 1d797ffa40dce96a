import SyncModel

extension EquipmentDecoder {
  func webdav(_ section: inout SettingsSection) -> WebDAVDestination {
    var destination = WebDAVDestination(url: section.requiredText("url", "the folder's address, https://…,"))
    destination.user = section.text("user", "the account on the NAS")
    destination.password = secret("password", &section)
    destination.token = secret("token", &section)
    destination.login = section.choice("auth", default: section.has("token") && !section.has("password") ? .bearer : .basic)
    destination.caFile = section.path("ca_file", "a file of PEM certificates", paths)
    destination.pin = section.text("pin", "the fingerprint of the server's public key, sha256//…,")
    destination.insecure = section.truth("insecure", default: false)
    destination.insecureHost = section.text("insecure_host", "the host that may be spoken to without encryption")
    destination.connections = section.integer("connections", in: SettingLimits.connections, default: destination.connections)
    let range = SettingLimits.networkTimeout
    destination.connectTimeout = section.duration("connect_timeout", in: range, default: destination.connectTimeout)
    destination.progressTimeout = section.duration("timeout", in: range, default: destination.progressTimeout)
    // What is missing altogether has been said, and so has a secret that stands in the file.
    for problem in destination.problems where problem.key != "url" || section.has("url") {
      if problem.key == "password" || problem.key == "token", section.has(problem.key) { continue }
      section.fail(problem.key, problem.message, hint: problem.hint)
    }
    return destination
  }

  /// A reference to a secret; relative paths are seen from the file.
  func secret(_ key: String, _ section: inout SettingsSection) -> SecretReference? {
    guard let text = section.text(key, "the place of a secret, `file:PATH`, `env:NAME` or `credential:NAME`,") else { return nil }
    guard let reference = SecretReference(text) else {
      section.fail(
        key, "a secret is written in a configuration file",
        hint: "remove it and change the secret; only a reference may stand in a file: `file:PATH`, `env:NAME` or `credential:NAME`")
      return nil
    }
    guard case .file(let path) = reference.place else { return reference }
    guard let absolute = paths.resolve(path) else {
      section.fail(key, "`\(path)` cannot be read as a path", hint: "write the whole path")
      return nil
    }
    return SecretReference("file:\(absolute)")
  }
}
