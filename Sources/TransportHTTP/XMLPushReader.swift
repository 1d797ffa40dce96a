import CLibXML2

/// Reads XML piece by piece over libxml2's push parser: no tree is built, nothing is fetched, no entity but XML's own five is known, and a
/// document type ends the reading at once.
///
/// Bounded: depth, bytes of one text, and bytes without any element; whoever listens bounds the rest. Belongs to whoever made it; not for several threads.
final class XMLPushReader {
  /// What a document is told to.
  protocol Listener: AnyObject {
    /// An element begins.
    /// - Returns: What is wrong with it, nil for nothing.
    func begin(_ name: String, namespace: String?, depth: Int) -> String?
    /// Its end.
    /// - Parameter text: What stood in it after its last child, or in all where it has none.
    func end(text: [UInt8]) -> String?
    /// Whether the text of the element that is open matters.
    var wantsText: Bool { get }
  }

  private static let depthLimit = 64
  /// Bytes of one text: an address of a name of 255 bytes under deep folders, each byte as `%XX`.
  private static let textLimit = 64 * 1024

  /// Bytes of one tag, comment or other thing that is passed over, roughly: libxml2 keeps such a thing until it ends.
  private static let silenceLimit = 256 * 1024
  /// What is handed to libxml2 at once, so that the bounds are looked at in between.
  static let pieceSize = 64 * 1024

  private weak var listener: (any Listener)?
  private var context: xmlParserCtxtPtr?
  private var depth = 0
  private var text: [UInt8] = []
  private var sawRoot = false
  private var events = 0
  private var silence = 0
  /// What is wrong with the document.
  private(set) var failure: String?

  init(_ listener: any Listener) {
    self.listener = listener
    _ = Self.initialise
    var handler = xmlSAXHandler()
    handler.initialized = nassync_xml_sax2
    handler.startElementNs = { context, name, _, namespace, _, _, _, _, _ in XMLPushReader.from(context)?.begin(name, namespace) }
    handler.endElementNs = { context, _, _, _ in XMLPushReader.from(context)?.end() }
    handler.characters = { context, bytes, count in XMLPushReader.from(context)?.add(bytes, Int(count)) }
    handler.cdataBlock = { context, bytes, count in XMLPushReader.from(context)?.add(bytes, Int(count)) }
    handler.internalSubset = { context, _, _, _ in XMLPushReader.from(context)?.fail("a document type") }
    handler.getEntity = { _, name in xmlGetPredefinedEntity(name) }
    // Without it libxml2 writes to standard error.
    handler.serror = { _, _ in }
    context = xmlCreatePushParserCtxt(&handler, Unmanaged.passUnretained(self).toOpaque(), nil, 0, nil)
    if let context {
      _ = xmlCtxtUseOptions(context, Int32(XML_PARSE_NONET.rawValue | XML_PARSE_IGNORE_ENC.rawValue))
      // Whatever the document declares: in another encoding a document type could hide.
      _ = xmlSwitchEncoding(context, XML_CHAR_ENCODING_UTF8)
    }
  }

  deinit {
    if let context { xmlFreeParserCtxt(context) }
  }

  private static let initialise: Void = xmlInitParser()

  private static func from(_ context: UnsafeMutableRawPointer?) -> XMLPushReader? {
    context.map { Unmanaged<XMLPushReader>.fromOpaque($0).takeUnretainedValue() }
  }

  /// The next bytes of the document. `failure` says whether they are understood.
  func feed(_ chunk: ArraySlice<UInt8>) {
    var rest = chunk
    while !rest.isEmpty, failure == nil {
      let piece = rest.prefix(Self.pieceSize)
      let before = events
      piece.withUnsafeBytes { push($0, ends: false) }
      silence = events == before ? silence + piece.count : 0
      if silence > Self.silenceLimit { fail("\(silence) bytes and no element in them") }
      rest = rest.dropFirst(piece.count)
    }
  }

  /// The end of the document.
  /// - Returns: Whether it was whole.
  func finish() -> Bool {
    push(nil, ends: true)
    return failure == nil && sawRoot && depth == 0
  }

  private func push(_ bytes: UnsafeRawBufferPointer?, ends: Bool) {
    guard let context else {
      failure = failure ?? "no memory for its answer"
      return
    }
    let code = xmlParseChunk(context, bytes?.bindMemory(to: CChar.self).baseAddress, Int32(bytes?.count ?? 0), ends ? 1 : 0)
    if code != 0, failure == nil { failure = "an answer that is no well-formed XML (libxml2 \(code))" }
  }

  private func fail(_ reason: String) {
    if failure == nil { failure = "an answer with \(reason)" }
    if let context { xmlStopParser(context) }
  }

  private func begin(_ name: UnsafePointer<xmlChar>?, _ namespace: UnsafePointer<xmlChar>?) {
    guard failure == nil, let name else { return }
    events += 1
    guard depth < Self.depthLimit else { return fail("more than \(Self.depthLimit) levels") }
    if let reason = listener?.begin(String(cString: name), namespace: namespace.map { String(cString: $0) }, depth: depth) {
      return fail(reason)
    }
    depth += 1
    sawRoot = true
    text = []
  }

  private func add(_ bytes: UnsafePointer<xmlChar>?, _ count: Int) {
    guard failure == nil, let bytes, depth > 0, listener?.wantsText == true else { return }
    guard text.count + count <= Self.textLimit else { return fail("a text of more than \(Self.textLimit) bytes") }
    text.append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
  }

  private func end() {
    events += 1
    guard failure == nil else { return }
    depth -= 1
    if let reason = listener?.end(text: text) { fail(reason) }
    text = []
  }
}
