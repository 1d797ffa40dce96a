import SyncModel
import Transport

/// A multipart upload that the store keeps.
struct S3OpenUpload: Hashable, Sendable {
  let key: [UInt8]
  let id: String
  /// As the store writes it, `2026-11-21T12:00:00.000Z`; nil where it does not say.
  let initiated: Int64?
}

extension S3Session {
  /// Uploads looked at in one go; more than any lab leaves behind.
  private static let uploadLimit = 100_000
  private static let pageBytes = 8 << 20

  // MARK: One upload

  func createUpload(_ key: [UInt8], _ path: RemotePath, modified: Int64?) async throws(TransportError) -> String {
    let answer = try await ask("POST", key, query: [("uploads", [])], headers: Self.metadata(modified: modified), body: [])
    let id = try document(answer, "InitiateMultipartUploadResult", "write", path.description).text("UploadId") ?? ""
    guard !id.isEmpty, id.utf8.count <= 1024 else { throw failures.violated("no number for the upload of \(path)") }
    common.lives(id)
    return id
  }

  /// - Returns: The part's ETag.
  func putPart(
    _ number: Int, _ content: [UInt8], of upload: String, _ key: [UInt8], _ path: RemotePath
  ) async throws(TransportError) -> String {
    let answer = try await ask(
      "PUT", key, query: [("partNumber", Array(String(number).utf8)), ("uploadId", Array(upload.utf8))], body: content)
    guard answer.isSuccess else { throw failures.failure(answer, "write", path.description) }
    return try checkedETag(answer.header("ETag"), path)
  }

