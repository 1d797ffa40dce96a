import Foundation
import Glibc

/// What lies in a folder, read with no code of the product: files with their bytes, links with their targets, folders.
struct TreeImage: Equatable {
  enum Node: Equatable {
    case file([UInt8])
    case link(String)
    case folder
  }

  var nodes: [String: Node] = [:]

  init() {}

  /// Nothing where the folder is not there.
  init(of folder: String) throws {
    try read(folder, below: "")
  }

  private mutating func read(_ folder: String, below prefix: String) throws {
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder) else { return }  // gone, or never there
    for name in names {
      let path = folder + "/" + name
      var status = stat()
      guard lstat(path, &status) == 0 else { continue }
      switch status.st_mode & S_IFMT {
      case S_IFDIR:
        nodes[prefix + name] = .folder
        try read(path, below: prefix + name + "/")
      case S_IFLNK: nodes[prefix + name] = .link(try FileManager.default.destinationOfSymbolicLink(atPath: path))
      default: nodes[prefix + name] = .file([UInt8](try Data(contentsOf: URL(fileURLWithPath: path))))
      }
    }
  }

  /// The run's data: without what the program itself keeps in the metadata folder.
  var data: [String: Node] {
    nodes.filter { path, node in node != .folder && !Self.bookkeeping.contains(path) && !path.hasPrefix(".exlab-wizard/.") }
  }

  static let bookkeeping: Set<String> = ["creation.json", "checksums.sha256", "receipt.json", "deletion.json"].reduce(into: []) {
    $0.insert(".exlab-wizard/" + $1)
  }
}
