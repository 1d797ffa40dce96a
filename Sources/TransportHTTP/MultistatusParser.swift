import SyncModel

/// One resource of a `207 Multi-Status` answer (RFC 4918, section 13), as far as it matters here.
package struct MultistatusEntry: Hashable, Sendable {
  /// As the server wrote it: a path or an address, percent-encoded its own way.
  package var href: [UInt8] = []
  /// The status of the resource itself, where it has one.
  package var status: Int?
  package var isCollection = false
  package var contentLength: UInt64?
  package var lastModified: Int64?
  package var quotaAvailable: UInt64?
  /// Statuses of the groups of properties.
  package var propertyStatuses: [Int] = []
}

/// Why an answer is not understood.
package struct MultistatusMalformed: Error, Hashable, Sendable {
  package let reason: String
}

/// Reads a `multistatus` document piece by piece, over an `XMLPushReader`.
///
/// Bounded: number of resources, bytes of their addresses, and bytes that say nothing: a document goes on only while resources come. Belongs
/// to whoever made it; not for several threads.
package final class MultistatusParser: XMLPushReader.Listener {
  /// Where the reader stands: names of the elements that matter, from the outside.
  private enum Element {
    case multistatus, response, href, propstat, prop, status, resourceType, collection, contentLength, lastModified, quota, other
  }

  /// Bytes from the end of one resource to the end of the next, with what is passed over.
  private static let resourceLimit = 1 << 20
  /// Bytes of a resource on average, where a document has many.
  private static let averageLimit = 1024

  private let entryLimit: Int
  private let byteLimit: Int
  private lazy var reader = XMLPushReader(self)
  private var path: [Element] = []
  private var text: [UInt8] = []
  private var current = MultistatusEntry()
  private var group = MultistatusEntry()
  private var groupStatus: Int?
  private var bytes = 0
  private var sinceEntry = 0
  private var total = 0
  /// What was read so far.
  package private(set) var entries: [MultistatusEntry] = []

  /// - Parameters:
  ///   - entryLimit: Resources at most.
  ///   - byteLimit: Bytes of all their addresses at most.
  package init(entryLimit: Int = 300_000, byteLimit: Int = 48 << 20) {
    self.entryLimit = entryLimit
    self.byteLimit = byteLimit
  }

  /// The next bytes of the document.
  package func feed(_ chunk: [UInt8]) throws(MultistatusMalformed) {
    var start = 0
    while start < chunk.count {
      let count = min(chunk.count - start, XMLPushReader.pieceSize)
      let found = entries.count
      reader.feed(chunk[start..<start + count])
      start += count
      try check()
      sinceEntry = entries.count == found ? sinceEntry + count : 0
      total += count
      guard sinceEntry <= Self.resourceLimit, total <= Self.resourceLimit + entryLimit * Self.averageLimit else {
        throw MultistatusMalformed(reason: "an answer with \(total) bytes and \(entries.count) entries in them")
      }
    }
  }

  /// The end of the document.
  package func finish() throws(MultistatusMalformed) -> [MultistatusEntry] {
    let isWhole = reader.finish()
    try check()
    guard isWhole else { throw MultistatusMalformed(reason: "an answer that is no multistatus document") }
    return entries
  }

  private func check() throws(MultistatusMalformed) {
    if let failure = reader.failure { throw MultistatusMalformed(reason: failure) }
  }

  // MARK: Events

  func begin(_ name: String, namespace: String?, depth: Int) -> String? {
    let element = element(name, namespace)
    if path.isEmpty, element != .multistatus { return "another root than DAV:multistatus" }
    switch element {
    case .response: current = MultistatusEntry()
    case .propstat:
      group = MultistatusEntry()
      groupStatus = nil
    case .collection where path.last == .resourceType: group.isCollection = true
    default: break
    }
    path.append(element)
    return nil
  }

  var wantsText: Bool { path.last.map { $0 != .other } ?? false }

  /// Elements count only in their places: a `href` inside a property, for instance, is not the resource's.
  private func element(_ name: String, _ namespace: String?) -> Element {
    guard namespace == "DAV:" else { return .other }
    switch (name, path.last) {
    case ("multistatus", nil): return .multistatus
    case ("response", .multistatus?): return .response
    case ("href", .response?): return .href
    case ("status", .response?), ("status", .propstat?): return .status
    case ("propstat", .response?): return .propstat
    case ("prop", .propstat?): return .prop
    case ("resourcetype", .prop?): return .resourceType
    case ("collection", .resourceType?): return .collection
    case ("getcontentlength", .prop?): return .contentLength
    case ("getlastmodified", .prop?): return .lastModified
    case ("quota-available-bytes", .prop?): return .quota
    default: return .other
    }
  }

  func end(text: [UInt8]) -> String? {
    guard let element = path.popLast() else { return nil }
    self.text = text
    switch element {
    case .href:
      guard current.href.isEmpty else { return "two addresses of one resource" }
      current.href = trimmed
      bytes += current.href.count
    case .status:
      if path.last == .propstat { groupStatus = statusCode } else { current.status = statusCode }
    case .contentLength: group.contentLength = UInt64(word)
    case .lastModified: group.lastModified = HTTPDate.seconds(of: word)
    case .quota: group.quotaAvailable = UInt64(word)
    case .propstat:
      // A group without a status is one that the server found: nginx always writes one.
      let status = groupStatus ?? 200
      current.propertyStatuses.append(status)
      if status == 200 { take(group) }
    case .response:
      entries.append(current)
      guard entries.count <= entryLimit, bytes <= byteLimit else { return "more than \(entries.count - 1) entries" }
    default: break
    }
    return nil
  }

  private func take(_ group: MultistatusEntry) {
    current.isCollection = current.isCollection || group.isCollection
    current.contentLength = group.contentLength ?? current.contentLength
    current.lastModified = group.lastModified ?? current.lastModified
    current.quotaAvailable = group.quotaAvailable ?? current.quotaAvailable
  }

  private var trimmed: [UInt8] {
    let isSpace: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0a || $0 == 0x0d }
    var rest = text.drop(while: isSpace)
    while let last = rest.last, isSpace(last) { rest = rest.dropLast() }
    return Array(rest)
  }

  private var word: String { String(decoding: trimmed, as: UTF8.self) }

  /// `HTTP/1.1 200 OK`.
  private var statusCode: Int? {
    let words = word.split(separator: " ")
    return words.count > 1 ? Int(words[1]) : nil
  }
}