  func checkedETag(_ etag: String?, _ path: RemotePath) throws(TransportError) -> String {
    let etag = Self.unquoted(etag ?? "")
    guard !etag.isEmpty, etag.utf8.count <= 64, etag.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x22 }) else {
      throw failures.violated("no ETag for a part of \(path)")
    }
    return etag
  }

  /// A part that the store has.
  struct Part {
    let size: UInt64
    let etag: String
    /// Seconds since 1970, where the store says it.
    let modified: Int64?
  }

  /// What the store has of an upload's parts, by number; nil where the upload is gone. OpenStack Swift still knows a completed one by its object,
  /// and takes its completion once more.
  func parts(
    of upload: String, _ key: [UInt8], _ path: RemotePath
  ) async throws(TransportError) -> [Int: Part]? {
    var parts: [Int: Part] = [:]
    var marker = 0
    while true {
      let answer = try await ask(
        "GET", key, query: [("uploadId", Array(upload.utf8)), ("part-number-marker", Array(String(marker).utf8))],
        bodyLimit: Self.pageBytes)
      if answer.status == 404 { return nil }
      let root = try document(answer, "ListPartsResult", "look at the upload of", path.description)
      var last = marker
      for element in root.all("Part") {
        guard let number = element.text("PartNumber").flatMap({ Int($0) }), (1...10_000).contains(number),
          let size = element.text("Size").flatMap({ UInt64($0) })
        else { throw failures.violated("a part without number or size of \(path)") }
        parts[number] = Part(
          size: size, etag: Self.unquoted(element.text("ETag") ?? ""), modified: element.text("LastModified").flatMap(S3Date.seconds))
        last = max(last, number)
      }
      guard root.text("IsTruncated") == "true" else { return parts }
      // Part numbers end, and so do pages that come nearer to their end.
      guard last > marker else { throw failures.violated("a list of parts that does not come to its end") }
      marker = last
    }
  }

  /// Makes an object of the parts. A lost answer is looked into.
  func completeUpload(
    _ key: [UInt8], _ upload: String, etags: [String], size: UInt64, _ path: RemotePath
  ) async throws(TransportError) {
    var body = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
    for (index, etag) in etags.enumerated() {
      body += "<Part><PartNumber>\(index + 1)</PartNumber><ETag>&quot;\(S3Document.escaped(Array(etag.utf8)) ?? "")&quot;</ETag></Part>"
    }
    body += "</CompleteMultipartUpload>"
    let query = [(name: "uploadId", value: Array(upload.utf8))]
    let failure: TransportError
    do throws(TransportError) {
      let answer = try await ask(
        "POST", key, query: query, headers: [("Content-Type", "application/xml")], body: Array(body.utf8), patience: 10)
      let refusal = S3Failures.refusal(answer)
      if ["InvalidPart", "InvalidPartOrder", "EntityTooSmall"].contains(refusal.code) {
        // Going on with it would end here again.
        try await abortUpload(key, upload, path)
        throw TransportError.failure(
          SyncFailure(
            .protocol, "the store does not put the parts of \(path) together (\(refusal.code))",
            hint: "The file is sent again from its start."), sessionLost: false)
      }
      if refusal.code != "NoSuchUpload" {
        _ = try document(answer, "CompleteMultipartUploadResult", "write", path.description)
        common.ended(upload)
        return
      }
      failure = failures.failure(refusal, answer, "write", path.description)
    } catch {
      if error.sessionLost { throw error }
      failure = error
    }
    if try await isCompleted(key, upload, etags: etags, size: size, path) { return }
    throw failure
  }

  /// Whether the request to complete was carried out although its answer did not say so: the object is the one that the parts make.
  private func isCompleted(
    _ key: [UInt8], _ upload: String, etags: [String], size: UInt64, _ path: RemotePath
  ) async throws(TransportError) -> Bool {
    guard let object = try await head(key, path), object.size == size else { return false }
    // Nearly all stores make the ETag of the parts' MD5s; where it is something else, the upload must be gone and the number of parts right.
    let sums = etags.compactMap(Self.bytes)
    if sums.count == etags.count, object.etag.utf8.count >= 34, Self.bytes(String(object.etag.prefix(32))) != nil,
      let sum = Self.md5(sums.flatMap { $0 })
    {
      return object.etag.lowercased() == sum.map(Self.hex).joined() + "-\(etags.count)"
    }
    guard object.etag.hasSuffix("-\(etags.count)") else { return false }
    return try await parts(of: upload, key, path) == nil
  }

  private static func hex(_ byte: UInt8) -> String { (byte < 16 ? "0" : "") + String(byte, radix: 16) }

  /// Of 32 hexadecimal digits.
  private static func bytes(_ text: String) -> [UInt8]? {
    let digits = text.utf8.map { Character(UnicodeScalar($0)).hexDigitValue }
    guard digits.count == 32, !digits.contains(nil) else { return nil }
    let values = digits.compactMap { $0 }
    return stride(from: 0, to: 32, by: 2).map { UInt8(values[$0] << 4 | values[$0 + 1]) }
  }

  func abortUpload(_ key: [UInt8], _ upload: String, _ path: RemotePath) async throws(TransportError) {
    let answer = try await ask("DELETE", key, query: [("uploadId", Array(upload.utf8))])
    if answer.isSuccess || answer.status == 404 { return common.ended(upload) }
    throw failures.failure(answer, "end the upload of", path.description)
  }

  // MARK: All uploads

  package func discardUploads(under path: RemotePath, except kept: [UploadMark]) async throws(TransportError) {
    let ids = Set(kept.compactMap { $0.token.flatMap(S3Token.init)?.upload })
    let mine = uploads.withLock { Array($0.values) }
    for id in ids { common.lives(id) }
    var used: Set<String> = ids
    for upload in mine { if let id = await upload.currentID { used.insert(id) } }
    do throws(TransportError) {
      for upload in try await openUploads(under: path).uploads where !used.contains(upload.id) {
        try await abortUpload(upload.key, upload.id, path)
      }
    } catch {
      // A key that may not look, or a store that cannot: what lies there takes room and harms nothing. `check` says so.
      if case .unsupported = error { return }
      if !error.sessionLost, error.failure.kind == .permission { return }
      throw error
    }
  }

  /// The uploads of objects at or below a place that were begun and neither completed nor ended.
  /// - Returns: With the store's own time, where it says it.
  func openUploads(under path: RemotePath) async throws(TransportError) -> (uploads: [S3OpenUpload], now: Int64?) {
    let prefix = try key(path)
    var found: [S3OpenUpload] = []
    var now: Int64?
    var markers: (key: [UInt8], id: [UInt8])?
    var seen: Set<[UInt8]> = []
    var asksEncoded = true
    while true {
      var query: [(name: String, value: [UInt8])] = [("uploads", []), ("prefix", prefix)]
      if asksEncoded { query.append(("encoding-type", Array("url".utf8))) }
      if let markers { query += [("key-marker", markers.key), ("upload-id-marker", markers.id)] }
      let answer = try await ask("GET", [], query: query, bodyLimit: Self.pageBytes)
      let root = try document(answer, "ListMultipartUploadsResult", "list the uploads below", path.description)
      now = answer.header("Date").flatMap(HTTPDate.seconds) ?? now
      let isEncoded = root.text("EncodingType")?.lowercased() == "url"
      // Ceph's gateway encodes some of the keys then, and does not say so.
      if asksEncoded, !isEncoded, !root.all("Upload").isEmpty {
        asksEncoded = false
        continue
      }
      for element in root.all("Upload") {
        guard let key = Self.decoded(element.child("Key")?.bytes ?? [], isEncoded: isEncoded), key.starts(with: prefix),
          let id = element.text("UploadId"), !id.isEmpty, id.utf8.count <= 1024
        else { throw failures.violated("an upload that cannot be read below \(path)") }
        // A name that only begins alike is somebody else's.
        guard prefix.isEmpty || key.count == prefix.count || key[prefix.count] == UInt8(ascii: "/") else { continue }
        found.append(S3OpenUpload(key: key, id: id, initiated: element.text("Initiated").flatMap(S3Date.seconds)))
      }
      guard root.text("IsTruncated") == "true" else { return (found, now) }
      guard let next = Self.decoded(root.child("NextKeyMarker")?.bytes ?? [], isEncoded: isEncoded),
        case let id = root.child("NextUploadIdMarker")?.bytes ?? [], seen.insert(next + [0] + id).inserted, found.count < Self.uploadLimit,
        seen.count < 1000
      else { throw failures.violated("a list of uploads that does not come to its end") }
      markers = (next, id)
    }
  }
}

/// Times as S3 writes them in documents: `2026-11-21T12:00:00.000Z`.
enum S3Date {
  /// Seconds since 1970; nil for any other text.
  static func seconds(_ text: String) -> Int64? {
    let bytes = Array(text.utf8)
    guard bytes.count >= 20, bytes.last == UInt8(ascii: "Z"), bytes[10] == UInt8(ascii: "T") else { return nil }
    func number(_ range: Range<Int>) -> Int64? { Int64(String(decoding: bytes[range], as: UTF8.self)) }
    guard let year = number(0..<4), let month = number(5..<7), (1...12).contains(month), let day = number(8..<10), (1...31).contains(day),
      let hour = number(11..<13), let minute = number(14..<16), let second = number(17..<19), year > 0
    else { return nil }
    return HTTPDate.days(year: year, month: month, day: day) * 86_400 + hour * 3600 + minute * 60 + second
  }
}
