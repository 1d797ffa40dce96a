/// How the paths of one configuration file are read: relative ones from the file's folder, `~/` from the home folder.
struct ConfigurationPaths {
  /// The file's folder, absolute.
  let base: String
  /// Nil where the environment names none.
  let home: String?

  /// The paths of a file.
  init(file: String, environment: [String: String]) {
    base = Self.folder(of: file)
    home = environment["HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil }
  }

  /// The absolute path, nil where `~` stands for something unknown.
  func resolve(_ path: String) -> String? {
    if path == "~" || path.hasPrefix("~/") { return home.map { Self.tidy($0 + "/" + path.dropFirst()) } }
    if path.hasPrefix("~") { return nil }
    return Self.tidy(path.hasPrefix("/") ? path : base + "/" + path)
  }

  /// Without doubled slashes, `.` segments and a slash at the end. `..` stays: what it means depends on symbolic links.
  static func tidy(_ path: String) -> String {
    let segments = path.split(separator: "/").filter { $0 != "." }
    return (path.hasPrefix("/") ? "/" : "") + segments.joined(separator: "/")
  }

  /// The folder that holds a file.
  static func folder(of file: String) -> String {
    guard let slash = file.lastIndex(of: "/") else { return "." }
    return slash == file.startIndex ? "/" : String(file[..<slash])
  }
}

extension SettingsSection {
  /// A path, made absolute; nil where the key is absent.
  mutating func path(_ key: String, _ expected: Expectation, _ paths: ConfigurationPaths) -> String? {
    guard let written = text(key, expected) else { return nil }
    if written.contains("-----BEGIN") {
      fail(key, "a private key itself is written in a configuration file", hint: "save it in a file with mode 0600 and name that file")
      return nil
    }
    guard let path = paths.resolve(written) else {
      fail(key, "`\(written)` cannot be read as a path", hint: "only `~/` is expanded, and HOME must be set for it; write the whole path")
      return nil
    }
    return path
  }

  /// A path that must be given.
  mutating func requiredPath(_ key: String, _ expected: Expectation, _ paths: ConfigurationPaths) -> String {
    guard has(key) else { return requiredText(key, expected) }
    return path(key, expected, paths) ?? ""
  }
}
