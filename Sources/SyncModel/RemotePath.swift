/// A place on a destination: a root as the configuration gives it and a path below it that cannot climb out.
public struct RemotePath: Hashable, Sendable, CustomStringConvertible {
  /// The destination's `remote_root`: `/`-separated, without a trailing `/` (the root of the server is the empty array).
  public let root: [UInt8]
  /// The place below the root; nil is the root itself.
  public let relative: RelativePath?

  /// - Parameter root: Absolute, or relative to where the server puts the user. A trailing `/` is dropped.
  public init(root: String, relative: RelativePath? = nil) {
    var bytes = Array(root.utf8)
    while bytes.last == UInt8(ascii: "/") { bytes.removeLast() }
    self.root = bytes
    self.relative = relative
  }

  private init(root: [UInt8], relative: RelativePath?) {
    self.root = root
    self.relative = relative
  }

  /// All bytes at once, as `RelativePath`.
  public func hash(into hasher: inout Hasher) {
    root.withUnsafeBytes { hasher.combine(bytes: $0) }
    hasher.combine(relative)
  }

  /// A place below this one.
  public func appending(_ path: RelativePath) -> RemotePath {
    RemotePath(root: root, relative: relative.map { $0.appending(path) } ?? path)
  }

  /// The folder that holds this; nil for the root, above which nothing of ours lies.
  public var parent: RemotePath? {
    guard let relative else { return nil }
    return RemotePath(root: root, relative: relative.parent)
  }

  /// What goes on the wire.
  public var bytes: [UInt8] {
    guard let relative else { return root.isEmpty ? [UInt8(ascii: "/")] : root }
    return root + [UInt8(ascii: "/")] + relative.bytes
  }

  /// Safe to show.
  public var description: String { displayText(of: bytes) }
}
