import SyncModel
import Transport

/// An object as a HEAD shows it.
struct S3Object: Sendable {
  let size: UInt64
  /// Without its quotes.
  let etag: String
  /// Seconds since 1970: of the file, where its sender kept it, else of its last writing.
  let modified: Int64?
  /// The SHA-256 that went over the wire together with the bytes, where this program sent it so.
  let sha256: String?
  /// Who wrote it by `putNew`.
  let writer: String?
}

/// Names and values of what this program keeps beside an object.
enum S3Metadata {
  /// rclone's name for it.
  static let modified = "x-amz-meta-mtime"
  static let sha256 = "x-amz-meta-nassync-sha256"
  static let size = "x-amz-meta-nassync-size"
  static let writer = "x-amz-meta-nassync-writer"
}

/// A part of a listing.
struct S3Page {
  /// Where the next one begins.
  enum Next: Hashable {
    case token(String)
    case marker([UInt8])
  }

  var files: [(key: [UInt8], size: UInt64)] = []
  /// Keys up to the delimiter, with it.
  var folders: [[UInt8]] = []
  var next: Next?
}

extension S3Session {
  /// Pages without anything new that are taken for a store that lists without end.
  private static let emptyPageLimit = 50
  /// Pages of one listing.
  private static let pageLimit = 100_000
  private static let pageBytes = 8 << 20

  // MARK: One object

  /// What is under a key; nil for nothing.
  func head(_ key: [UInt8], _ path: RemotePath) async throws(TransportError) -> S3Object? {
    let answer = try await ask("HEAD", key)
    if answer.status == 404 { return nil }
    guard answer.isSuccess else {
      // The answer to a HEAD has no body that would say why: the same is asked so that there is one.
      let said = try await ask("GET", key, headers: [("Range", "bytes=0-0")])
      // A store that was busy for the first question and has nothing for the second has nothing.
      if S3Failures.refusal(said).code == "NoSuchKey" { return nil }
      throw failures.failure(said.isSuccess ? answer : said, "look at", path.description)
    }
    guard let size = answer.header("Content-Length").flatMap({ UInt64($0) }) else { throw failures.violated("no size for \(path)") }
    let written = answer.header("Last-Modified").flatMap(HTTPDate.seconds)
    // rclone writes fractions of a second.
    let kept = answer.header(S3Metadata.modified).flatMap { Int64($0.prefix { $0 != "." }) }
    let sha256 = answer.header(S3Metadata.sha256)
    let sentSize = answer.header(S3Metadata.size).flatMap { UInt64($0) }
    return S3Object(
      size: size, etag: Self.unquoted(answer.header("ETag") ?? ""), modified: kept ?? written, sha256: sentSize == size ? sha256 : nil,
      writer: answer.header(S3Metadata.writer))
  }

  static func unquoted(_ etag: String) -> String {
    etag.count >= 2 && etag.hasPrefix("\"") && etag.hasSuffix("\"") ? String(etag.dropFirst().dropLast()) : etag
  }

  package func entry(at path: RemotePath) async throws(TransportError) -> RemoteEntry? {
    let name: RelativePath
    do { name = try WebDAVPaths.name(of: path) } catch { throw failures.violated("a name that is none for \(path)") }
    if path.relative != nil, let object = try await head(try key(path), path) {
      return RemoteEntry(name: name, kind: .file, size: object.size, modified: object.modified)
    }
    return try await isFolder(path) ? RemoteEntry(name: name, kind: .folder, size: 0, modified: nil) : nil
  }

  /// Whether there is a marker or a key below. The root is there where the bucket is.
  func isFolder(_ path: RemotePath) async throws(TransportError) -> Bool {
    let prefix = try key(path, folder: true)
    let (answer, page) = try await page(prefix, delimited: false, limit: 1, after: nil, path)
    guard let page else {
      let refusal = S3Failures.refusal(answer)
      if refusal.code == "NoSuchBucket" || (refusal.code.isEmpty && answer.status == 404) { return false }
      throw failures.failure(refusal, answer, "list", path.description)
    }
    return path.relative == nil || !page.files.isEmpty || !page.folders.isEmpty
  }

