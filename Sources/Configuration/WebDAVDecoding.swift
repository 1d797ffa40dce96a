import SyncModel

extension EquipmentDecoder {
  func webdav(_ section: inout SettingsSection) -> WebDAVDestination {
    var destination = WebDAVDestination(url: section.requiredText("url", "the folder's address, https://…,"))
    destination.user = section.text("user", "the account on the NAS")
    destination.password = section.secret("password", paths)
    destination.token = section.secret("token", paths)
    destination.login = section.choice("auth", default: section.has("token") && !section.has("password") ? .bearer : .basic)
    destination.readServer(&section, paths)
    // What is missing altogether has been said, and so has a secret that stands in the file.
    for problem in destination.problems where problem.key != "url" || section.has("url") {
      if problem.key == "password" || problem.key == "token", section.has(problem.key) { continue }
      section.fail(problem.key, problem.message, hint: problem.hint)
    }
    return destination
  }
}
