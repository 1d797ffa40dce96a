import CFYAML
import SyncModel

/// Reads one YAML document with libfyaml's events, which name the place of everything.
///
/// Configuration files use a small part of YAML. Anchors, aliases and tags are refused, and with them every way of writing a small
/// file that unfolds into a huge one; the depth is bounded, the size is the caller's to bound.
struct YAMLParser {
  /// Deeper nesting than any configuration has.
  static let maximumDepth = 16

  /// A mapping or list that is not closed yet.
  private struct Open {
    let mark: YAMLMark
    var entries: [YAMLNode.Entry]
    var items: [YAMLNode]
    let isMapping: Bool
    /// The key that waits for its value.
    var key: (text: String, mark: YAMLMark)?
    var seen: [String: YAMLMark] = [:]
  }

  private let report: ConfigurationReport
  private var open: [Open] = []
  private var root: YAMLNode?
  private var documents = 0

  private init(report: ConfigurationReport) { self.report = report }

  /// The document, nil when it is empty or cannot be understood; what is wrong is in the report.
  static func parse(_ text: [UInt8], report: ConfigurationReport) -> YAMLNode? {
    var parser = YAMLParser(report: report)
    return parser.run(text)
  }

  private mutating func run(_ text: [UInt8]) -> YAMLNode? {
    // The parser keeps pointers into the text, and the diagnostics into the parser: all of them live inside this closure.
    text.withUnsafeBufferPointer { buffer in
      buffer.withMemoryRebound(to: CChar.self) { characters in
        var settings = fy_diag_cfg()
        fy_diag_cfg_default(&settings)
        settings.fp = nil
        settings.output_fn = { _, _, _, _ in }
        settings.level = FYET_ERROR
        guard let diagnostics = fy_diag_create(&settings) else { return outOfMemory() }
        defer { fy_diag_destroy(diagnostics) }
        fy_diag_set_collect_errors(diagnostics, true)
        var configuration = fy_parse_cfg()
        configuration.flags = FYPCF_DEFAULT_VERSION_1_2
        configuration.diag = diagnostics
        guard let parser = fy_parser_create(&configuration) else { return outOfMemory() }
        defer { fy_parser_destroy(parser) }
        guard fy_parser_set_string(parser, characters.baseAddress, characters.count) == 0 else { return outOfMemory() }
        while let event = fy_parser_parse(parser) {
          let goesOn = take(event)
          fy_parser_event_free(parser, event)
          if !goesOn { return nil }
        }
        if fy_parser_get_stream_error(parser) {
          reportSyntax(diagnostics)
          return nil
        }
        return root
      }
    }
  }

  private func outOfMemory() -> YAMLNode? {
    report.add(nil, "", "the YAML parser could not start", hint: "free some memory and try again")
    return nil
  }

  private func reportSyntax(_ diagnostics: OpaquePointer) {
    var iterator: UnsafeMutableRawPointer?
    var found = false
    while let error = fy_diag_errors_iterate(diagnostics, &iterator) {
      guard error.pointee.type == FYET_ERROR, let raw = error.pointee.msg else { continue }
      found = true
      let message = String(cString: raw)
      // Unlike marks, the places of collected errors count from 1.
      report.add(
        YAMLMark(line: Int(error.pointee.line), column: Int(error.pointee.column)), "", "this is not YAML: \(message)",
        hint: Self.hint(for: message))
    }
    if !found { report.add(nil, "", "this is not YAML", hint: "compare it with the file that `nassync init` writes") }
  }

  private static func hint(for message: String) -> String {
    if message.contains("tab") { return "indent with spaces, never with tabs" }
    if message.contains("quote") { return "close the quotation mark" }
    if message.contains("bracket") || message.contains("brace") { return "close every [ and { on its own level" }
    return "check the indentation and the colons around here; a text with `: `, `#` or a leading symbol needs quotation marks"
  }