  // MARK: Listings

  package func list(_ folder: RemotePath) async throws(TransportError) -> [RemoteEntry] {
    let prefix = try key(folder, folder: true)
    var listed: [RemoteEntry] = []
    var names: [RelativePath: RemoteEntry.Kind] = [:]
    var isThere = false
    try await eachPage(prefix, delimited: true, folder) { (page) throws(TransportError) in
      var news = 0
      for (key, size) in page.files {
        isThere = true
        // The folder's own marker.
        if key.count == prefix.count { continue }
        news += 1
        try self.add(key.dropFirst(prefix.count), .file, size, folder, &listed, &names)
      }
      for key in page.folders {
        isThere = true
        guard key.last == UInt8(ascii: "/") else { throw self.failures.violated("a folder without its end in a listing of \(folder)") }
        let count = listed.count
        try self.add(key.dropFirst(prefix.count).dropLast(), .folder, 0, folder, &listed, &names)
        news += listed.count - count
      }
      guard listed.count <= self.settings.listingLimit else { throw self.failures.violated("more than \(listed.count - 1) entries") }
      return news
    }
    if !isThere, folder.relative != nil {
      if try await head(try key(folder), folder) == nil { throw .notFound(folder) }
      throw Self.notAFolder(folder)
    }
    return listed
  }

  private func add(
    _ bytes: ArraySlice<UInt8>, _ kind: RemoteEntry.Kind, _ size: UInt64, _ folder: RemotePath, _ listed: inout [RemoteEntry],
    _ names: inout [RelativePath: RemoteEntry.Kind]
  ) throws(TransportError) {
    let name: RelativePath?
    do { name = try RelativePath(bytes: Array(bytes)) } catch { name = nil }
    guard let name, !bytes.contains(UInt8(ascii: "/")) else {
      throw .failure(
        SyncFailure(
          .protocol, "\(folder) holds an object “\(displayText(of: bytes.prefix(80)))”, whose name is none of a file",
          hint: "Another program put it there; remove or rename it in the store."), sessionLost: false)
    }
    if let known = names[name] {
      // Some stores name a folder on two pages.
      if known == .folder, kind == .folder { return }
      if known == kind { throw failures.violated("two entries \(name) in \(folder)") }
      throw .failure(
        SyncFailure(
          .remoteConflict, "\(folder.appending(name)) is an object, and others lie below it as if it were a folder",
          hint: "Another program put one of the two there; remove it in the store, then `nassync retry`."), sessionLost: false)
    }
    names[name] = kind
    listed.append(RemoteEntry(name: name, kind: kind, size: size, modified: nil))
  }

  static func notAFolder(_ path: RemotePath) -> TransportError {
    .failure(SyncFailure(.protocol, "\(path) is not a folder", hint: "Look what stands there in the store."), sessionLost: false)
  }

  /// Calls a body with each page of what has a prefix.
  /// - Parameter body: Returns how much of it is new: a store that goes on without anything new is stopped.
  func eachPage(
    _ prefix: [UInt8], delimited: Bool, _ path: RemotePath, _ body: (S3Page) async throws(TransportError) -> Int
  ) async throws(TransportError) {
    var next: S3Page.Next?
    var idle = 0
    // Their hashes: a token may have 8 KiB.
    var seen: Set<Int> = []
    while true {
      let (answer, page) = try await page(prefix, delimited: delimited, limit: nil, after: next, path)
      guard let page else {
        let refusal = S3Failures.refusal(answer)
        if refusal.code == "NoSuchBucket", path.relative != nil { throw .notFound(path) }
        throw failures.failure(refusal, answer, "list", path.description)
      }
      idle = try await body(page) == 0 ? idle + 1 : 0
      guard let following = page.next else { return }
      guard seen.insert(following.hashValue).inserted, seen.count < Self.pageLimit, idle < Self.emptyPageLimit else {
        throw failures.violated("a listing of \(path) that does not come to its end")
      }
      next = following
    }
  }

