import Digests
import SyncModel
import Transport

/// Where a Nextcloud takes files in chunks: `…/remote.php/dav/uploads/USER`, beside the `…/remote.php/dav/files/USER` that holds the root.
struct WebDAVUploadsFolder: Hashable, Sendable {
  let folder: RemotePath

  /// Nil where the root is not an address of that form.
  init?(besides root: RemotePath) {
    let segments = WebDAVPaths.segments(of: root)
    let pattern = ["remote.php", "dav", "files"].map { Array($0.utf8) }
    guard let start = segments.indices.first(where: { segments[$0...].starts(with: pattern) }), segments.count > start + 3 else {
      return nil
    }
    let place = segments[..<(start + 2)] + [Array("uploads".utf8), segments[start + 3]]
    guard let text = String(validating: Array(place.joined(separator: [UInt8(ascii: "/")])), as: UTF8.self) else { return nil }
    folder = RemotePath(root: "/" + text)
  }
}

/// How one file is cut into chunks, and under which name the server collects them.
///
/// The name says which file below which folders the chunks are of, so that what interrupted uploads left is found again: one hash for the root
/// and for each folder on the way to the file.
struct WebDAVChunkPlan: Hashable, Sendable {
  /// Chunks have numbers from 1 to this.
  static let numberLimit: UInt64 = 10_000
  static let smallest: UInt64 = 5 << 20
  static let largest: UInt64 = 5_000_000_000
  private static let prefix = "nassync"
  private static let hashLength = 10
  /// Names have 255 bytes at most.
  private static let levels = 20

  /// Of the folder that collects the chunks.
  let name: RelativePath
  /// Bytes of every chunk but the last.
  let chunkSize: UInt64
  /// Bytes of the file.
  let size: UInt64

  /// A new upload.
  /// - Parameter chunkSize: What is wanted; a large file has larger ones.
  init(_ path: RemotePath, size: UInt64, chunkSize: UInt64) throws(TransportError) {
    let random = String(UInt64.random(in: .min ... .max), radix: 16)
    let padded = String(repeating: "0", count: 16 - random.count) + random
    let text = "\(Self.prefix)-\(padded)-\(Self.hashes(of: path))"
    do throws(RelativePath.Invalid) { name = try RelativePath(text) } catch {
      throw .failure(SyncFailure(.protocol, "\(text) is no name", hint: "Report this."), sessionLost: false)
    }
    self.size = size
    let needed = (size + Self.numberLimit - 1) / Self.numberLimit
    // Whole MiB.
    self.chunkSize = min(max(chunkSize, Self.smallest, ((needed + (1 << 20) - 1) >> 20) << 20), Self.largest)
  }

  /// An upload that was begun earlier; nil where the text is not that of an upload of this file.
  init?(token: String, path: RemotePath, size: UInt64) {
    let words = token.split(separator: " ", omittingEmptySubsequences: false)
    guard words.count == 4, words[0] == "nextcloud-chunks", let chunkSize = UInt64(words[2]), let whole = UInt64(words[3]), whole == size,
      chunkSize >= Self.smallest, chunkSize <= Self.largest, (size + chunkSize - 1) / chunkSize <= Self.numberLimit
    else { return nil }
    let parts = words[1].split(separator: "-", omittingEmptySubsequences: false)
    guard parts.count == 3, parts[0] == Self.prefix, parts[1].count == 16, parts[1].allSatisfy(\.isHexDigit),
      parts[2] == Self.hashes(of: path)
    else { return nil }
    do throws(RelativePath.Invalid) { name = try RelativePath(String(words[1])) } catch { return nil }
    self.size = size
    self.chunkSize = chunkSize
  }

  /// What finds the upload again.
  var token: String { "nextcloud-chunks \(name.string ?? "") \(chunkSize) \(size)" }

  /// The name in a token; nil where it has none.
  static func name(in token: String) -> String? {
    let words = token.split(separator: " ", omittingEmptySubsequences: false)
    return words.count == 4 && words[0] == "nextcloud-chunks" ? String(words[1]) : nil
  }

  var count: UInt64 { (size + chunkSize - 1) / chunkSize }

  /// Bytes of a chunk. Numbers begin with 1.
  func length(of number: UInt64) -> UInt64 { number < count ? chunkSize : size - (count - 1) * chunkSize }

  /// `00001`: names of one length are put together in the order of their numbers by every version.
  static func chunkName(_ number: UInt64) -> String {
    let text = String(number)
    return String(repeating: "0", count: max(0, 5 - text.count)) + text
  }

  /// Whether a folder of chunks is one of ours for a file at or below a place.
  static func isOurs(_ name: RelativePath, under place: RemotePath) -> Bool {
    guard let parts = name.string?.split(separator: "-", omittingEmptySubsequences: false), parts.count == 3, parts[0] == prefix else {
      return false
    }
    let level = place.relative?.segments.count ?? 0
    let found = parts[2].dropFirst(level * hashLength).prefix(hashLength)
    return level < levels && found.count == hashLength && found == hash(of: place)
  }

  /// Of the root, and of every folder from there to the file, as many as there is room for.
  private static func hashes(of path: RemotePath) -> String {
    var places = [path]
    while let parent = places.last?.parent { places.append(parent) }
    return places.reversed().prefix(levels).map(hash).joined()
  }

  private static func hash(of place: RemotePath) -> String {
    String(SHA256Hasher.digest(of: place.bytes)?.hex.prefix(hashLength) ?? "0000000000")
  }
}
