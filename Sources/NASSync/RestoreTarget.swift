import Foundation
import Glibc
import Intake
import SyncModel

/// The folder that a restore was asked to fill, as it is before anything is written. Blocking.
struct RestoreTarget: Sendable {
  /// As the caller gave it.
  let path: String
  let metadataFolder: String
  /// Where the run lay on this workstation; nil where the caller did not say.
  let run: String?

  /// What lies there already.
  struct Present: Sendable {
    let folder: RunFolder
    /// Whether an interrupted restore of the same run made it.
    let isResumed: Bool
    fileprivate let kinds: [RelativePath: RunEntry.Kind]
    subscript(path: RelativePath) -> RunEntry.Kind? { kinds[path] }
  }

  /// - Returns: Nil where there is nothing yet.
  /// - Throws: `misconfigured` where the folder is neither empty nor the run's own nor that of the same restore.
  func survey(_ identity: RestoreFolder.Identity) throws(SyncFailure) -> Present? {
    var status = stat()
    guard lstat(path, &status) == 0 else {
      if errno == ENOENT { return try requireParent() }
      throw RestoreFolder.failure("cannot look at \(displayText(path))", errno)
    }
    let type = status.st_mode & S_IFMT
    guard type == S_IFDIR else {
      throw SyncFailure(
        .misconfigured, "\(displayText(path)) is \(type == S_IFLNK ? "a symbolic link" : "no folder")",
        hint: "Give a folder that does not exist yet, or an empty one. Nothing was written.")
    }
    let folder = try RunFolder(root: path)
    let unfinished = try RestoreFolder.identity(of: path, metadataFolder: metadataFolder)
    if let unfinished, unfinished != identity {
      throw SyncFailure(
        .misconfigured,
        "\(displayText(path)) holds an unfinished restore of \(displayText(unfinished.remotePath))"
          + (unfinished.remotePath == identity.remotePath ? ", of another generation" : ""),
        hint: "Finish that one, or restore into another folder. Nothing was written.")
    }
    let snapshot = try RunScanner.snapshot(of: path, metadataFolder: metadataFolder, excluding: [])
    let isOwn = run.map { $0.utf8.elementsEqual(absolutePath.utf8) } ?? false
    if unfinished == nil, !isOwn {
      var first = snapshot.entries.first { $0.path.bytes != Array(metadataFolder.utf8) || $0.kind != .folder }?.path.description
      if first == nil { first = bookkeeping(in: folder) }
      if let first {
        throw SyncFailure(
          .misconfigured, "\(displayText(path)) is not empty: it holds \(first)",
          hint: "Give a folder that does not exist yet, or an empty one. Nothing was written.")
      }
    }
    return Present(
      folder: folder, isResumed: unfinished != nil,
      kinds: Dictionary(snapshot.entries.map { ($0.path, $0.kind) }) { $1 })
  }

  private func requireParent() throws(SyncFailure) -> Present? {
    let parent = URL(fileURLWithPath: path).deletingLastPathComponent().path
    var status = stat()
    guard stat(parent, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
      throw SyncFailure(
        .misconfigured, "\(displayText(parent)) is no folder, so \(displayText(path)) cannot be made in it",
        hint: "Make that folder first, or check the spelling.")
    }
    return nil
  }

  /// A run's record or manifest, which a scan does not list.
  private func bookkeeping(in folder: RunFolder) -> String? {
    for name in RunSnapshot.bookkeepingNames.sorted() {
      let path: RelativePath
      do { path = try RelativePath(metadataFolder + "/" + name) } catch { continue }
      if folder.open(path, O_RDONLY | O_NONBLOCK) != nil { return path.description }
    }
    return nil
  }

  /// Without links on the way, where it exists.
  var absolutePath: String {
    guard let real = realpath(path, nil) else { return URL(fileURLWithPath: path).standardizedFileURL.path }
    defer { free(real) }
    return String(cString: real)
  }
}
