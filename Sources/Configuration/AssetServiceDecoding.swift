import SyncModel

extension ServiceDecoder {
  /// `asset_services`: a mapping of names to services.
  func assetServices(_ parent: inout SettingsSection) -> [AssetServiceSettings] {
    let key = "asset_services"
    var services: [AssetServiceSettings] = []
    for (name, entry) in parent.namedSections(key, limit: 64) {
      if !AssetServiceSettings.isName(name) {
        report.add(entry.mark, entry.path, AssetServiceSettings.noName, hint: AssetServiceSettings.nameHint)
      }
      services.append(assetService(name, entry))
      if let same = AssetServiceSettings.sameAddress(services), same.index == services.count - 1 {
        entry.fail(
          "url", "this is the address of `\(same.other)`, too", hint: "an asset would belong to both; remove one of the two")
      }
    }
    return services
  }

  private func assetService(_ name: String, _ section: SettingsSection) -> AssetServiceSettings {
    var section = section
    defer { section.close() }
    var service = AssetServiceSettings(name: name, url: section.requiredText("url", "the service's address, https://…,"))
    service.token = section.secret("token", paths)
    service.login = section.choice("auth", default: .bearer)
    service.signsDigests = section.truth("signs_digests", default: false)
    service.readServer(&section, paths)
    var stores = section.section("stores")
    service.stores = self.stores(&stores)
    // What is missing or no text at all has been said, and so has a secret that stands in the file.
    for problem in service.problems where problem.key != "url" || !service.url.isEmpty {
      if problem.key == "token", section.has("token") { continue }
      if problem.key.hasPrefix("stores.") {
        stores.fail(String(problem.key.dropFirst("stores.".count)), problem.message, hint: problem.hint)
      } else {
        section.fail(problem.key, problem.message, hint: problem.hint)
      }
    }
    return service
  }

  private func stores(_ section: inout SettingsSection) -> AssetServiceSettings.Stores {
    defer { section.close() }
    return AssetServiceSettings.Stores(
      hosts: section.texts("hosts", "names of hosts")?.map { $0.lowercased() },
      caFile: section.path("ca_file", "a file of PEM certificates", paths),
      pin: section.text("pin", "the fingerprint of the stores' public key, sha256//…,"),
      insecure: section.truth("insecure", default: false),
      insecureHost: section.text("insecure_host", "the host that may be written to without encryption"),
      prove: section.truth("prove", default: false))
  }
}
