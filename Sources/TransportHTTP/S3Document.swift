import SyncModel

/// An answer of an S3 store, read whole: answers are small, a page of a listing has a thousand names.
final class S3Document {
  /// An element with its children.
  final class Element {
    let name: String
    fileprivate(set) var children: [Element] = []
    fileprivate(set) var bytes: [UInt8] = []

    fileprivate init(_ name: String) { self.name = name }

    /// The first child of a name.
    func child(_ name: String) -> Element? { children.first { $0.name == name } }
    /// All children of a name, in their order.
    func all(_ name: String) -> [Element] { children.filter { $0.name == name } }
    /// The text of the first child of a name, nil where there is none.
    func text(_ name: String) -> String? { child(name)?.string }
    /// Of this element.
    var string: String { String(decoding: bytes, as: UTF8.self) }
  }

  /// Why an answer is not understood.
  struct Malformed: Error {
    let reason: String
  }

  private static let elementLimit = 40_000

  private final class Builder: XMLPushReader.Listener {
    var root: Element?
    var path: [Element] = []
    var count = 0
    let wantsText = true

    // Namespaces differ between stores, and some leave them out; no two vocabularies meet in these documents.
    func begin(_ name: String, namespace: String?, depth: Int) -> String? {
      count += 1
      guard count <= S3Document.elementLimit else { return "more than \(S3Document.elementLimit) elements" }
      let element = Element(name)
      if let parent = path.last { parent.children.append(element) } else { root = element }
      path.append(element)
      return nil
    }

    func end(text: [UInt8]) -> String? {
      // Between children there is white space only.
      if let element = path.popLast(), element.children.isEmpty { element.bytes = text }
      return nil
    }
  }

  /// The root element.
  static func read(_ bytes: [UInt8]) throws(Malformed) -> Element {
    let builder = Builder()
    let reader = XMLPushReader(builder)
    // A store that works on a request for long sends white space beforehand.
    var rest = bytes[...]
    while let first = rest.first, first == 0x20 || first == 0x09 || first == 0x0a || first == 0x0d { rest = rest.dropFirst() }
    reader.feed(rest)
    let isWhole = reader.finish()
    if let failure = reader.failure { throw Malformed(reason: failure) }
    guard isWhole, let root = builder.root else { throw Malformed(reason: "an answer that is no document") }
    return root
  }

  /// Text of an element.
  /// - Returns: Nil where XML cannot carry it.
  static func escaped(_ bytes: [UInt8]) -> String? {
    guard let text = String(validating: bytes, as: UTF8.self) else { return nil }
    var result = ""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "&": result += "&amp;"
      case "<": result += "&lt;"
      case ">": result += "&gt;"
      case "\"": result += "&quot;"
      // As they are, a reader would make other white space of them.
      case "\t", "\n", "\r": result += "&#\(scalar.value);"
      case _ where scalar.value < 0x20 || scalar.value == 0xfffe || scalar.value == 0xffff: return nil
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
