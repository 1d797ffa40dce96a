import Foundation
import SyncModel

/// What a validator is told of a run: `Specs/schemas/validator-input.schema.json`. Made piece by piece, since a run may have 100,000 files.
struct ValidatorInput {
  /// Of the format. Programs ignore keys that they do not know.
  static let schemaVersion = "1.0"
  private static let entriesAtOnce = 1000

  private let run: RunSnapshot
  private let location: RunLocation
  private let context: GateContext
  private let published: [(path: RelativePath, component: PublishedComponent)]

  private enum Step {
    case head
    case entries(Int)
    case excluded(Int)
    case published(Int)
    case end
    case done
  }
  private var step = Step.head

  init(_ run: RunSnapshot, _ location: RunLocation, _ context: GateContext) {
    self.run = run
    self.location = location
    self.context = context
    published = context.published.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// The next piece of the document; nil after the last.
  mutating func next() -> [UInt8]? {
    switch step {
    case .head:
      step = .entries(0)
      return head()
    case .entries(let start):
      let end = min(start + Self.entriesAtOnce, run.entries.count)
      step = end < run.entries.count ? .entries(end) : .excluded(0)
      return Self.list(run.entries[start..<end], first: start == 0, Self.entry)
        + (end == run.entries.count ? text("],\n\"excluded\":[") : [])
    case .excluded(let start):
      let end = min(start + Self.entriesAtOnce, run.excluded.count)
      step = end < run.excluded.count ? .excluded(end) : .published(0)
      return Self.list(run.excluded[start..<end], first: start == 0) { Self.object(Self.path($0)) }
        + (end == run.excluded.count ? text("],\n\"published\":[") : [])
    case .published(let start):
      let end = min(start + Self.entriesAtOnce, published.count)
      step = end < published.count ? .published(end) : .end
      return Self.list(published[start..<end], first: start == 0) { Self.component($0.path, $0.component) }
    case .end:
      step = .done
      return text("]}")
    case .done: return nil
    }
  }

  /// All of it.
  var wholeText: [UInt8] {
    var copy = self
    var result: [UInt8] = []
    while let piece = copy.next() { result += piece }
    return result
  }

  private func head() -> [UInt8] {
    var members: [(String, [UInt8])] = [
      ("schema_version", Self.string(Self.schemaVersion)),
      ("now", Self.string(Timestamp.text(context.now))),
      ("equipment", Self.string(location.equipment)),
      ("run_path", Self.string(location.root)),
      ("relative_path", Self.string(location.relative.findingText)),
      ("metadata_folder", Self.string(run.metadataFolder)),
      ("destination", destination()),
    ]
    var reason = run.recordUnreadable
    var record = text("null")
    if let bytes = run.record {
      if let text = String(validating: bytes, as: UTF8.self) {
        record = Self.string(text)
      } else if reason == nil {
        reason = "the record is not UTF-8"
      }
    }
    members.append(("record", record))
    members.append(("record_unreadable", reason.map(Self.string) ?? text("null")))
    return text("{") + Self.joined(members, separator: ",\n") + text(",\n\"entries\":[")
  }

  private func destination() -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(context.limits) else { return text("{}") }  // numbers and truth values encode always
    return Array(data)
  }

  private static func entry(_ entry: RunEntry) -> [UInt8] {
    var members = path(entry.path)
    let mode = String(entry.fingerprint.mode & 0o7777, radix: 8)
    switch entry.kind {
    case .file: members.append(("kind", string("file")))
    case .folder: members.append(("kind", string("folder")))
    case .symlink: members.append(("kind", string("symlink")))
    case .special(let name): members += [("kind", string("special")), ("special", string(name))]
    }
    members += [
      ("size", Array(String(entry.fingerprint.size).utf8)),
      ("mtime", seconds(entry.fingerprint.modified)),
      ("mode", string(String(repeating: "0", count: max(0, 4 - mode.utf8.count)) + mode)),
    ]
    if case .symlink(let target) = entry.kind { members += name("target", target) }
    if let reason = entry.unreadable { members.append(("unreadable", string(reason))) }
    return object(members)
  }

  private static func component(_ path: RelativePath, _ component: PublishedComponent) -> [UInt8] {
    object(
      self.path(path) + [
        ("size", Array(String(component.fingerprint.size).utf8)), ("mtime", seconds(component.fingerprint.modified)),
        ("sha256", string(component.digest.hex)),
      ])
  }

  private static func path(_ path: RelativePath) -> [(String, [UInt8])] { name("path", path.bytes) }

  /// A name as text; where it is none, as findings spell it, and its bytes beside it.
  private static func name(_ key: String, _ bytes: [UInt8]) -> [(String, [UInt8])] {
    if let text = String(validating: bytes, as: UTF8.self) { return [(key, string(text))] }
    return [(key, string(displayText(of: bytes))), ("\(key)_bytes", string(Data(bytes).base64EncodedString()))]
  }

  /// Seconds with nine decimals, exactly.
  private static func seconds(_ nanoseconds: Int64) -> [UInt8] {
    let magnitude = nanoseconds.magnitude
    let fraction = String(magnitude % 1_000_000_000)
    let zeros = String(repeating: "0", count: 9 - fraction.utf8.count)
    return Array("\(nanoseconds < 0 ? "-" : "")\(magnitude / 1_000_000_000).\(zeros)\(fraction)".utf8)
  }

  private static func string(_ text: String) -> [UInt8] { JSONDocument.quoted(text) }

  private static func object(_ members: [(String, [UInt8])]) -> [UInt8] {
    [UInt8(ascii: "{")] + joined(members, separator: ",") + [UInt8(ascii: "}")]
  }

  private static func joined(_ members: [(String, [UInt8])], separator: String) -> [UInt8] {
    var result: [UInt8] = []
    for (index, member) in members.enumerated() {
      if index > 0 { result += Array(separator.utf8) }
      result += string(member.0) + [UInt8(ascii: ":")] + member.1
    }
    return result
  }

  private static func list<Element>(_ elements: ArraySlice<Element>, first: Bool, _ write: (Element) -> [UInt8]) -> [UInt8] {
    var result: [UInt8] = []
    for (index, element) in elements.enumerated() {
      if !first || index > 0 { result += [UInt8(ascii: ","), 0x0a] }
      result += write(element)
    }
    return result
  }

  private func text(_ text: String) -> [UInt8] { Array(text.utf8) }
}
