import SyncModel
import Transport

/// Between remote paths and what stands in requests and answers. Servers escape names in ways of their own, so that only decoded bytes are
/// compared.
enum WebDAVPaths {
  private static let slash = UInt8(ascii: "/")

  /// A request's target. Folders end in `/`: nginx insists, and no server minds.
  static func target(_ path: RemotePath, folder: Bool) -> String {
    let encoded = PercentEncoding.path(path.bytes)
    let absolute = encoded.hasPrefix("/") ? encoded : "/" + encoded
    return folder && !absolute.hasSuffix("/") ? absolute + "/" : absolute
  }

  /// The names between the slashes of what a server calls a resource; nil where it cannot be a resource's address.
  /// - Parameter href: A path, or an address whose host does not matter: behind a proxy it is often another one.
  static func segments(of href: [UInt8]) -> [[UInt8]]? {
    var path = href[...]
    for scheme in ["http://", "https://"] where path.starts(with: Array(scheme.utf8)) {
      path = path.dropFirst(scheme.utf8.count).drop { $0 != slash }
    }
    guard path.first == slash else { return nil }
    var segments: [[UInt8]] = []
    for part in path.split(separator: slash) {
      guard let decoded = PercentEncoding.decode(part), !decoded.contains(slash), !decoded.contains(0),
        ![[0x2e], [0x2e, 0x2e]].contains(decoded)
      else { return nil }
      segments.append(decoded)
    }
    return segments
  }

  /// The names of a path of ours.
  static func segments(of path: RemotePath) -> [[UInt8]] { path.bytes.split(separator: slash).map(Array.init) }

  /// The name of the thing at a path; for a root without one, something to show.
  static func name(of path: RemotePath) throws(RelativePath.Invalid) -> RelativePath {
    if let relative = path.relative { return try RelativePath(bytes: Array(relative.lastSegment)) }
    return try RelativePath(bytes: segments(of: path).last ?? Array("root".utf8))
  }
}
