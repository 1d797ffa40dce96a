import SyncModel

extension ServiceConfiguration {
  /// A configuration file may have this many bytes; real ones have a few thousand.
  static let maximumFileBytes = 1 << 20

  /// The places where `nassync.yaml` is looked for, in this order, when no file is named.
  /// - Parameters:
  ///   - environment: The process's variables: `NASSYNC_CONFIG`, `XDG_CONFIG_HOME`, `HOME`.
  ///   - currentDirectory: Absolute.
  public static func searchPaths(environment: [String: String], currentDirectory: String) -> [String] {
    var places = [currentDirectory + "/nassync.yaml"]
    // The XDG base directory specification: a relative path there is invalid and counts as not given.
    if let folder = environment["XDG_CONFIG_HOME"], folder.hasPrefix("/") {
      places.append(folder + "/nassync/nassync.yaml")
    } else if let home = environment["HOME"], home.hasPrefix("/") {
      places.append(home + "/.config/nassync/nassync.yaml")
    }
    places.append("/etc/nassync/nassync.yaml")
    return places.map(ConfigurationPaths.tidy)
  }

  /// Reads `nassync.yaml` and every instrument's file. Reads files and so blocks, for milliseconds.
  ///
  /// The file is the one named, else `$NASSYNC_CONFIG`, else the first of `searchPaths` that exists. Whether the folders and keys that
  /// it names exist is not looked at.
  /// - Parameters:
  ///   - path: What `--config` gave; relative to `currentDirectory`.
  ///   - environment: The process's variables.
  ///   - currentDirectory: Absolute.
  /// - Throws: `ConfigurationError` with everything that is wrong in all the files.
  public static func load(
    from path: String?, environment: [String: String], currentDirectory: String
  ) throws(ConfigurationError) -> ServiceConfiguration {
    let (file, bytes) = try find(path, environment: environment, currentDirectory: currentDirectory)
    let report = ConfigurationReport(file: file)
    let paths = ConfigurationPaths(file: file, environment: environment)
    guard let root = document(bytes, report) else { throw ConfigurationError(report.sorted) }
    var configuration = ServiceDecoder(report: report, paths: paths).decode(root, file: file)
    var problems: [ConfigurationError.Problem] = []
    var profiles: [(profile: EquipmentProfile, file: String, mark: YAMLMark)] = []
    let folder = configuration.equipmentDirectory ?? ""
    let names: [[UInt8]]
    do { names = try SmallFile.names(in: folder) } catch {
      let reason = error == .notRegular ? "it is not a folder" : error.reason
      report.add(
        nil, "equipment_dir", "the folder of the instruments' files, \(folder), cannot be read: \(reason)",
        hint: "`nassync init` makes one with an example; `equipment_dir` says where it is")
      throw ConfigurationError(report.sorted)
    }
    for name in names where isYAML(name) {
      let path = folder + "/" + String(decoding: name, as: UTF8.self)
      let report = ConfigurationReport(file: path)
      defer { problems += report.sorted }
      guard String(validating: name, as: UTF8.self) != nil else {
        report.add(nil, "", "the file's name is not UTF-8", hint: "rename it, to the instrument's id for example")
        continue
      }
      guard let bytes = contents(of: path, report), let root = document(bytes, report) else { continue }
      let decoder = EquipmentDecoder(
        report: report, paths: ConfigurationPaths(file: path, environment: environment),
        knownHosts: configuration.stateDirectory + "/known_hosts")
      let decoded = decoder.decode(root)
      guard let profile = decoded.profile else { continue }
      if let first = profiles.first(where: { $0.profile.id == profile.id }), !profile.id.isEmpty {
        report.add(
          decoded.idMark, "id", "the id \(profile.id) is also that of \(first.file), line \(first.mark.line)",
          hint: "give each instrument its own id, or remove one of the two files")
      } else {
        profiles.append((profile, path, decoded.idMark))
      }
    }
    problems = report.sorted + problems
    guard problems.isEmpty else { throw ConfigurationError(problems) }
    configuration.equipment = profiles.map(\.profile).sorted { $0.id < $1.id }
    return configuration
  }

