import Configuration
import Foundation

/// A temporary folder with configuration files, removed after the body.
struct ConfigurationFolder {
  let path: String

  static let service = "state_dir: ./state\nequipment_dir: ./equipment\n"
  static let equipment = """
    id: CONFOCAL_01
    local_root: /data/lab
    transport:
      type: sftp
      host: nas
      user: lab
      key_file: ~/.ssh/id
      remote_root: /srv/lab

    """

  static func with<Result>(_ files: [String: String] = [:], _ body: (ConfigurationFolder) throws -> Result) throws -> Result {
    let path = NSTemporaryDirectory() + "/nassync-configuration-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path + "/equipment", withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }  // a leftover in the temporary folder harms nobody
    let folder = ConfigurationFolder(path: ConfigurationFolder.tidy(path))
    for (name, text) in files { try folder.write(name, text) }
    return try body(folder)
  }

  private static func tidy(_ path: String) -> String { path.replacingOccurrences(of: "//", with: "/") }

  func write(_ name: String, _ text: String) throws { try write(name, Data(text.utf8)) }

  func write(_ name: String, _ data: Data) throws {
    let file = URL(fileURLWithPath: path + "/" + name)
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try data.write(to: file)
  }

  func load(
    _ named: String? = "nassync.yaml", environment: [String: String] = ["HOME": "/home/lab"]
  ) throws -> ServiceConfiguration {
    try ServiceConfiguration.load(from: named, environment: environment, currentDirectory: path)
  }

  /// The problems of a configuration that must not load; empty when it does.
  func problems(_ named: String? = "nassync.yaml", environment: [String: String] = ["HOME": "/home/lab"])
    -> [ConfigurationError.Problem]
  {
    do {
      _ = try ServiceConfiguration.load(from: named, environment: environment, currentDirectory: path)
      return []
    } catch { return error.problems }
  }

  /// The problems of one `nassync.yaml`.
  static func problems(service: String) throws -> [ConfigurationError.Problem] {
    try with(["nassync.yaml": service]) { $0.problems() }
  }

  /// The problems of one instrument's file.
  static func problems(equipment: String) throws -> [ConfigurationError.Problem] {
    try with(["nassync.yaml": service, "equipment/A.yaml": equipment]) { $0.problems() }
  }

  /// The instrument of one file that must load.
  static func profile(_ text: String) throws -> EquipmentProfile? {
    try with(["nassync.yaml": service, "equipment/A.yaml": text]) { try $0.load().equipment.first }
  }
}
