import Glibc
import Intake
import SyncModel

extension PresignedUploader {
  /// The components that files and folders make: a file is called by its own name, a file of a folder by its path below that folder.
  /// - Parameters:
  ///   - paths: Relative ones are seen from the working directory.
  ///   - contentType: Media type of all of them.
  /// - Throws: `SyncFailure`: `misconfigured` where one is not there, where a folder holds anything but regular files and folders, or a name is not
  ///   UTF-8. Nothing is left out silently.
  public func components(
    of paths: [String], contentType: String = "application/octet-stream"
  ) async throws(SyncFailure) -> [Component] {
    try await readers.next().run { () throws(SyncFailure) in
      var components: [Component] = []
      for path in paths { components += try Self.components(below: path, contentType) }
      return components
    }
  }

  private static func components(below path: String, _ contentType: String) throws(SyncFailure) -> [Component] {
    var status = stat()
    guard !path.utf8.contains(0), lstat(path, &status) == 0 else {
      throw SyncFailure(
        .misconfigured, "\(displayText(path)): \(String(cString: strerror(errno)))", hint: "Name files or folders that are there.")
    }
    let segments = path.split(separator: "/")
    guard status.st_mode & S_IFMT == S_IFDIR else {
      guard let name = segments.last else { throw AssetFile.misconfigured(path, "it has no name") }
      return [Component(name: String(name), localPath: path, contentType: contentType)]
    }
    let root = path.hasPrefix("/") ? path : AssetFile.currentDirectory() + "/" + path
    let snapshot: RunSnapshot
    do throws(SyncFailure) { snapshot = try RunScanner.snapshot(of: root, metadataFolder: "", excluding: []) } catch {
      throw SyncFailure(
        .local, "the folder \(displayText(path)) cannot be listed", hint: "Look at its permissions, and who writes to it now.")
    }
    var components: [Component] = []
    for entry in snapshot.entries {
      let shown = "\(displayText(path))/\(entry.path)"
      if let reason = entry.unreadable { throw AssetFile.misconfigured(shown, "it cannot be read: \(reason)") }
      switch entry.kind {
      case .folder: continue
      case .file: break
      case .symlink: throw AssetFile.misconfigured(shown, "it is a symbolic link")
      case .special(let kind): throw AssetFile.misconfigured(shown, "it is a \(kind)")
      }
      guard let name = String(validating: entry.path.bytes, as: UTF8.self) else {
        throw AssetFile.misconfigured(shown, "its name is not UTF-8")
      }
      components.append(Component(name: name, localPath: root + "/" + name, contentType: contentType))
    }
    guard !components.isEmpty else { throw AssetFile.misconfigured(path, "there is no file in this folder") }
    return components
  }
}
