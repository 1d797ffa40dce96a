import SyncModel

/// How one WebDAV folder is reached.
package struct WebDAVSettings: Sendable {
  /// The server and who logs in there.
  package var http: HTTPSettings
  /// The folder below which everything goes, as a decoded path of the server: `/dav/lab`; empty for the server's root.
  package var root: String
  /// A folder with more entries is taken for a server that lists without end.
  package var listingLimit: Int
  /// The runs' metadata folder: asked for by its name where the server hides names that begin with a dot.
  package var metadataFolder: RelativePath

  /// Files of more bytes go in chunks of so many, where the server takes chunks.
  package var chunkSize: UInt64

  /// - Parameter root: With or without a trailing `/`.
  package init(
    http: HTTPSettings, root: String, metadataFolder: RelativePath = .defaultMetadataFolder, listingLimit: Int = 300_000,
    chunkSize: UInt64 = 32 << 20
  ) {
    self.metadataFolder = metadataFolder
    self.chunkSize = chunkSize
    self.http = http
    self.root = root
    self.listingLimit = listingLimit
  }

  /// For people: `webdav+https://user@host/dav/lab`, without secrets.
  package var address: String {
    let user = http.user.map { "\($0)@" } ?? ""
    let origin = http.origin
    let name = origin.host.contains(":") ? "[\(origin.host)]" : origin.host
    let path = RemotePath(root: root).bytes
    return displayText("webdav+\(origin.scheme.rawValue)://\(user)\(name):\(origin.port)") + displayText(of: path)
  }
}