  /// One page.
  /// - Returns: The answer, and what it says where it is one of success.
  private func page(
    _ prefix: [UInt8], delimited: Bool, limit: Int?, after: S3Page.Next?, _ path: RemotePath
  ) async throws(TransportError) -> (HTTPResponse, S3Page?) {
    var query: [(name: String, value: [UInt8])] = [("prefix", prefix), ("encoding-type", Array("url".utf8))]
    if delimited { query.append(("delimiter", [UInt8(ascii: "/")])) }
    if let limit { query.append(("max-keys", Array(String(limit).utf8))) }
    var byMarker = listsByMarker.load(ordering: .relaxed)
    switch after {
    case .token(let token)?: query.append(("continuation-token", Array(token.utf8)))
    case .marker(let key)?:
      byMarker = true
      query.append(("marker", key))
    case nil: break
    }
    if !byMarker { query.append(("list-type", [UInt8(ascii: "2")])) }
    let answer = try await ask("GET", [], query: query, bodyLimit: Self.pageBytes)
    guard answer.isSuccess else {
      if !byMarker, after == nil, [501, 405].contains(answer.status) || S3Failures.refusal(answer).code == "NotImplemented" {
        listsByMarker.store(true, ordering: .relaxed)
        return try await page(prefix, delimited: delimited, limit: limit, after: nil, path)
      }
      return (answer, nil)
    }
    let root = try document(answer, "ListBucketResult", "list", path.description)
    return (answer, try Self.read(root, prefix, path, failures))
  }

  /// What a page of a listing says: keys below the prefix that was asked for, and where the next page begins.
  static func read(
    _ root: S3Document.Element, _ prefix: [UInt8], _ path: RemotePath, _ failures: S3Failures
  ) throws(TransportError) -> S3Page {
    let isEncoded = root.text("EncodingType")?.lowercased() == "url"
    func decoded(_ element: S3Document.Element?) throws(TransportError) -> [UInt8] {
      guard let element, let bytes = Self.decoded(element.bytes, isEncoded: isEncoded) else {
        throw failures.violated("a name that cannot be read in a listing of \(path)")
      }
      return bytes
    }
    var page = S3Page()
    for element in root.all("Contents") {
      let key = try decoded(element.child("Key"))
      guard key.starts(with: prefix) else { throw failures.violated("“\(displayText(of: key.prefix(80)))” in a listing of \(path)") }
      guard let size = element.text("Size").flatMap({ UInt64($0) }) else { throw failures.violated("an object without a size in \(path)") }
      page.files.append((key, size))
    }
    for element in root.all("CommonPrefixes") {
      let key = try decoded(element.child("Prefix"))
      guard key.starts(with: prefix) else { throw failures.violated("“\(displayText(of: key.prefix(80)))” in a listing of \(path)") }
      page.folders.append(key)
    }
    guard root.text("IsTruncated") == "true" else { return page }
    if let token = root.text("NextContinuationToken"), !token.isEmpty {
      guard token.utf8.count <= 8192 else { throw failures.violated("an endless token for the rest of a listing") }
      page.next = .token(token)
    } else if let marker = root.child("NextMarker"), !marker.bytes.isEmpty {
      page.next = .marker(try decoded(marker))
    } else if let last = [page.files.last?.key, page.folders.last].compactMap({ $0 }).max(by: { $0.lexicographicallyPrecedes($1) }) {
      page.next = .marker(last)
    } else {
      throw failures.violated("a listing of \(path) that is cut off and does not say where")
    }
    return page
  }

  /// - Returns: Nil where the bytes are not what a store may write.
  static func decoded(_ bytes: [UInt8], isEncoded: Bool) -> [UInt8]? {
    // What XML could not carry comes as U+FFFD from some stores: the name is not known then.
    guard isEncoded else { return bytes.contains(Array("\u{fffd}".utf8)) ? nil : bytes }
    // As in forms: AWS and some others write a space as `+`, and `+` as `%2B`.
    return PercentEncoding.decode(bytes.map { $0 == UInt8(ascii: "+") ? UInt8(ascii: " ") : $0 })
  }
}