  private static func find(
    _ named: String?, environment: [String: String], currentDirectory: String
  ) throws(ConfigurationError) -> (file: String, bytes: [UInt8]) {
    let variable = environment["NASSYNC_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }
    if let given = named ?? variable {
      let file = ConfigurationPaths.tidy(given.hasPrefix("/") ? given : currentDirectory + "/" + given)
      let report = ConfigurationReport(file: file)
      guard let bytes = contents(of: file, report) else { throw ConfigurationError(report.problems) }
      return (file, bytes)
    }
    let places = searchPaths(environment: environment, currentDirectory: currentDirectory)
    for file in places {
      let bytes: [UInt8]
      do { bytes = try SmallFile.read(file, limit: maximumFileBytes).bytes } catch {
        if error == .notFound { continue }
        let report = ConfigurationReport(file: file)
        tell(error, report)
        throw ConfigurationError(report.problems)
      }
      return (file, bytes)
    }
    throw ConfigurationError([
      ConfigurationError.Problem(
        message: "there is no configuration file; looked for \(places.joined(separator: ", "))",
        hint: "run `nassync init` to write one, or name it with --config or NASSYNC_CONFIG")
    ])
  }

  private static func contents(of file: String, _ report: ConfigurationReport) -> [UInt8]? {
    do { return try SmallFile.read(file, limit: maximumFileBytes).bytes } catch {
      tell(error, report)
      return nil
    }
  }

  private static func tell(_ failure: SmallFile.Failure, _ report: ConfigurationReport) {
    switch failure {
    case .notFound: report.add(nil, "", "there is no such file", hint: "check the path, or run `nassync init` to write a first one")
    case .system: report.add(nil, "", "the file cannot be read: \(failure.reason)", hint: "check who may read it")
    case .notRegular: report.add(nil, "", "this is not a regular file", hint: "name a file")
    case .tooLarge: report.add(nil, "", "the file is larger than 1 MiB", hint: "this is no configuration file; check the path")
    }
  }

  /// The document, nil with a problem where there is none.
  private static func document(_ bytes: [UInt8], _ report: ConfigurationReport) -> YAMLNode? {
    guard String(validating: bytes, as: UTF8.self) != nil else {
      let line = 1 + bytes.prefix(validPrefix(of: bytes)).filter { $0 == 0x0a }.count
      report.add(YAMLMark(line: line, column: 1), "", "the file is not UTF-8 text", hint: "save it as UTF-8")
      return nil
    }
    if let place = bytes.firstIndex(where: { $0 < 0x20 && $0 != 0x09 && $0 != 0x0a && $0 != 0x0d }) {
      let line = 1 + bytes.prefix(place).filter { $0 == 0x0a }.count
      report.add(YAMLMark(line: line, column: 1), "", "the line has a control character", hint: "remove it; this may be no text file")
      return nil
    }
    let node = YAMLParser.parse(bytes, report: report)
    if node == nil, report.problems.isEmpty {
      report.add(nil, "", "the file is empty", hint: "compare it with the file that `nassync init` writes")
    }
    return node
  }

  /// How many bytes at the start are whole UTF-8 characters.
  private static func validPrefix(of bytes: [UInt8]) -> Int {
    var count = 0
    var decoder = UTF8()
    var iterator = bytes.makeIterator()
    while case .scalarValue(let scalar) = decoder.decode(&iterator) { count += UTF8.width(scalar) }
    return count
  }

  private static func isYAML(_ name: [UInt8]) -> Bool {
    let text = String(decoding: name, as: UTF8.self).lowercased()
    return text.hasSuffix(".yaml") || text.hasSuffix(".yml")
  }
}
