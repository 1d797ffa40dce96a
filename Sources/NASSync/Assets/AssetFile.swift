import Executors
import Glibc
import Intake
import JobQueue
import SyncModel

/// A component's local file: looked at, compared with what it was, and read, by descriptor and never through a link. Blocking.
enum AssetFile {
  /// Finds the file and what it is like now.
  /// - Returns: Its absolute path, the folders' links resolved.
  /// - Throws: `SyncFailure`: `local_vanished`, `misconfigured` where it is no regular file, `local`.
  static func look(at path: String, component: String) throws(SyncFailure) -> (path: String, fingerprint: FileFingerprint) {
    let absolute = path.hasPrefix("/") ? path : currentDirectory() + "/" + path
    guard !path.utf8.contains(0), let slash = absolute.lastIndex(of: "/") else { throw misconfigured(component, "its path is none") }
    let name = String(absolute[absolute.index(after: slash)...])
    guard !name.isEmpty, name != ".", name != ".." else { throw misconfigured(component, "\(displayText(path)) names no file") }
    let parent = absolute[..<slash].isEmpty ? "/" : String(absolute[..<slash])
    guard let resolved = realpath(parent, nil) else {
      throw SyncFailure(
        errno == ENOENT ? .localVanished : .local, "\(displayText(component)): \(displayText(parent)): \(String(cString: strerror(errno)))",
        hint: "Look at the path; nothing of the asset was sent.", retry: false)
    }
    defer { free(resolved) }
    guard let folder = String(validatingCString: resolved) else { throw misconfigured(component, "its folder's name is no text") }
    let place = folder == "/" ? "/" + name : folder + "/" + name
    do throws(SyncFailure) {
      return (place, try reader(place).fingerprint())
    } catch {
      if error.kind == .localChanged { throw misconfigured(component, "\(displayText(place)) is no regular file") }
      throw named(error, component)
    }
  }

  /// - Throws: `SyncFailure` of kind `local_changed` or `local_vanished` where the file is not what was recorded.
  static func requireUnchanged(_ row: AssetUploadComponentRow) throws(SyncFailure) {
    do throws(SyncFailure) { try reader(row.localPath).requireUnchanged(since: row.fingerprint) } catch { throw named(error, row.name) }
  }

  /// Opens the file for the one read that also hashes.
  static func open(_ row: AssetUploadComponentRow, on executor: ThreadExecutor) async throws(SyncFailure) -> FileStream {
    do throws(SyncFailure) {
      let (folder, path) = try split(row.localPath)
      return try await FileStream.open(
        RunEntry(path: path, kind: .file, fingerprint: row.fingerprint), in: RunFolder(root: folder), on: executor)
    } catch { throw named(error, row.name) }
  }

  /// A failure of the reading rooms, which speak of runs, in the words of an asset.
  static func named(_ failure: SyncFailure, _ component: String) -> SyncFailure {
    let message = "\(displayText(component)): \(failure.message)"
    switch failure.kind {
    case .localChanged:
      return SyncFailure(
        .localChanged, message, hint: "The asset is not finished. Call again once nothing writes to its files: they go as a new asset.",
        retry: false)
    case .localVanished:
      return SyncFailure(.localVanished, message, hint: "Put the file back and call again, or abandon the upload.", retry: false)
    case .misconfigured, .local:
      return SyncFailure(failure.kind, message, hint: "Look at the path and its permissions; then call again.")
    default: return failure
    }
  }

  private static func reader(_ path: String) throws(SyncFailure) -> LocalFileReader {
    let (folder, name) = try split(path)
    return try LocalFileReader(in: RunFolder(root: folder), path: name)
  }

  private static func split(_ path: String) throws(SyncFailure) -> (folder: String, name: RelativePath) {
    let bytes = Array(path.utf8)
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { throw misconfigured(path, "the path is not absolute") }
    do {
      return (slash == 0 ? "/" : String(decoding: bytes[..<slash], as: UTF8.self), try RelativePath(bytes: Array(bytes[(slash + 1)...])))
    } catch { throw misconfigured(path, "the path names no file") }
  }

  static func currentDirectory() -> String {
    guard let path = getcwd(nil, 0) else { return "" }
    defer { free(path) }
    return String(cString: path)
  }

  static func misconfigured(_ component: String, _ what: String) -> SyncFailure {
    SyncFailure(.misconfigured, "\(displayText(component)): \(what)", hint: "A component is one regular file; links are not followed.")
  }
}