  /// Whether parsing goes on.
  private mutating func take(_ event: UnsafeMutablePointer<fy_event>) -> Bool {
    let mark = Self.mark(of: event) ?? open.last?.key?.mark ?? open.last?.mark ?? YAMLMark(line: 1, column: 1)
    if fy_event_get_anchor_token(event) != nil, event.pointee.type != FYET_ALIAS {
      report.add(mark, path, "anchors (`&name`) are not used in configuration files", hint: "remove the anchor")
    }
    if fy_event_get_tag_token(event) != nil {
      report.add(mark, path, "tags (`!name`) are not used in configuration files", hint: "remove the tag")
    }
    switch event.pointee.type {
    case FYET_DOCUMENT_START:
      documents += 1
      if documents > 1 {
        report.add(mark, "", "a second document begins here, and one file holds one", hint: "remove the line `---` or split the file")
        return false
      }
    case FYET_ALIAS:
      report.add(mark, path, "aliases (`*name`) are not used in configuration files", hint: "write the value itself")
      return finish(YAMLNode(mark: mark, content: .scalar("", plain: false)), isAlias: true)
    case FYET_SCALAR:
      let token = fy_event_get_token(event)
      var length = 0
      let raw = fy_token_get_text(token, &length)
      let bytes = raw.map { UnsafeRawBufferPointer(start: $0, count: length) }
      let text = bytes.map { String(decoding: $0, as: UTF8.self) } ?? ""
      let style = token == nil ? FYSS_PLAIN : fy_token_scalar_style(token)
      let plain = style == FYSS_PLAIN
      // libfyaml's mark of a quoted text is behind its quotation mark.
      let quotes = (style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED) && mark.column > 1 ? 1 : 0
      let start = YAMLMark(line: mark.line, column: mark.column - quotes)
      return finish(YAMLNode(mark: start, content: .scalar(text, plain: plain)))
    case FYET_MAPPING_START, FYET_SEQUENCE_START:
      let isMapping = event.pointee.type == FYET_MAPPING_START
      if let last = open.last, last.isMapping, last.key == nil {
        report.add(mark, path, "a key is a word, not a list or a mapping", hint: "write `key: value`")
        return false
      }
      if open.count >= Self.maximumDepth {
        report.add(mark, path, "this is nested more than \(Self.maximumDepth) levels deep", hint: "no setting needs that; remove it")
        return false
      }
      open.append(Open(mark: mark, entries: [], items: [], isMapping: isMapping))
    case FYET_MAPPING_END, FYET_SEQUENCE_END:
      guard let closed = open.popLast() else { return false }
      return finish(YAMLNode(mark: closed.mark, content: closed.isMapping ? .mapping(closed.entries) : .sequence(closed.items)))
    default: break
    }
    return true
  }

  /// Puts a whole node where it belongs.
  private mutating func finish(_ node: YAMLNode, isAlias: Bool = false) -> Bool {
    guard var last = open.popLast() else {
      root = node
      return true
    }
    defer { open.append(last) }
    guard last.isMapping else {
      last.items.append(node)
      return true
    }
    if let key = last.key {
      last.key = nil
      if let first = last.seen[key.text] {
        report.add(
          key.mark, joined(key.text), "the key `\(key.text)` is given twice, first on line \(first.line)", hint: "keep one of the two")
      } else {
        last.seen[key.text] = key.mark
        last.entries.append(YAMLNode.Entry(key: key.text, mark: key.mark, value: node))
      }
      return true
    }
    guard case .scalar(let text, _) = node.content, !isAlias else {
      report.add(node.mark, path, "a key is a word, not a list or a mapping", hint: "write `key: value`")
      return false
    }
    last.key = (text, node.mark)
    return true
  }

  /// The keys down to what is being read, as far as they are known.
  private var path: String {
    var path = ""
    for level in open {
      if level.isMapping {
        if let key = level.key { path += (path.isEmpty ? "" : ".") + key.text }
      } else {
        path += "[\(level.items.count)]"
      }
    }
    return path
  }

  private func joined(_ key: String) -> String { path.isEmpty ? key : path + "." + key }

  private static func mark(of event: UnsafeMutablePointer<fy_event>) -> YAMLMark? {
    guard let mark = fy_event_start_mark(event) else { return nil }
    return YAMLMark(line: Int(mark.pointee.line) + 1, column: Int(mark.pointee.column) + 1)
  }
}
