import CLibXML2
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

/// Reads a `multistatus` document piece by piece, over libxml2's push parser: no tree is built, nothing is fetched, no entity but XML's own
/// five is known, and a document type ends the reading at once.
///
/// Bounded: depth, number of resources, bytes of text, and bytes that say nothing: a document goes on only while resources come. Belongs to whoever made it; not for several threads.
package final class MultistatusParser {
  /// Where the reader stands: names of the elements that matter, from the outside.
  private enum Element {
    case multistatus, response, href, propstat, prop, status, resourceType, collection, contentLength, lastModified, quota, other
  }

  private static let depthLimit = 64
  /// Bytes of one text: an address of a name of 255 bytes under deep folders, each byte as `%XX`.
  private static let textLimit = 64 * 1024

  /// Bytes of one tag, comment or other thing that is passed over, roughly.
  private static let silenceLimit = 256 * 1024
  /// Bytes from the end of one resource to the end of the next, with what is passed over.
  private static let resourceLimit = 1 << 20
  /// Bytes of a resource on average, where a document has many.
  private static let averageLimit = 1024
  /// What is handed to libxml2 at once.
  private static let pieceSize = 64 * 1024

  private let entryLimit: Int
  private let byteLimit: Int
  private var context: xmlParserCtxtPtr?
  private var path: [Element] = []
  private var text: [UInt8] = []
  private var current = MultistatusEntry()
  private var group = MultistatusEntry()
  private var groupStatus: Int?
  private var sawRoot = false
  private var bytes = 0
  private var failure: String?
  private var events = 0
  private var silence = 0
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
    _ = Self.initialise
    var handler = xmlSAXHandler()
    handler.initialized = nassync_xml_sax2
    handler.startElementNs = { context, name, _, namespace, _, _, _, _, _ in
      MultistatusParser.from(context)?.begin(name, namespace)
    }
    handler.endElementNs = { context, _, _, _ in MultistatusParser.from(context)?.end() }
    handler.characters = { context, bytes, count in MultistatusParser.from(context)?.add(bytes, Int(count)) }
    handler.cdataBlock = { context, bytes, count in MultistatusParser.from(context)?.add(bytes, Int(count)) }
    handler.internalSubset = { context, _, _, _ in MultistatusParser.from(context)?.fail("a document type") }
    handler.getEntity = { _, name in xmlGetPredefinedEntity(name) }
    // Without it libxml2 writes to standard error.
    handler.serror = { _, _ in }
    context = xmlCreatePushParserCtxt(&handler, Unmanaged.passUnretained(self).toOpaque(), nil, 0, nil)
    if let context {
      _ = xmlCtxtUseOptions(context, Int32(XML_PARSE_NONET.rawValue))
      // Whatever the document declares: in another encoding a document type could hide.
      _ = xmlSwitchEncoding(context, XML_CHAR_ENCODING_UTF8)
    }
  }

  deinit {
    if let context { xmlFreeParserCtxt(context) }
  }

  private static let initialise: Void = xmlInitParser()

  private static func from(_ context: UnsafeMutableRawPointer?) -> MultistatusParser? {
    context.map { Unmanaged<MultistatusParser>.fromOpaque($0).takeUnretainedValue() }
  }

  /// The next bytes of the document.
  package func feed(_ chunk: [UInt8]) throws(MultistatusMalformed) {
    var start = 0
    while start < chunk.count {
      let count = min(chunk.count - start, Self.pieceSize)
      let (before, found) = (events, entries.count)
      chunk[start..<start + count].withUnsafeBytes { push($0, ends: false) }
      start += count
      try check()
      silence = events == before ? silence + count : 0
      sinceEntry = entries.count == found ? sinceEntry + count : 0
      total += count
      guard silence <= Self.silenceLimit, sinceEntry <= Self.resourceLimit, total <= Self.resourceLimit + entryLimit * Self.averageLimit else {
        fail("\(total) bytes and \(entries.count) entries in them")
        return try check()
      }
    }
  }

  /// The end of the document.
  package func finish() throws(MultistatusMalformed) -> [MultistatusEntry] {
    UnsafeRawBufferPointer(start: nil, count: 0).withMemoryRebound(to: CChar.self) { _ in push(nil, ends: true) }
    try check()
    guard sawRoot, path.isEmpty else { throw MultistatusMalformed(reason: "an answer that is no multistatus document") }
    return entries
  }

  private func push(_ bytes: UnsafeRawBufferPointer?, ends: Bool) {
    guard let context else {
      failure = failure ?? "no memory for its answer"
      return
    }
    let code = xmlParseChunk(context, bytes?.bindMemory(to: CChar.self).baseAddress, Int32(bytes?.count ?? 0), ends ? 1 : 0)
    if code != 0, failure == nil { failure = "an answer that is no well-formed XML (libxml2 \(code))" }
  }

  private func check() throws(MultistatusMalformed) {
    if let failure { throw MultistatusMalformed(reason: failure) }
  }

  private func fail(_ reason: String) {
    if failure == nil { failure = "an answer with \(reason)" }
    if let context { xmlStopParser(context) }
  }

  // MARK: Events

  private func begin(_ name: UnsafePointer<xmlChar>?, _ namespace: UnsafePointer<xmlChar>?) {
    guard failure == nil else { return }
    events += 1
    guard path.count < Self.depthLimit else { return fail("more than \(Self.depthLimit) levels") }
    let element = element(name, namespace)
    if path.isEmpty {
      guard element == .multistatus else { return fail("another root than DAV:multistatus") }
      sawRoot = true
    }
    switch element {
    case .response: current = MultistatusEntry()
    case .propstat:
      group = MultistatusEntry()
      groupStatus = nil
    case .collection where path.last == .resourceType: group.isCollection = true
    default: break
    }
    text = []
    path.append(element)
  }

  /// Elements count only in their places: a `href` inside a property, for instance, is not the resource's.
  private func element(_ name: UnsafePointer<xmlChar>?, _ namespace: UnsafePointer<xmlChar>?) -> Element {
    guard let name, let namespace, String(cString: namespace) == "DAV:" else { return .other }
    switch (String(cString: name), path.last) {
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

  private func add(_ bytes: UnsafePointer<xmlChar>?, _ count: Int) {
    guard failure == nil, let bytes, let last = path.last, last != .other else { return }
    guard text.count + count <= Self.textLimit else { return fail("a text of more than \(Self.textLimit) bytes") }
    text.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
  }

  private func end() {
    events += 1
    guard failure == nil, let element = path.popLast() else { return }
    switch element {
    case .href:
      guard current.href.isEmpty else { return fail("two addresses of one resource") }
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
      guard entries.count <= entryLimit, bytes <= byteLimit else { return fail("more than \(entries.count - 1) entries") }
    default: break
    }
    text = []
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
