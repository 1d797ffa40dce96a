import NASSync

/// How the paths of runs are shown to a person: from the folder they are in, as they would type it, or whole.
struct RunNames: Hashable, Sendable {
  /// With a slash at its end; nil shows whole paths.
  private let base: [UInt8]?

  /// Whole paths, for logs.
  static let whole = RunNames(base: nil)

  private init(base: [UInt8]?) { self.base = base }

  /// - Parameter folder: The working directory, absolute and without symbolic links.
  init(seenFrom folder: String) { base = Array(folder.utf8) + (folder == "/" ? [] : [UInt8(ascii: "/")]) }

  /// The path as it can be typed.
  func short(_ path: String) -> String {
    guard let base, base.count > 1, path.utf8.starts(with: base) else { return path }
    // A path cut after a slash is as good UTF-8 as the whole.
    return String(decoding: path.utf8.dropFirst(base.count), as: UTF8.self)
  }

  /// The path, safe to show.
  func shown(_ path: String) -> String { displayText(short(path)) }
}
